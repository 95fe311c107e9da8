"""From logits on the network's grid to a label map on the file's: slab by slab, with few rows in memory at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from volseg.inference.arrays.grid import SAME, AxisStep, aslant, parallel_axes
from volseg.labels import LabelTable

# Bytes of one channel's block of rows, about: small enough for a processor's cache to hold several.
_BLOCK_BYTES = 2**22
# The same of all channels, where they are needed at once.
_BLOCKS_BYTES = 2**26


class NativeGrid:
    """The way from the network's grid to that of the file.

    Args:
        matrix: Matrix (4, 4) from voxel index of the file to that of the network's grid.
        shape: Shape (X, Y, Z) of the file.
        seen: Shape of the network's grid.
    """

    def __init__(self, matrix: NDArray[np.float64], shape: Sequence[int], seen: Sequence[int]) -> None:
        self.matrix, self.shape, self.seen = matrix, tuple(shape), tuple(seen)
        self.axes = parallel_axes(matrix, shape, SAME)

    def steps(self, order: Sequence[int]) -> list[AxisStep]:
        """The interpolation along each axis of the network's grid, in an order of these axes."""
        axes = self.axes or []
        found = []
        for place, old in enumerate(order):
            new = axes.index(old)
            step = AxisStep.of(self.matrix, old, new, self.shape[new], self.seen[old], same=SAME)
            found.append(AxisStep(place, step.lower, step.upper, step.share, step.idle))
        return found

    def whole(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """A channel (X, Y, Z) on the grid of the file."""
        if self.axes is None:
            return aslant(probabilities, self.matrix, self.shape)
        steps = self.steps((0, 1, 2))
        for step in sorted(steps, key=lambda step: len(step.lower) / self.seen[step.axis]):
            probabilities = step(probabilities)
        return probabilities.transpose(self.axes)


class Probabilities:
    """Probabilities of logits (channels, ...): of a softmax or a sigmoid, channel by channel."""

    def __init__(self, logits: NDArray[np.float32], *, sigmoid: bool) -> None:
        self._logits = logits
        self._total: NDArray[np.float32] | None = None
        if not sigmoid:
            highest = logits[0].copy()
            for channel in logits[1:]:
                np.maximum(highest, channel, out=highest)
            total = np.zeros_like(highest)
            for channel in logits:
                total += np.exp(channel - highest)
            self._total = np.log(total, out=total)
            self._total += highest

    def __getitem__(self, number: int) -> NDArray[np.float32]:
        channel = self._logits[number]
        found: NDArray[np.float32]
        if self._total is not None:
            found = np.exp(channel - self._total)
            return found
        with np.errstate(over="ignore"):  # exp of a large number is infinity, and its share 0
            found = np.float32(1) / (np.float32(1) + np.exp(-channel))
        return found


class SlabDecision:
    """Decides the label map from rows of logits as they are finished, by the rule `threshold`.

    Args:
        grid: Way to the grid of the file, whose axes are parallel to the network's.
        labels: Label table.
        axis: Axis of the network's grid along which rows come.
    """

    def __init__(self, grid: NativeGrid, labels: LabelTable, *, axis: int) -> None:
        self._labels = labels
        order = (axis, *(other for other in range(3) if other != axis))
        self._along, *others = grid.steps(order)
        self._others = sorted(others, key=lambda step: len(step.lower) / grid.seen[order[step.axis]])
        # Index of a slab's axes among those of the file.
        self.label_map = np.zeros(grid.shape, np.uint8)
        axes = grid.axes or []
        self._view = self.label_map.transpose([axes.index(old) for old in order])
        ascending = self._along.lower[0] <= self._along.lower[-1]
        self._rows = np.arange(len(self._along.lower))[:: 1 if ascending else -1]
        self._row, self._length = 0, grid.seen[axis]
        # A row that lies on one of the network's needs none behind it.
        self._last = self._along.lower if self._along.share is None else self._along.upper
        self._kept: NDArray[np.float32] | None = None
        self._first = 0
        channels = labels.channels
        self._sums, self._inside = np.zeros(channels), np.zeros(256)
        self._of_region, self._sizes = np.zeros(len(labels.names)), np.zeros(256, np.int64)
        plane = max(1, math.prod(self._view.shape[1:]))
        block = min(_BLOCK_BYTES, _BLOCKS_BYTES // channels) if labels.overlap else _BLOCK_BYTES
        self._step = max(1, block // (4 * plane))

    def __call__(self, first: int, rows: NDArray[np.float32]) -> None:
        """Take the next logits (channels, rows, ...), the first of which is row `first`."""
        end = first + rows.shape[1]
        for block in self._ready(first, end):
            low, high = int(self._along.lower[block].min()), int(self._last[block].max())
            self._decide(block, self._between(low, high, first, rows), low)
        if self._row < len(self._rows):
            keep = int(self._along.lower[self._rows[self._row]])
            self._kept, self._first = self._between(keep, end - 1, first, rows).copy(), keep

    def _between(self, low: int, high: int, first: int, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rows `low` to `high`, of those of now and of those kept before."""
        of_now = rows[:, max(0, low - first) : high + 1 - first]
        if low >= first or self._kept is None:
            return of_now
        return np.concatenate([self._kept[:, low - self._first :], of_now], axis=1)

    def _ready(self, first: int, end: int) -> Iterator[NDArray[np.int64]]:
        """Blocks of rows of the file that need no rows of the network from `end` on.

        Those that need rows from before `first` are blocks of their own, since these rows are copied.
        """
        while self._row < len(self._rows):
            block = self._rows[self._row : self._row + self._step]
            block = block[self._last[block] < end] if end < self._length else block
            earlier = block[self._along.lower[block] < first]
            block = earlier if len(earlier) else block
            if not len(block):
                return
            self._row += len(block)
            yield np.sort(block)

    def _decide(self, block: NDArray[np.int64], logits: NDArray[np.float32], first: int) -> None:
        """Decide rows of the file."""
        new = slice(int(block[0]), int(block[-1]) + 1)
        along = self._along.part(new, first)
        idle = self._along.idle and np.array_equal(along.lower, np.arange(logits.shape[1]))
        steps = [*self._others] if idle else [*self._others, along]
        steps.sort(key=lambda step: len(step.lower) / logits.shape[step.axis + 1])
        probabilities = Probabilities(logits, sigmoid=self._labels.overlap)

        def each() -> Iterator[NDArray[np.float32]]:
            for number in range(len(logits)):
                channel = probabilities[number]
                for step in steps:
                    channel = step(channel)
                self._sums[number] += channel.sum(dtype=np.float64)
                yield channel

        if self._labels.overlap:
            held = np.stack(list(each()))
            label_map = self._labels.encode(held > 0.5)
            for number, (mask, channel) in enumerate(zip(self._labels.each_mask(label_map), held, strict=True)):
                self._of_region[number] += channel.sum(where=mask, dtype=np.float64)
        else:
            label_map, winner = self._labels.decide_each(each(), channels=len(logits))
            self._inside += np.bincount(label_map.ravel(), weights=winner.ravel(), minlength=256)
        self._view[new] = label_map
        self._sizes += np.bincount(label_map.ravel(), minlength=256)

    def expected_dice(self) -> dict[str, float | None]:
        """What the network expects of each region's Dice; None if the region is empty."""
        totals = self._sums[-len(self._labels.names) :]  # a softmax has the background before them
        found: dict[str, float | None] = {}
        for number, region in enumerate(self._labels.regions):
            size = int(self._sizes[list(region.values)].sum())
            inside = self._of_region[number] if self._labels.overlap else self._inside[list(region.values)].sum()
            found[region.name] = 2 * float(inside) / (size + float(totals[number])) if size else None
        return found
