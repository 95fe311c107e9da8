"""Outlines of an RTSTRUCT object: closed polygons in space, and the voxels whose centres they hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from pydicom import Dataset

from volseg.dicom.file import Quiet, items, numbers, series_of_numbers, text, whole
from volseg.dicom.polygons import Points, fill, fill_nested, nest
from volseg.errors import SourceError
from volseg.labels import Code, Masks
from volseg.volume import Affine, ras_to_lps

# An outline may lie this far from the plane of a slice, as a share of the slice distance.
PLANE_TOLERANCE = 0.25
# No patient is larger; what lies further from the origin is damage.
_MAX_DISTANCE_MM = 1e6
# DICOM keeps 64 characters; some planning systems write more.
_MAX_NAME = 256
_EXCLUSIVE = "CLOSEDPLANAR_XOR"
_CLOSED = ("CLOSED_PLANAR", _EXCLUSIVE)
_OPEN = ("POINT", "OPEN_PLANAR", "OPEN_NONPLANAR")

Image = tuple[str, int]
"""An image that is referred to: its SOPInstanceUID, and the number of the frame from 1 on; 0 for all frames."""


@dataclass(frozen=True)
class Roi:
    """One region of interest of a structure set: number, name, colour (RGB), code and frame where it states them."""

    number: int
    name: str
    colour: tuple[int, int, int] | None
    code: Code | None
    frame_uid: str = ""


def read_rois(dataset: Dataset) -> list[Roi]:
    """The regions of a structure set that have a closed outline.

    Raises:
        SourceError: damaged, or two regions of one number.
    """
    stated = items(dataset, "StructureSetROISequence")
    check_numbers((whole(roi, "ROINumber"), name_of(roi, "ROIName")) for roi in stated)
    names = {whole(roi, "ROINumber"): name_of(roi, "ROIName") for roi in stated}
    frames = {whole(roi, "ROINumber"): text(roi, "ReferencedFrameOfReferenceUID") for roi in stated}
    codes = {
        whole(seen, "ReferencedROINumber"): read_code(seen, "RTROIIdentificationCodeSequence")
        for seen in items(dataset, "RTROIObservationsSequence")
    }
    rois = []
    for outline in items(dataset, "ROIContourSequence"):
        number = whole(outline, "ReferencedROINumber")
        closed = any(text(part, "ContourGeometricType") in _CLOSED for part in items(outline, "ContourSequence"))
        if closed and names.get(number):
            check_name(names[number])
            colour = numbers(outline, "ROIDisplayColor", 3)
            rgb = tuple(min(255, max(0, round(part))) for part in colour) if colour else None
            shown = (rgb[0], rgb[1], rgb[2]) if rgb else None
            rois.append(Roi(number, names[number], shown, codes.get(number), frames[number]))
    return rois


@contextmanager
def of_region(name: str, *, cure: str = "") -> Iterator[None]:
    """Add the name of a region to the error of its outlines, of which an object has many.

    Args:
        name: Name of the region.
        cure: What else may be done.

    Raises:
        SourceError: the same with the name.
    """
    try:
        yield
    except SourceError as error:
        raise SourceError(f"the region {name!r}: {error.message}{cure}") from error


def name_of(dataset: Dataset, keyword: str) -> str:
    """The name of a region, with a slash for a backslash, which separates values in DICOM and is not written again."""
    return text(dataset, keyword).replace("\\", "/")


def check_name(name: str) -> None:
    """Refuse what is no name of a region: a damaged length takes in what follows, the patient's name for instance.

    Raises:
        SourceError: too long, or with characters that no name has.
    """
    if len(name) > _MAX_NAME or not all(character.isprintable() or character in "\t\r\n" for character in name):
        raise SourceError("a region's name holds what is no text; the file is damaged")


def check_numbers(regions: Iterable[tuple[int, str]]) -> None:
    """Refuse two regions of one number: what is drawn for it would be of the one or of the other.

    Args:
        regions: Number and name of each region of an object.

    Raises:
        SourceError: such a number.
    """
    names: dict[int, str] = {}
    for number, name in regions:
        if number in names:
            for one in (names[number], name):
                check_name(one)
            raise SourceError(
                f"two regions of one object, {names[number]!r} and {name!r}, have the number {number}, so it is not "
                "known which of them is drawn; export it again"
            )
        names[number] = name


def nameless(dataset: Dataset) -> int:
    """How many closed outlines are of a region that the structure set does not name."""
    names = {whole(roi, "ROINumber"): name_of(roi, "ROIName") for roi in items(dataset, "StructureSetROISequence")}
    return sum(
        text(part, "ContourGeometricType") in _CLOSED
        for outline in items(dataset, "ROIContourSequence")
        if not names.get(whole(outline, "ReferencedROINumber"))
        for part in items(outline, "ContourSequence")
    )


def without_voxels(dataset: Dataset) -> list[str]:
    """The names of the regions of a structure set that have outlines, none of them closed."""
    names = {whole(roi, "ROINumber"): name_of(roi, "ROIName") for roi in items(dataset, "StructureSetROISequence")}
    found = []
    for outline in items(dataset, "ROIContourSequence"):
        kinds = {text(part, "ContourGeometricType") for part in items(outline, "ContourSequence")}
        name = names.get(whole(outline, "ReferencedROINumber"))
        if name and kinds and not kinds & set(_CLOSED):
            check_name(name)
            found.append(name)
    return found


def read_code(dataset: Dataset, keyword: str) -> Code | None:
    """The first coded term of a sequence, or None."""
    for item in items(dataset, keyword)[:1]:
        value = text(item, "CodeValue") or text(item, "LongCodeValue")
        meaning, scheme = text(item, "CodeMeaning"), text(item, "CodingSchemeDesignator")
        if value and meaning and scheme:
            return Code(value, meaning, scheme)
    return None


@dataclass(frozen=True)
class Outlines:
    """The closed outlines of one region.

    Attributes:
        contours: each (n, 3) in LPS mm, n at least 1.
        exclusive: whether they are combined by exclusive or (CLOSEDPLANAR_XOR) instead of united.
        skipped: how many of each other kind there are, which hold no voxel: POINT, OPEN_PLANAR, OPEN_NONPLANAR, others.
        images: the images that each outline refers to.
        elsewhere: how many outlines were not taken.
    """

    contours: tuple[Points, ...]
    exclusive: bool
    skipped: Counter[str]
    images: tuple[frozenset[Image], ...] = ()
    elsewhere: int = 0


def images_of(dataset: Dataset, keyword: str) -> frozenset[Image]:
    """The images that the items of a sequence refer to.

    Raises:
        SourceError: a damaged sequence.
    """
    found: set[Image] = set()
    for item in items(dataset, keyword):
        uid = text(item, "ReferencedSOPInstanceUID")
        frames = series_of_numbers(item, "ReferencedFrameNumber") if "ReferencedFrameNumber" in item else ()
        found |= {(uid, int(frame)) for frame in frames} if len(frames) else {(uid, 0)}
    return frozenset(image for image in found if image[0])


def images_of_outlines(dataset: Dataset) -> Iterator[tuple[int, frozenset[str]]]:
    """For each closed outline, the number of its region and the UIDs of the images that it refers to.

    Raises:
        SourceError: damaged.
    """
    for outline in items(dataset, "ROIContourSequence"):
        number = whole(outline, "ReferencedROINumber")
        for part in items(outline, "ContourSequence"):
            if text(part, "ContourGeometricType") in _CLOSED:
                yield number, frozenset(uid for uid, _ in images_of(part, "ContourImageSequence"))


def misplaced(outlines: Outlines, places: Mapping[Image, int], affine_ras: Affine) -> int:
    """How many outlines refer to images of their series, none of which lies where they lie.

    Args:
        outlines: Outlines of one region, each in the plane of a slice.
        places: the slice of each image of the series, see `Image`.
        affine_ras: Affine (RAS mm) of the series.
    """
    to_index = np.linalg.inv(ras_to_lps(affine_ras))
    count = 0
    for points, images in zip(outlines.contours, outlines.images, strict=True):
        there = {places[image] for image in images if image in places}
        if there:
            z = round(float((points @ to_index[2, :3]).mean() + to_index[2, 3]))
            count += z not in there
    return count


def read_outlines(dataset: Dataset, number: int, *, takes: Callable[[frozenset[str]], bool] | None = None) -> Outlines:
    """The outlines of one region.

    Args:
        dataset: the structure set.
        number: Number of the region.
        takes: whether an outline that refers to images of these UIDs is taken; all are by default.

    Raises:
        SourceError: coordinates that are no triples of finite numbers, or fewer or more points than are stated.
    """
    found: list[Points] = []
    shown: list[frozenset[Image]] = []
    exclusive = False
    elsewhere = 0
    skipped: Counter[str] = Counter()
    with Quiet():
        for outline in items(dataset, "ROIContourSequence"):
            if whole(outline, "ReferencedROINumber") != number:
                continue
            for part in items(outline, "ContourSequence"):
                kind = text(part, "ContourGeometricType")
                if kind not in _CLOSED:
                    skipped[kind if kind in _OPEN else "unknown"] += 1
                    continue
                points = series_of_numbers(part, "ContourData")
                stated = whole(part, "NumberOfContourPoints", default=len(points) // 3)
                if len(points) % 3 or not np.isfinite(points).all() or np.abs(points).max(initial=0) > _MAX_DISTANCE_MM:
                    raise SourceError("an outline is no list of points x, y, z; the file is damaged")
                if stated != len(points) // 3:
                    raise SourceError(
                        f"an outline states {stated} points and holds {len(points) // 3}; the file is damaged"
                    )
                if not len(points):
                    continue
                images = images_of(part, "ContourImageSequence")
                if takes is not None and not takes(frozenset(uid for uid, _ in images)):
                    elsewhere += 1
                    continue
                exclusive |= kind == _EXCLUSIVE
                found.append(points.reshape(-1, 3))
                shown.append(images)
    return Outlines(tuple(found), exclusive, skipped, tuple(shown), elsewhere)


def read_contours(dataset: Dataset, number: int) -> list[Points]:
    """The closed outlines of one region, each (n, 3) in LPS mm. Errors as in `read_outlines`."""
    return list(read_outlines(dataset, number).contours)


def rasterise(
    contours: Sequence[Points], shape: Sequence[int], affine_ras: Affine, *, exclusive: bool = False
) -> Masks:
    """The voxels [X, Y, Z] whose centres lie inside outlines, or on them. What lies beyond the grid is cut off.

    Outlines on one slice are united. One that lies wholly inside another is a hole, as a keyhole is; one that is stored
    twice counts once, however it is sampled. Slices between outlined ones are not filled in.

    Args:
        contours: closed, each in the plane of a slice, LPS mm.
        shape: Shape of the grid, X, Y, Z.
        affine_ras: Affine (RAS mm) of the grid.
        exclusive: whether outlines on one slice are combined by exclusive or instead (CLOSEDPLANAR_XOR).

    Raises:
        SourceError: an outline that lies between slices or in another plane.

    >>> square = np.array([[-0.4, -0.4, 0], [1.4, -0.4, 0], [1.4, 1.4, 0], [-0.4, 1.4, 0]])
    >>> rasterise([square], (3, 3, 1), np.diag([-1, -1, 1, 1]))[:, :, 0].astype(int).tolist()
    [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    """
    return rasterise_outlines(Outlines(tuple(contours), exclusive, Counter()), shape, affine_ras)[0]


def rasterise_outlines(outlines: Outlines, shape: Sequence[int], affine_ras: Affine) -> tuple[Masks, int]:
    """As `rasterise`, and on how many slices two outlines run through the same pixels, which is told as doubtful.

    Raises:
        SourceError: an outline that lies between slices or in another plane.
    """
    mask = np.zeros(tuple(shape), dtype=bool)
    size = int(shape[0]), int(shape[1])
    doubtful = 0
    for z, polygons in by_slice(outlines.contours, affine_ras).items():
        if not 0 <= z < shape[2]:
            continue
        if outlines.exclusive:
            mask[:, :, z] = fill(polygons, size, exclusive=True)
            continue
        nesting = nest(polygons)
        mask[:, :, z] = fill_nested(nesting, size)
        doubtful += nesting.doubtful
    return mask, doubtful


def reaches_beyond(points: Points, shape: Sequence[int]) -> bool:
    """Whether an outline (n, 2) in voxels leaves an image by more than half a voxel beyond its edge."""
    return bool((points < -1).any() or (points > np.array(shape[:2])).any())


def skipped_slices(polygons: Mapping[int, Sequence[Points]]) -> int:
    """How many slices without outline lie between two that have one at the same place: one or two slices in a row.

    Args:
        polygons: The outlines on each slice, in order, as `by_slice` gives them.

    >>> square = np.array([(0, 0), (0, 5), (5, 5), (5, 0)])
    >>> skipped_slices({1: [square], 3: [square]}), skipped_slices({1: [square], 3: [square + 9], 9: [square]})
    (1, 0)
    """
    count = 0
    for below, above in pairwise(polygons):
        if 2 <= above - below <= 3:
            boxes = [(points.min(axis=0), points.max(axis=0)) for z in (below, above) for points in polygons[z]]
            first, others = boxes[: len(polygons[below])], boxes[len(polygons[below]) :]
            near = any((low <= b).all() and (a <= high).all() for low, high in first for a, b in others)
            count += (above - below - 1) * near
    return count


def by_slice(contours: Sequence[Points], affine_ras: Affine) -> dict[int, list[Points]]:
    """The outlines on each slice of a grid, each (n, 2) in voxels; one that is stored twice stands there once.

    Raises:
        SourceError: an outline that lies between slices or in another plane.
    """
    to_index = np.linalg.inv(ras_to_lps(affine_ras))
    found: dict[int, dict[bytes, Points]] = {}
    for contour in contours:
        points = contour @ to_index[:3, :3].T + to_index[:3, 3]
        depth = points[:, 2]
        z = round(float(depth.mean()))
        if np.abs(depth - z).max() > PLANE_TOLERANCE:
            tilted = np.ptp(depth) > PLANE_TOLERANCE
            reason = "does not lie in the plane of the slices" if tilted else "lies between two slices"
            raise SourceError(f"an outline {reason}; outlines of another series are not resampled")
        found.setdefault(z, {})[contour.tobytes()] = points[:, :2]
    return {z: list(polygons.values()) for z, polygons in sorted(found.items())}
