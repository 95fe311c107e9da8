"""A series of DICOM images as one volume: its slices read, put in order, and turned into physical values."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from volseg.dicom.file import items, number, numbers, read_header, read_whole, text, whole
from volseg.dicom.instance import Instance, Series
from volseg.dicom.pixels import Frames, check_claims
from volseg.dicom.stack import Plane, by_place, grid
from volseg.errors import SourceError
from volseg.volume import MAX_BYTES, Affine, Volume

_GROUPS = (
    "PixelMeasuresSequence",
    "PlaneOrientationSequence",
    "PlanePositionSequence",
    "PixelValueTransformationSequence",
    "SegmentIdentificationSequence",
)
PLACE = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}
_SAME = (*PLACE, "Rows", "Columns", "RescaleSlope", "RescaleIntercept")


@dataclass(frozen=True)
class Slice:
    """One slice of a series: where it lies, which frame of which file holds it, and what its numbers mean.

    `stored` is the least and the greatest number that the file can hold.
    """

    plane: Plane
    path: Path
    frame: int
    sop_class: str
    sop_uid: str
    slope: float
    intercept: float
    stored: tuple[int, int]


@dataclass(frozen=True)
class Stack:
    """The slices of a series in the order of the third axis, and the grid [column, row, slice] they make (RAS mm)."""

    slices: tuple[Slice, ...]
    affine_ras: Affine
    warnings: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Columns, rows, slices."""
        return self.slices[0].plane.columns, self.slices[0].plane.rows, len(self.slices)


def read_stack(series: Series) -> Stack:
    """Put the slices of a series in order; their headers are read, their pixels only where two slices share a place.

    Raises:
        SourceError: a damaged file, two contents under one UID, or several images at one place.
        GeometryError: no even, square grid.
    """
    if series.damage:
        raise SourceError(series.damage)
    slices: list[Slice] = []
    files: dict[str, Path] = {}
    copies = 0
    for count, instance in enumerate(series.instances, start=1):
        try:
            if instance.sop_uid and instance.sop_uid in files:
                if _content(files[instance.sop_uid]) != _content(instance.path):
                    raise SourceError("another file has the same UID and other content; keep the right one")
                copies += 1
                continue
            files[instance.sop_uid] = instance.path
            header = read_header(instance.path)
            check_claims(instance.path, header)
            frames = frame_headers(header) if instance.enhanced else [header]
            slices += [_slice(header, frame, place, instance) for place, frame in enumerate(frames)]
        except OSError as error:
            reason = f"cannot be opened ({error.strerror})"
            raise SourceError(f"image {count} of {len(series.instances)} {reason}") from error
        except SourceError as error:
            raise SourceError(f"image {count} of {len(series.instances)}: {error.message}") from error
    thickness = number(frames[0], "SpacingBetweenSlices") or number(frames[0], "SliceThickness")
    warnings = [*series.warnings, *([f"{copies} files are copies of others"] if copies else [])]
    kept, twice = _one_a_place(slices)
    if twice:
        warnings.append(f"{twice} slices are stored twice with the same content, and each was taken once")
    stack = Stack(tuple(kept), grid([item.plane for item in kept], thickness_mm=thickness), tuple(warnings))
    if math.prod(stack.shape) * 4 > MAX_BYTES:
        raise SourceError(f"the series claims {math.prod(stack.shape):,} voxels, which fill {MAX_BYTES >> 30} GiB")
    return stack


def read_image(stack: Stack) -> Volume:
    """The voxels [column, row, slice] of a stack: stored values times slope plus intercept, each slice with its own.

    CT comes out in Hounsfield units. PET stays in the unit of the file, mostly Bq/ml: no SUV is computed. Integers stay
    integers where every slope is 1 and every intercept whole; anything else becomes float32.

    Raises:
        SourceError: pixels that cannot be decoded.
    """
    dtype = _dtype(stack.slices)
    voxels = np.empty(stack.shape, dtype, order="F")
    wanted: dict[Path, dict[int, int]] = {}
    for z, item in enumerate(stack.slices):
        wanted.setdefault(item.path, {})[item.frame] = z
    with Frames() as frames:
        for path, places in wanted.items():
            try:
                for frame, pixels in enumerate(frames.read(path)):
                    if frame in places:
                        item = stack.slices[places[frame]]
                        voxels[:, :, places[frame]] = _values(pixels, item, dtype).T  # [row, column] to [X, Y]
            except SourceError as error:
                first = min(places.values()) + 1
                raise SourceError(f"slice {first} of {len(stack.slices)}: {error.message}") from error
    if voxels.dtype == np.int32 and np.iinfo(np.int16).min <= voxels.min() and voxels.max() <= np.iinfo(np.int16).max:
        voxels = voxels.astype(np.int16)  # CT that declares 16 bits and uses 12
    return Volume(voxels, stack.affine_ras)


