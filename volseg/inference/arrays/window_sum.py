"""The weighted sum of windows' logits: of a whole volume, or of as many rows as a window has."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.errors import VolsegError

Rows = Callable[[int, NDArray[np.float32]], None]
"""Takes the first row, and logits (channels, rows, ...) with the axis of the slabs first."""

PIECE_BYTES = 2**27
"""Bytes of the rows that are given away at once in half precision; one row may be more."""

_LARGEST_HALF = 2000.0  # logits: a voxel's sum is of at most 27 windows, and half precision ends at 65,504
_LEAST_WEIGHT = 1e-3
_SIGMA = 0.125  # standard deviation of the weights as a fraction of the window


@functools.lru_cache(maxsize=8)
def gaussian(window: tuple[int, ...]) -> NDArray[np.float32]:
    """The weights of a window's voxels, largest in its middle, as MONAI's for `mode="gaussian"`."""
    weights = np.ones((), np.float32)
    for n in window:
        x = np.arange(n, dtype=np.float32) - np.float32((n - 1) / 2)
        along = np.exp(x**2 / np.float32(-2 * (_SIGMA * n) ** 2))
        weights = weights[..., None] * along
    return np.maximum(weights, max(float(weights.min()), _LEAST_WEIGHT)).astype(np.float32)


class WindowSum:
    """The mean of weighted windows, whose rows are final once no later window covers them.

    Rows are slices along the axis of the slabs, which is the first one here. Row n lies at place n % (number of rows in
    memory), so that nothing is moved when rows are given away:

        rows      0 ... first      first ......... first + window ... length
                  given away       covered by windows of now          to come

    Args:
        roi_size: Window size in voxels.
        shape: Shape of the image.
        pads: Voxels of padding before and behind each axis of the image.
        axis: Axis of the slabs.
        channels: Number of logits per voxel.
        background: Logits of what no window covers; None if windows cover everything.
        dtype: Type of the sum.
        exclusive: Whether a softmax follows. In half precision logits are then summed as differences from the largest
            of their voxel in each window, which a softmax does not see: those that decide are near 0, where half
            precision is finest.
        give: Function that takes finished rows in their order, without the padding; it may keep a view no longer than
            its call lasts. None keeps all rows, see `whole`.
    """

    def __init__(
        self,
        roi_size: Sequence[int],
        shape: Sequence[int],
        pads: Sequence[tuple[int, int]],
        *,
        axis: int,
        channels: int,
        background: Sequence[float] | None,
        dtype: type[np.floating] = np.float32,
        exclusive: bool = False,
        give: Rows | None = None,
    ) -> None:
        self._order = [axis, *(other for other in range(3) if other != axis)]
        self._give, self._background = give, background
        self._window = gaussian(tuple(roi_size)).transpose(self._order)
        self._pads = [pads[one] for one in self._order]
        self._shape = [shape[one] for one in self._order]
        self._length, *plane = (
            before + n + behind for (before, behind), n in zip(self._pads, self._shape, strict=True)
        )
        rows = len(self._window)
        self._total = np.zeros((channels, self._length if give is None else rows, *plane), dtype)
        self._weights = np.zeros((rows, *plane), np.float32)
        self._first = 0
        self._half, self._exclusive = dtype == np.float16, exclusive
        self._piece = max(1, PIECE_BYTES // max(1, self._total[:, 0].size * 4)) if self._half else rows

    def add(self, start: Sequence[int], logits: NDArray[np.float32]) -> None:
        """Add the logits (channels, *roi) of a window; no later window may start before it along the slabs' axis.

        Raises:
            VolsegError: The logits are too large for half precision.
        """
        if self._half and self._exclusive:
            logits = _minus_largest(logits if logits.flags.writeable else logits.copy())
        if self._half and not max(float(logits.max()), -float(logits.min())) <= _LARGEST_HALF:
            raise VolsegError(
                f"logits must be at most {_LARGEST_HALF:g} for a sum in half precision, got "
                f"{float(np.abs(logits).max()):.4g}; name more with --memory"
            )
        row, *others = (start[axis] for axis in self._order)
        self._finish(row)
        rest = tuple(slice(n, n + size) for n, size in zip(others, self._window.shape[1:], strict=True))
        turned = logits.transpose(0, *(axis + 1 for axis in self._order))
        for places, part in _places(row, len(self._window), self._total.shape[1]):
            for into, channel in zip(self._total, turned, strict=True):
                _add(into[(places, *rest)], channel[part], self._window[part])
        for places, part in _places(row, len(self._window), len(self._weights)):
            self._weights[(places, *rest)] += self._window[part]

    def finish(self) -> None:
        """Give the last rows away."""
        self._finish(self._length)

    def whole(self) -> NDArray[Any]:
        """The mean (channels, X, Y, Z), if all rows were kept."""
        self._finish(self._length)
        cut = (slice(before, before + n) for (before, _), n in zip(self._pads, self._shape, strict=True))
        return self._total[(slice(None), *cut)].transpose(0, *(self._order.index(axis) + 1 for axis in range(3)))

    def _finish(self, row: int) -> None:
        """Divide all rows before this one by their weights, and give them away."""
        while self._first < row:
            total, weights = (self._first % n for n in (self._total.shape[1], len(self._weights)))
            most = min(row - self._first, self._piece)
            count = min(most, self._total.shape[1] - total, len(self._weights) - weights)
            self._divide(slice(total, total + count), slice(weights, weights + count))
            if self._give is not None:
                self._total[:, total : total + count] = 0
            self._weights[weights : weights + count] = 0
            self._first += count

    def _divide(self, of_total: slice, of_weights: slice) -> None:
        """Divide some rows, and give them away without padding."""
        before, _ = self._pads[0]
        begin = max(self._first, before)
        end = min(self._first + of_total.stop - of_total.start, before + self._shape[0])
        if begin >= end:
            return
        inner = slice(begin - self._first, end - self._first)
        rest = tuple(slice(a, a + n) for (a, _), n in zip(self._pads[1:], self._shape[1:], strict=True))
        weights = self._weights[(of_weights, *rest)][inner]
        unseen = weights == 0 if self._background is not None else None
        if unseen is not None and unseen.any():
            weights = np.where(unseen, np.float32(1), weights)
        rows = self._total[(slice(None), of_total, *rest)][:, inner]
        means: NDArray[np.float32] = np.empty(rows.shape, np.float32) if self._half else rows
        for number, (mean, channel) in enumerate(zip(means, rows, strict=True)):
            np.divide(_widened(channel), weights, out=mean)
            if unseen is not None and self._background is not None:
                mean[unseen] = self._background[number]
        if self._give is not None:
            self._give(begin - before, means)


def _places(row: int, count: int, capacity: int) -> Iterator[tuple[slice, slice]]:
    """Where rows lie of which only some are in memory, and which part of them that is.

    >>> [(str(a), str(b)) for a, b in _places(6, 4, 8)]
    [('slice(6, 8, None)', 'slice(0, 2, None)'), ('slice(0, 2, None)', 'slice(2, 4, None)')]
    """
    place = row % capacity
    until = min(count, capacity - place)
    yield slice(place, place + until), slice(0, until)
    if until < count:
        yield slice(0, count - until), slice(until, count)


def _minus_largest(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Subtract the largest logit of each voxel, in the same array."""
    largest = logits[0].copy()
    for channel in logits[1:]:
        np.maximum(largest, channel, out=largest)
    for channel in logits:
        channel -= largest
    return logits


def _add(into: NDArray[Any], logits: NDArray[np.float32], weights: NDArray[np.float32]) -> None:
    """Add weighted logits."""
    torch = _torch() if into.dtype == np.float16 else None
    if torch is None:
        into += logits * weights
        return
    target, *factors = (torch.from_numpy(array) for array in (into, logits, weights))
    target.copy_(target.float().addcmul_(*factors))


def _widened(channel: NDArray[Any]) -> NDArray[np.float32]:
    """A channel in single precision."""
    if channel.dtype == np.float32:
        return channel
    torch = _torch()
    wide: NDArray[np.float32]
    wide = channel.astype(np.float32) if torch is None else torch.from_numpy(channel).float().numpy()
    return wide


@functools.lru_cache(maxsize=1)
def _torch() -> Any:  # noqa: ANN401 - the module
    """PyTorch, if it is there: it converts half precision by the processor's instructions, NumPy 17 times slower."""
    try:
        return importlib.import_module("torch")
    except ImportError:
        return None
