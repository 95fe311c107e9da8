"""Sizes of voxels in a cohort that make no sense: of all cases, or of one beside the others."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

import numpy as np

from volseg.cohort.table import CaseRow
from volseg.errors import first_names
from volseg.volume import size_notes, times_off


def size_warnings(rows: Iterable[CaseRow], *, alone: bool = False) -> list[str]:
    """A sentence for each kind of case whose voxels have a size that no patient has, or far from that of the others.

    Args:
        rows: Rows of the cohort's table.
        alone: Whether only cases that are unlike the others are told; else also those that are doubtful by themselves.

    >>> row = CaseRow("a", "a", "", (64, 64, 30), (1.0, 1.0, 3.0), "RAS", "", ())
    >>> metres = CaseRow("b", "b", "", (64, 64, 30), (0.001, 0.001, 0.003), "RAS", "", ())
    >>> size_warnings([row, row, row])
    []
    >>> size_warnings([row, row, metres], alone=True)[0].partition(":")[0]
    'the voxels of 1 of 3 cases (b) are far finer or coarser than the median of 1 x 1 x 3 mm'
    """
    rows = list(rows)
    if not rows:
        return []
    found: dict[str, list[str]] = {}
    for row in rows:
        for note in () if alone else size_notes(row.shape, np.diag([*row.spacing_mm, 1.0])):
            found.setdefault(note, []).append(row.key)
    told = [f"{note}: in {len(keys)} of {len(rows)} cases ({first_names(keys)})" for note, keys in found.items()]
    spacings = [row.along_ras(row.spacing_mm) for row in rows]
    median = [statistics.median(along) for along in zip(*spacings, strict=True)]
    unlike = [
        row.key
        for row, spacing in zip(rows, spacings, strict=True)
        if times_off(row.along_ras(row.shape), spacing, median) is not None
    ]
    if unlike:
        usual = " x ".join(f"{mm:.4g}" for mm in median)
        told.append(
            f"the voxels of {len(unlike)} of {len(rows)} cases ({first_names(unlike)}) are far finer or coarser than "
            f"the median of {usual} mm: look whether their lengths are right"
        )
    return told
