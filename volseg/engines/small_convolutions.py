"""Convolutions of small windows on a CPU: by oneDNN, where torch would take its own slow ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class SmallConvolutions(TorchFunctionMode):
    """While it is entered, oneDNN computes the 3D convolutions of a single window, whatever their size; no gradients.

    By itself torch takes oneDNN for a single window only where a slice of all channels across its last axis has more
    than 20,480 numbers (`use_mkldnn` in ATen's Convolution.cpp), and `slow_conv3d` otherwise, which takes two to three
    times as long: for the deeper layers of any network, and for nearly all of one with small windows. Values differ by
    rounding. Left as they are: 1 x 1 x 1 kernels, double and half precision, autocast, padding by name, other devices.

    >>> network = torch.nn.Conv3d(4, 4, 3, padding=1)
    >>> with torch.inference_mode():
    ...     plain = network(torch.ones(1, 4, 5, 5, 5))
    ...     with SmallConvolutions():
    ...         bool(torch.allclose(network(torch.ones(1, 4, 5, 5, 5)), plain, atol=1e-6))
    True
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the function gives
        """Take one function's place."""
        if func is torch.conv3d and not kwargs and len(args) == 7 and _suits(*args):
            inputs, weight, bias, stride, padding, dilation, groups = args
            return torch.mkldnn_convolution(inputs, weight, bias, padding, stride, dilation, groups)
        return func(*args, **(kwargs or {}))


def _suits(
    inputs: Tensor,
    weight: Tensor,
    bias: Tensor | None,  # noqa: ARG001 - of the same kind as the weight
    stride: Sequence[int],  # noqa: ARG001
    padding: Sequence[int] | str,
    dilation: Sequence[int],  # noqa: ARG001
    groups: int,
) -> bool:
    """Whether oneDNN takes it and torch would not."""
    return bool(
        inputs.device.type == "cpu"
        and inputs.dtype == weight.dtype == torch.float32
        and type(inputs) is Tensor
        and inputs.ndim == 5
        and len(inputs) == groups == 1
        and not isinstance(padding, str)
        and max(weight.shape[2:]) > 1
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and torch.backends.mkldnn.enabled
    )
