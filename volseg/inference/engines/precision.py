"""Single precision or bfloat16."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import Tensor

from volseg.errors import UsageError, VolsegError


def check_precision(precision: str) -> None:
    """Refuse a precision other than `auto`, `fp32` and `bf16`.

    Raises:
        VolsegError: It is none of them.
    """
    if precision not in ("auto", "fp32", "bf16"):
        raise VolsegError(f"precision must be auto, fp32 or bf16, got {precision!r}")


def runs_bf16(device: torch.device, *, precision: str) -> bool:
    """Whether PyTorch runs in bfloat16; `auto` means so if the hardware multiplies it (CUDA 8.0, CPUs with AMX).

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

    On CPUs with AVX-512 BF16, torch 2.13 with its oneDNN computes wrong gradients of the weights of small layers: 3 x 3
    x 3 kernels on two slices, 5 x 5 x 5 kernels on one or two, and others. These gradients hold what stood in memory
    before, inf among it, and with a stride of 2 memory was overwritten. The forward pass and the gradients of inputs
    were right for the same layers.

    Raises:
        UsageError: The precision is bf16 and the device is such a CPU.
    """
    if device.type == "cpu" and runs_bf16(device, precision=precision) and not torch.cpu._is_amx_tile_supported():
        raise UsageError(
            "--precision must be auto or fp32 to train on a CPU without AMX, got bf16, in which PyTorch's gradients "
            "of small layers can be wrong there; take --precision auto or fp32 (predictions are not affected)"
        )


class MixedPrecision(Inferer):  # type: ignore[misc]  # MONAI has no types
    """Another inferer under bfloat16 autocast, on a GPU or a CPU; logits come back as float32.

    bfloat16 has the range of float32, so no loss scaling is needed.

    Args:
        inferer: Inferer that calls the network.
        precision: `fp32`, `bf16`, or `auto` (the default): bf16 if the hardware multiplies it (CUDA 8.0 and later, CPUs
            with AMX), else fp32.

    >>> from monai.inferers import SimpleInferer
    >>> MixedPrecision(SimpleInferer(), precision="fp32").bf16(torch.device("cpu"))
    False
    """

    def __init__(self, inferer: Inferer, *, precision: str = "auto") -> None:
        check_precision(precision)
        self.inferer = inferer
        self.precision = precision

    def bf16(self, device: torch.device) -> bool:
        """Whether the network runs in bfloat16 on the device."""
        return runs_bf16(device, precision=self.precision)

    def check_training(self, device: torch.device) -> None:
        """Refuse to train on a device whose gradients are wrong in bfloat16.

        Raises:
            UsageError: It is such a device, and bfloat16 is asked for.
        """
        check_training(device, precision=self.precision)

    def __call__(
        self,
        inputs: Tensor,
        network: Callable[..., Any],
        *args: Any,  # noqa: ANN401
        **kwargs: Any,  # noqa: ANN401
    ) -> Tensor | list[Tensor]:
        """Compute logits (B, channels, X, Y, Z) of inputs (B, C, X, Y, Z); a list if the network returns several."""
        if isinstance(inputs, MetaTensor):
            inputs = inputs.as_tensor()  # every operation of a network on a MetaTensor pays for its metadata
        with torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=self.bf16(inputs.device)):
            logits = self.inferer(inputs, network, *args, **kwargs)
        if isinstance(logits, (list, tuple)):
            return [part.float() for part in logits]
        return logits.float()  # type: ignore[no-any-return]  # MONAI has no types
