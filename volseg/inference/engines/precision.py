"""Single precision or bfloat16."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import Tensor

from volseg.inference.engines.bfloat16 import check_precision, check_training, runs_bf16
from volseg.inference.engines.parallel_windows import ParallelWindows


class MixedPrecision(Inferer):  # type: ignore[misc]  # MONAI has no types
    """Another inferer under bfloat16 autocast, on a GPU or a CPU; logits come back as float32.

    bfloat16 has the range of float32, so no loss scaling is needed.

    Args:
        inferer: Inferer that calls the network.
        precision: `fp32`, `bf16`, or `auto` (the default): bf16 if the hardware multiplies it (CUDA 8.0 and later, CPUs
            with AMX, and in training by `ParallelWindows` CPUs with AVX-512 BF16), else fp32.

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
        return runs_bf16(device, precision=self.precision, training=self._careful)

    def check_training(self, device: torch.device) -> None:
        """Refuse to train on a device whose gradients are wrong in bfloat16.

        Raises:
            UsageError: It is such a device, and bfloat16 is asked for.
        """
        check_training(device, precision=self.precision, careful=self._careful)

    @property
    def _careful(self) -> bool:
        """Whether it is an inferer for training, and one that computes the gradients of weights in single precision."""
        return isinstance(self.inferer, ParallelWindows)

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
