"""Which device the network runs on."""

from __future__ import annotations

import torch

from volseg.errors import UsageError


def check_device(name: str | torch.device) -> torch.device:
    """The device of that name, if it is there.

    Raises:
        UsageError: no such kind of device, or none of it in this machine.

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
    """The device of one of several workers on a machine: each has a GPU of its own, in turn, where one is wanted.

    Args:
        name: what the user asked for; None for the best.
        number: of the worker.

    >>> worker_device("cpu", 3), worker_device("cuda:1", 3)
    ('cpu', 'cuda:1')
    """
    gpus = torch.cuda.device_count()
    return f"cuda:{number % gpus}" if name in (None, "cuda") and gpus else name
