"""Scans that stand twice in a cohort: under two keys, or several times in a fold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.cohort.folds import Fold
from volseg.errors import first_names

_TOLD_GROUPS = 5


def voxels_digest(voxels: NDArray[Any]) -> int | None:
    """A checksum of the voxels of an image; None if they all have one value, which says nothing of a scan.

    >>> scan = np.arange(8).reshape(2, 2, 2)
    >>> voxels_digest(scan) == voxels_digest(scan.copy()), voxels_digest(scan) == voxels_digest(scan[::-1])
    (True, False)
    >>> voxels_digest(np.zeros((2, 2, 2)))
    """
    from isal import isal_zlib

    if voxels.size and (voxels == voxels.flat[0]).all():
        return None
    content = np.ascontiguousarray(voxels.T)  # without a copy where X is the first axis in memory
    return int(isal_zlib.crc32(content.data.cast("B")))


def same_voxels(digests: Mapping[str, Sequence[object]]) -> list[str]:
    """Warnings of cases whose images hold the same voxels: one scan, on both sides of a split perhaps.

    Args:
        digests: Shape and digest of each channel by key; of a case whose digests are all None nothing is said.

    >>> same_voxels({"a": [(2, 2, 2), 7], "b": [(2, 2, 2), 8], "c": [(2, 2, 2), 7]})
    ['the images of a, c hold the same voxels: if they are one scan, keep one, or give them one patient']
    """
    groups: dict[tuple[object, ...], list[str]] = {}
    for key, facts in digests.items():
        if any(isinstance(fact, int) for fact in facts):
            groups.setdefault(tuple(facts), []).append(key)
    twice = [keys for keys in groups.values() if len(keys) > 1]
    cure = "if they are one scan, keep one, or give them one patient"
    told = [f"the images of {first_names(keys)} hold the same voxels: {cure}" for keys in twice[:_TOLD_GROUPS]]
    return [*told, *([f"{len(twice) - _TOLD_GROUPS} more groups of such images"] if len(twice) > _TOLD_GROUPS else [])]


def doubtful_folds(folds: Iterable[Fold]) -> list[str]:
    """Warnings of folds that name a case several times or validate none.

    >>> doubtful_folds([Fold(("a", "a", "b"), ())])
    ['fold 0 names a more than once, and trains on it as often', 'fold 0 validates no case']
    """
    told = []
    for number, fold in enumerate(folds):
        for keys, does in ((fold.training, "trains on"), (fold.validation, "validates")):
            often = [key for key, count in Counter(keys).items() if count > 1]
            if often:
                told.append(f"fold {number} names {first_names(often)} more than once, and {does} it as often")
        if not fold.validation:
            told.append(f"fold {number} validates no case")
    return told
