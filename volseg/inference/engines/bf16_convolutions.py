"""Convolutions under bfloat16 autocast whose gradients of weights are right on every CPU."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from volseg.errors import UsageError

logger = logging.getLogger(__name__)

_AXES = {torch.conv1d: 1, torch.conv2d: 2, torch.conv3d: 3}
_AXES_BACK = {torch.conv_transpose1d: 1, torch.conv_transpose2d: 2, torch.conv_transpose3d: 3}
# Nodes of a graph whose convolutions this module never sees: layers that are computed again in the backward pass
# outside of any context, TorchScript, and compiled parts.
_UNSEEN = ("CheckpointFunctionBackward", "DifferentiableGraphBackward", "CompiledFunctionBackward")

# Smallest size along an axis, and number that channels are a multiple of, for gradients of weights in bfloat16.
_AXIS, _CHANNELS = 8, 16
# Largest difference from single precision, as a fraction of the largest gradient.
_NEAR = 0.02
# Whether the gradient of weights was right at the first time, by the shape of inputs and kernels.
_right: dict[tuple[int, ...], bool] = {}


class _Form(NamedTuple):
    """The parameters of a convolution as `aten::convolution` takes them."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    transposed: bool
    output_padding: list[int]
    groups: int


class RoundedConvolution(torch.autograd.Function):
    """A convolution in bfloat16 and the gradient of its inputs too; that of the weight where torch computes it right.

    On CPUs with AVX-512 BF16 and without AMX, torch 2.13 computes wrong gradients of the weights of small layers in
    bfloat16, and writes past their memory, see `check_training`. Outputs and gradients of inputs are right: 1,114
    layers of random form were compared with single precision, in memory that held inf before.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - carries what backward needs
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        form: _Form,
    ) -> Tensor:
        """Compute the convolution."""
        rounded = inputs.to(torch.bfloat16)
        ctx.save_for_backward(rounded, weight)
        ctx.form, ctx.dtype = form, inputs.dtype
        output: Tensor = torch.ops.aten.convolution(
            rounded, weight.to(torch.bfloat16), None if bias is None else bias.to(torch.bfloat16), *form
        )
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - as above
        """Compute the gradients of inputs, weight and bias."""
        inputs, weight = ctx.saved_tensors
        of_inputs, *of_layer = ctx.needs_input_grad[:3]
        first = None
        if of_inputs:
            rounded = gradient.to(torch.bfloat16), inputs, weight.to(torch.bfloat16)
            first = _gradients(*rounded, ctx.form, (True, False, False))[0].to(ctx.dtype)  # type: ignore[union-attr]
        if not any(of_layer):
            return first, None, None, None
        return (first, *_of_layer(gradient, inputs, weight, ctx.form, of_layer), None)


def _of_layer(
    gradient: Tensor, inputs: Tensor, weight: Tensor, form: _Form, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Compute the gradients of weight and bias, float32."""

    def exact() -> tuple[Tensor | None, Tensor | None]:
        return _gradients(gradient.float(), inputs.float(), weight.float(), form, (False, *needed))[1:]

    if not needed[0] or not _is_regular(inputs, weight, form):
        return exact()
    key = (*inputs.shape, len(weight), *weight.shape[2:])
    if _right.get(key) is False:
        return exact()
    half = _gradients(gradient, inputs, weight.to(torch.bfloat16), form, (False, True, False))[1]
    found = half.float()  # type: ignore[union-attr]  # it was asked for
    of_bias = gradient.sum((0, *range(2, gradient.ndim)), dtype=torch.float32) if needed[1] else None
    if key not in _right:
        expected = exact()
        apart, scale = (found - expected[0]).abs().max(), expected[0].abs().max()  # type: ignore[operator, union-attr]
        _right[key] = bool(apart <= _NEAR * scale)
        if not _right[key]:
            logger.warning("gradients of weights in bfloat16 differ by %.3g of %.3g: fp32 is taken", apart, scale)
            return expected
    return found, of_bias


