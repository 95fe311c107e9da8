"""The device the network runs on, its memory, and the facts of the machine."""

from __future__ import annotations

import platform
from typing import Any

import torch

from volseg.errors import UsageError
from volseg.inference.cores import processor, usable_cores
from volseg.inference.engines.memory import peak_resident_bytes


def check_device(name: str | torch.device, *, option: str = "--device") -> torch.device:
    """The device of that name, if it is there.

    Args:
        name: Name of the device, as PyTorch has it.
        option: What a user calls it, for the message.

    Raises:
        UsageError: There is no such kind of device, or none of it in this machine.

    >>> check_device("cpu")
    device(type='cpu')
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"{option} must be a device such as cpu, cuda or cuda:1, got {name}") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        there = torch.cuda.device_count()
        raise UsageError(
            f"{option} must be one of the {there} CUDA devices that PyTorch finds, got {name}; use {option} cpu"
        )
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


def machine(device: torch.device) -> dict[str, Any]:
    """Facts of the machine: names of host, processor and GPU, number of cores, and of processes that train together."""
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "processor": processor(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "device": str(device),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "processes": _processes(),
    }


def peak_memory(device: torch.device) -> dict[str, int | None]:
    """Peak memory of this process so far, in bytes: resident, and of PyTorch on a GPU."""
    cuda = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return {"resident_bytes": peak_resident_bytes(), "cuda_bytes": cuda}


def _processes() -> int:
    """Number of processes that train together."""
    distributed = torch.distributed
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
