"""Crop first: a pass on a coarser grid tells where regions can be, and windows are computed there only."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.bundle import Recipe
from volseg.inference.arrays.native import NativeGrid, Probabilities
from volseg.inference.arrays.windows import WindowFunction, Windows
from volseg.labels import LabelTable
from volseg.volume import Crop

logger = logging.getLogger(__name__)

MARGIN_MM = 10.0
COARSER = 2  # voxels of the network's grid in one of the coarse grid, along the finer axes
_COARSE_OVERLAP = 0.25  # of the coarse pass, whose seams do not matter
_DOUBT = 0.2  # probability of being no background from which a coarse voxel counts
_SEEN = 0.3  # probability that a region must reach in a coarse voxel, or the whole grid is computed
_ROUNDS = 3  # boxes that are tried before the whole grid is
_FEWEST = 8  # windows of the whole grid up to which nothing is to be won
_FAR = 10**6

Compute = Callable[[NDArray[np.float32], NativeGrid], dict[str, Any]]
"""Computes the logits, or the label map, of an image (C, X, Y, Z) with its way to the file's grid."""


@dataclass(frozen=True)
class CropFirst:
    """The settings of a coarse pass.

    Attributes:
        recipe: Recipe of the network.
        margin_mm: Margin in mm around what the coarse pass finds; a coarse voxel, and a quarter of a window if that is
            more, come with it.
        overlap: Overlap of the windows in the box.
        skip_empty: Whether windows of air are left out.
    """

    recipe: Recipe
    margin_mm: float = MARGIN_MM
    overlap: float = 0.5
    skip_empty: bool = True

    def run(self, item: Mapping[str, Any], engine: WindowFunction, compute: Compute) -> dict[str, Any]:
        """Compute the logits of the box only: `pred` or `decided`, `grid` and `crop` of the box, and a `note`.

        Where the label map reaches a side of the box, the box grows and is computed again. The whole grid is computed
        where the coarse pass or the box misses a region, or the box would save nothing.

        Args:
            item: Item with `image`, `grid` and `key`.
            engine: Network.
            compute: Function that computes a part of the image.
        """
        image, grid = item["image"], item["grid"]
        every = self.count(image, self.overlap)
        if every <= _FEWEST:
            return self._whole(item, compute, f"{every} windows in all, of which none is worth skipping")
        found, spent = self.look(image, engine)
        if isinstance(found, str):
            return self._whole(item, compute, found)
        for _ in range(_ROUNDS):
            part = image[(slice(None), *found.box)]
            mine = self.count(part, self.overlap)
            if spent + mine >= every:
                return self._whole(item, compute, "the box is nearly the whole grid")
            of_box, native = within(grid, found)
            done = compute(part, of_box)
            spent += mine
            touched = sides(done, found, native, self.recipe.labels)
            if not touched and (missed := absent(done, self.recipe.labels)):
                return self._whole(item, compute, f"the box does not hold {' and '.join(missed)}")
            if not touched:
                lengths = " x ".join(str(end - start) for start, end in zip(found.starts, found.stops, strict=True))
                shape = " x ".join(map(str, image.shape[1:]))
                note = (
                    f"crop first: {spent} of {every} windows ({100 * spent / every:.0f} %, with the coarse pass), box "
                    f"of {lengths} of {shape} voxels; what is outside is background"
                )
                logger.info("%s: %s", item["key"], note)
                return {**done, "grid": of_box, "crop": native, "told": note}
            found = self._larger(found, touched)
        return self._whole(item, compute, "the regions reach the sides of each box that was tried")

    def count(self, image: NDArray[np.float32], overlap: float) -> int:
        """The number of windows of an image that are computed."""
        return len(self._windows(image, overlap).boxes)

    def look(self, image: NDArray[np.float32], engine: WindowFunction) -> tuple[Crop | str, int]:
        """The box in which regions can be, or the reason why there is none; and the number of windows of the pass."""
        labels = self.recipe.labels
        factors = coarser(self.recipe.spacing_mm)
        small = coarse(image, factors)
        windows = self._windows(small, _COARSE_OVERLAP)
        logits = windows.whole(engine, channels=labels.channels, at_once=lambda: engine.windows_at_once)
        spent = len(windows.boxes)
        missed = [name for name, there in zip(labels.names, _possible(logits, labels), strict=True) if not there]
        if missed:
            return f"the coarse pass does not find {' and '.join(missed)}", spent
        mask = _doubtful(logits, labels)
        # A coarse voxel of margin, since its middle is all that the pass has seen.
        mm = [float(mm) for mm in self.recipe.spacing_mm]
        near = Crop.around(mask, spacing_mm=[1, 1, 1], margin_mm=1)
        if near is None:
            return "the coarse pass finds nothing", spent
        box = Crop(
            tuple(factor * start for factor, start in zip(factors, near.starts, strict=True)),
            tuple(min(n, f * stop) for n, f, stop in zip(image.shape[1:], factors, near.stops, strict=True)),
            image.shape[1:],
        )
        return self._grown(box, [(self._margin(axis, mm[axis]),) * 2 for axis in range(3)]), spent

    def _windows(self, image: NDArray[np.float32], overlap: float) -> Windows:
        background = self.recipe.labels.background_logits if self.skip_empty else None
        return Windows(image, self.recipe.roi_size, overlap=overlap, background=background)

    def _margin(self, axis: int, mm: float) -> int:
        """The margin in voxels: a voxel near a side of the box still lies well within a window."""
        return max(math.ceil(self.margin_mm / mm), int(self.recipe.roi_size[axis]) // 4)

    def _grown(self, box: Crop, margins: Sequence[tuple[int, int]]) -> Crop:
        """The box with a margin before and behind along each axis, and at least a window long where the grid is."""
        starts, stops = [], []
        for start, stop, length, roi, (before, behind) in zip(
            box.starts, box.stops, box.shape, self.recipe.roi_size, margins, strict=True
        ):
            low, high = max(0, start - before), min(length, stop + behind)
            short = max(0, min(int(roi), length) - (high - low))
            low = max(0, min(low - short // 2, length - int(roi))) if short else low
            high = max(high, min(length, low + int(roi))) if short else high
            starts.append(low)
            stops.append(high)
        return Crop(tuple(starts), tuple(stops), box.shape)

    def _larger(self, box: Crop, touched: Sequence[tuple[bool, bool]]) -> Crop:
        """The box with room on the sides that regions reach: half a window."""
        room = [int(n) // 2 for n in self.recipe.roi_size]
        return self._grown(box, [(n * before, n * behind) for n, (before, behind) in zip(room, touched, strict=True)])

    def _whole(self, item: Mapping[str, Any], compute: Compute, why: str) -> dict[str, Any]:
        note = f"crop first: the whole grid was predicted: {why}"
        logger.info("%s: %s", item["key"], note)
        return {**compute(item["image"], item["grid"]), "told": note}


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
        parts = []
        for offset in range(factor):  # of each block the voxel at this offset
            index = np.minimum(np.arange(offset, offset + math.ceil(length / factor) * factor, factor), length - 1)
            parts.append(image.take(index, axis=axis))
        image = np.mean(parts, axis=0, dtype=np.float32)
    return image


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


def sides(done: Mapping[str, Any], crop: Crop, native: Crop, labels: LabelTable) -> list[tuple[bool, bool]]:
    """Whether regions reach the sides of the box that are not sides of the grid; empty if they reach none.

    Args:
        done: `pred`, logits (channels, *box), or `decided`, whose first entry is the label map of the box on the file's
            grid.
        crop: Box on the network's grid.
        native: Box on the file's grid.
        labels: Label table.
    """
    inside, box = (done["pred"], crop) if "pred" in done else (done["decided"][0][None], native)
    found = []
    for axis in range(3):
        ends = []
        for side, at_end in ((0, box.starts[axis] == 0), (-1, box.stops[axis] == box.shape[axis])):
            plane = inside.take([side], axis=axis + 1)
            held = _decided(plane, labels).any() if "pred" in done else plane.any()
            ends.append(bool(held) and not at_end)
        found.append((ends[0], ends[1]))
    if not any(map(any, found)):
        return []
    if "pred" not in done:  # axes of the file may be others than those of the network: any side makes all grow
        return [(True, True)] * 3
    return found


def _decided(logits: NDArray[Any], labels: LabelTable) -> NDArray[np.bool_]:
    """Where some region is, by logits (channels, X, Y, Z)."""
    if labels.overlap:
        return np.asarray((logits > 0).any(axis=0), dtype=bool)
    return np.asarray(logits[1:].max(axis=0) > logits[0], dtype=bool)


def absent(done: Mapping[str, Any], labels: LabelTable) -> list[str]:
    """The names of the regions that a box does not hold; arguments as in `sides`."""
    if "pred" not in done:
        inside = set(np.unique(done["decided"][0]).tolist())
        return [region.name for region in labels.regions if inside.isdisjoint(region.values)]
    logits = done["pred"]
    if labels.overlap:
        return [name for name, channel in zip(labels.names, logits, strict=True) if not (channel > 0).any()]
    inside = set(np.unique(logits.argmax(axis=0)).tolist())
    return [name for number, name in enumerate(labels.names, 1) if number not in inside]


def _possible(logits: NDArray[np.float32], labels: LabelTable) -> list[bool]:
    """Whether each region may be there: its probability is above `_SEEN` in a voxel."""
    probabilities = Probabilities(logits, sigmoid=labels.overlap)
    first = 0 if labels.overlap else 1  # a softmax has the background before the regions
    return [bool((probabilities[number] > _SEEN).any()) for number in range(first, len(logits))]


def _doubtful(logits: NDArray[np.float32], labels: LabelTable) -> NDArray[np.bool_]:
    """The voxels that may be in a region."""
    probabilities = Probabilities(logits, sigmoid=labels.overlap)
    if not labels.overlap:
        return np.asarray(probabilities[0] < 1 - _DOUBT)
    mask = np.zeros(logits.shape[1:], bool)
    for number in range(len(logits)):
        mask |= probabilities[number] > _DOUBT
    return mask
