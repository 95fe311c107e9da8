"""The label map of an image slab by slab: by all of its windows, or by some, with what these do not know left out."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from volseg.inference.arrays.memory import Way
from volseg.inference.arrays.native import NativeGrid, SlabDecision
from volseg.inference.arrays.needed import Mask, held_in, in_regions
from volseg.inference.arrays.windows import WindowFunction, Windows, slab_axis, windows_that_fit
from volseg.inference.engines import release_freed_memory
from volseg.labels import LabelTable

logger = logging.getLogger(__name__)

Decided = tuple[NDArray[np.uint8], dict[str, float | None]]
"""A label map on the grid of the file, and what the network expects of each region's Dice."""


class KnownRows:
    """Takes rows of logits on their way to the decision: what is not known becomes background, regions are noted.

    Attributes:
        known: Voxels (X, Y, Z) of the image whose logits count.
        regions: Voxels (X, Y, Z) of the image that are in a region, as far as rows have come.
        held: Whether each region was found.

    Args:
        known: Voxels (X, Y, Z) of the image whose logits count.
        labels: Label table.
        axis: Axis along which rows come.
    """

    def __init__(self, known: Mask, labels: LabelTable, *, axis: int) -> None:
        self._labels = labels
        self.known = known
        self.regions, self.held = np.zeros_like(known), np.zeros(len(labels.names), bool)
        order = [axis, *(other for other in range(3) if other != axis)]
        self._known, self._regions = known.transpose(order), self.regions.transpose(order)

    def __call__(self, first: int, rows: NDArray[np.float32]) -> None:
        """Take the next logits (channels, rows, ...), the first of which is row `first`."""
        here = slice(first, first + rows.shape[1])
        unknown = ~self._known[here]
        for channel, value in zip(rows, self._labels.background_logits, strict=True):
            channel[unknown] = value
        found = self._regions[here]
        found[...] = in_regions(rows, self._labels)
        if found.any():
            self.held |= held_in(rows[:, found], self._labels)


def axis_of_slabs(image: NDArray[np.float32], roi_size: Sequence[int]) -> int:
    """The axis of an image (C, X, Y, Z) along which slabs of a window's thickness are smallest."""
    return slab_axis([max(n, int(roi)) for n, roi in zip(image.shape[1:], roi_size, strict=True)], roi_size)


def by_slabs(
    windows: Windows,
    engine: WindowFunction,
    grid: NativeGrid,
    labels: LabelTable,
    *,
    way: Way,
    axis: int,
    key: str,
    known: KnownRows | None = None,
) -> Decided:
    """Compute windows and decide each slab of their mean at once.

    Args:
        windows: Windows with the same `axis`.
        engine: Network.
        grid: Way to the grid of the file.
        labels: Label table.
        way: Whether the slab is in half precision.
        axis: Axis of the slabs.
        key: Key of the case, for the log.
        known: What takes the rows before they are decided, if not all of them count.
    """
    run = windows_that_fit(engine, alone=True)
    release_freed_memory()  # of reading
    logger.info("%s: by slabs%s, to keep to the memory", key, " in half precision" * way.half)
    decision = SlabDecision(grid, labels, axis=axis)

    def give(first: int, rows: NDArray[np.float32]) -> None:
        if known is not None:
            known(first, rows)
        decision(first, rows)

    windows.slabs(
        engine,
        give,
        channels=labels.channels,
        at_once=run,
        dtype=np.float16 if way.half else np.float32,
        exclusive=not labels.overlap,
    )
    return decision.label_map, decision.expected_dice()
