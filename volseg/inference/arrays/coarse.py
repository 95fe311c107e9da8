"""A coarser grid of an image, what a network doubts on it, and a box of the network's grid as one of the file's."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from volseg.inference.arrays.native import NativeGrid, Probabilities
from volseg.inference.arrays.needed import Mask
from volseg.labels import LabelTable
from volseg.volume import Crop

COARSER = 2  # voxels of the network's grid in one of the coarse grid, along the finer axes
_DOUBT = 0.2  # probability of being no background from which a coarse voxel counts
_SEEN = 0.3  # probability that a region must reach in a coarse voxel to have been seen
_FAR = 10**6


class Doubts:
    """Takes rows of logits as they are finished, and keeps where a region may be.

    Attributes:
        mask: Voxels (X, Y, Z) that may be in a region.
        seen: Whether each region may be there at all: its probability is above 0.3 in a voxel.

    Args:
        shape: Shape (X, Y, Z) of the image.
        labels: Label table.
        axis: Axis along which rows come.
    """

    def __init__(self, shape: Sequence[int], labels: LabelTable, *, axis: int) -> None:
        self.mask = np.zeros(tuple(shape), bool)
        self.seen = np.zeros(len(labels.names), bool)
        self._rows = self.mask.transpose([axis, *(other for other in range(3) if other != axis)])
        self._labels = labels

    def __call__(self, first: int, rows: NDArray[np.float32]) -> None:
        """Take the next logits (channels, rows, ...), the first of which is row `first`."""
        overlap = self._labels.overlap
        probabilities = Probabilities(rows, sigmoid=overlap)
        here = self._rows[first : first + rows.shape[1]]
        if not overlap:
            here |= probabilities[0] < 1 - _DOUBT
        for number in range(len(self.seen)):
            channel = probabilities[number + (not overlap)]  # a softmax has the background before the regions
            self.seen[number] |= bool((channel > _SEEN).any())
            if overlap:
                here |= channel > _DOUBT


def coarser(spacing_mm: Sequence[float]) -> tuple[int, ...]:
    """How many voxels of the network's grid one of the coarse grid takes: thick slices stay.

    >>> coarser([0.8, 0.8, 5.0]), coarser([1.5, 1.5, 2.0])
    ((2, 2, 1), (2, 2, 2))
    """
    return tuple(COARSER if mm < COARSER * min(spacing_mm) else 1 for mm in spacing_mm)


def coarse(image: NDArray[np.float32], factors: Sequence[int]) -> NDArray[np.float32]:
    """The means of blocks of voxels of an image (C, X, Y, Z); a last block that is not full repeats its last voxel.

    An axis of one voxel stays.

    >>> coarse(np.arange(5, dtype=np.float32).reshape(1, 5, 1, 1), (2, 2, 2)).ravel().tolist()
    [0.5, 2.5, 4.0]
    """
    for axis, factor in zip((3, 2, 1), reversed(factors), strict=True):
        length = image.shape[axis]
        if length == 1 or factor == 1:
            continue
        first = np.arange(0, length, factor)  # voxel of each block
        total = image.take(first, axis=axis)
        for offset in range(1, factor):
            total += image.take(np.minimum(first + offset, length - 1), axis=axis)
        image = np.divide(total, np.float32(factor), out=total)
    return image


def finer(mask: Mask, factors: Sequence[int], shape: Sequence[int]) -> Mask:
    """The voxels of a grid of this shape that lie in coarse voxels: the way back from `coarse`.

    >>> finer(np.array([[[True]], [[False]], [[True]]]), (2, 2, 2), (5, 1, 1)).ravel().astype(int).tolist()
    [1, 1, 0, 0, 1]
    """
    for axis, (factor, length) in enumerate(zip(factors, shape, strict=True)):
        mask = mask.repeat(factor, axis=axis)[(slice(None),) * axis + (slice(length),)]
    return mask


def within(grid: NativeGrid, crop: Crop) -> tuple[NativeGrid, Crop]:
    """The way from a box of the network's grid to the part of the file's grid that it covers, and that part.

    Where the box ends with the network's grid, so does the part with that of the file.
    """
    ends = []
    for start, stop, length in zip(crop.starts, crop.stops, crop.shape, strict=True):
        ends.append((-_FAR if start == 0 else start - 0.5, _FAR if stop == length else stop - 0.5))
    corners = np.array([[*corner, 1.0] for corner in itertools.product(*ends)]).T
    seen = (np.linalg.inv(grid.matrix) @ corners)[:3]
    low = np.clip(np.ceil(seen.min(axis=1)), 0, np.array(grid.shape) - 1).astype(int)
    high = np.clip(np.floor(seen.max(axis=1)) + 1, low + 1, grid.shape).astype(int)
    matrix = grid.matrix.copy()
    matrix[:3, 3] += grid.matrix[:3, :3] @ low - np.array(crop.starts)
    shape = [int(end - start) for start, end in zip(low, high, strict=True)]
    lengths = [stop - start for start, stop in zip(crop.starts, crop.stops, strict=True)]
    part = Crop(tuple(int(n) for n in low), tuple(int(n) for n in high), tuple(grid.shape))
    return NativeGrid(matrix, shape, lengths), part
