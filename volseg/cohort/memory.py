"""The threads that a cohort's largest case allows: estimated from the headers, before anything is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

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
        too_large: Reason for each key of a case that fits into no thread, beside others that do.
    """

    count: int
    note: str = ""
    too_large: Mapping[str, str] = field(default_factory=dict)


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
        UsageError: No case fits even alone.
    """
    if available is None:
        return Threads(wanted)
    sizes = {key: math.prod(cohort.rows[key].shape) * bytes_per_voxel for key in keys or cohort.keys}
    fitting = {key: needed for key, needed in sizes.items() if needed <= available}

    def told(key: str) -> str:
        shape = " x ".join(map(str, cohort.rows[key].shape))
        free = f"{available / GIB:.1f} GiB are free"
        return f"the case has {shape} voxels, which take {sizes[key] / GIB:.1f} GiB, and {free}"

    cure = "close other programs, or use a machine with more memory"
    if not fitting:
        smallest = min(sizes, key=lambda key: (sizes[key], key))
        raise UsageError(f"{smallest}: {told(smallest)}; {cure}")
    too_large = {key: f"{told(key)}; {cure}" for key in sizes if key not in fitting}
    largest = max(fitting, key=lambda key: (fitting[key], key))
    if wanted * fitting[largest] <= _SHARE * available:
        return Threads(wanted, too_large=too_large)
    count = max(1, min(wanted, int(_SHARE * available // fitting[largest])))
    note = f"{count} thread{'s' * (count > 1)} instead of {wanted}: {largest}: {told(largest)}"
    return Threads(count, "" if count == wanted else note, too_large)
