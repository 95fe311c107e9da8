"""Clean-up of a label map, region by region: holes, small parts, all but the largest part. Off unless asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.errors import UsageError
from volseg.labels.encoding import LabelMap
from volseg.labels.table import LabelTable

# A part that is too small by this fraction still counts: files keep spacings, and so the volume of a voxel, in 32 bits.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Cleanup:
    """The steps of the clean-up and their regions, in this order.

    Regions are cleaned one by one, so overlaps stay. Parts are joined over faces, edges and corners. If the regions of
    a voxel become a combination that no value stands for (for example an inner region without its outer one), the label
    table decides, as it does for a network's masks.

    Attributes:
        fill_holes: Regions whose enclosed cavities are filled; if regions exclude each other, only cavities of
            background. In an image of one slice a cavity is what the region encloses within it.
        min_ml: Volume in ml by region, below which parts are removed, even the only one.
        keep_largest: Regions of which only the largest part is kept.

    >>> table = LabelTable.exclusive(["a", "b"])
    >>> cleanup = Cleanup(keep_largest=["a"])
    >>> cleanup.apply(np.array([[[1, 1, 0, 1, 2, 0, 2]]], np.uint8), table, voxel_ml=1).tolist()
    [[[1, 1, 0, 0, 2, 0, 2]]]
    """

    fill_holes: Sequence[str] = ()
    min_ml: Mapping[str, float] = field(default_factory=dict)
    keep_largest: Sequence[str] = ()

    @classmethod
    def parse(
        cls, *, fill_holes: Sequence[str] = (), min_ml: Sequence[str] = (), keep_largest: Sequence[str] = ()
    ) -> Cleanup:
        """Read the options of the command line: names, each of which may hold several with commas, and `NAME=ML`.

        Raises:
            UsageError: A word has no name, or no number of millilitres above 0.

        >>> Cleanup.parse(keep_largest=["liver,spleen"], min_ml=["liver=2.5"]).to_json()
        {'min_ml': {'liver': 2.5}, 'keep_largest': ['liver', 'spleen']}
        """
        least: dict[str, float] = {}
        for word in _words(min_ml):
            name, _, number = word.rpartition("=")
            try:
                least[name] = float(number)
            except ValueError:
                least[name] = math.nan
            if not name or not 0 < least[name] < math.inf:
                raise UsageError(f"--min-ml {word} was asked for, expected NAME=ML, such as liver=2.5")
        return cls(_words(fill_holes), least, _words(keep_largest))

    def __bool__(self) -> bool:
        return bool(self.fill_holes or self.min_ml or self.keep_largest)

    def to_json(self) -> dict[str, Any]:
        """The steps that are done: for bundles, reports and dataset.json."""
        parts = {
            "fill_holes": list(self.fill_holes),
            "min_ml": dict(self.min_ml),
            "keep_largest": list(self.keep_largest),
        }
        return {name: part for name, part in parts.items() if part}

    def check(self, labels: LabelTable) -> None:
        """Refuse regions that the table does not have.

        Raises:
            UsageError: The table lacks a region.
        """
        for name in (*self.fill_holes, *self.min_ml, *self.keep_largest):
            if name not in labels.names:
                raise UsageError(f"the clean-up names {name!r}, the network segments {', '.join(labels.names)}")

    def apply(self, label_map: LabelMap, labels: LabelTable, *, voxel_ml: float) -> LabelMap:
        """Clean a label map.

        Args:
            label_map: Label map (X, Y, Z).
            labels: Label table of its values.
            voxel_ml: Volume of a voxel in ml.

        Raises:
            UsageError: The table lacks a region.
        """
        self.check(labels)
        if not self:
            return label_map
        if not labels.overlap:
            return self._each(label_map, labels, voxel_ml=voxel_ml)
        masks = labels.masks(label_map)
        for i, name in enumerate(labels.names):
            if name in self.fill_holes:
                masks[i] = _filled(masks[i])
            masks[i] = self._without_parts(masks[i], name, voxel_ml)
        return labels.encode(masks)

    def _each(self, label_map: LabelMap, labels: LabelTable, *, voxel_ml: float) -> LabelMap:
        """As `apply`, of regions that exclude each other: of a hundred of them one mask is in memory at a time."""
        value_of = labels.encode(labels.masks(np.arange(256, dtype=np.uint8)))  # of no region: background
        cleaned: LabelMap = value_of[label_map]
        for region in labels.regions:
            name, value = region.name, value_of[region.values[0]]
            if name not in (*self.fill_holes, *self.min_ml, *self.keep_largest):
                continue
            before = cleaned == value
            mask = _filled(before) & (before | (cleaned == 0)) if name in self.fill_holes else before
            mask = self._without_parts(mask, name, voxel_ml)
            cleaned[before & ~mask] = 0
            cleaned[mask] = value
        return cleaned

    def _without_parts(self, mask: NDArray[np.bool_], name: str, voxel_ml: float) -> NDArray[np.bool_]:
        """The mask of a region without the parts that are too small."""
        if name in self.min_ml:
            mask = _large_parts(mask, self.min_ml[name] / voxel_ml)
        return _large_parts(mask, None) if name in self.keep_largest else mask


def _words(given: Sequence[str]) -> tuple[str, ...]:
    return tuple(word.strip() for text in given for word in text.split(",") if word.strip())


def _filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill the cavities of a mask: background that it encloses, joined over faces; in one slice, within the slice."""
    from scipy import ndimage

    box = _box(mask)
    filled = mask.copy()
    if box is not None:
        # What lies beyond the image counts as outside: along an axis of one voxel, every voxel would touch it.
        thin = tuple(axis for axis, n in enumerate(mask.shape) if n == 1)
        inside = mask[box].squeeze(thin if len(thin) == 1 else ())
        filled[box] = ndimage.binary_fill_holes(inside).reshape(mask[box].shape)
    return filled


def _large_parts(mask: NDArray[np.bool_], voxels: float | None) -> NDArray[np.bool_]:
    """The parts of at least this many voxels; without a number the largest part, the first one of equals."""
    from scipy import ndimage

    box = _box(mask)
    if box is None:
        return mask
    parts, _ = ndimage.label(mask[box], structure=np.ones((3, 3, 3)))
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    kept = sizes >= voxels * (1 - _ROUNDING) if voxels is not None else np.arange(len(sizes)) == sizes.argmax()
    kept[0] = False
    large = np.zeros_like(mask)
    large[box] = kept[parts]
    return large


def _box(mask: NDArray[np.bool_]) -> tuple[slice, ...] | None:
    """The smallest box around a mask; None if it is empty. Cavities are inside it."""
    from scipy import ndimage

    boxes: list[tuple[slice, ...]] = ndimage.find_objects(mask.view(np.uint8))
    return boxes[0] if boxes else None
