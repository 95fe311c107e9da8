"""From a mask to closed outlines whose insides hold exactly the centres of its pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from volseg.labels import Masks

# A point in half pixels, so that all points are whole numbers.
Point = tuple[int, int]
Loop = list[Point]


def outlines(mask: Masks) -> list[NDArray[np.float64]]:
    """The outlines of a mask, each (n, 2) in pixels, pixel centres at whole numbers, the first point not repeated.

    Marching squares at the middle (Lorensen and Cline 1987, doi:10.1145/37402.37422, in two dimensions): an outline
    runs through the middle between each pair of neighbours of which one is inside. So it is nowhere more than half a
    pixel from the edges of the pixels, and it encloses the area of the pixels less half a pixel for each outline, plus
    half for each hole. Pixels that touch at a corner only are outlined apart.

    A hole is joined to its outline by a channel of no width along a row of pixels that lie inside (the keyhole of PS3.3
    C.8.8.6.3), so every outline stands for itself.

    Args:
        mask: (X, Y).

    >>> outlines(np.array([[True]]))[0].tolist()
    [[0.0, -0.5], [0.5, 0.0], [0.0, 0.5], [-0.5, 0.0]]
    """
    filled = np.argwhere(mask)
    if not filled.size:
        return []
    low, high = filled.min(axis=0), filled.max(axis=0) + 1
    inside = np.pad(mask[low[0] : high[0], low[1] : high[1]], 1)
    loops = _loops(inside)
    areas = [_area(loop) for loop in loops]
    outer = [loop for loop, area in zip(loops, areas, strict=True) if area > 0]
    holes = [loop for loop, area in zip(loops, areas, strict=True) if area < 0]
    # Each way as a chain of places, so that a hole is joined in the same time however long its outline has grown.
    points = [point for loop in loops for point in loop]
    following: list[int] = []
    for loop in loops:
        begin = len(following)
        following += [*range(begin + 1, begin + len(loop)), begin]
    place_of = {point: place for place, point in enumerate(points)}
    # From right to left: to the right of a hole there is its outline, or a hole that was joined to it before.
    for hole in sorted(holes, key=max, reverse=True):
        x, y = gate = max(point for point in hole if point[0] % 2)
        row = inside[(x + 1) // 2 :, y // 2]
        met, entry = place_of[x + 2 * int(np.argmin(row)), y], place_of[gate]
        # met -> after becomes met -> gate -> around the hole -> gate again -> met again -> after.
        before = place_of[hole[hole.index(gate) - 1]]
        points += [points[entry], points[met]]
        following += [len(points) - 1, following[met]]
        following[before], following[met] = len(points) - 2, entry
    outer = [_way(place_of[loop[0]], points, following) for loop in outer]
    # Half pixels to pixels, and the padding back.
    return [np.array(_corners(loop), dtype=np.float64) / 2 - 1 + low for loop in outer]


def _way(start: int, points: Sequence[Point], following: Sequence[int]) -> Loop:
    """The points of a closed chain of places, from one of them on."""
    loop = [points[start]]
    place = following[start]
    while place != start:
        loop.append(points[place])
        place = following[place]
    return loop


def _loops(inside: Masks) -> list[Loop]:
    """All boundaries, with the inside on the left of the way (x to the right, y up).

    Each cell has four pixels as corners, numbered around it, and a point on the side after each:

        3--2--2      The boundary enters a cell where a corner inside follows one outside, and leaves it where a corner
        |     |      outside follows one inside. A way goes from where it leaves, going around, back to where that run
        3     1      of inside corners began.
        |     |
        0--0--1
    """
    corner = [inside[:-1, :-1], inside[1:, :-1], inside[1:, 1:], inside[:-1, 1:]]
    side = np.array([(1, 0), (2, 1), (1, 2), (0, 1)])  # half pixels from corner 0
    starts, ends = [], []
    for k in range(4):
        last = corner[k] & ~corner[(k + 1) % 4]
        for length in (1, 2, 3):
            run = last & ~corner[(k - length) % 4]
            last = last & corner[(k - length) % 4]
            cells = np.argwhere(run) * 2
            starts.append(cells + side[k])
            ends.append(cells + side[(k - length) % 4])
    following = dict(zip(_points(starts), _points(ends), strict=True))
    loops = []
    while following:
        first, point = following.popitem()
        loop = [first]
        while point != first:
            loop.append(point)
            point = following.pop(point)
        loops.append(loop)
    return loops


def _points(parts: list[NDArray[np.int64]]) -> Loop:
    return [(x, y) for x, y in np.concatenate(parts).tolist()]


def _area(loop: Loop) -> int:
    """Eight times the area in pixels, negative around a hole."""
    points = np.array(loop)
    x, y = points.T
    return int((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())


def _corners(loop: Loop) -> Loop:
    """The points at which the way turns."""
    points = np.array(loop)
    come, go = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    straight = (np.sign(come) == np.sign(go)).all(axis=1) & (come[:, 0] * go[:, 1] == come[:, 1] * go[:, 0])
    return [loop[i] for i in np.flatnonzero(~straight)]
