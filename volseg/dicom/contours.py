"""Outlines of an RTSTRUCT object: closed polygons in space, and the voxels whose centres they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from volseg.dicom.file import DAMAGE, Quiet, items, numbers, text, whole
from volseg.errors import SourceError
from volseg.labels import Code, Masks
from volseg.volume import Affine, ras_to_lps

Points = NDArray[np.float64]

# An outline may lie this far from the plane of a slice, as a share of the slice distance.
PLANE_TOLERANCE = 0.25
# A centre this near to the outline, in voxels, lies on it and so inside (PS3.3 C.8.8.6.3).
_ON_THE_LINE = 1e-3
_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


@dataclass(frozen=True)
class Roi:
    """One region of interest of a structure set: number, name, colour (RGB) and code where it states them."""

    number: int
    name: str
    colour: tuple[int, int, int] | None
    code: Code | None


def read_rois(dataset: Dataset) -> list[Roi]:
    """The regions of a structure set that have a closed outline."""
    names = {whole(roi, "ROINumber"): text(roi, "ROIName") for roi in items(dataset, "StructureSetROISequence")}
    codes = {
        whole(seen, "ReferencedROINumber"): read_code(seen, "RTROIIdentificationCodeSequence")
        for seen in items(dataset, "RTROIObservationsSequence")
    }
    rois = []
    for outline in items(dataset, "ROIContourSequence"):
        number = whole(outline, "ReferencedROINumber")
        closed = any(text(part, "ContourGeometricType") in _CLOSED for part in items(outline, "ContourSequence"))
        if closed and names.get(number):
            colour = numbers(outline, "ROIDisplayColor", 3)
            rgb = tuple(min(255, max(0, round(part))) for part in colour) if colour else None
            rois.append(Roi(number, names[number], (rgb[0], rgb[1], rgb[2]) if rgb else None, codes.get(number)))
    return rois


def read_code(dataset: Dataset, keyword: str) -> Code | None:
    """The first coded term of a sequence, or None."""
    for item in items(dataset, keyword)[:1]:
        value, meaning, scheme = (text(item, tag) for tag in ("CodeValue", "CodeMeaning", "CodingSchemeDesignator"))
        if value and meaning and scheme:
            return Code(value, meaning, scheme)
    return None


def read_contours(dataset: Dataset, number: int) -> list[Points]:
    """The closed outlines of one region, each (n, 3) in LPS mm, n at least 3.

    Raises:
        SourceError: coordinates that are no triples of finite numbers.
    """
    found: list[Points] = []
    for outline in items(dataset, "ROIContourSequence"):
        if whole(outline, "ReferencedROINumber") != number:
            continue
        for part in items(outline, "ContourSequence"):
            if text(part, "ContourGeometricType") not in _CLOSED:
                continue
            try:
                with Quiet():
                    points = np.array(part.get("ContourData"), dtype=np.float64)
            except DAMAGE as error:
                raise SourceError("an outline holds what is no number; the file is damaged") from error
            if points.ndim != 1 or points.size % 3 or not np.isfinite(points).all():
                raise SourceError("an outline is no list of points x, y, z; the file is damaged")
            if points.size >= 9:
                found.append(points.reshape(-1, 3))
    return found


def rasterise(contours: Sequence[Points], shape: Sequence[int], affine_ras: Affine) -> Masks:
    """The voxels [X, Y, Z] whose centres lie inside outlines, or on them. What lies beyond the grid is cut off.

    Outlines on one slice are combined by exclusive or, so an outline inside another is a hole, whether it was written
    so or with a keyhole; an outline that is stored twice counts once. Slices between outlined ones are not filled in.

    Args:
        contours: closed, each in the plane of a slice, LPS mm.
        shape: of the grid, X, Y, Z.
        affine_ras: of the grid.

    Raises:
        SourceError: an outline that lies between slices or in another plane.

    >>> square = np.array([[-0.4, -0.4, 0], [1.4, -0.4, 0], [1.4, 1.4, 0], [-0.4, 1.4, 0]])
    >>> rasterise([square], (3, 3, 1), np.diag([-1, -1, 1, 1]))[:, :, 0].astype(int).tolist()
    [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    """
    mask = np.zeros(tuple(shape), dtype=bool)
    for z, polygons in by_slice(contours, affine_ras).items():
        if 0 <= z < shape[2]:
            mask[:, :, z] = fill(polygons, (shape[0], shape[1]))
    return mask


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


def fill(polygons: Sequence[Points], shape: tuple[int, int]) -> Masks:
    """The pixels [X, Y] with their centres inside an odd number of polygons, or on a side of one.

    Each column of centres is cut with all sides; between the first and the second cut, the third and the fourth, and so
    on lies the inside. Columns are cut a hair to the left and to the right of the centres, so no cut meets a corner.

    Args:
        polygons: each (n, 2) in pixels, pixel centres at whole numbers.
        shape: X, Y.
    """
    starts = np.concatenate(list(polygons))
    ends = np.concatenate([np.roll(polygon, -1, axis=0) for polygon in polygons])
    swap = starts[:, 0] > ends[:, 0]
    starts[swap], ends[swap] = ends[swap], starts[swap].copy()
    inside = np.zeros(shape, dtype=bool)
    for hair in (-_ON_THE_LINE, _ON_THE_LINE):
        # A side cuts the columns from the first one right of its start to the last one left of its end.
        first = np.clip(np.ceil(starts[:, 0] - hair), 0, shape[0]).astype(np.int64)
        stop = np.clip(np.ceil(ends[:, 0] - hair), 0, shape[0]).astype(np.int64)
        count = np.maximum(stop - first, 0)
        side = np.repeat(np.arange(len(starts)), count)
        column = first[side] + np.arange(len(side)) - np.repeat(np.cumsum(count) - count, count)
        run = ends[side] - starts[side]
        cut = starts[side, 1] + run[:, 1] * (column + hair - starts[side, 0]) / run[:, 0]
        order = np.lexsort((cut, column))
        column, cut = column[order], cut[order]  # two and two belong together: every column has an even number of cuts
        lower = np.clip(np.ceil(cut[::2] - _ON_THE_LINE), 0, shape[1]).astype(np.int64)
        upper = np.clip(np.floor(cut[1::2] + _ON_THE_LINE) + 1, 0, shape[1]).astype(np.int64)
        change = np.zeros((shape[0], shape[1] + 1), dtype=np.int32)
        np.add.at(change, (column[::2], lower), 1)
        np.add.at(change, (column[::2], np.maximum(lower, upper)), -1)
        inside |= np.cumsum(change, axis=1)[:, :-1] > 0
    return inside
