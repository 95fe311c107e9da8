"""Between label maps and masks of regions: which values belong to a region, and which value a combination gets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.errors import LabelError
from volseg.labels.regions import Region
from volseg.labels.values import value_counts

LabelMap = NDArray[np.uint8]
Masks = NDArray[np.bool_]


@dataclass(frozen=True)
class RegionEncoding:
    """What a `LabelTable` tells of label maps: their masks, and the way back from masks or probabilities.

    Attributes:
        regions: Regions, in the order of the network's channels.

    >>> from volseg.labels import LabelTable
    >>> table = LabelTable.overlapping(["a", "b"])
    >>> table.encode(table.masks(np.array([0, 1, 2, 3], np.uint8))).tolist()
    [0, 1, 2, 3]
    """

    regions: tuple[Region, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The regions' names, in channel order, without background."""
        return tuple(region.name for region in self.regions)

    @cached_property
    def values(self) -> tuple[int, ...]:
        """Every value a label map may hold, 0 included, ascending."""
        return tuple(sorted({0, *(value for region in self.regions for value in region.values)}))

    @cached_property
    def overlap(self) -> bool:
        """Whether some value belongs to two regions."""
        return sum(len(region.values) for region in self.regions) > len(self.values) - 1

    @property
    def activation(self) -> str:
        """`sigmoid` if regions overlap, else `softmax`."""
        return "sigmoid" if self.overlap else "softmax"

    @property
    def channel_names(self) -> tuple[str, ...]:
        """The name of each output channel of a network."""
        return self.names if self.overlap else ("background", *self.names)

    @property
    def channels(self) -> int:
        """The number of output channels of a network."""
        return len(self.channel_names)

    @cached_property
    def _membership(self) -> Masks:
        """Whether a value belongs to a region, (256, R)."""
        table = np.zeros((256, len(self.regions)), dtype=bool)
        for i, region in enumerate(self.regions):
            table[list(region.values), i] = True
        return table

    @cached_property
    def _paint(self) -> tuple[int, ...]:
        """The value each region is painted with: the one that belongs to the fewest regions, itself included."""
        crowd = self._membership.sum(axis=1)
        return tuple(min(region.values, key=lambda value: (crowd[value], value)) for region in self.regions)

    @cached_property
    def _value_of(self) -> dict[frozenset[int], int]:
        """The least value of each combination of regions, by their places."""
        rows = [frozenset(np.flatnonzero(self._membership[value]).tolist()) for value in self.values]
        return dict(reversed(list(zip(rows, self.values, strict=True))))

    def value_of(self, places: Iterable[int]) -> int | None:
        """The value of voxels that belong to these regions and no others, or None if the table has none.

        Args:
            places: Places of the regions in the table.

        >>> from volseg.labels import LabelTable
        >>> table = LabelTable.of({"whole": [1, 2], "core": 2})
        >>> table.value_of([0, 1]), table.value_of([0]), table.value_of([]), table.value_of([1])
        (2, 1, 0, None)
        """
        return self._value_of.get(frozenset(places))

    def masks(self, label_map: LabelMap) -> Masks:
        """Split a label map into one mask per region.

        Args:
            label_map: Label map (...) with declared values.

        Returns:
            Masks (R, ...), True if the voxel belongs to the region.

        >>> from volseg.labels import LabelTable
        >>> LabelTable.overlapping(["a", "b"]).masks(np.array([0, 1, 2, 3], np.uint8)).astype(int).tolist()
        [[0, 1, 0, 1], [0, 0, 1, 1]]
        """
        return np.stack(list(self.each_mask(label_map)))

    def voxels_of_regions(self, label_map: LabelMap) -> dict[str, int]:
        """The number of voxels of each region in a label map (...), in the table's order.

        >>> from volseg.labels import LabelTable
        >>> LabelTable.overlapping(["a", "b"]).voxels_of_regions(np.array([0, 1, 2, 3], np.uint8))
        {'a': 2, 'b': 2}
        """
        counts = value_counts(label_map)
        return {region.name: int(counts[list(region.values)].sum()) for region in self.regions}

    def each_mask(self, label_map: LabelMap) -> Iterator[NDArray[np.bool_]]:
        """As `masks`, one region after the other, so that memory does not grow with their number.

        >>> from volseg.labels import LabelTable
        >>> [int(mask.sum()) for mask in LabelTable.overlapping(["a", "b"]).each_mask(np.array([0, 1, 2, 3], np.uint8))]
        [2, 2]
        """
        for i, region in enumerate(self.regions):
            if len(region.values) == 1:  # a comparison takes a tenth of the time of a table
                (value,) = region.values
                yield np.equal(label_map, value)
            else:
                yield self._membership[:, i][label_map]

    def encode(self, masks: Masks) -> LabelMap:
        """Join one mask per region into a label map: the inverse of `masks`.

        A combination without a value is painted region after region; the last one wins, as in nnU-Net. Of several
        values of one combination the least is taken, as `regions_class_order` has it.

        Args:
            masks: Masks (R, ...).

        Returns:
            Label map (...), uint8.

        >>> from volseg.labels import LabelTable
        >>> LabelTable.overlapping(["a", "b"]).encode(np.array([[True, False], [True, True]])).tolist()
        [3, 2]
        """
        if masks.shape[0] != len(self.regions):
            raise LabelError(f"{masks.shape[0]} masks were given for the {len(self.regions)} regions {self.names}")
        if len(self.regions) > 8:
            return self._paint_each(masks)
        bits = np.zeros(masks.shape[1:], dtype=np.uint8)
        for i, mask in enumerate(masks):
            bits |= mask.astype(bool, copy=False).view(np.uint8) << np.uint8(i)
        return self.from_bits(bits)

    def from_bits(self, bits: NDArray[np.uint8]) -> LabelMap:
        """Do the same as `encode` for masks of at most eight regions in one array, with region i as bit i.

        Args:
            bits: Array (...), uint8; returned as it is if each value of the table is the sum of its regions' bits.

        >>> from volseg.labels import LabelTable
        >>> LabelTable.overlapping(["a", "b"]).from_bits(np.array([0, 1, 2, 3], np.uint8)).tolist()
        [0, 1, 2, 3]
        """
        values = self._of_bits
        if (values == np.arange(len(values))).all():
            return bits
        return values[bits]

    @cached_property
    def _of_bits(self) -> LabelMap:
        """The value of each combination of regions, (2 ** R,)."""
        places = np.arange(len(self.regions))[:, None]
        return self._paint_each(((np.arange(2 ** len(self.regions)) >> places) & 1).astype(bool))

    def _paint_each(self, masks: Masks) -> LabelMap:
        """Do the work of `encode` region after region."""
        label_map = np.zeros(masks.shape[1:], dtype=np.uint8)
        for mask, value in zip(masks, self._paint, strict=True):
            label_map[mask] = value
        if self.overlap:
            # A voxel in two or more regions takes the value of exactly this combination, if there is one; of several
            # values of one combination the least, as in `_paint`.
            crowded = masks.sum(axis=0, dtype=np.uint8) > 1
            combinations, which = _distinct(masks[:, crowded])
            values = [self._value_of.get(frozenset(np.flatnonzero(places).tolist()), 0) for places in combinations]
            painted = np.array(values, np.uint8)[which]
            painted = np.where(painted, painted, label_map[crowded])
            label_map[crowded] = painted
        return label_map

    def decide(self, probabilities: NDArray[np.floating[Any]]) -> LabelMap:
        """Decide the label map from a network's probabilities: regions above 0.5 (sigmoid), or the largest channel.

        Args:
            probabilities: Probabilities (channels, X, Y, Z), after the activation.

        Returns:
            Label map (X, Y, Z), uint8.
        """
        if probabilities.shape[0] != self.channels:
            raise LabelError(
                f"the network gave {probabilities.shape[0]} channels, the table has {self.channels}: "
                f"{', '.join(self.channel_names)}"
            )
        if self.overlap:
            return self.encode(probabilities > 0.5)
        return self.decide_each(iter(probabilities), channels=len(probabilities))[0]

    def decide_each(
        self, probabilities: Iterator[NDArray[np.floating[Any]]], *, channels: int
    ) -> tuple[LabelMap, NDArray[np.floating[Any]]]:
        """As `decide`, for regions that exclude each other, with one channel in memory after the other.

        Args:
            probabilities: Probabilities (X, Y, Z) of each channel, the background first.
            channels: Their number.

        Returns:
            The label map, and the probability (X, Y, Z) of the channel that each voxel was given to.

        Raises:
            LabelError: The number of channels is not that of the table, or its regions overlap.

        >>> channels = np.array([[0.5, 0.1], [0.3, 0.2], [0.2, 0.7]])
        >>> from volseg.labels import LabelTable
        >>> label_map, winner = LabelTable.exclusive(["a", "b"]).decide_each(iter(channels), channels=3)
        >>> label_map.tolist(), winner.tolist()
        ([0, 2], [0.5, 0.7])
        """
        if channels != self.channels or self.overlap:
            raise LabelError(f"{channels} channels that exclude each other were given for {self.channel_names}")
        winner = next(probabilities).copy()
        label_map = np.zeros(winner.shape, dtype=np.uint8)
        for channel, value in zip(probabilities, self._paint, strict=True):
            better = channel > winner
            np.copyto(winner, channel, where=better)
            np.copyto(label_map, np.uint8(value), where=better)
        return label_map, winner

    def from_numbers(self, numbers: NDArray[np.unsignedinteger[Any]]) -> LabelMap:
        """The label map (X, Y, Z) of the number of each voxel's region, counted from 1 in the order of the table.

        >>> from volseg.labels import LabelTable
        >>> LabelTable.of({"a": 3, "b": 7}).from_numbers(np.array([0, 2, 1], np.uint16)).tolist()
        [0, 7, 3]
        """
        if self._paint == tuple(range(1, len(self._paint) + 1)):
            return numbers.astype(np.uint8)
        label_map: LabelMap = np.array([0, *self._paint], dtype=np.uint8)[numbers]
        return label_map


def _distinct(masks: Masks) -> tuple[Masks, NDArray[np.intp]]:
    """The distinct columns of masks (R, voxels), as rows (C, R), and for each voxel the place of its own."""
    packed = np.packbits(masks, axis=0)
    if len(packed) > 8:  # bytes, so more than 64 regions
        rows, which = np.unique(packed, axis=1, return_inverse=True)
    else:  # eight bytes as one number take a tenth of the time
        words = np.zeros((masks.shape[1], 8), np.uint8)
        words[:, : len(packed)] = packed.T
        found, which = np.unique(words.view(np.uint64)[:, 0], return_inverse=True)
        rows = found[:, None].view(np.uint8).T[: len(packed)]
    return np.unpackbits(rows, axis=0, count=len(masks)).T.astype(bool), which.ravel()
