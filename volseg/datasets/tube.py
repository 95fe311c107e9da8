"""Curved tubes, of which the phantom's hollow organs are made, on a grid as signed distances in millimetres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.spatial import KDTree

Field = NDArray[np.float64]
_FAR_MM = 60.0


@dataclass(frozen=True)
class Tube:
    """A curved tube: centre points (N, 3), radius (N,) and length from its start (N,), all in mm."""

    points: Field
    radius: Field
    length: Field

    @classmethod
    def through(cls, knots: Field, *, step_mm: float) -> Tube:
        """The smooth tube through knots (K, 4): x, y, z, radius."""
        at = np.concatenate([[0.0], np.cumsum(np.sqrt((np.diff(knots[:, :3], axis=0) ** 2).sum(axis=1)))])
        dense = CubicSpline(at, knots)(np.linspace(0, at[-1], max(int(at[-1] / step_mm) + 1, 2)))
        length = np.concatenate([[0.0], np.cumsum(np.sqrt((np.diff(dense[:, :3], axis=0) ** 2).sum(axis=1)))])
        return cls(dense[:, :3], dense[:, 3], length)


@dataclass(frozen=True)
class Hollow:
    """A hollow organ on the grid.

    Attributes:
        distance: (X, Y, Z), signed distance to its outer wall.
        along: (X, Y, Z), length along the centre line at the nearest centre point.
        height: (X, Y, Z), how far in front of the centre line (up, in a patient on the back), as part of the radius.
    """

    distance: Field
    along: Field
    height: Field


def hollow(tube: Tube, at: Sequence[Field], *, exact: bool = False) -> Hollow:
    """The tube on the grid.

    Args:
        tube: Tube in the coordinates of `at`.
        at: Coordinates x, y and z in mm of every voxel, each (X, Y, Z).
        exact: take the nearest wall, not the wall at the nearest centre point: slower, for a strong taper.

    >>> line = Tube.through(np.array([[0.0, 0, 0, 5], [10, 0, 0, 5], [20, 0, 0, 5]]), step_mm=1)
    >>> x, y, z = np.meshgrid([10.0], [0.0, 5.0, 9.0], [0.0], indexing="ij")
    >>> hollow(line, [x, y, z]).distance.round(1).ravel().tolist()
    [-5.0, 0.0, 4.0]
    """
    shape = at[0].shape
    reach = tube.radius.max() + 6
    near = np.ones(shape, dtype=bool)
    for axis in range(3):
        near &= (at[axis] > tube.points[:, axis].min() - reach) & (at[axis] < tube.points[:, axis].max() + reach)
    x, y, z = (p[near] for p in at)
    if exact:
        nearest: NDArray[np.intp] = np.zeros(x.size, dtype=np.intp)
        best: Field = np.full(x.size, np.inf)
        for i, ((px, py, pz), radius) in enumerate(zip(tube.points, tube.radius, strict=True)):
            gap = np.sqrt((x - px) ** 2 + (y - py) ** 2 + (z - pz) ** 2) - radius
            closer = gap < best
            best[closer], nearest[closer] = gap[closer], i
    else:
        gap, found = KDTree(tube.points).query(np.stack([x, y, z], axis=1), distance_upper_bound=reach)
        inside = found < len(tube.points)
        nearest = np.where(inside, found, 0)
        best = np.where(inside, gap - tube.radius[nearest], _FAR_MM)
    distance, along, height = np.full(shape, _FAR_MM), np.zeros(shape), np.zeros(shape)
    distance[near] = best
    along[near] = tube.length[nearest]
    height[near] = (tube.points[nearest, 1] - y) / tube.radius[nearest]
    return Hollow(distance, along, height)
