"""Planes in space become one grid: sorted along their normal, evenly spaced, square to each other, or refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from volseg.errors import GeometryError
from volseg.volume import Affine, check_affine, ras_to_lps

# How far a slice may lie from its place on the even grid: along the normal as a share of the slice distance, in the
# plane as a share of a pixel. Positions are stored as text, rounded by some scanners to 0.01 mm.
SLICE_TOLERANCE = 0.05
PIXEL_TOLERANCE = 0.25
# Direction cosines are rounded too.
_COSINE_TOLERANCE = 1e-3
_SAME_PLACE_MM = 1e-3


@dataclass(frozen=True)
class Plane:
    """Where one slice lies: centre of its first pixel in LPS mm, direction along a row and down a column, pixel size.

    As DICOM has it: `spacing_mm` is the distance between rows, then between columns (PS3.3 C.7.6.2.1.1).
    """

    position_lps: tuple[float, ...]
    directions_lps: tuple[float, ...]
    spacing_mm: tuple[float, ...]
    rows: int
    columns: int

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector at right angles to the plane."""
        vector: NDArray[np.float64] = np.cross(self.directions_lps[:3], self.directions_lps[3:])
        return vector / np.linalg.norm(vector)


def by_place(planes: Sequence[Plane]) -> list[list[int]]:
    """The planes that lie at one place, place after place along the normal.

    Args:
        planes: Planes of one orientation and size.

    Raises:
        GeometryError: planes of several sizes, spacings or orientations, or of an orientation that is none.

    >>> lower, upper = (Plane((0, 0, z), (1, 0, 0, 0, 1, 0), (1, 1), 4, 4) for z in (-2, 3))
    >>> by_place([upper, lower, upper])
    [[1], [0, 2]]
    """
    first = planes[0]
    x, y = np.array(first.directions_lps[:3]), np.array(first.directions_lps[3:])
    lengths = np.linalg.norm(x), np.linalg.norm(y)
    if not np.allclose(lengths, 1, atol=_COSINE_TOLERANCE) or abs(x @ y) > _COSINE_TOLERANCE:
        raise GeometryError(
            f"the direction cosines {_numbers(first.directions_lps)} are no two unit vectors at right angles"
        )
    if min(first.spacing_mm) <= 0:
        raise GeometryError(f"the pixel spacing is {_numbers(first.spacing_mm)} mm, expected two positive numbers")
    sizes = {(plane.rows, plane.columns) for plane in planes}
    if len(sizes) > 1:
        told = ", ".join(f"{rows} x {columns}" for rows, columns in sorted(sizes))
        raise GeometryError(f"the slices are of several sizes ({told} pixels); they are no volume")
    ways = _distinct([plane.directions_lps for plane in planes], _COSINE_TOLERANCE)
    if ways > 1:
        raise GeometryError(f"the slices have {ways} orientations, as a localizer has; a volume has one")
    if _distinct([plane.spacing_mm for plane in planes], 1e-3 * min(first.spacing_mm)) > 1:
        raise GeometryError("the slices have several pixel spacings; they are no volume")
    depths = np.array([first.normal @ plane.position_lps for plane in planes])
    order = np.argsort(depths, kind="stable")
    breaks = np.flatnonzero(np.diff(depths[order]) > _SAME_PLACE_MM) + 1
    return [group.tolist() for group in np.split(order, breaks)]


def by_place_and_direction(planes: Sequence[Plane]) -> list[list[int]]:
    """The planes that lie at one place, as `by_place` has them, of any orientations, sizes and spacings.

    Args:
        planes: Planes.

    Raises:
        GeometryError: an orientation or a spacing that is none.

    >>> axial, sagittal = (1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, 1)
    >>> by_place_and_direction([Plane((0, 0, 0), way, (1, 1), 4, 4) for way in (axial, sagittal, axial)])
    [[0, 2], [1]]
    """
    alike: list[list[int]] = []
    for number, plane in enumerate(planes):
        group = next((group for group in alike if _alike(planes[group[0]], plane)), None)
        if group is None:
            alike.append([number])
        else:
            group.append(number)
    return [
        [group[place] for place in places]
        for group in alike
        for places in by_place([planes[number] for number in group])
    ]


