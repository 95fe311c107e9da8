"""A sliding window on arrays: positions and weights of `volseg.inference.SlidingWindow`, whole or in slabs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from volseg.errors import VolsegError
from volseg.inference.arrays.window_sum import Rows, WindowSum
from volseg.volume import Crop

Box = tuple[slice, ...]

_SOMETHING = 1e-5  # as in volseg.inference.sliding: the share of the range above which a voxel is no air


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


def slab_axis(shape: Sequence[int], window: Sequence[int]) -> int:
    """The axis along which slabs of a window's thickness are smallest."""
    return min(range(3), key=lambda axis: (math.prod(shape) // shape[axis] * min(window[axis], shape[axis]), axis))


def windows_that_fit(engine: WindowFunction, *, alone: bool) -> Callable[[], int]:
    """A function that tells how many windows go into one call: as many as fit beside the first, by what that took.

    Args:
        engine: What computes the logits; the function is first called after its first window.
        alone: Whether one at a time is asked for.
    """
    from volseg.inference.engines import affordable_windows, resident_bytes

    held = resident_bytes()
    if alone:
        return lambda: 1
    counts: list[int] = []

    def number() -> int:
        if not counts:
            counts.append(affordable_windows(engine.windows_at_once, held))
        return counts[0]

    return number


class Adding(Protocol):
    """What takes the logits of windows."""

    def add(self, start: Sequence[int], logits: NDArray[np.float32]) -> None:
        """Take the logits (channels, *roi) of the window that begins at a voxel of the image with its padding."""
        ...


class Windows:
    """The windows of one image, and the mean of their logits.

    Attributes:
        boxes: Windows to compute, as boxes of the image with its padding.
        full: Shape (X, Y, Z) of the image with its padding.
        inner: Box of the image within that.

    Args:
        image: Image (C, X, Y, Z), float32.
        roi_size: Window size in voxels.
        overlap: Fraction of a window that its neighbour covers, 0 to below 1.
        background: Logits of what empty windows alone cover; None to compute every window.
        axis: Axis along which finished rows are given away.
        boxes: Windows to compute; by default all that hold more than air.
    """

    def __init__(
        self,
        image: NDArray[np.float32],
        roi_size: Sequence[int],
        *,
        overlap: float,
        background: Sequence[float] | None,
        axis: int = 0,
        boxes: Sequence[Box] | None = None,
    ) -> None:
        self.roi_size = tuple(int(n) for n in roi_size)
        self.shape = image.shape[1:]
        self._axis, self._background = axis, background
        missing = [max(0, roi - n) for roi, n in zip(self.roi_size, self.shape, strict=True)]
        self._pads = [(short // 2, short - short // 2) for short in missing]
        self._image = np.pad(image, [(0, 0), *self._pads]) if any(missing) else image
        self.full = self._image.shape[1:]
        self.inner = tuple(slice(a, a + n) for (a, _), n in zip(self._pads, self.shape, strict=True))
        if boxes is not None:
            self.boxes = sorted(boxes, key=lambda box: int(box[axis].start))
            return
        self.boxes = list(self._boxes(overlap))
        if background is not None:
            self.boxes = self._held() or self.boxes[:1]

    def part(self, crop: Crop, boxes: Sequence[Box], *, background: Sequence[float], axis: int) -> Windows:
        """Windows of this image, which all lie in a box of it, as windows of that box.

        Args:
            crop: Box of the image.
            boxes: Windows.
            background: Logits of what no window covers.
            axis: Axis along which finished rows are given away.
        """
        moved = [
            tuple(slice(one.start - start, one.stop - start) for one, start in zip(box, crop.starts, strict=True))
            for box in boxes
        ]
        image = self._image[(slice(None), *self.inner)][(slice(None), *crop.box)]
        return Windows(image, self.roi_size, overlap=0, background=background, axis=axis, boxes=moved)

    def _boxes(self, overlap: float) -> Iterator[Box]:
        """All windows, the axis of the slabs slowest, then the others in their order."""
        along = [
            starts(n, roi, overlap=overlap if n > roi else 0) for n, roi in zip(self.full, self.roi_size, strict=True)
        ]
        order = [self._axis, *(axis for axis in range(3) if axis != self._axis)]
        for places in itertools.product(*(along[axis] for axis in order)):
            first = dict(zip(order, places, strict=True))
            yield tuple(slice(first[axis], first[axis] + self.roi_size[axis]) for axis in range(3))

    def _held(self) -> list[Box]:
        """The windows that hold more than air."""
        # The padding of short axes is zeros, and counts as what it is beside the image's own values: nothing.
        something = np.zeros(self.full, bool)
        inner = something[self.inner]
        for channel in self._image[(slice(None), *self.inner)]:
            low, high = channel.min(), channel.max()
            threshold = low + np.float32(_SOMETHING) * (high - low)
            for into, plane in zip(inner, channel, strict=True):
                into |= plane > threshold
        return [box for box in self.boxes if something[box].any()]

    def whole(self, logits_of: WindowFunction, *, channels: int, at_once: Callable[[], int]) -> NDArray[np.float32]:
        """Compute all windows, and the mean (channels, X, Y, Z) of the whole image; arguments as in `slabs`."""
        total = self._sum(channels)
        self.add(self.boxes, logits_of, total, channels=channels, at_once=at_once)
        found: NDArray[np.float32] = total.whole()
        return found

    def slabs(
        self,
        logits_of: WindowFunction,
        give: Rows,
        *,
        channels: int,
        at_once: Callable[[], int],
        dtype: type[np.floating] = np.float32,
        exclusive: bool = False,
    ) -> None:
        """Compute all windows, and give away each row of the mean once no later window covers it.

        Args:
            logits_of: Network.
            give: Function that takes the rows, see `WindowSum`.
            channels: Number of logits per voxel.
            at_once: Function that tells how many windows may go into one call; it is asked after the first one.
            dtype: Type of the sum.
            exclusive: Whether a softmax follows, see `WindowSum`.
        """
        total = self._sum(channels, dtype=dtype, exclusive=exclusive, give=give)
        self.add(self.boxes, logits_of, total, channels=channels, at_once=at_once)
        total.finish()

    def _sum(
        self,
        channels: int,
        *,
        dtype: type[np.floating] = np.float32,
        exclusive: bool = False,
        give: Rows | None = None,
    ) -> WindowSum:
        """The sum of this image's windows."""
        return WindowSum(
            self.roi_size,
            self.shape,
            self._pads,
            axis=self._axis,
            channels=channels,
            background=self._background,
            dtype=dtype,
            exclusive=exclusive,
            give=give,
        )

    def add(
        self,
        boxes: Sequence[Box],
        logits_of: WindowFunction,
        total: Adding,
        *,
        channels: int,
        at_once: Callable[[], int],
    ) -> None:
        """Compute windows, and add them to a sum; other arguments as in `slabs`."""
        done, count = 0, 1
        while done < len(boxes):
            batch = boxes[done : done + count]
            done += len(batch)
            self._add(batch, logits_of, total, channels)
            count = max(1, at_once())

    def _add(self, batch: Sequence[Box], logits_of: WindowFunction, total: Adding, channels: int) -> None:
        """Add some windows; their logits are gone before those of the next ones are computed."""
        logits = logits_of(np.stack([self._image[(slice(None), *box)] for box in batch]))
        if logits.shape[1:] != (channels, *self.roi_size):
            raise VolsegError(
                f"the network gave logits of shape {tuple(logits.shape[1:])}, expected "
                f"{(channels, *self.roi_size)}; is it another bundle's?"
            )
        for box, part in zip(batch, logits, strict=True):
            total.add([axis.start for axis in box], part)
