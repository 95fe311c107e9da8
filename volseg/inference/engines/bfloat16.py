"""Whether a device computes in bfloat16; without MONAI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volseg.errors import UsageError, VolsegError

if TYPE_CHECKING:
    import torch


def check_precision(precision: str) -> None:
    """Refuse a precision other than `auto`, `fp32` and `bf16`.

    Raises:
        VolsegError: It is none of them.
    """
    if precision not in ("auto", "fp32", "bf16"):
        raise VolsegError(f"precision must be auto, fp32 or bf16, got {precision!r}")


def runs_bf16(device: torch.device, *, precision: str) -> bool:
    """Whether PyTorch runs in bfloat16; `auto` means so if the hardware multiplies it (CUDA 8.0, CPUs with AMX).

    >>> import torch
    >>> runs_bf16(torch.device("cpu"), precision="bf16")
    True
    """
    import torch

    check_precision(precision)
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and torch.cpu._is_amx_tile_supported()


def check_training(device: torch.device, *, precision: str) -> None:
    """Refuse to train in bfloat16 on a CPU without AMX.

    On CPUs with AVX-512 BF16, torch 2.13 with its oneDNN computes wrong gradients of the weights of small layers: 3 x 3
    x 3 kernels on two slices, 5 x 5 x 5 kernels on one or two, and others. These gradients hold what stood in memory
    before, inf among it, and with a stride of 2 memory was overwritten. The forward pass and the gradients of inputs
    were right for the same layers.

    Raises:
        UsageError: The precision is bf16 and the device is such a CPU.
    """
    import torch

    if device.type == "cpu" and runs_bf16(device, precision=precision) and not torch.cpu._is_amx_tile_supported():
        raise UsageError(
            "--precision must be auto or fp32 to train on a CPU without AMX, got bf16, in which PyTorch's gradients "
            "of small layers can be wrong there; take --precision auto or fp32 (predictions are not affected)"
        )