def _alike(one: Plane, other: Plane) -> bool:
    """Whether two planes may be of one volume: their sizes, spacings and orientations."""
    return (
        (one.rows, one.columns) == (other.rows, other.columns)
        and _distinct([one.directions_lps, other.directions_lps], _COSINE_TOLERANCE) == 1
        and _distinct([one.spacing_mm, other.spacing_mm], 1e-3 * min(one.spacing_mm)) == 1
    )


def grid(planes: Sequence[Plane], *, thickness_mm: float | None = None) -> Affine:
    """The affine (RAS mm) of voxels [column, row, slice], for planes in the order of `by_place`, each place once.

    The grid is square: rows, columns and the normal, with the mean distance of slices. Each slice must lie within 5 %
    of that distance, and a quarter of a pixel sideways, of its place.

    Args:
        planes: sorted.
        thickness_mm: the third spacing where there is a single plane.

    Raises:
        GeometryError: slices absent or unevenly spaced, or a tilted gantry.

    >>> stack = [Plane((0, 0, z), (1, 0, 0, 0, 1, 0), (0.5, 0.5), 4, 4) for z in (-2, 0, 2)]
    >>> grid(stack).diagonal().tolist()
    [-0.5, -0.5, 2.0, 1.0]
    """
    first = planes[0]
    x = np.array(first.directions_lps[:3], dtype=np.float64)
    x /= np.linalg.norm(x)
    y = np.array(first.directions_lps[3:]) - (x @ first.directions_lps[3:]) * x
    y /= np.linalg.norm(y)
    normal = np.cross(x, y)
    positions = np.array([plane.position_lps for plane in planes])
    away = positions - positions[0]
    depths = away @ normal
    step = depths[-1] / (len(planes) - 1) if len(planes) > 1 else thickness_mm or 1.0
    if len(planes) > 1:
        _check_even(depths)
        sideways = np.stack([away @ x / first.spacing_mm[1], away @ y / first.spacing_mm[0]])  # pixels
        if np.abs(sideways).max() > PIXEL_TOLERANCE:
            raise GeometryError(_sideways(away, normal))
    affine_lps = np.eye(4)
    affine_lps[:3, 0] = x * first.spacing_mm[1]
    affine_lps[:3, 1] = y * first.spacing_mm[0]
    affine_lps[:3, 2] = normal * step
    affine_lps[:3, 3] = positions[0]
    return ras_to_lps(check_affine(affine_lps))


def _check_even(depths: NDArray[np.float64]) -> None:
    """Raise where slices are absent, or their distances differ."""
    steps = np.diff(depths)
    step = float(np.median(steps))
    absent = np.rint(steps / step).astype(int) - 1
    at = int(np.argmax(absent))
    if absent[at] > 0 and abs(steps[at] / step - absent[at] - 1) <= SLICE_TOLERANCE * (absent[at] + 1):
        raise GeometryError(
            f"{absent[absent > 0].sum()} slices are absent, the first after slice {int(np.argmax(absent > 0)) + 1} of "
            f"{len(depths)} (slices are {step:.4g} mm apart, there {steps[absent > 0][0]:.4g}); copy the series again"
        )
    expected = np.linspace(0, depths[-1], len(depths))
    worst = float(np.abs(depths - expected).max())
    if worst > SLICE_TOLERANCE * depths[-1] / (len(depths) - 1):
        raise GeometryError(
            f"the slices are unevenly spaced, {steps.min():.4g} to {steps.max():.4g} mm; a slice lies {worst:.3g} mm "
            f"from its place, more than {SLICE_TOLERANCE:.0%} of the distance. Resample the series first"
        )


def _sideways(away: NDArray[np.float64], normal: NDArray[np.float64]) -> str:
    """What to say of slices that do not lie above each other."""
    along = away[-1] @ normal
    tilt = np.degrees(np.arctan2(np.linalg.norm(away[-1] - along * normal), along))
    line = np.outer(away @ normal / along, away[-1])
    if np.abs(away - line).max() < 0.1:
        return (
            f"the stack is sheared by {tilt:.2g} degrees (a tilted gantry), which a square grid cannot keep; "
            "resample the series first"
        )
    return "the slices do not lie above each other; they are no volume"


def _distinct(rows: Sequence[Sequence[float]], tolerance: float) -> int:
    """How many of the rows differ by more than `tolerance`."""
    kinds: list[NDArray[np.float64]] = []
    for row in {tuple(row) for row in rows}:
        if all(np.abs(np.array(row) - kind).max() > tolerance for kind in kinds):
            kinds.append(np.array(row))
        if len(kinds) > 16:
            break
    return len(kinds)


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
