"""Label maps that are painted region after region, with every combination in which the regions overlap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.errors import LabelError, VolsegError
from volseg.labels.encoding import LabelMap
from volseg.labels.table import LabelTable

_MOST = 65_535  # combinations of one image, those that later regions paint over included

_PART = 2**22  # voxels that are counted at once
_READERS = 2  # threads, as many as convert cases by default

Combination = frozenset[int]
"""Places in the table of the regions that a voxel belongs to."""


class RegionCanvas:
    """An image onto which regions are painted; each voxel keeps all regions that were painted there.

    A label map of bytes has room for all combinations of 8 regions. Of more regions, few combinations occur: here they
    are found first, so that `LabelTable.with_overlaps` can give a value to each.

    Args:
        shape: Shape of the image.

    >>> canvas = RegionCanvas((4,))
    >>> canvas.paint(np.array([True, True, True, False]), 0)
    >>> canvas.paint(np.array([False, True, True, False]), 2)
    >>> canvas.overlaps == {frozenset({0, 2})}
    True
    >>> table = LabelTable.exclusive(["body", "heart", "tumour"]).with_overlaps(canvas.overlaps)
    >>> canvas.label_map(table).tolist(), table.regions[2].values
    ([1, 4, 4, 0], (3, 4))
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self._numbers: NDArray[np.uint16] = np.zeros(shape, np.uint16)
        self._combinations: list[Combination] = [frozenset()]
        self._number_of: dict[Combination, int] = {frozenset(): 0}

    def paint(self, where: NDArray[np.bool_] | tuple[NDArray[Any], ...], place: int) -> None:
        """Add voxels to a region.

        Args:
            where: Mask (...), or indices along each axis.
            place: Place of the region in the table.

        Raises:
            LabelError: There are more combinations than can be told apart.
        """
        before = self._numbers[where]
        numbers = np.zeros(len(self._combinations), np.uint16)
        for number in np.flatnonzero(np.bincount(before, minlength=1)).tolist():
            combination = self._combinations[number] | {place}
            if combination not in self._number_of:
                if len(self._combinations) > _MOST:
                    raise LabelError(f"the regions overlap in more than {_MOST} ways; choose fewer")
                self._number_of[combination] = len(self._combinations)
                self._combinations.append(combination)
            numbers[number] = self._number_of[combination]
        self._numbers[where] = numbers[before]

    def _counts(self) -> dict[Combination, int]:
        """The number of voxels of each combination that some voxel holds, nothing included."""
        counts = np.zeros(len(self._combinations), np.int64)
        for part in range(0, self._numbers.size, _PART):  # since bincount makes eight bytes of each number
            counts += np.bincount(self._numbers.ravel()[part : part + _PART], minlength=len(counts))
        return {self._combinations[number]: int(counts[number]) for number in np.flatnonzero(counts).tolist()}

    @property
    def combinations(self) -> set[Combination]:
        """The combinations that some voxel holds, single regions among them."""
        return {combination for combination in self._counts() if combination}

    @property
    def overlaps(self) -> set[Combination]:
        """The combinations of two regions or more that some voxel holds."""
        return {combination for combination in self.combinations if len(combination) > 1}

    @property
    def shared(self) -> int:
        """The number of voxels that belong to two regions or more."""
        return sum(count for combination, count in self._counts().items() if len(combination) > 1)

    def mask(self, place: int) -> NDArray[np.bool_]:
        """The voxels (...) of a region."""
        belongs = np.array([place in combination for combination in self._combinations])
        found: NDArray[np.bool_] = belongs[self._numbers]
        return found

    def label_map(self, table: LabelTable, *, cure: str = "choose fewer regions") -> LabelMap:
        """The label map (...).

        Args:
            table: Table of the regions whose places were painted.
            cure: What can be done if it has no value for a combination, for the message.

        Raises:
            LabelError: It has none.
        """
        values = np.zeros(len(self._combinations), np.uint8)
        for combination in self._counts():
            value = table.value_of(combination)
            if value is None:
                names = [table.names[place] for place in sorted(combination)]
                if len(names) == 1:
                    raise LabelError(f"the table has no value for voxels of {names[0]} alone")
                told = f"{', '.join(names[:-1])} and {names[-1]}"
                kept = "no such overlap" if table.overlap else "no overlap"
                raise LabelError(f"{told} overlap, and a table of {len(table.names)} regions keeps {kept}; {cure}")
            values[self._number_of[combination]] = value
        label_map: LabelMap = values[self._numbers]
        return label_map


def overlaps_that_occur(
    keys: Sequence[str],
    draw: Callable[[str], RegionCanvas],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> set[Combination]:
    """The ways in which regions overlap in any case, for `LabelTable.with_overlaps`.

    Cases that cannot be drawn have none: they fail for themselves when they are converted.

    Args:
        keys: Keys of the cases.
        draw: Function that paints the regions of a case; two threads call it.
        progress: Function that is called with (cases done, cases in all) after each case.
    """
    found: set[Combination] = set()

    def of_case(key: str) -> set[Combination]:
        try:
            return draw(key).overlaps
        except VolsegError:
            return set()

    with ThreadPoolExecutor(_READERS) as pool:
        for done, overlaps in enumerate(pool.map(of_case, keys), start=1):
            found |= overlaps
            if progress is not None:
                progress(done, len(keys))
    return found
