"""Single precision or bfloat16."""

from __future__ import annotations

import torch

from volseg.errors import UsageError, VolsegError


def check_precision(precision: str) -> None:
    """Refuse what is neither auto, fp32 nor bf16.

    Raises:
        VolsegError: it is none of them.
    """
    if precision not in ("auto", "fp32", "bf16"):
        raise VolsegError(f"precision {precision!r} was asked for, expected auto, fp32 or bf16")


def runs_bf16(device: torch.device, *, precision: str) -> bool:
    """Whether PyTorch runs in bfloat16; `auto`: where the device multiplies it in hardware (CUDA 8.0, CPUs with AMX).

    >>> runs_bf16(torch.device("cpu"), precision="bf16")
    True
    """
    check_precision(precision)
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and torch.cpu._is_amx_tile_supported()


def check_training(device: torch.device, *, precision: str) -> None:
    """Refuse to train in bfloat16 on a CPU without AMX.

    On CPUs with AVX-512 BF16 the gradients of weights of small layers (torch 2.13 with its oneDNN: 3 x 3 x 3 kernels on
    two slices, 5 x 5 x 5 on one or two, and others) hold what stood in memory before, inf among it, and with a stride
    of 2 memory was overwritten. What goes forward, and the gradients of inputs, were right for the same layers.

    Raises:
        UsageError: that is asked for.
    """
    if device.type == "cpu" and runs_bf16(device, precision=precision) and not torch.cpu._is_amx_tile_supported():
        raise UsageError(
            "--precision bf16 trains on GPUs and on CPUs with AMX: on others PyTorch's gradients of small layers can "
            "be wrong in bfloat16; take --precision auto or fp32 (predictions are not affected)"
        )
