"""The cores that this process may use, and the processor's name."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def usable_cores() -> int:
    """Number of cores that this process may use: those of its affinity, where the system tells it.

    >>> usable_cores() >= 1
    True
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> str:
    """Name of the processor, as the system states it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


# Instructions that decide which number format is fast: those of x86, then of ARM.
_TELLING = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "i8mm", "bf16", "sve")


def instructions() -> tuple[str, ...]:
    """Instructions of the processor that decide which number format is fast; none where the system does not tell.

    >>> set(instructions()) <= set(_TELLING)
    True
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ()
    flags = next(
        (line.partition(":")[2].split() for line in lines if line.lower().startswith(("flags", "features"))), []
    )
    return tuple(name for name in _TELLING if name in flags)


def device_name(device: str) -> str:
    """Name of a GPU, or of the processor; PyTorch is asked for a GPU alone."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    return processor()
