"""Crop first: a pass on a coarser grid tells where regions can be, and windows are computed there only."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.bundle import Recipe
from volseg.inference.arrays.coarse import Doubts, coarse, coarser, finer
from volseg.inference.arrays.native import NativeGrid
from volseg.inference.arrays.needed import COUNTS, Mask, NeededWindows, widened
from volseg.inference.arrays.parts import Parts, PartsBySlabs, PartsBySum
from volseg.inference.arrays.slabs import axis_of_slabs
from volseg.inference.arrays.windows import WindowFunction, Windows

logger = logging.getLogger(__name__)

MARGIN_MM = 0.0
_COARSE_OVERLAP = 0.25  # of the coarse pass, whose seams do not matter
_FEWEST = 8  # windows of the whole grid up to which nothing is to be won
_FEWER = 2  # times the windows of the coarse pass that the whole grid must have

Compute = Callable[[NDArray[np.float32], NativeGrid], dict[str, Any]]
"""Computes the logits, or the label map, of an image (C, X, Y, Z) with its way to the file's grid."""


@dataclass(frozen=True)
class CropFirst:
    """The settings of a coarse pass.

    Of the windows that the whole grid has, those are computed that decide about a voxel which the coarse pass doubts,
    or about one beside a region that these windows find, until no region reaches what is not known. So each connected
    part of a region of which the coarse pass sees something is whole.

    Attributes:
        recipe: Recipe of the network.
        margin_mm: Margin in mm around what the coarse pass doubts; a coarse voxel comes with it.
        overlap: Overlap of the windows.
        skip_empty: Whether windows of air are left out.
        counts: Share of the largest weight at a voxel from which a window decides there, see `NeededWindows`.
    """

    recipe: Recipe
    margin_mm: float = MARGIN_MM
    overlap: float = 0.5
    skip_empty: bool = True
    counts: float = COUNTS

    def run(self, item: Mapping[str, Any], engine: WindowFunction, compute: Compute) -> dict[str, Any]:
        """Compute the logits where regions are: `pred` or `decided`, `grid` and `crop` of their box, `known`, `told`.

        `known` holds which voxels of that box, on the network's grid, windows have decided about; the others, and all
        outside, are background. The whole grid is computed where the coarse pass or the windows miss a region, or
        little would be saved; `crop` and `known` are not there then.

        Args:
            item: Item with `image`, `grid`, `way` and `key`.
            engine: Network.
            compute: Function that computes the whole image.
        """
        image, labels = item["image"], self.recipe.labels
        windows = self._windows(image, self.overlap)
        every = len(windows.boxes)
        small, axis = self._coarse(image) if every > _FEWEST else (None, 0)
        if small is None or every < _FEWER * len(small.boxes):
            return self._whole(item, compute, f"{every} windows in all, of which too few can be skipped")
        missed, doubt = self.look(small, engine, axis=axis)
        spent = len(small.boxes)
        del small
        if missed:
            return self._whole(item, compute, f"the coarse pass does not find {' and '.join(missed)}")
        needed = NeededWindows(windows, counts=self.counts)
        parts: Parts
        if item["way"].slabs:
            parts = PartsBySlabs(item, windows, needed, engine, labels)
        else:
            parts = PartsBySum(windows, needed, engine, item["grid"], labels)
        wanted = self._wanted(doubt, windows)
        while needed.take(wanted):
            found = parts.regions()
            if found is None:
                return self._whole(item, compute, "regions reach what is not known again and again")
            wanted = widened(needed.open(widened(found)), parts.reach)
        if missed := [name for name, held in zip(labels.names, parts.held, strict=True) if not held]:
            why = f"the windows near what the coarse pass finds do not hold {' and '.join(missed)}"
            return self._whole(item, compute, why, done=parts.everything())
        if not needed.left:
            return self._whole(item, compute, "regions may be near every window", done=parts.everything())
        done, spent = parts.result(), spent + parts.spent
        share = done["known"].sum() / math.prod(image.shape[1:])
        note = (
            f"crop first: {spent} of {every} windows ({100 * spent / every:.0f} %, with the coarse pass), which decide "
            f"about {100 * share:.2g} % of the voxels; the others are background"
        )
        logger.debug("%s: %s", item["key"], note)  # `volseg predict` tells it as a note of the case
        return {**done, "told": note}

    def look(self, small: Windows, engine: WindowFunction, *, axis: int) -> tuple[list[str], Mask]:
        """The names of regions that a coarse pass does not see, and where it doubts that there is background.

        Args:
            small: Windows of the coarse image.
            engine: Network.
            axis: Axis along which these windows give rows away.
        """
        labels = self.recipe.labels
        doubts = Doubts(small.shape, labels, axis=axis)
        small.slabs(engine, doubts, channels=labels.channels, at_once=lambda: engine.windows_at_once)
        return [name for name, seen in zip(labels.names, doubts.seen, strict=True) if not seen], doubts.mask

    def _wanted(self, doubt: Mask, windows: Windows) -> Mask:
        """What the coarse pass doubts, with the margin, on the network's grid with its padding."""
        factors = coarser(self.recipe.spacing_mm)
        mm = [float(mm) * factor for mm, factor in zip(self.recipe.spacing_mm, factors, strict=True)]
        # A coarse voxel of margin, since its middle is all that the pass has seen.
        doubt = widened(doubt, [math.ceil(self.margin_mm / one) + 1 for one in mm])
        found = np.zeros(windows.full, bool)
        found[windows.inner] = finer(doubt, factors, windows.shape)
        return found

    def _coarse(self, image: NDArray[np.float32]) -> tuple[Windows, int]:
        """The windows of the coarse image, and the axis along which they give rows away."""
        small = coarse(image, coarser(self.recipe.spacing_mm))
        axis = axis_of_slabs(small, self.recipe.roi_size)
        return self._windows(small, _COARSE_OVERLAP, axis=axis), axis

    def _windows(self, image: NDArray[np.float32], overlap: float, *, axis: int = 0) -> Windows:
        background = self.recipe.labels.background_logits if self.skip_empty else None
        return Windows(image, self.recipe.roi_size, overlap=overlap, background=background, axis=axis)

    def _whole(
        self, item: Mapping[str, Any], compute: Compute, why: str, *, done: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        note = f"crop first: the whole grid was predicted: {why}"
        logger.debug("%s: %s", item["key"], note)
        return {**(compute(item["image"], item["grid"]) if done is None else done), "told": note}


def calibrated_margin_mm(checkpoint: Path) -> float:
    """The margin around what the network finds: at least `MARGIN_MM`, and what a calibration beside it promises.

    Of the calibration the largest margin of its regions counts, for the least certain prediction that it knows.
    """
    from volseg.calibration import find_calibration, read_calibration

    path = find_calibration([checkpoint])
    if path is None:
        return MARGIN_MM
    margins = [MARGIN_MM]
    for region in read_calibration(path).regions.values():
        bound = region.margin.bound({name: high for name, (_, high) in region.ranges.items()})
        margins += [bound] if math.isfinite(bound) else []
    return max(margins)
