"""3D convolutions on a CPU, by oneDNN instead of torch's slow kernels, in the forms that oneDNN computes fast."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from volseg.inference.engines.bf16_convolutions import rounded, takes_care

# For a single window torch takes oneDNN only above this many numbers (`use_mkldnn` in ATen's Convolution.cpp).
_SLICE = 20_480
# Fewer input channels than oneDNN puts into one register: there its gradient of the weights is not slow.
_CHANNELS = 8


class Convolutions(TorchFunctionMode):
    """A context in which 3D convolutions on a CPU take less time; their values are torch's own but for rounding.

    - **Single windows.** By itself torch takes oneDNN for one window only if a slice of all channels across its last
      axis has more than 20,480 numbers. Otherwise it takes `slow_conv3d`, which is two to three times slower: this
      concerns the deeper layers of any network, and nearly all layers of one with small windows. Here oneDNN is called
      for them. For the gradients the window is cut in two, which torch takes for a batch.
    - **Gradients of weights on a CPU with AVX2.** oneDNN takes three times as long if the input is padded along its
      first axis (97 instead of 34 ms for 16 channels of 32 x 48 x 40 and a batch of two windows). Here the zeros are
      written beforehand.
    - **Instance normalisation** without gradients, which torch computes as batch normalisation of a view with repeated
      parameters: here as normalisation of groups of one channel, for which it has a faster operator.
    - **Gradients of weights in bfloat16** on a CPU without AMX, which torch computes wrongly there: here they are
      computed in single precision, see `volseg.inference.engines.bf16_convolutions`.

    A training step of the bundle unet on one core takes 0.6 of the time with one window, and 0.75 with two. The
    backward pass keeps no more memory. In single precision these are left as they are: 1 x 1 x 1 kernels, groups, and
    padding by name; and altogether double and half precision, other devices, compiled networks, and autocast but for
    the gradients of weights. Gradients of gradients are not supported.

    >>> network = torch.nn.Conv3d(4, 4, 3, padding=1)
    >>> with torch.inference_mode():
    ...     plain = network(torch.ones(1, 4, 5, 5, 5))
    ...     with Convolutions():
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
        """Replace one function by a faster one."""
        if torch.compiler.is_compiling():  # TorchInductor has convolutions of its own
            return func(*args, **(kwargs or {}))
        if takes_care():
            output = rounded(func, args, kwargs or {})
            return func(*args, **(kwargs or {})) if output is None else output
        if func is functional.instance_norm and not torch.is_grad_enabled():
            output = _normalised(*args, **(kwargs or {}))
            return func(*args, **(kwargs or {})) if output is None else output
        if func is torch.conv3d and not kwargs and len(args) == 7 and _suits(*args):
            inputs, weight, bias, *form = args
            layer = _Layer(*map(tuple, form[:3]))
            if torch.is_grad_enabled() and any(one is not None and one.requires_grad for one in (inputs, weight, bias)):
                if _slow_alone(inputs) or _slow_gradient(inputs, weight, layer):
                    return _Convolution.apply(inputs, weight, bias, layer)  # type: ignore[no-untyped-call]
            elif _slow_alone(inputs):
                return layer(inputs, weight, bias)
        return func(*args, **(kwargs or {}))


def _normalised(
    inputs: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,  # noqa: ARG001 - there with the running mean
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,  # noqa: ARG001 - of running statistics
    eps: float = 1e-5,
) -> Tensor | None:
    """Instance normalisation as that of groups of one channel; None if it is one that is left to torch.

    The parameters are those of `torch.nn.functional.instance_norm`.
    """
    if (
        inputs.device.type != "cpu"
        or inputs.dtype != torch.float32
        or inputs.ndim != 5
        or inputs.shape[2:].numel() < 2  # refused by torch
        or running_mean is not None
        or not use_input_stats
    ):
        return None
    return functional.group_norm(inputs, inputs.shape[1], weight, bias, eps)


