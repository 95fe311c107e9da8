"""Single precision or bfloat16."""

from __future__ import annotations

import torch

from volseg.errors import VolsegError


def check_precision(precision: str) -> None:
    """Refuse what is neither auto, fp32 nor bf16.

    Raises:
        VolsegError: it is none of them.
    """
    if precision not in ("auto", "fp32", "bf16"):
        raise VolsegError(f"precision {precision!r} was asked for, expected auto, fp32 or bf16")


def multiplies_bf16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 in hardware: CUDA 8.0 and later, CPUs with AVX-512 BF16 or AMX."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def runs_bf16(device: torch.device, *, precision: str) -> bool:
    """Whether PyTorch runs in bfloat16; `auto`: where the device multiplies it in hardware.

    >>> runs_bf16(torch.device("cpu"), precision="bf16")
    True
    """
    check_precision(precision)
    return multiplies_bf16(device) if precision == "auto" else precision == "bf16"