def frame_headers(header: Dataset) -> list[Dataset]:
    """What a multi-frame object says of each frame, in the keywords of a single image (PS3.3 C.7.6.16).

    Raises:
        SourceError: not as many descriptions as frames, or a part of a concatenation.
    """
    if whole(header, "InConcatenationTotalNumber", default=1) > 1:
        raise SourceError("it is a part of a concatenation, which is not read; join the parts first")
    shared = items(header, "SharedFunctionalGroupsSequence")
    frames = items(header, "PerFrameFunctionalGroupsSequence")
    expected = whole(header, "NumberOfFrames", default=1)
    if len(frames) != expected or len(shared) > 1:
        raise SourceError(f"{len(frames)} frames are described, the header claims {expected}; the file is damaged")
    flat: list[Dataset] = []
    for frame in frames:
        merged = Dataset()
        for group in _GROUPS:
            for item in items(frame, group)[:1] or [item for part in shared for item in items(part, group)[:1]]:
                merged.update(item)
        flat.append(merged)
    return flat


def _slice(header: Dataset, frame: Dataset, number_in_file: int, instance: Instance) -> Slice:
    place = [numbers(frame, name, size) for name, size in PLACE.items()]
    absent = [name for name, values in zip(PLACE, place, strict=True) if values is None]
    if absent:
        raise SourceError(f"{' and '.join(absent)} are absent; without them it has no place in the patient")
    position, directions, spacing = (values or () for values in place)
    if items(header, "ModalityLUTSequence"):
        raise SourceError("its values stand in a table (modality LUT), which is not read; export it with a slope")
    slope, intercept = number(frame, "RescaleSlope"), number(frame, "RescaleIntercept")
    if slope == 0:
        raise SourceError("the rescale slope is 0; the file is damaged")
    bits, signed = whole(header, "BitsStored"), whole(header, "PixelRepresentation")
    if not 1 <= bits <= whole(header, "BitsAllocated") or signed not in (0, 1):
        raise SourceError(f"the header claims {bits} bits stored of {whole(header, 'BitsAllocated')}; it is damaged")
    plane = Plane(position, directions, spacing, whole(header, "Rows"), whole(header, "Columns"))
    stored = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    kind, uid = instance.sop_class, instance.sop_uid
    return Slice(plane, instance.path, number_in_file, kind, uid, slope or 1.0, intercept or 0.0, stored)


def _one_a_place(slices: Sequence[Slice]) -> tuple[list[Slice], int]:
    """The slices in order, each place once, and how many were dropped for having the content of another."""
    groups = by_place([item.plane for item in slices])
    for group in groups:
        same = len({slices[i].path for i in group}) == len(group)  # frames of one file are never copies
        if len(group) > 1 and not (same and len({_content(slices[i].path) for i in group}) == 1):
            raise SourceError(
                f"{len(slices)} images lie at {len(groups)} places, with different content at one place: phases, "
                "echoes or weightings in one series, which are no single volume; keep one of each"
            )
    return [slices[group[0]] for group in groups], len(slices) - len(groups)


def _content(path: Path) -> str:
    """A digest of what makes two files the same slice: pixels, their meaning and their place."""
    dataset = read_whole(path)
    digest = hashlib.sha256(bytes(dataset.get("PixelData") or b""))
    digest.update(repr([text(dataset, name) for name in _SAME]).encode())
    return digest.hexdigest()


def _values(pixels: NDArray[Any], item: Slice, dtype: np.dtype[Any]) -> NDArray[Any]:
    low, high = item.stored
    if pixels.min() < low or pixels.max() > high:
        raise SourceError(f"values run from {pixels.min()} to {pixels.max()}, its header allows {low} to {high}")
    if dtype.kind == "f":
        return (pixels * item.slope + item.intercept).astype(dtype)
    return (pixels.astype(np.int64) + int(item.intercept)).astype(dtype) if item.intercept else pixels.astype(dtype)


def _dtype(slices: Sequence[Slice]) -> np.dtype[Any]:
    """The smallest type that NIfTI readers know and that holds every possible value."""
    if all(item.slope == 1 and item.intercept.is_integer() for item in slices):
        low = min(item.stored[0] + int(item.intercept) for item in slices)
        high = max(item.stored[1] + int(item.intercept) for item in slices)
        for name in ("uint8", "int16", "uint16", "int32"):
            if np.iinfo(name).min <= low and high <= np.iinfo(name).max:
                return np.dtype(name)
    return np.dtype(np.float32)
