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


def runs_bf16(device: torch.device, *, precision: str, training: bool = False) -> bool:
    """Whether PyTorch runs in bfloat16; `auto` means so if the hardware multiplies it.

    That is CUDA 8.0 and CPUs with AMX; and in training by `ParallelWindows` CPUs with AVX-512 BF16, where a step takes
    0.6 to 0.7 of the time. An inferer by itself predicts in single precision there; `volseg.inference.choose`
    compares the logits first and takes bf16.

    Args:
        device: Device of the network.
        precision: `fp32`, `bf16` or `auto`.
        training: Whether the network is trained, by an inferer that takes care of its gradients (`check_training`).

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
    if device.type != "cpu":
        return False
    return torch.cpu._is_amx_tile_supported() or (training and torch.cpu._is_avx512_bf16_supported())


def check_training(device: torch.device, *, precision: str, careful: bool = False) -> None:
    """Refuse to train in bfloat16 on a CPU without AMX whose gradients would be wrong, or which has no bfloat16.

    On CPUs with AVX-512 BF16, torch 2.13 with its oneDNN computes wrong gradients of the weights of small layers: 3 x 3
    x 3 kernels on two slices, 5 x 5 x 5 kernels on one or two, and others. These gradients hold what stood in memory
    before, inf among it, and with a stride of 2 memory was overwritten. The forward pass and the gradients of inputs
    were right for the same layers. `ParallelWindows` computes the gradients of weights in single precision there.

    Args:
        device: Device of the network.
        precision: `fp32`, `bf16` or `auto`.
        careful: Whether the inferer is one that computes those gradients in single precision.

    Raises:
        UsageError: The precision is bf16 and the device is such a CPU.
    """
    import torch

    wanted = device.type == "cpu" and runs_bf16(device, precision=precision, training=careful)
    if not wanted or torch.cpu._is_amx_tile_supported():
        return
    if not torch.cpu._is_avx512_bf16_supported():
        raise UsageError(
            "--precision must be auto or fp32 to train on a CPU without AMX and AVX-512 BF16, got bf16, which PyTorch "
            "imitates there, many times slower; take --precision auto or fp32"
        )
    if not careful:
        raise UsageError(
            "--precision must be auto or fp32 to train on a CPU without AMX by this inferer, got bf16, in which "
            "PyTorch's gradients of small layers can be wrong there; take --precision auto or fp32 (predictions are "
            "not affected), or the inferer volseg.inference.ParallelWindows"
        )
