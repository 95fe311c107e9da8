"""Masks on a padded grid, flattened so that a neighbour is one addition away: boundaries and nearest voxels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

Flat = NDArray[np.bool_]
Distances = NDArray[np.float64]
Indices = NDArray[np.intp]

# Number of offsets that are tried one by one; beyond it a search tree is faster. Measured on organs of 100,000 voxels.
_OFFSETS = 250
_LEAF_SIZE = 32  # larger leaves are faster to build; the tree answers one batch only
# If a larger fraction of the voxels than this is left after these offsets (noise far from the other mask), a distance
# transform of the grid is faster: the tree's look-ups get slower with the distance. It takes some 50 bytes per voxel.
_MANY, _TRIED = 0.05, 32
_TRANSFORMED = 2**25
# Number of offsets within a limit up to which they are tried one by one; beyond it a search tree is faster.
_OFFSETS_WITHIN = 1000
# A distance equal to a limit is within it, though files keep spacings in 32 bits or six digits.
_ROUNDING = 1e-6


def upper_mm(limit_mm: float) -> float:
    """The largest distance that counts as within a limit: more by a millionth of it, to allow for rounded spacings.

    >>> 3 * 0.1 <= 0.3, 3 * 0.1 <= upper_mm(0.3), 0.301 <= upper_mm(0.3)
    (False, True, False)
    """
    return limit_mm * (1 + _ROUNDING)


def steps_within(limit_mm: float, step_mm: float) -> int:
    """Number of whole steps within a limit.

    >>> steps_within(0.3, 0.1), steps_within(3, 1.00000002)
    (3, 3)
    """
    return int(upper_mm(limit_mm) / step_mm)


def margin_within(limit_mm: float, spacing_mm: Sequence[float]) -> tuple[int, ...]:
    """The margin for the offsets within a limit, one number per axis; 1 if they are too many, see `Lattice.beyond`.

    >>> margin_within(3, (0.75, 0.75)), margin_within(3, (0.0005, 0.0005))
    ((5, 5), (1, 1))
    """
    reach = [steps_within(limit_mm, step) for step in spacing_mm]
    few = math.prod(2 * steps + 1 for steps in reach) <= _OFFSETS_WITHIN
    return tuple(1 + steps * few for steps in reach)


@dataclass(frozen=True)
class Lattice:
    """A grid with a margin of False around it, so that no offset leads outside it.

    Attributes:
        shape: Shape of the grid without the margin.
        spacing_mm: Spacing in mm, one number per axis.
        margin: Number of voxels on each side, one number per axis, at least 1.
    """

    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    margin: tuple[int, ...]

    @classmethod
    def around(cls, shape: tuple[int, ...], spacing_mm: tuple[float, ...], *, at_least_mm: float = 0.0) -> Lattice:
        """The lattice whose margin fits the offsets of `nearest_mm`, and steps of `at_least_mm`."""
        reach = [np.abs(offsets).max(axis=0) for _, offsets in _shells(spacing_mm)]
        margin = np.max([[1] * len(shape), *reach, [int(at_least_mm / step) for step in spacing_mm]], axis=0)
        return cls(shape, spacing_mm, tuple(margin.tolist()))

    @property
    def padded(self) -> tuple[int, ...]:
        """The shape with the margin."""
        return tuple(side + 2 * margin for side, margin in zip(self.shape, self.margin, strict=True))

    @cached_property
    def steps(self) -> NDArray[np.intp]:
        """The distance in a flat mask to the next voxel along each axis, (axes,)."""
        return np.array([math.prod(self.padded[axis + 1 :]) for axis in range(len(self.shape))], dtype=np.intp)

    def flat(self, mask: NDArray[np.bool_]) -> Flat:
        """The flat mask with its margin (padded voxels,), last axis fastest."""
        padded = np.zeros(self.padded, dtype=bool)
        padded[tuple(slice(m, m + side) for m, side in zip(self.margin, self.shape, strict=True))] = mask
        return padded.ravel()

    def boundary(self, flat: Flat, *, axes: tuple[int, ...] | None = None, unseen: Sequence[Flat] = ()) -> Flat:
        """The voxels that have a neighbour outside the mask along one of the axes (all by default).

        Args:
            flat: Flat mask.
            axes: Axes of the neighbours.
            unseen: Flat masks of voxels that nobody knows to be outside.
        """
        inside = flat.copy()
        known = flat if not unseen else np.logical_or.reduce([flat, *unseen])
        for step in self.steps if axes is None else self.steps[list(axes)]:
            inside[step:] &= known[:-step]
            inside[:-step] &= known[step:]
        return flat > inside

    def positions_mm(self, indices: Indices) -> Distances:
        """The positions in mm of voxels of a flat mask, (voxels, axes)."""
        positions: Distances = np.stack(np.unravel_index(indices, self.padded), axis=1) * np.array(self.spacing_mm)
        return positions

    def nearest_mm(self, starts: Flat, ends: Flat) -> Distances:
        """The exact distance in mm from each start to the nearest end; NaN if there is no end.

        The nearest offsets are tried one after another. Starts that they do not settle are left to a search tree, or,
        if there are many, to a distance transform.

        Returns:
            Distances (S,) of the starts in flat order.

        >>> line = Lattice.around((5,), (2.0,))
        >>> line.nearest_mm(line.flat(np.arange(5) < 2), line.flat(np.arange(5) == 3)).tolist()
        [6.0, 4.0]
        """
        places = np.flatnonzero(starts)
        if not ends.any():
            return np.full(len(places), np.nan)
        distances = np.zeros(len(places))
        left = np.flatnonzero(~ends[places])
        tried, many = 0, _MANY * len(ends) if len(ends) <= _TRANSFORMED else math.inf
        for distance, offsets in _shells(self.spacing_mm):
            if not left.size:
                return distances
            if tried >= _TRIED and left.size > many:
                break
            tried += len(offsets)
            hit = _any(ends, places[left], offsets @ self.steps)
            distances[left[hit]] = distance
            left = left[~hit]
        if left.size > many:
            from scipy.ndimage import distance_transform_edt

            grid = distance_transform_edt(~ends.reshape(self.padded), sampling=self.spacing_mm)
            distances[left] = grid.ravel()[places[left]]
        elif left.size:
            from scipy.spatial import cKDTree

            tree = cKDTree(
                self.positions_mm(np.flatnonzero(ends)), leafsize=_LEAF_SIZE, compact_nodes=False, balanced_tree=False
            )
            distances[left], _ = tree.query(self.positions_mm(places[left]))
        return distances

    def beyond(self, starts: Flat, ends: Flat, limit_mm: float, *, axes: tuple[int, ...]) -> Indices:
        """The flat indices of the starts with no end within the limit, along the given axes only.

        Offsets are tried one by one where they stay within the margin. Else there are many of them, as where a pixel is
        a micrometre, and the nearest end is searched for.
        """
        left = np.flatnonzero(starts > ends)
        reach = [steps_within(limit_mm, step) if axis in axes else 0 for axis, step in enumerate(self.spacing_mm)]
        if any(steps >= margin for steps, margin in zip(reach, self.margin, strict=True)):
            return left[self._far(left, np.flatnonzero(ends), limit_mm, axes=axes)]
        offsets = np.indices([2 * r + 1 for r in reach]).reshape(len(reach), -1).T - reach
        lengths = np.sqrt(((offsets * self.spacing_mm) ** 2).sum(axis=1))
        for offset in offsets[np.argsort(lengths, kind="stable")][: int((lengths <= upper_mm(limit_mm)).sum())]:
            if not left.size:
                break
            left = left[~ends[left + offset @ self.steps]]
        return left

    def _far(self, starts: Indices, ends: Indices, limit_mm: float, *, axes: tuple[int, ...]) -> NDArray[np.bool_]:
        """Whether flat indices have no end within the limit along some axes, by a search tree."""
        from scipy.spatial import cKDTree

        if not ends.size:
            return np.ones(len(starts), dtype=bool)
        # Along the other axes neighbours lie further apart than the limit, so that none of them counts.
        steps = np.array([mm if axis in axes else 2 * limit_mm for axis, mm in enumerate(self.spacing_mm)])
        places, targets = (np.stack(np.unravel_index(one, self.padded), axis=1) * steps for one in (starts, ends))
        tree = cKDTree(targets, leafsize=_LEAF_SIZE, compact_nodes=False, balanced_tree=False)
        distances, _ = tree.query(places, distance_upper_bound=2 * limit_mm)  # infinite beyond
        return np.asarray(distances > upper_mm(limit_mm))


def _any(flat: Flat, places: Indices, steps: Indices) -> NDArray[np.bool_]:
    """Whether the flat mask is True at one of the steps from each index, (P,)."""
    hit: Flat = flat.take(places + steps[0])
    for step in steps[1:]:
        hit |= flat.take(places + step)
    return hit


@lru_cache(maxsize=64)
def _shells(spacing_mm: tuple[float, ...]) -> tuple[tuple[float, Indices], ...]:
    """The nearest offsets except 0, as (distance in mm, (offsets of that distance, axes)), ascending."""
    axes = len(spacing_mm)
    # A ball of radius r mm holds about (1.6 r)^axes / voxel volume offsets.
    radius = (_OFFSETS * math.prod(spacing_mm)) ** (1 / axes) / 1.6
    reach = [min(int(radius / step), _OFFSETS) for step in spacing_mm]
    offsets = np.indices([2 * r + 1 for r in reach]).reshape(axes, -1).T - reach
    lengths = np.sqrt(((offsets * np.array(spacing_mm)) ** 2).sum(axis=1))
    near = (lengths > 0) & (lengths <= radius)
    offsets, lengths = offsets[near], lengths[near]
    order = np.argsort(lengths, kind="stable")
    offsets, lengths = offsets[order], lengths[order]
    starts = np.flatnonzero(np.diff(lengths, prepend=-1.0) > 1e-12)
    return tuple((float(lengths[i]), part) for i, part in zip(starts, np.split(offsets, starts[1:]), strict=True))
