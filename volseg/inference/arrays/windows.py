"""A sliding window on arrays: positions and weights of `volseg.inference.SlidingWindow`, whole or in slabs."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from volseg.errors import VolsegError

Box = tuple[slice, ...]
Rows = Callable[[int, NDArray[np.float32]], None]
"""Takes the first row, and logits (channels, rows, ...) with the axis of the slabs first."""

_SOMETHING = 1e-5  # as in volseg.inference.sliding: the share of the range above which a voxel is no air
_LEAST_WEIGHT = 1e-3
_SIGMA = 0.125  # standard deviation of the weights as a fraction of the window


class WindowFunction(Protocol):
    """Logits (n, channels, *roi) of windows (n, C, *roi), both float32."""

    name: str
    precision: str

    @property
    def windows_at_once(self) -> int:
        """Number of windows per call that is fastest."""
        ...

    def __call__(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the logits."""
        ...


def starts(length: int, window: int, *, overlap: float) -> list[int]:
    """First voxels of windows along an axis of at least their size; the last one ends with it.

    >>> starts(10, 4, overlap=0.5), starts(4, 4, overlap=0.5)
    ([0, 2, 4, 6], [0])
    """
    step = max(1, int(window * (1 - overlap)))
    return list(dict.fromkeys(min(start, length - window) for start in range(0, length - window + step, step)))


@functools.lru_cache(maxsize=8)
def gaussian(window: tuple[int, ...]) -> NDArray[np.float32]:
    """The weights of a window's voxels, largest in its middle, as MONAI's for `mode="gaussian"`."""
    weights = np.ones((), np.float32)
    for n in window:
        x = np.arange(n, dtype=np.float32) - np.float32((n - 1) / 2)
        along = np.exp(x**2 / np.float32(-2 * (_SIGMA * n) ** 2))
        weights = weights[..., None] * along
    return np.maximum(weights, max(float(weights.min()), _LEAST_WEIGHT)).astype(np.float32)