def _is_regular(inputs: Tensor, weight: Tensor, form: _Form) -> bool:
    """Whether oneDNN computes the gradient of the weights right in bfloat16.

    Kernels of one or three voxels an axis, as much padding as leaves the size, at least eight voxels along each axis,
    whole registers of channels: of 861 such layers in memory that held inf before none was wrong. It is compared with
    single precision once for each shape all the same.
    """
    kernel = list(weight.shape[2:])
    return (
        not form.transposed
        and form.groups == 1
        and set(kernel) <= {1, 3}
        and max(kernel) > 1
        and set(form.stride) == set(form.dilation) == {1}
        and form.padding == [n // 2 for n in kernel]
        and min(inputs.shape[2:]) >= _AXIS
        and inputs.shape[1] % _CHANNELS == len(weight) % _CHANNELS == 0
    )


def _gradients(
    gradient: Tensor, inputs: Tensor, weight: Tensor, form: _Form, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Compute the gradients of inputs, weight and bias that are needed."""
    sizes = [weight.shape[1] * form.groups if form.transposed else len(weight)]
    found: tuple[Tensor | None, Tensor | None, Tensor | None] = torch.ops.aten.convolution_backward(
        gradient, inputs, weight, sizes, *form, list(needed)
    )
    return found


def takes_care() -> bool:
    """Whether the gradients of weights must not be computed in bfloat16: autocast on a CPU without AMX."""
    return (
        torch.is_autocast_enabled("cpu")
        and torch.is_grad_enabled()
        and torch.get_autocast_dtype("cpu") is torch.bfloat16
        and not torch.cpu._is_amx_tile_supported()
    )


def rounded(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor | None:
    """The result of a function of torch if it is a convolution on the CPU; None for all others.

    What has a form that is not known here (padding by name, no batch axis) is computed in single precision.
    """
    if func in _AXES:
        inputs, weight, bias, form = _form(_AXES[func], *args, **kwargs)
    elif func in _AXES_BACK:
        inputs, weight, bias, form = _form_back(_AXES_BACK[func], *args, **kwargs)
    else:
        return None
    if inputs.device.type != "cpu" or inputs.dtype not in (torch.float32, torch.bfloat16):
        return None
    if form is None:
        with torch.autocast("cpu", enabled=False):
            exact = {name: _exact(value) for name, value in kwargs.items()}
            output: Tensor = func(*[_exact(value) for value in args], **exact)
        return output
    found: Tensor = RoundedConvolution.apply(inputs, weight, bias, form)  # type: ignore[no-untyped-call]
    return found


def check_covered(output: object) -> None:
    """Refuse a graph in which torch itself would compute gradients of weights in bfloat16.

    Raises:
        UsageError: It holds such a convolution, or layers that nothing here sees.
    """
    for node in _nodes(output):
        name = node.name()
        weight = getattr(node, "_saved_weight", None) if name.startswith("ConvolutionBackward") else None
        bare = isinstance(weight, Tensor) and weight.dtype is torch.bfloat16 and weight.device.type == "cpu"
        if bare or name.startswith(_UNSEEN):
            raise UsageError(
                f"the network has layers ({name}) whose gradients PyTorch would compute in bfloat16, wrongly on a CPU "
                "without AMX; train with --precision fp32, or without checkpointing, TorchScript and compiling"
            )


def _nodes(output: object) -> Iterator[Any]:
    """The nodes of the graph behind a tensor, or tensors."""
    tensors = output if isinstance(output, (list, tuple)) else [output]
    left = [tensor.grad_fn for tensor in tensors if isinstance(tensor, Tensor)]
    seen = set()
    while left:
        node = left.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            left += [behind for behind, _ in node.next_functions]


def _form(
    axes: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,  # noqa: ANN401 - an int, or one per axis
    padding: Any = 0,  # noqa: ANN401
    dilation: Any = 1,  # noqa: ANN401
    groups: int = 1,
) -> tuple[Tensor, Tensor, Tensor | None, _Form | None]:
    """The arguments of a convolution, and its form if it is known here."""
    if isinstance(padding, str) or input.ndim != axes + 2:
        return input, weight, bias, None
    strides, pads, dilations = (_each(value, axes) for value in (stride, padding, dilation))
    return input, weight, bias, _Form(strides, pads, dilations, False, [0] * axes, groups)


def _form_back(
    axes: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,  # noqa: ANN401
    padding: Any = 0,  # noqa: ANN401
    output_padding: Any = 0,  # noqa: ANN401
    groups: int = 1,
    dilation: Any = 1,  # noqa: ANN401
) -> tuple[Tensor, Tensor, Tensor | None, _Form | None]:
    """The arguments of a transposed convolution, and its form if it is known here."""
    if input.ndim != axes + 2:
        return input, weight, bias, None
    strides, pads, dilations = (_each(value, axes) for value in (stride, padding, dilation))
    return input, weight, bias, _Form(strides, pads, dilations, True, _each(output_padding, axes), groups)


def _each(value: Any, axes: int) -> list[int]:  # noqa: ANN401
    """One number per axis."""
    numbers = [value] if isinstance(value, int) else list(value)
    return numbers * axes if len(numbers) == 1 else numbers


def _exact(value: Any) -> Any:  # noqa: ANN401 - an argument of a function
    """A tensor in single precision; anything else as it is."""
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
