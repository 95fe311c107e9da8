"""From closed outlines on one slice to the pixels that they hold: lines, insides, and holes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from volseg.labels import Masks

Points = NDArray[np.float64]

# A centre this near to an outline, in pixels, lies on it and so inside (PS3.3 C.8.8.6.3).
_ON_THE_LINE = 1e-3
# Where all points of an outline are this near to centres, in pixels, its writer traced pixels, and rounded them later;
# many points that are only nearly so are no chance either.
_TRACED = 0.005
_TRACED_ROUGHLY = 0.06
_MANY_POINTS = 12
# Two outlines that are nowhere further apart than this, in pixels, are one outline that was sampled twice.
_SAME = 0.25
# An outline lies inside another where it leaves it by no more than this, in pixels; coordinates are rounded text.
_INSIDE = 0.05
# Some points of an outline, joined anew, keep at least this share of its area.
_KEPT_AREA = 0.8
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Nesting:
    """Which of the outlines of one slice count, and which lie inside which.

    Attributes:
        polygons: each (n, 2) in pixels, each once.
        holes: for each polygon, the numbers of those that lie directly inside it: holes in it, or islands in a hole.
        outer: the numbers of those that are no hole and no island in one.
        doubtful: whether two outlines run through the same pixels in opposite directions, which is either a wall one
            pixel thick or one outline stored twice. It was taken for the wall, as OpenCV traces it.
    """

    polygons: tuple[Points, ...]
    holes: tuple[tuple[int, ...], ...]
    outer: tuple[int, ...]
    doubtful: bool


def fill(polygons: Sequence[Points], shape: tuple[int, int], *, exclusive: bool = False) -> Masks:
    """The pixels [X, Y] whose centres lie inside outlines, or on them.

    One outline is filled by the even-odd rule, so a keyhole leaves its hole. Several are united, and one that lies
    wholly inside another is a hole in it. Centres on the line belong to what is drawn, on the line of a hole too.

    Args:
        polygons: each (n, 2) in pixels, pixel centres at whole numbers.
        shape: X, Y.
        exclusive: whether the outlines are combined by exclusive or instead (CLOSEDPLANAR_XOR).

    >>> square = np.array([[0, 0], [2, 0], [2, 2], [0, 2]])
    >>> int(fill([square, square[::-1]], (3, 3)).sum())
    9
    """
    return fill_nested(nest(polygons), shape) if not exclusive else _parity(polygons, shape)


def fill_nested(nesting: Nesting, shape: tuple[int, int]) -> Masks:
    """As `fill`, of outlines whose nesting is known."""
    mask = np.zeros(shape, dtype=bool)
    for number in nesting.outer:
        polygon = nesting.polygons[number]
        low = np.clip(np.floor(polygon.min(axis=0)), 0, shape).astype(np.int64)
        high = np.clip(np.ceil(polygon.max(axis=0)) + 1, low, shape).astype(np.int64)
        window = slice(low[0], high[0]), slice(low[1], high[1])
        mask[window] |= _with_holes(nesting, number, low, (int(high[0] - low[0]), int(high[1] - low[1])))
    return mask


def nest(polygons: Sequence[Points]) -> Nesting:
    """Leave out what is stored twice, however it is sampled, and find what lies inside what.

    Args:
        polygons: each (n, 2) in pixels.
    """
    cleaned = [_clean(polygon) for polygon in polygons]
    if len(cleaned) == 1:
        return Nesting((cleaned[0],), ((),), (0,), doubtful=False)
    low = np.array([polygon.min(axis=0) for polygon in cleaned])
    high = np.array([polygon.max(axis=0) for polygon in cleaned])
    # fits[i, j]: whether the box of i lies inside that of j, or all but so.
    above, below = low[:, None] >= low[None] - _SAME, high[:, None] <= high[None] + _SAME
    fits = np.array(np.concatenate([above, below], axis=2).all(axis=2))
    np.fill_diagonal(fits, val=False)
    dropped: set[int] = set()
    inside: dict[int, set[int]] = {i: set() for i in range(len(cleaned))}
    doubtful = False
    for i, j in np.argwhere(fits).tolist():
        if i in dropped or j in dropped or i in inside[j]:
            continue
        if _same(cleaned[i], cleaned[j]):
            if _is_wall(cleaned[i], cleaned[j]):
                doubtful = True
                inside[max(i, j)].add(min(i, j))
            else:  # the larger one counts, whichever is stored first
                size = {k: (abs(_area(cleaned[k])), *low[k].tolist(), *high[k].tolist()) for k in (i, j)}
                dropped.add(min((i, j), key=lambda k: size[k]))
        elif _is_inside(cleaned[i], cleaned[j]):
            inside[i].add(j)
    kept = [i for i in inside if i not in dropped]
    around = {i: inside[i] - dropped for i in kept}
    depth: dict[int, int] = {}
    for i in sorted(kept, key=lambda k: -abs(_area(cleaned[k]))):  # what lies around another is larger
        depth[i] = max((depth[j] + 1 for j in around[i] if j in depth), default=0)
    number = {i: n for n, i in enumerate(kept)}
    holes = tuple(tuple(number[i] for i in kept if j in around[i] and depth[i] == depth[j] + 1) for j in kept)
    outer = tuple(number[i] for i in kept if depth[i] == 0)
    return Nesting(tuple(cleaned[i] for i in kept), holes, outer, doubtful)


def _with_holes(nesting: Nesting, number: int, low: NDArray[np.int64], shape: tuple[int, int]) -> Masks:
    """What an outline holds, less what its holes hold, with the islands in those; in a window that begins at `low`."""
    polygon = nesting.polygons[number] - low
    mask = _inside(polygon, shape) | _line(polygon, shape)
    for hole in nesting.holes[number]:
        edge = nesting.polygons[hole] - low
        empty = _inside(edge, shape) & ~_line(edge, shape)
        for island in nesting.holes[hole]:
            empty &= ~_with_holes(nesting, island, low, shape)
        mask &= ~empty
    return mask


def _parity(polygons: Sequence[Points], shape: tuple[int, int]) -> Masks:
    inside, line = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    for polygon in map(_clean, polygons):
        inside ^= _inside(polygon, shape)
        line |= _line(polygon, shape)
    return inside | line


def _clean(polygon: Points) -> Points:
    """Without repeated points; on the centres, where its writer traced pixels."""
    points = np.asarray(polygon, dtype=np.float64)
    centres = np.rint(points)
    if np.abs(points - centres).max() < (_TRACED_ROUGHLY if len(points) >= _MANY_POINTS else _TRACED):
        points = centres
    apart = (points != np.roll(points, 1, axis=0)).any(axis=1)
    return points[apart] if apart.any() else points[:1]


def _same(one: Points, other: Points) -> bool:
    """Whether two outlines are one that was sampled twice: begun elsewhere, run backwards, or with other points."""
    areas = sorted((abs(_area(one)), abs(_area(other))))
    if areas[0] < _KEPT_AREA * areas[1]:
        return False
    there, back = _distances(one, other).max(), _distances(other, one).max()
    if _is_traced(one) and _is_traced(other):  # a hole of a thin wall is traced through the same pixels
        return bool(max(there, back) < _ON_THE_LINE)
    return bool(max(there, back) <= _SAME or min(there, back) <= _INSIDE)


def _is_wall(one: Points, other: Points) -> bool:
    """Whether two equal outlines are the two sides of a wall one pixel thick, as OpenCV's findContours traces it.

    It runs around a hole in the other direction than around a region, and through those pixels of the wall that share a
    side with one of the hole.
    """
    if not (_is_traced(one) and _is_traced(other)) or _area(one) * _area(other) >= 0:
        return False
    low = one.min(axis=0) - 1
    size = one.max(axis=0) - low + 2
    shape = int(size[0]), int(size[1])
    line = _line(one - low, shape)
    hollow = np.pad(_inside(one - low, shape) & ~line, 1)
    beside = hollow[2:, 1:-1] | hollow[:-2, 1:-1] | hollow[1:-1, 2:] | hollow[1:-1, :-2]
    return bool(beside[line].all())


def _is_traced(polygon: Points) -> bool:
    """Whether an outline runs through pixel centres in the eight directions of a chain code."""
    steps = np.abs(np.roll(polygon, -1, axis=0) - polygon)
    eight = (steps[:, 0] == steps[:, 1]) | (steps.min(axis=1) == 0)
    return bool(eight.all() and (polygon == np.rint(polygon)).all())


def _is_inside(inner: Points, outer: Points) -> bool:
    """Whether an outline lies wholly inside another, its line included."""
    if not _all_inside(inner[:: max(1, len(inner) // 16)], outer):
        return False
    steps = np.roll(inner, -1, axis=0) - inner
    count = np.ceil(2 * np.linalg.norm(steps, axis=1)).astype(np.int64) + 1  # a point each half pixel
    side = np.repeat(np.arange(len(inner)), count)
    share = (np.arange(len(side)) - np.repeat(np.cumsum(count) - count, count)) / count[side]
    return _all_inside(inner[side] + share[:, None] * steps[side], outer)


def _all_inside(points: Points, polygon: Points) -> bool:
    outside = points[~_hold(points, polygon)]
    if not len(outside):
        return True
    starts, ends = polygon, np.roll(polygon, -1, axis=0)
    near = np.ones(len(starts), dtype=bool)  # of an outline of thousands of points few are
    for axis in (0, 1):  # one by one: numpy is slow along an axis of two
        least, most = outside[:, axis].min() - _INSIDE, outside[:, axis].max() + _INSIDE
        near &= np.maximum(starts[:, axis], ends[:, axis]) >= least
        near &= np.minimum(starts[:, axis], ends[:, axis]) <= most
    return bool(near.any()) and bool(_distances_to_sides(outside, starts[near], ends[near]).max() <= _INSIDE)


def _hold(points: Points, polygon: Points) -> Masks:
    """Whether points lie inside a polygon, by the number of sides above them."""
    starts, ends = polygon, np.roll(polygon, -1, axis=0)
    met = np.maximum(starts[:, 0], ends[:, 0]) >= points[:, 0].min()
    met &= np.minimum(starts[:, 0], ends[:, 0]) <= points[:, 0].max()
    starts, ends = starts[met], ends[met]
    held = np.zeros(len(points), dtype=bool)
    block = max(1, _BLOCK // max(1, len(starts)))
    for first in range(0, len(points), block):
        x, y = points[first : first + block].T[:, :, None]
        meets = (starts[:, 0] <= x) != (ends[:, 0] <= x)
        run = np.where(ends[:, 0] == starts[:, 0], 1.0, ends[:, 0] - starts[:, 0])
        cut = starts[:, 1] + (x - starts[:, 0]) * (ends[:, 1] - starts[:, 1]) / run
        held[first : first + block] = ((cut > y) & meets).sum(axis=1) % 2 == 1
    return held


def _distances(points: Points, polygon: Points) -> NDArray[np.float64]:
    """How far each point lies from the nearest side, in pixels."""
    return _distances_to_sides(points, polygon, np.roll(polygon, -1, axis=0))


def _distances_to_sides(points: Points, starts: Points, ends: Points) -> NDArray[np.float64]:
    steps = ends - starts
    lengths = np.maximum((steps**2).sum(axis=1), 1e-300)
    found = np.empty(len(points))
    block = max(1, _BLOCK // len(starts))
    for first in range(0, len(points), block):
        away = points[first : first + block, None] - starts  # (points, sides, 2)
        share = np.clip((away * steps).sum(axis=2) / lengths, 0, 1)
        found[first : first + block] = np.sqrt(((away - share[:, :, None] * steps) ** 2).sum(axis=2).min(axis=1))
    return found


def _area(polygon: Points) -> float:
    """In pixels, negative where the way turns to the other side."""
    x, y = (polygon - polygon[0]).T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def _inside(polygon: Points, shape: tuple[int, int]) -> Masks:
    r"""The centres that an odd number of sides lies below; those on a side may count either way.

    A side from x0 to x1 meets the columns of centres with x0 <= x < x1, so a corner counts for one of its two sides:

        y   |   b       Columns 1 and 2 are met by the side a b, column 3 by the next one.
            | a    \
            +-1-2--3-- x
    """
    starts, ends = polygon, np.roll(polygon, -1, axis=0)
    swap = (starts[:, 0] > ends[:, 0])[:, None]
    left, right = np.where(swap, ends, starts), np.where(swap, starts, ends)
    first = np.clip(np.ceil(left[:, 0]), 0, shape[0]).astype(np.int64)
    stop = np.clip(np.ceil(right[:, 0]), 0, shape[0]).astype(np.int64)
    count = np.maximum(stop - first, 0)
    side = np.repeat(np.arange(len(left)), count)
    column = first[side] + np.arange(len(side)) - np.repeat(np.cumsum(count) - count, count)
    run = right[side] - left[side]
    cut = left[side, 1] + run[:, 1] * (column - left[side, 0]) / run[:, 0]
    row = np.clip(np.ceil(cut), 0, shape[1]).astype(np.int64)
    met = np.bincount(column * (shape[1] + 1) + row, minlength=shape[0] * (shape[1] + 1))
    inside: Masks = np.cumsum(met.reshape(shape[0], shape[1] + 1)[:, :-1], axis=1) % 2 == 1
    return inside


def _line(polygon: Points, shape: tuple[int, int]) -> Masks:
    """The centres on a side. Each is walked along that axis on which it is longer, so rows and columns are alike."""
    mask = np.zeros(shape, dtype=bool)
    starts, steps = polygon, np.roll(polygon, -1, axis=0) - polygon
    steep = np.abs(steps[:, 1]) > np.abs(steps[:, 0])
    for axis, chosen in ((0, ~steep), (1, steep)):
        start, step = starts[chosen], steps[chosen]
        along, across = start[:, axis], start[:, 1 - axis]
        low, high = np.minimum(along, along + step[:, axis]), np.maximum(along, along + step[:, axis])
        first = np.clip(np.ceil(low - _ON_THE_LINE), 0, shape[axis]).astype(np.int64)
        stop = np.clip(np.floor(high + _ON_THE_LINE) + 1, 0, shape[axis]).astype(np.int64)
        count = np.maximum(stop - first, 0)
        side = np.repeat(np.arange(len(start)), count)
        centre = first[side] + np.arange(len(side)) - np.repeat(np.cumsum(count) - count, count)
        run = np.where(step[side, axis] == 0, 1.0, step[side, axis])
        share = np.clip((centre - along[side]) / run, 0, 1)
        beside = across[side] + share * step[side, 1 - axis]
        nearest = np.rint(beside)
        missed = np.hypot(along[side] + share * step[side, axis] - centre, beside - nearest)
        on = (missed <= _ON_THE_LINE) & (nearest >= 0) & (nearest < shape[1 - axis])
        found = np.stack([centre[on], nearest[on].astype(np.int64)])
        mask[tuple(found if axis == 0 else found[::-1])] = True
    return mask
