"""Segments of a DICOM SEG object: names, colours and codes, and their voxels on the grid of an image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from volseg.dicom.contours import Image, Roi, check_name, check_numbers, images_of, name_of, read_code
from volseg.dicom.file import items, numbers, read_header, text, whole
from volseg.dicom.frames import PLACE, frame_headers
from volseg.dicom.index import LABEL_MAP
from volseg.dicom.pixels import Frames, check_claims
from volseg.errors import SourceError
from volseg.volume import Affine, ras_to_lps

# A pixel of the object may lie this far from a voxel of the image, as a share of a voxel.
_TOLERANCE = 0.1
FRACTIONS = "is drawn in fractions (FRACTIONAL), of which those from half of the maximum on were taken"
_BACKGROUND = ("DCM", "125040")  # as which a label map may describe the number of what is no segment


def read_segments(dataset: Dataset) -> list[Roi]:
    """The segments that an object describes; the background of a label map is none.

    Raises:
        SourceError: damaged, or two segments of one number.
    """
    label_map = text(dataset, "SOPClassUID") == LABEL_MAP
    background = whole(dataset, "PixelPaddingValue") if label_map else 0
    found: list[Roi] = []
    for item in items(dataset, "SegmentSequence"):
        code = read_code(item, "SegmentedPropertyTypeCodeSequence")
        name = name_of(item, "SegmentLabel") or name_of(item, "SegmentDescription") or (code.meaning if code else "")
        number = whole(item, "SegmentNumber", default=-1)
        if code is not None and (code.scheme, code.value) == _BACKGROUND:
            continue
        if name and number != background and number >= 0:
            check_name(name)
            colour = numbers(item, "RecommendedDisplayCIELabValue", 3)
            found.append(Roi(number, name, _rgb(colour) if colour and has_highdicom() else None, code))
    described = items(dataset, "SegmentSequence")
    check_numbers((whole(item, "SegmentNumber"), name_of(item, "SegmentLabel")) for item in described)
    return found


def undescribed(dataset: Dataset, segments: Sequence[Roi]) -> int:
    """How many frames are of a segment that is not among those that the object describes; of a label map none."""
    known = {segment.number for segment in segments}
    return sum(number is not None and number not in known for number, _ in images_of_frames(dataset))


def has_highdicom() -> bool:
    """Whether highdicom is installed: where one of its dependencies has no wheel, as on Python 3.14, it may be absent.

    Without it segments are read with volseg's own colours, and none are written.
    """
    return find_spec("highdicom") is not None


def images_of_frames(header: Dataset) -> Iterator[tuple[int | None, frozenset[Image]]]:
    """For each frame, the number of its segment and the images that it was derived from; of a label map, None.

    Raises:
        SourceError: damaged.
    """
    shared = items(header, "SharedFunctionalGroupsSequence")
    for frame in items(header, "PerFrameFunctionalGroupsSequence"):
        segment = [item for group in (frame, *shared) for item in items(group, "SegmentIdentificationSequence")]
        number = whole(segment[0], "ReferencedSegmentNumber") if segment else None
        derived = items(frame, "DerivationImageSequence") or [
            item for group in shared for item in items(group, "DerivationImageSequence")
        ]
        yield number, frozenset[Image]().union(*(images_of(item, "SourceImageSequence") for item in derived))


@dataclass
class FrameFilter:
    """Which frames of a segmentation are taken, and what was found of them.

    Attributes:
        takes: Whether a frame of a segment that refers to images of these UIDs is taken.
        places: The slice of each image of the series, see `volseg.dicom.contours.Image`.
        elsewhere: How many frames of each segment were not taken.
        misplaced: How many frames of each segment refer to images of the series that lie on other slices.
        undescribed: Numbers in a label map that are of no segment which the object describes.
        fractions: Numbers of the segments that hold fractions, and not 0 and 1 alone.
    """

    takes: Callable[[int, frozenset[str]], bool]
    places: Mapping[Image, int]
    elsewhere: dict[int, int] = field(default_factory=dict)
    misplaced: dict[int, int] = field(default_factory=dict)
    undescribed: set[int] = field(default_factory=set)
    fractions: set[int] = field(default_factory=set)

    def check(self, number: int, images: frozenset[Image]) -> bool:
        """Whether a frame of a segment is taken; it is counted where not."""
        if self.takes(number, frozenset(uid for uid, _ in images)):
            return True
        self.elsewhere[number] = self.elsewhere.get(number, 0) + 1
        return False

    def compare(self, number: int, images: frozenset[Image], slices: NDArray[np.int64]) -> None:
        """Count a frame that lies on one slice, where it refers to images of others only."""
        there = {self.places[image] for image in images if image in self.places}
        if there and slices.min() == slices.max() and int(slices[0]) not in there:
            self.misplaced[number] = self.misplaced.get(number, 0) + 1


def read_voxels(
    path: Path,
    wanted: Iterable[int],
    shape: Sequence[int],
    affine_ras: Affine,
    *,
    frames_taken: FrameFilter | None = None,
) -> Iterator[tuple[int, tuple[NDArray[np.int64], ...]]]:
    """Frame after frame, the number of a wanted segment and the indices (x, y, z) of its voxels.

    Frames that the object leaves out are empty. Probabilities (FRACTIONAL) count from half of their maximum.

    Args:
        path: the object.
        wanted: segment numbers.
        shape: Shape of the image's grid, X, Y, Z.
        affine_ras: Affine (RAS mm) of the image's grid.
        frames_taken: which frames are taken; all are by default.

    Raises:
        SourceError: damaged, or on a grid whose voxels are not the image's, which would have to be resampled.
    """
    header = read_header(path)
    check_claims(path, header)
    to_index = np.linalg.inv(ras_to_lps(affine_ras)).astype(np.float64)
    if whole(header, "InConcatenationNumber") or whole(header, "InConcatenationTotalNumber", default=1) > 1:
        raise SourceError("it is a part of a concatenation, which is read of images alone; join the parts first")
    frames = frame_headers(header)
    label_map = text(header, "SOPClassUID") == LABEL_MAP
    fractional = text(header, "SegmentationType") == "FRACTIONAL"
    most = whole(header, "MaximumFractionalValue", default=255) if fractional else 1
    wanted = set(wanted)
    known = {0, *(whole(item, "SegmentNumber") for item in items(header, "SegmentSequence"))}
    if label_map:
        known.add(whole(header, "PixelPaddingValue"))
    images = [images for _, images in images_of_frames(header)] if frames_taken else [frozenset[Image]()] * len(frames)
    with Frames() as reader:
        for frame, shown, pixels in zip(frames, images, reader.read(path), strict=True):
            if label_map:
                held = [(number, pixels == number) for number in np.unique(pixels).tolist()]
                if frames_taken is not None:
                    frames_taken.undescribed.update(number for number, _ in held if number not in known)
            else:
                held = [(whole(frame, "ReferencedSegmentNumber"), pixels >= most / 2)]
                if fractional and frames_taken is not None and ((pixels > 0) & (pixels < most)).any():
                    frames_taken.fractions.add(held[0][0])
            for number, mask in held:
                if number not in wanted or not mask.any():
                    continue
                if frames_taken is not None and not frames_taken.check(number, shown):
                    continue
                indices = _on_image(frame, mask, shape) if shown else None
                indices = indices or _indices(frame, mask, to_index, shape)
                if frames_taken is not None:
                    frames_taken.compare(number, shown, indices[2])
                yield number, indices


def _on_image(frame: Dataset, mask: NDArray[np.bool_], shape: Sequence[int]) -> tuple[NDArray[np.int64], ...] | None:
    """Where the pixels of a frame lie that was drawn on an X-ray image: it states no place, and has its size."""
    if any(numbers(frame, name, PLACE[name]) for name in PLACE if name != "PixelSpacing"):
        return None
    if (shape[1], shape[0], 1) != (*mask.shape, shape[2]):
        return None
    rows, columns = np.nonzero(mask)
    return columns, rows, np.zeros_like(rows)


def _indices(
    frame: Dataset, mask: NDArray[np.bool_], to_index: Affine, shape: Sequence[int]
) -> tuple[NDArray[np.int64], ...]:
    """Where on the image's grid the pixels of a frame lie."""
    position, directions, spacing = (numbers(frame, name, size) for name, size in PLACE.items())
    if position is None or directions is None or spacing is None:
        raise SourceError("a frame of the segmentation does not say where it lies")
    along = np.array(directions).reshape(2, 3) * [[spacing[1]], [spacing[0]]]  # mm a column, mm a row
    start = to_index[:3, :3] @ position + to_index[:3, 3]
    steps = along @ to_index[:3, :3].T  # voxels a column, voxels a row
    rows, columns = np.nonzero(mask)
    exact = start + np.outer(columns, steps[0]) + np.outer(rows, steps[1])  # (n, 3)
    index = np.rint(exact).astype(np.int64)
    whole_steps = np.abs(steps - np.rint(steps)).max() * max(mask.shape) <= _TOLERANCE
    if not whole_steps or np.abs(np.rint(steps)).sum(axis=1).tolist() != [1, 1]:
        raise SourceError("the segmentation lies on another grid than the image, and is not resampled")
    if np.abs(exact - index).max() > _TOLERANCE:
        raise SourceError("the segmentation lies between the voxels of the image, and is not resampled")
    if index.min() < 0 or (index >= np.array(shape)).any():
        raise SourceError("the segmentation reaches beyond the image")
    return tuple(index.T)


def _rgb(value: Sequence[float]) -> tuple[int, int, int]:
    from highdicom.color import CIELabColor

    red, green, blue = CIELabColor.from_dicom_value(tuple(min(65535, max(0, round(part))) for part in value)).to_rgb()
    return red, green, blue
