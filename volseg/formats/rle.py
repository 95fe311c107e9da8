"""Run-length masks as UW-Madison writes them: pairs "start length", 1-based, row-major over (rows, columns)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from volseg.errors import RleError


def encode(mask: NDArray[np.bool_]) -> str:
    """The run-length string of a mask; an empty mask gives an empty string.

    Args:
        mask: (rows, columns), True inside.

    >>> encode(np.array([[0, 1, 1], [1, 0, 0]], bool))
    '2 3'
    """
    flat = np.concatenate(([False], np.asarray(mask, dtype=bool).ravel(), [False]))
    edges = np.flatnonzero(flat[1:] != flat[:-1])  # start, end, start, end, ... 0-based, ends exclusive
    starts, ends = edges[::2], edges[1::2]
    runs = np.stack([starts + 1, ends - starts], axis=1)
    return " ".join(map(str, runs.ravel().tolist()))


def decode(rle: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask of a run-length string.

    Args:
        rle: Pairs "start length", 1-based, row-major; empty for an empty mask.
        shape: (rows, columns).

    Raises:
        RleError: An odd count, a word that is no number, a start below 1, a run of length below 1, runs that overlap
            or go back, or a run past the end of the slice.

    >>> decode("2 3", (2, 3)).astype(int).tolist()
    [[0, 1, 1], [1, 0, 0]]
    """
    size = shape[0] * shape[1]
    words = rle.split()
    if not words:
        return np.zeros(shape, dtype=bool)
    if len(words) % 2:
        raise RleError(f"the run-length string has {len(words)} numbers, expected pairs of start and length")
    try:
        numbers = np.array(words, dtype=np.int64)
    except (ValueError, OverflowError):
        raise RleError(f"the run-length string holds a word that is no whole number: {rle[:40]!r}") from None
    starts, lengths = numbers[::2] - 1, numbers[1::2]
    ends = starts + lengths
    if starts.min() < 0 or lengths.min() < 1:
        raise RleError("the run-length string has a start or a length below 1; starts count from 1")
    if max(starts.max(), lengths.max(), ends.max()) > size:  # each alone too: their sum may overflow
        raise RleError(
            f"a run goes past the {size} pixels of a slice of {shape[0]} rows "
            f"and {shape[1]} columns; the mask belongs to another slice or size"
        )
    if (starts[1:] < ends[:-1]).any():
        raise RleError("the runs of the string overlap or go back; sort and merge them")
    change = np.zeros(size + 1, dtype=np.int8)
    change[starts] += 1  # starts ascend, so none repeats; ends likewise
    change[ends] -= 1
    return np.cumsum(change[:-1], dtype=np.int8).view(bool).reshape(shape)
