"""The memory of this process and of the machine, as the system states it; without PyTorch."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

# Fraction of a machine's free memory that windows beside the first may take.
_SHARE = 0.5


def resident_bytes() -> int | None:
    """Resident memory of this process in bytes; None if the system does not say."""
    words = "".join(_lines(Path("/proc/self/statm"))).split()
    return int(words[1]) * os.sysconf("SC_PAGE_SIZE") if len(words) > 1 else None


def peak_resident_bytes() -> int | None:
    """Peak resident memory of this process in bytes; None if the system does not say.

    >>> peak_resident_bytes() is None or peak_resident_bytes() > 0
    True
    """
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def release_freed_memory() -> None:
    """Return freed memory to the system where the C library can (glibc), which a command keeps for later otherwise."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


def available_bytes(root: Path = Path("/")) -> int | None:
    """Bytes available without swapping, within the limits of a container or a job; None if the system does not say.

    Args:
        root: Root of the file system, for tests.
    """
    found = [_cgroup_bytes(root / "sys/fs/cgroup", root / "proc/self/cgroup")]
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            found.append(int(line.split()[1]) * 1024)
    return min((n for n in found if n is not None), default=None)


def affordable_windows(wanted: int, held: int | None) -> int:
    """The number of windows that fit side by side into the free memory, at most the number wanted.

    Args:
        wanted: Largest number of windows.
        held: Bytes that the process held before its first window, which has been computed by now.
    """
    peak, free = peak_resident_bytes(), available_bytes()
    if wanted == 1 or held is None or peak is None or free is None:
        return 1
    return max(1, min(wanted, 1 + int(_SHARE * free / max(1, peak - held))))


def _cgroup_bytes(mount: Path, own: Path) -> int | None:
    """Bytes that the tightest memory limit around this process leaves (control groups version 2, else 1)."""
    found = []
    for line in _lines(own):
        _, kinds, name = line.split(":", 2)
        if kinds == "":
            place, files = mount / name.strip("/"), ("memory.max", "memory.current", "inactive_file")
        elif "memory" in kinds.split(","):
            place = mount / "memory" / name.strip("/")
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # In a container the path may be that of the host, and the limit is at the mount itself.
        for folder in (place, *place.parents):
            limit, used = (_number(folder / name) for name in files[:2])
            if limit is not None and used is not None:
                cached = [int(line.split()[1]) for line in _lines(folder / "memory.stat") if line.startswith(files[2])]
                found.append(max(0, limit - used + sum(cached)))
            if folder == mount:
                break
    return min(found, default=None)


def _number(path: Path) -> int | None:
    word = "".join(_lines(path)).strip()
    return int(word) if word.isdigit() else None  # "max" is no limit


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
