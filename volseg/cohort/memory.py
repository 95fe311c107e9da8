"""The threads that a cohort's largest case allows: estimated from the headers, before anything is read."""

from __future__ import annotations

import math
from dataclasses import dataclass

from volseg.cohort.folder import Cohort
from volseg.errors import UsageError

CHECK_BYTES = 5.2
"""Bytes per voxel that `volseg check` holds per thread and channel, measured with 16-bit images."""
EVALUATE_BYTES = 6.5
"""Bytes per voxel that `volseg evaluate` holds per thread, measured with one region and with 104."""
_SHARE = 0.8  # of the free memory, for threads beside the first
GIB = 2**30


@dataclass(frozen=True)
class Threads:
    """A number of threads, and why it is not the one that was asked for.

    Attributes:
        count: Number of threads.
        note: Sentence; empty if the number is the one that was asked for.
    """

    count: int
    note: str = ""


def affordable_threads(
    cohort: Cohort, wanted: int, *, bytes_per_voxel: float, available: int | None, keys: tuple[str, ...] | None = None
) -> Threads:
    """The number of threads, each with the largest case, that fit into the free memory, at most the number wanted.

    Args:
        cohort: Cohort, whose sizes are those of its table or headers.
        wanted: Number of threads that was asked for.
        bytes_per_voxel: Bytes that a thread holds per voxel of its case.
        available: Free bytes; None if the system does not say.
        keys: Keys of the cases; all by default.

    Raises:
        UsageError: Not even one thread fits.
    """
    voxels, key = max((math.prod(cohort.rows[key].shape), key) for key in keys or cohort.keys)
    needed = voxels * bytes_per_voxel
    if available is None or wanted * needed <= _SHARE * available:
        return Threads(wanted)
    shape = " x ".join(map(str, cohort.rows[key].shape))
    told = f"{key} has {shape} voxels, which take {needed / GIB:.1f} GiB, and {available / GIB:.1f} GiB are free"
    if needed > available:
        raise UsageError(f"{told}; close other programs, or use a machine with more memory")
    count = max(1, min(wanted, int(_SHARE * available // needed)))
    return Threads(count, "" if count == wanted else f"{count} thread{'s' * (count > 1)} instead of {wanted}: {told}")
