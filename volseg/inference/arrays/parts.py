"""The parts of an image that some of its windows know: by a sum to which windows are added, or slab by slab."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from volseg.inference.arrays.coarse import within
from volseg.inference.arrays.native import NativeGrid
from volseg.inference.arrays.needed import Mask, NeededWindows, OpenSum, around
from volseg.inference.arrays.slabs import KnownRows, axis_of_slabs, by_slabs
from volseg.inference.arrays.windows import Box, WindowFunction, Windows, windows_that_fit
from volseg.labels import LabelTable
from volseg.volume import Crop

_ROUNDS = 3  # times that slabs are computed, to which nothing can be added


class Parts(Protocol):
    """Computes the windows that are taken.

    Attributes:
        held: Whether each region was found.
        spent: Number of windows that were computed, each as often as it was.
        reach: Voxels along each axis that are computed with those that have to be.
    """

    held: NDArray[np.bool_]
    spent: int
    reach: tuple[int, ...]

    def regions(self) -> Mask | None:
        """Compute what was taken; where regions are in what is known, (X, Y, Z) with padding; None to give it up."""
        ...

    def result(self) -> dict[str, Any]:
        """`pred` or `decided` of the box around all windows, with its `grid`, its `crop` and what is `known` of it."""
        ...

    def everything(self) -> dict[str, Any] | None:
        """The logits by all windows, of which none is computed again; None where that is not possible."""
        ...


class PartsBySum:
    """Parts of an image whose logits are in memory: windows are added as they are needed.

    Args:
        windows: Windows of the whole image.
        needed: Those of them that were taken, and those left.
        engine: Network.
        grid: Way from the whole image to the grid of the file.
        labels: Label table.
    """

    def __init__(
        self, windows: Windows, needed: NeededWindows, engine: WindowFunction, grid: NativeGrid, labels: LabelTable
    ) -> None:
        self._windows, self._needed, self._engine, self._grid, self._labels = windows, needed, engine, grid, labels
        self._sum = OpenSum(windows.full, windows.roi_size, channels=labels.channels)
        self._at_once = windows_that_fit(engine, alone=False)
        self.held, self.spent = np.zeros(len(labels.names), bool), 0
        self.reach: tuple[int, ...] = (0, 0, 0)

    def regions(self) -> Mask:
        """See `Parts`."""
        self._add()
        found = self._sum.regions(around(self._needed.taken), self._labels)
        found &= ~self._needed.open(found)
        self.held = self._sum.held(found, self._labels)
        return found

    def result(self) -> dict[str, Any]:
        """See `Parts`."""
        crop = of_windows(self._needed.taken, self._windows)
        box = _padded(crop, self._windows)
        known = self._needed.known()[box]
        background = self._labels.background_logits
        logits = self._sum.finish(box, background=background)
        for channel, value in zip(logits, background, strict=True):
            channel[~known] = value
        grid, native = within(self._grid, crop)
        return {"pred": logits, "grid": grid, "crop": native, "known": known}

    def everything(self) -> dict[str, Any]:
        """See `Parts`."""
        self._needed.take_all()
        self._add()
        return {"pred": self._sum.finish(self._windows.inner, background=self._labels.background_logits)}

    def _add(self) -> None:
        new, channels = self._needed.taken[self.spent :], self._labels.channels
        self._windows.add(new, self._engine, self._sum, channels=channels, at_once=self._at_once)
        self.spent += len(new)


class PartsBySlabs:
    """Parts of an image of whose logits a slab is in memory: all windows are computed again where more are needed.

    Args:
        item: Item with `image`, `grid`, `way` and `key`.
        windows: Windows of the whole image.
        needed: Those of them that were taken, and those left.
        engine: Network.
        labels: Label table.
    """

    def __init__(
        self,
        item: Mapping[str, Any],
        windows: Windows,
        needed: NeededWindows,
        engine: WindowFunction,
        labels: LabelTable,
    ) -> None:
        self._item, self._windows, self._needed, self._engine, self._labels = item, windows, needed, engine, labels
        self.held, self.spent = np.zeros(len(labels.names), bool), 0
        self.reach = tuple(n // 2 for n in windows.roi_size)
        self._rounds, self._every = 0, len(windows.boxes)
        self._result: dict[str, Any] = {}

    def regions(self) -> Mask | None:
        """See `Parts`."""
        taken, windows = self._needed.taken, self._windows
        self._rounds += 1
        if self._rounds > _ROUNDS or self.spent + len(taken) >= self._every:
            return None
        self.spent += len(taken)
        crop = of_windows(taken, windows)
        box = _padded(crop, windows)
        image = self._item["image"][(slice(None), *crop.box)]
        axis = axis_of_slabs(image, windows.roi_size)
        grid, native = within(self._item["grid"], crop)
        known = KnownRows(self._needed.known()[box], self._labels, axis=axis)
        decided = by_slabs(
            windows.part(crop, taken, background=self._labels.background_logits, axis=axis),
            self._engine,
            grid,
            self._labels,
            way=self._item["way"],
            axis=axis,
            key=self._item["key"],
            known=known,
        )
        self._result = {"decided": decided, "grid": grid, "crop": native, "known": known.known}
        found = np.zeros(windows.full, bool)
        found[box] = known.regions
        self.held = known.held
        return found

    def result(self) -> dict[str, Any]:
        """See `Parts`."""
        return self._result

    def everything(self) -> None:
        """See `Parts`."""


def of_windows(boxes: Sequence[Box], windows: Windows) -> Crop:
    """The smallest box of an image, without its padding, that holds windows of it."""
    box = around(boxes)
    starts = [max(0, one.start - inner.start) for one, inner in zip(box, windows.inner, strict=True)]
    stops = [min(inner.stop, one.stop) - inner.start for one, inner in zip(box, windows.inner, strict=True)]
    return Crop(tuple(starts), tuple(stops), tuple(windows.shape))


def _padded(crop: Crop, windows: Windows) -> Box:
    """A box of an image as a box of the image with its padding."""
    return tuple(
        slice(one.start + inner.start, one.stop + inner.start)
        for one, inner in zip(crop.box, windows.inner, strict=True)
    )