class _Layer(NamedTuple):
    """The parameters of a convolution, one number per axis."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    def __call__(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Compute the convolution by oneDNN."""
        form = self.padding, self.stride, self.dilation, 1
        return torch.mkldnn_convolution(inputs.contiguous(), weight.contiguous(), bias, *form)

    def padded(self, inputs: Tensor, axis: int) -> tuple[Tensor, _Layer]:
        """Write the padding along an axis into the input; returns it with the layer that expects it there."""
        zeros = self.padding[axis]
        if not zeros:
            return inputs, self
        pads = [0] * 6
        pads[4 - 2 * axis] = pads[5 - 2 * axis] = zeros
        return functional.pad(inputs, pads), self._replace(padding=_without(self.padding, axis))

    def gradients(
        self, gradient: Tensor, inputs: Tensor, weight: Tensor, needed: Sequence[bool]
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Compute the gradients of inputs, weight and bias that are needed."""
        found: tuple[Tensor | None, Tensor | None, Tensor | None] = torch.ops.aten.convolution_backward(
            *(gradient, inputs, weight, [len(weight)]),
            *(self.stride, self.padding, self.dilation, False, [0, 0, 0], 1, list(needed)),
        )
        return found


class _Convolution(torch.autograd.Function):
    """A convolution whose gradients are computed in the faster form."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - carries what backward needs
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        layer: _Layer,
    ) -> Tensor:
        """Compute the convolution."""
        ctx.save_for_backward(inputs, weight)
        ctx.layer = layer
        return layer(inputs, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - as above
        """Compute the gradients of inputs, weight and bias."""
        inputs, weight = ctx.saved_tensors
        layer: _Layer = ctx.layer
        of_inputs, *of_layer = ctx.needs_input_grad[:3]
        gradient = gradient.contiguous()
        axis = next((axis for axis in range(3) if gradient.shape[axis + 2] % 2 == 0), None)
        if _slow_alone(inputs) and axis is not None:
            return (*_by_halves(layer, gradient, inputs, weight, axis, (of_inputs, *of_layer)), None)
        first = layer.gradients(gradient, inputs, weight, (True, False, False))[0] if of_inputs else None
        if not any(of_layer):
            return first, None, None, None
        if _slow_gradient(inputs, weight, layer):
            inputs, layer = layer.padded(inputs, 0)
        return (first, *layer.gradients(gradient, inputs, weight, (False, *of_layer))[1:], None)


def _by_halves(
    layer: _Layer, gradient: Tensor, inputs: Tensor, weight: Tensor, axis: int, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Compute the gradients for one window, cut in two along an axis so that torch takes it for a batch.

    The drawing shows four voxels, a kernel of three, and the padding P; each half holds what its outputs depend on:

                        P 0 1 2 3 P
        first half      P 0 1 2         gives outputs 0 and 1
        second half         1 2 3 P     gives outputs 2 and 3
    """
    along, zeros = axis + 2, layer.padding[axis]
    whole, layer = layer.padded(inputs, axis)
    outputs = gradient.shape[along] // 2
    seen = (outputs - 1) * layer.stride[axis] + layer.dilation[axis] * (weight.shape[along] - 1) + 1
    starts = 0, outputs * layer.stride[axis]
    halves = torch.cat([whole.narrow(along, start, seen) for start in starts])
    of_halves, *rest = layer.gradients(torch.cat(gradient.chunk(2, along)), halves, weight, needed)
    if of_halves is None:
        return None, rest[0], rest[1]
    total = torch.zeros_like(whole)
    for start, one in zip(starts, of_halves.chunk(2), strict=True):
        total.narrow(along, start, seen).add_(one)
    return total.narrow(along, zeros, inputs.shape[along]), rest[0], rest[1]


def _slow_alone(inputs: Tensor) -> bool:
    """Whether torch would not use oneDNN for this input."""
    return len(inputs) == 1 and inputs.shape[1:4].numel() <= _SLICE


def _slow_gradient(inputs: Tensor, weight: Tensor, layer: _Layer) -> bool:
    """Whether the gradient of the weights is one that oneDNN is slow at."""
    padded = bool(layer.padding[0]) and inputs.shape[1] >= _CHANNELS and weight.requires_grad
    return padded and torch.backends.cpu.get_cpu_capability() == "AVX2"


def _without(values: Sequence[int], axis: int) -> tuple[int, ...]:
    return tuple(0 if place == axis else value for place, value in enumerate(values))


def _suits(
    inputs: Tensor,
    weight: Tensor,
    bias: Tensor | None,  # noqa: ARG001 - of the same kind as the weight
    stride: Sequence[int],  # noqa: ARG001
    padding: Sequence[int] | str,
    dilation: Sequence[int],  # noqa: ARG001
    groups: int,
) -> bool:
    """Whether oneDNN takes this convolution."""
    return bool(
        inputs.device.type == "cpu"
        and inputs.dtype == weight.dtype == torch.float32
        and type(inputs) is Tensor
        and inputs.ndim == 5
        and groups == 1
        and not isinstance(padding, str)
        and max(weight.shape[2:]) > 1
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and torch.backends.mkldnn.enabled
    )
