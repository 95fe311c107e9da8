"""A series of DICOM images as one volume: its slices read, put in order, and turned into physical values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from volseg.dicom.alike import rescaled_in_part, traits_of, unlike
from volseg.dicom.choice import EVERYTHING, Choice
from volseg.dicom.completeness import leaves_out, millimetres
from volseg.dicom.contents import Contents, is_lossy
from volseg.dicom.file import Quiet, items, number, numbers, plain, read_header, whole, writer_of
from volseg.dicom.frames import PLACE, frame_attributes, frame_headers
from volseg.dicom.instance import Instance, Series
from volseg.dicom.mosaic import tiles
from volseg.dicom.pixels import Frames, check_claims, check_high_bit
from volseg.dicom.projection import THICKNESS_MM, plane_on_screen, told_of_projection
from volseg.dicom.several import of_several_geometries, several
from volseg.dicom.stack import Plane, by_place, by_place_and_direction, grid
from volseg.errors import GeometryError, SourceError, VolsegError
from volseg.volume import MAX_BYTES, Affine, Volume

# Units of PET and nuclear medicine (PS3.3 C.8.9.1), and types of rescaled values (C.11.1.1.2).
UNITS = frozenset(
    {
        *(
            "CNTS",
            "NONE",
            "CM2",
            "CM2ML",
            "PCNT",
            "CPS",
            "BQML",
            "MGMINML",
            "UMOLMINML",
            "MLMING",
            "MLG",
            "1CM",
            "UMOLML",
        ),
        *("PROPCNTS", "PROPCPS", "MLMINML", "MLML", "GML", "STDDEV", "OD", "HU", "US", "MGML", "Z_EFF", "ED", "EDW"),
        *("HU_MOD",),
    }
)

_BRIGHTEST_HU = 3071  # which 12 bits hold
_NII2DCM = "nii2dcm_DICOM"  # as nii2dcm 0.1.1 names itself; it reports its version nowhere


@dataclass(frozen=True)
class Slice:
    """One slice of a series: where it lies, which frame of which file holds it, and what its numbers mean.

    `stored` is the least and the greatest number that the file can hold. `tile` is the first row and column of the
    slice within a Siemens mosaic. `units` are those of CT, PET and nuclear medicine as DICOM writes them, such as BQML.
    `low_is_bright` says that the file is to be shown with its lowest number white (MONOCHROME1). `padding` is the value
    of what lies outside the field of view, where the file states one; `thickness_mm` the distance to the next slice, or
    the thickness, as the file states it.
    """

    plane: Plane
    path: Path
    frame: int
    sop_class: str
    sop_uid: str
    slope: float
    intercept: float
    stored: tuple[int, int]
    tile: tuple[int, int] | None = None
    units: str = ""
    low_is_bright: bool = False
    rescaled: bool = True
    traits: tuple[str, ...] = ()
    padding: float | None = None
    thickness_mm: float | None = None


@dataclass(frozen=True)
class Stack:
    """The slices of a series in the order of the third axis, and the grid [column, row, slice] they make (RAS mm).

    `flat` says that it is an X-ray image, which has no place in the patient.
    """

    slices: tuple[Slice, ...]
    affine_ras: Affine
    warnings: tuple[str, ...]
    flat: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """Columns, rows, slices."""
        return self.slices[0].plane.columns, self.slices[0].plane.rows, len(self.slices)

    @property
    def units(self) -> str:
        """The units of the values, empty where they have none or the series does not state them."""
        return self.slices[0].units


def read_stack(series: Series, *, choice: Choice = EVERYTHING) -> Stack:
    """Put the slices of a series in order; their headers are read, their pixels only where two slices share a place.

    Args:
        series: the images.
        choice: which volume is meant, where a series holds several.

    Raises:
        SourceError: a damaged file, two contents under one UID, several images at one place, or none that is chosen.
        GeometryError: no even, square grid.
    """
    if series.damage:
        raise SourceError(series.damage)
    slices: list[Slice] = []
    files: dict[str, Path] = {}
    copies = 0
    with Quiet(), Frames() as frames:  # held open: to enter it anew for each value takes half of the time
        contents = Contents(frames)
        for instance in series.instances:
            try:
                if instance.sop_uid and instance.sop_uid in files:
                    _check_copy(files[instance.sop_uid], instance.path, contents)
                    copies += 1
                    continue
                files[instance.sop_uid] = instance.path
                slices += _slices(instance)
            except OSError as error:
                raise SourceError(f"{_named(instance, series)}: cannot be opened ({error.strerror})") from error
            except SourceError as error:
                raise SourceError(f"{_named(instance, series)}: {error.message}") from error
        warnings = [*series.warnings, *([f"{copies} files are copies of others"] if copies else [])]
        if choice:
            slices = _chosen(slices, choice)
        kept, twice = _one_a_place(slices, contents)
    if twice:
        warnings.append(f"{twice} slices are stored twice with the same content, and each was taken once")
    if writer_of(kept[0].path) == _NII2DCM:
        warnings.append(
            "the series was made of a NIfTI file by nii2dcm, which places it elsewhere than that file, upside down if "
            "it is coronal or sagittal, and makes values below 0 positive; it is taken as it says, and labels of that "
            "file do not fit it"
        )
    if series.first.projection:
        warnings += told_of_projection(read_header(kept[0].path))
    elif inverse := sum(item.low_is_bright for item in kept):
        share = "its slices are" if inverse == len(kept) else f"{inverse} of {len(kept)} slices are"
        warnings.append(
            f"{share} to be shown with low numbers bright (MONOCHROME1), and the numbers are taken as stored, as by "
            "pydicom and dcm2niix, while SimpleITK inverts them"
        )
    warnings += unlike([item.traits for item in kept])
    brightest = max((item.padding for item in kept if item.padding is not None), default=0.0)
    if series.modality == "CT" and brightest > _BRIGHTEST_HU:
        warnings.append(
            f"what lies outside the field of view (PixelPaddingValue) has the value {brightest:g}, above all tissue; "
            "replace it by that of air"
        )
    if told := rescaled_in_part([item.rescaled for item in kept], series.modality):
        warnings.append(told)
    thickness = kept[0].thickness_mm
    if len(kept) == 1 and not thickness:
        warnings.append("its one slice states no thickness, and 1 mm was taken")
    units = sorted({item.units for item in kept})
    if len(units) > 1:
        told = " and ".join(item if item in UNITS else "others" for item in units)
        raise SourceError(f"the values of its slices are in several units, {told}; keep those of one")
    try:
        affine = grid([item.plane for item in kept], thickness_mm=thickness)
    except GeometryError as error:
        raise _with_volumes(error, kept, stacks_alone=True) from error
    stack = Stack(tuple(kept), affine, tuple(warnings), flat=series.first.projection)
    if told := leaves_out(series, float(np.linalg.norm(stack.affine_ras[:3, 2])), thickness or 0.0):
        stack = replace(stack, warnings=(*stack.warnings, told))
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
    wanted: dict[Path, dict[int, list[int]]] = {}
    for z, item in enumerate(stack.slices):
        wanted.setdefault(item.path, {}).setdefault(item.frame, []).append(z)
    with Quiet(), Frames() as frames:  # held open: to enter it anew for each value takes half of the time
        for path, places in wanted.items():
            try:
                for frame, pixels in enumerate(frames.read(path)):
                    for z in places.get(frame, ()):
                        item = stack.slices[z]
                        voxels[:, :, z] = _values(_tile(pixels, item), item, dtype).T  # [row, column] to [X, Y]
            except SourceError as error:
                first = min(map(min, places.values()))
                where = millimetres(stack.slices[first].plane.position_lps)
                raise SourceError(f"slice {first + 1} of {len(stack.slices)}, {where}: {error.message}") from error
    if voxels.dtype == np.int32 and np.iinfo(np.int16).min <= voxels.min() and voxels.max() <= np.iinfo(np.int16).max:
        voxels = voxels.astype(np.int16)  # CT that declares 16 bits and uses 12
    return Volume(voxels, stack.affine_ras)


def _slices(instance: Instance) -> list[Slice]:
    """The slices that a file holds: one, a frame each, or the tiles of a mosaic."""
    header = read_header(instance.path)
    check_claims(instance.path, header)
    check_high_bit(instance.path, header)
    frames = frame_headers(header) if instance.enhanced else [header]
    found = [_slice(header, frame, place, instance) for place, frame in enumerate(frames)]
    if instance.mosaic:
        whole_image = found[0]
        found = [
            replace(whole_image, plane=tile.plane, tile=(tile.row, tile.column))
            for tile in tiles(header, whole_image.plane)
        ]
    return found


def _named(instance: Instance, series: Series) -> str:
    """An image in a message: its number and where it lies, as far as its header says so."""
    number = f"one of {len(series.instances)} images" if instance.order is None else f"image {instance.order}"
    return f"{number}, {millimetres(instance.position_lps)}" if len(instance.position_lps) == 3 else number


def _slice(header: Dataset, frame: Dataset, number_in_file: int, instance: Instance) -> Slice:
    if instance.projection:
        return _values_of(header, frame, plane_on_screen(header), number_in_file, instance)
    place = [numbers(frame, name, size) for name, size in PLACE.items()]
    absent = [name for name, values in zip(PLACE, place, strict=True) if values is None]
    if absent:
        are, them = ("are", "them") if len(absent) > 1 else ("is", "it")
        raise SourceError(f"{' and '.join(absent)} {are} absent; without {them} it has no place in the patient")
    position, directions, spacing = (values or () for values in place)
    plane = Plane(position, directions, spacing, whole(header, "Rows"), whole(header, "Columns"))
    return _values_of(header, frame, plane, number_in_file, instance)


def _values_of(header: Dataset, frame: Dataset, plane: Plane, number_in_file: int, instance: Instance) -> Slice:
    """A slice on its plane, with what its numbers mean."""
    if items(header, "ModalityLUTSequence"):
        raise SourceError("its values stand in a table (modality LUT), which is not read; export it with a slope")
    slope, intercept = number(frame, "RescaleSlope"), number(frame, "RescaleIntercept")
    if slope == 0:
        raise SourceError("the rescale slope is 0; the file is damaged")
    bits, signed = whole(header, "BitsStored"), whole(header, "PixelRepresentation")
    if not 1 <= bits <= whole(header, "BitsAllocated") or signed not in (0, 1):
        raise SourceError(f"the header claims {bits} bits stored of {whole(header, 'BitsAllocated')}; it is damaged")
    stored = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    kind, uid = instance.sop_class, instance.sop_uid
    units = _units(frame, instance)
    padding = number(header, "PixelPaddingValue")
    inverse = plain(header, "PhotometricInterpretation") == "MONOCHROME1"
    factor, offset = slope or 1.0, intercept or 0.0
    if inverse and instance.projection:  # bones are bright in all of them then
        factor, offset = -factor, factor * sum(stored) + offset
    return Slice(
        *(plane, instance.path, number_in_file, kind, uid, factor, offset, stored),
        units=units,
        low_is_bright=inverse,
        rescaled=slope is not None or intercept is not None,
        traits=() if instance.enhanced else traits_of(header),
        padding=None if padding is None else padding * factor + offset,
        thickness_mm=THICKNESS_MM if instance.projection else _thickness(frame),
    )


def _thickness(frame: Dataset) -> float | None:
    """The distance of slices as a file states it, else their thickness; nuclear medicine states negative ones."""
    stated = number(frame, "SpacingBetweenSlices") or number(frame, "SliceThickness")
    return abs(stated) if stated else None


def _units(frame: Dataset, instance: Instance) -> str:
    """The units of CT, PET and nuclear medicine; CT that states none is in Hounsfield units (PS3.3 C.8.2.1)."""
    if instance.modality not in ("CT", "PT", "NM"):
        return ""
    rescaled = plain(frame, "RescaleType")
    if instance.modality == "CT":
        return rescaled if rescaled in UNITS else "HU" if not rescaled else ""
    stated = instance.units or rescaled
    return stated if stated in UNITS else ""


def _one_a_place(slices: Sequence[Slice], contents: Contents) -> tuple[list[Slice], int]:
    """The slices in order, each place once, and how many were dropped for having the content of another."""
    try:
        groups = by_place([item.plane for item in slices])
    except GeometryError as error:
        raise _with_volumes(error, slices) from error
    for group in groups:
        first, *others = (slices[number].path for number in group)
        # Frames of one file are never copies.
        if others and not (first not in others and all(contents.same(first, other) for other in others)):
            raise SourceError(several(_described(slices), groups))
    return [slices[group[0]] for group in groups], len(slices) - len(groups)


def _with_volumes(error: GeometryError, slices: Sequence[Slice], *, stacks_alone: bool = False) -> VolsegError:
    """The error of slices that make no grid, or what to choose by where they are several volumes."""

    def valid(numbers: Sequence[int]) -> bool:
        planes = [slices[number].plane for number in numbers]
        try:
            grid([planes[place[0]] for place in by_place(planes)])
        except GeometryError:
            return False
        return True

    told = of_several_geometries(_described(slices), valid, stacks_alone=stacks_alone)
    return SourceError(told) if told else error


def _chosen(slices: Sequence[Slice], choice: Choice) -> list[Slice]:
    """The slices of the volume that is meant."""
    places = by_place_and_direction([item.plane for item in slices])
    return [slices[number] for number in choice.chosen(_described(slices), places)]


def _described(slices: Sequence[Slice]) -> list[Dataset]:
    """All that the files say of each slice; read again, since few series need it."""
    frames = {path: frame_attributes(read_header(path)) for path in {item.path for item in slices}}
    return [frames[item.path][item.frame] for item in slices]


def _check_copy(first: Path, other: Path, contents: Contents) -> None:
    """Refuse a second file of one UID that shows something else, and say which of the two has lost something."""
    if contents.same(first, other):
        return
    lossy = is_lossy(first) or is_lossy(other)
    told = (
        ", and one of the two has been compressed with a loss; keep the original" if lossy else "; keep the right one"
    )
    raise SourceError(f"another file has the same UID and other content{told}")


def _tile(pixels: NDArray[Any], item: Slice) -> NDArray[Any]:
    """The pixels of a slice: all of them, or its tile of a mosaic."""
    if item.tile is None:
        return pixels
    row, column = item.tile
    return pixels[row : row + item.plane.rows, column : column + item.plane.columns]


def _values(pixels: NDArray[Any], item: Slice, dtype: np.dtype[Any]) -> NDArray[Any]:
    low, high = item.stored
    if pixels.min() < low or pixels.max() > high:
        raise SourceError(f"values run from {pixels.min()} to {pixels.max()}, its header allows {low} to {high}")
    if dtype.kind == "f":
        return (pixels * item.slope + item.intercept).astype(dtype)
    if item.slope == 1 and not item.intercept:
        return pixels.astype(dtype)
    return (pixels.astype(np.int64) * int(item.slope) + int(item.intercept)).astype(dtype)


def _dtype(slices: Sequence[Slice]) -> np.dtype[Any]:
    """The smallest type that NIfTI readers know and that holds every possible value."""
    if all(abs(item.slope) == 1 and item.intercept.is_integer() for item in slices):
        ends = [int(item.slope) * end + int(item.intercept) for item in slices for end in item.stored]
        low, high = min(ends), max(ends)
        for name in ("uint8", "int16", "uint16", "int32"):
            if np.iinfo(name).min <= low and high <= np.iinfo(name).max:
                return np.dtype(name)
    return np.dtype(np.float32)
