"""The cores that this process may use."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Number of cores that this process may use: those of its affinity, where the system tells it.

    >>> usable_cores() >= 1
    True
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
