"""The probabilities of one region in rows, so that what holds nothing of it is looked at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROW = 1024  # voxels; shorter rows take longer to be gone through, longer ones are seldom empty
_ROWS_AT_ONCE = 64


class ProbabilityRows:
    """The probabilities of a region, with the sum and the largest of each row; the order of the voxels is lost.

    Most rows of a volume hold no voxel that is likely to belong to a region: only the others are searched, a few at a
    time, so that little memory is taken.

    Args:
        probability: Probability (...) of each voxel, 0 to 1, in any order of memory.

    >>> rows = ProbabilityRows(np.array([[0.9, 0.1], [0.2, 0.7]], np.float32))
    >>> rows.above(0.5).tolist(), round(rows.total, 6), rows.size
    ([0.8999999761581421, 0.699999988079071], 1.9, 4)
    """

    def __init__(self, probability: NDArray[np.floating[Any]]) -> None:
        flat = probability.ravel(order="K")
        whole = flat.size // _ROW * _ROW
        self._rows, self._rest = flat[:whole].reshape(-1, _ROW), flat[whole:]
        self._highest = self._rows.max(axis=1)
        # Pairs of sums are added, so that single precision keeps six digits of 1,024 numbers.
        precise = np.float64 if flat.dtype.itemsize > 4 else np.float32
        self._sums = self._rows.sum(axis=1, dtype=precise).astype(np.float64)
        self.size = flat.size

    @property
    def total(self) -> float:
        """The sum of all, the expected size of the region in voxels."""
        return float(self._sums.sum()) + float(self._rest.sum(dtype=np.float64))

    @property
    def highest(self) -> float:
        """The largest probability; 0 if there is no voxel."""
        return max(float(self._highest.max(initial=0)), float(self._rest.max(initial=0)))

    def above(self, threshold: float) -> NDArray[np.floating[Any]]:
        """The probabilities (n,) that exceed a threshold, in single precision at least."""
        # Indices are faster than a mask.
        found = [part[np.flatnonzero(part > threshold)] for part in self.parts(threshold)]
        picked = np.concatenate(found) if found else self._rest[:0]
        return picked.astype(np.promote_types(picked.dtype, np.float32), copy=False)

    def parts(self, threshold: float) -> Iterator[NDArray[np.floating[Any]]]:
        """The rows that hold a probability above a threshold, some at a time, each part (n,) flat."""
        numbers = np.flatnonzero(self._highest > threshold)
        for start in range(0, numbers.size, _ROWS_AT_ONCE):
            some = numbers[start : start + _ROWS_AT_ONCE]
            together = some[-1] - some[0] + 1 == some.size  # then they need no copy
            yield (self._rows[some[0] : some[-1] + 1] if together else self._rows[some]).reshape(-1)
        if self._rest.size and self._rest.max() > threshold:
            yield self._rest

    def total_below(self, threshold: float) -> float:
        """The sum of the rows that hold no probability above a threshold, which `parts` leaves out."""
        rest = self._rest if self._rest.size and not self._rest.max() > threshold else self._rest[:0]
        return float(self._sums[~(self._highest > threshold)].sum()) + float(rest.sum(dtype=np.float64))
