"""The device the network runs on, its memory, and the facts of the machine."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch

from volseg.errors import UsageError
from volseg.inference.cores import usable_cores


def check_device(name: str | torch.device) -> torch.device:
    """The device of that name, if it is there.

    Raises:
        UsageError: There is no such kind of device, or none of it in this machine.

    >>> check_device("cpu")
    device(type='cpu')
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"--device {name} is no device; use cpu, cuda or cuda:1") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        there = torch.cuda.device_count()
        raise UsageError(f"--device {name} was asked for and PyTorch finds {there} CUDA devices; use --device cpu")
    return device


def worker_device(name: str | None, number: int) -> str | None:
    """The device of one of several workers on a machine: each has a GPU of its own, in turn, if one is wanted.

    Args:
        name: Device that the user named; None for the best.
        number: Index of the worker.

    >>> worker_device("cpu", 3), worker_device("cuda:1", 3)
    ('cpu', 'cuda:1')
    """
    gpus = torch.cuda.device_count()
    return f"cuda:{number % gpus}" if name in (None, "cuda") and gpus else name


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


def machine(device: torch.device) -> dict[str, Any]:
    """Facts of the machine: names of host, processor and GPU, number of cores, and of processes that train together."""
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "device": str(device),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "processes": idist.get_world_size(),
    }


def peak_memory(device: torch.device) -> dict[str, int | None]:
    """Peak memory of this process so far, in bytes: resident, and of PyTorch on a GPU."""
    cuda = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return {"resident_bytes": peak_resident_bytes(), "cuda_bytes": cuda}


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