def slab_axis(shape: Sequence[int], window: Sequence[int]) -> int:
    """The axis along which slabs of a window's thickness are smallest."""
    return min(range(3), key=lambda axis: (math.prod(shape) // shape[axis] * min(window[axis], shape[axis]), axis))


class Windows:
    """The windows of one image, and the mean of their logits.

    Args:
        image: Image (C, X, Y, Z), float32.
        roi_size: Window size in voxels.
        overlap: Fraction of a window that its neighbour covers, 0 to below 1.
        background: Logits of what empty windows alone cover; None to compute every window.
        axis: Axis along which finished rows are given away.
    """

    def __init__(
        self,
        image: NDArray[np.float32],
        roi_size: Sequence[int],
        *,
        overlap: float,
        background: Sequence[float] | None,
        axis: int = 0,
    ) -> None:
        self.roi_size = tuple(int(n) for n in roi_size)
        self.shape = image.shape[1:]
        self._axis, self._background = axis, background
        missing = [max(0, roi - n) for roi, n in zip(self.roi_size, self.shape, strict=True)]
        self._pads = [(short // 2, short - short // 2) for short in missing]
        self._image = np.pad(image, [(0, 0), *self._pads]) if any(missing) else image
        self._full = self._image.shape[1:]
        self.boxes = list(self._boxes(overlap))
        if background is not None:
            self.boxes = self._held() or self.boxes[:1]

    def _boxes(self, overlap: float) -> Iterator[Box]:
        """All windows, the axis of the slabs slowest, then the others in their order."""
        along = [
            starts(n, roi, overlap=overlap if n > roi else 0) for n, roi in zip(self._full, self.roi_size, strict=True)
        ]
        order = [self._axis, *(axis for axis in range(3) if axis != self._axis)]
        for places in itertools.product(*(along[axis] for axis in order)):
            first = dict(zip(order, places, strict=True))
            yield tuple(slice(first[axis], first[axis] + self.roi_size[axis]) for axis in range(3))

    def _held(self) -> list[Box]:
        """The windows that hold more than air."""
        # The padding of short axes is zeros, and counts as what it is beside the image's own values: nothing.
        something = np.zeros(self._full, bool)
        cut = tuple(slice(a, a + n) for (a, _), n in zip(self._pads, self.shape, strict=True))
        inner = something[cut]
        for channel in self._image[(slice(None), *cut)]:
            low, high = channel.min(), channel.max()
            inner |= channel > low + np.float32(_SOMETHING) * (high - low)
        return [box for box in self.boxes if something[box].any()]

    def run(
        self,
        logits_of: WindowFunction,
        give: Rows,
        *,
        channels: int,
        at_once: Callable[[], int],
        dtype: type[np.floating] = np.float32,
    ) -> None:
        """Compute all windows, and give away each row of the mean once no later window covers it.

        Args:
            logits_of: Network.
            give: Function that takes the rows in their order, without the padding; it may keep a view no longer than
                its call lasts.
            channels: Number of logits per voxel.
            at_once: Function that tells how many windows may go into one call; it is asked after the first one.
            dtype: Type of the sum.
        """
        total = _Rows(self, channels, dtype, give)
        done, count = 0, 1
        while done < len(self.boxes):
            batch = self.boxes[done : done + count]
            done += len(batch)
            logits = logits_of(np.stack([self._image[(slice(None), *box)] for box in batch]))
            if logits.shape[1:] != (channels, *self.roi_size):
                raise VolsegError(
                    f"the network gave logits of shape {tuple(logits.shape[1:])}, expected "
                    f"{(channels, *self.roi_size)}; is it another bundle's?"
                )
            for box, part in zip(batch, logits, strict=True):
                total.add(box, part)
            count = max(1, at_once())
        total.finish()


class _Rows:
    """The weighted sum over as many rows as a window has; the axis of the slabs is the first one."""

    def __init__(self, windows: Windows, channels: int, dtype: type[np.floating], give: Rows) -> None:
        self._axis, self._give, self._background = windows._axis, give, windows._background
        order = [self._axis, *(axis for axis in range(3) if axis != self._axis)]
        self._order = order
        self._weights_of_window = gaussian(windows.roi_size).transpose(order)
        full = [windows._full[axis] for axis in order]
        self._length, self._roi = full[0], windows.roi_size[self._axis]
        self._pads = [windows._pads[axis] for axis in order]
        self._shape = [windows.shape[axis] for axis in order]
        self._total = np.zeros((channels, min(self._roi, full[0]), *full[1:]), dtype)
        self._weights = np.zeros(self._total.shape[1:], np.float32)
        self._first = 0

    def add(self, box: Box, logits: NDArray[np.float32]) -> None:
        """Add the logits (channels, *roi) of a window."""
        start = [box[axis].start for axis in self._order]
        self._advance(start[0])
        turned = logits.transpose(0, *(axis + 1 for axis in self._order))
        rest = tuple(slice(n, n + size) for n, size in zip(start[1:], self._weights_of_window.shape[1:], strict=True))
        for into, part in zip(self._total, turned, strict=True):
            into[(slice(None), *rest)] += part * self._weights_of_window
        self._weights[(slice(None), *rest)] += self._weights_of_window

    def finish(self) -> None:
        """Give the last rows away."""
        self._advance(self._length)

    def _advance(self, row: int) -> None:
        """Give all rows before this one away."""
        while self._first < row:
            count = min(row - self._first, self._total.shape[1])
            self._out(count)
            kept = self._total.shape[1] - count
            for part in (*self._total, self._weights):
                part[:kept] = part[count:]
                part[kept:] = 0
            self._first += count

    def _out(self, count: int) -> None:
        """Give some rows away, divided by their weights and without padding."""
        before, _ = self._pads[0]
        begin, end = max(self._first, before), min(self._first + count, before + self._shape[0])
        if begin >= end:
            return
        cut = (
            slice(begin - self._first, end - self._first),
            *(slice(a, a + n) for (a, _), n in zip(self._pads[1:], self._shape[1:], strict=True)),
        )
        weights = self._weights[cut]
        unseen = weights == 0 if self._background is not None else None
        if unseen is not None and unseen.any():
            weights = np.where(unseen, np.float32(1), weights)
        rows = self._total[(slice(None), *cut)]
        for number, channel in enumerate(rows):
            if rows.dtype == np.float32:
                channel /= weights
            else:
                channel[...] = channel / weights
            if unseen is not None and self._background is not None:
                channel[unseen] = self._background[number]
        self._give(begin - before, rows)
