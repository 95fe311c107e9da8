"""`Convolutions`: torch's own values, by oneDNN where torch would not take it, and nowhere else."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.networks.nets import DynUNet
from torch import Tensor, nn
from torch.profiler import profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from volseg.inference import Convolutions, ParallelWindows

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


def slow(call: Any, operator: str = "aten::slow_conv3d_forward") -> int:
    """How many of a call's convolutions torch's slow operator computes."""
    with profile() as seen:
        call()
    return sum(event.name == operator for event in seen.events())


class Gradients(TorchDispatchMode):
    """Windows and padding of each convolution whose gradients are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.windows: list[int] = []
        self.paddings: list[list[int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Look, and let it go on."""
        if func is torch.ops.aten.convolution_backward.default:
            self.windows.append(len(args[0]))
            self.paddings.append(list(args[5]))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("layer", "replaced"),
    [
        (nn.InstanceNorm3d(4), True),
        (nn.InstanceNorm3d(4, affine=True, eps=1e-3), True),
        (nn.InstanceNorm3d(4, affine=True, track_running_stats=True).eval(), False),
        (nn.InstanceNorm3d(4, track_running_stats=True), False),
        (nn.BatchNorm3d(4).eval(), False),
    ],
)
def test_instances_are_normalised_as_torch_does(layer: nn.Module, batch: int, *, replaced: bool) -> None:
    twin = copy.deepcopy(layer)
    with torch.no_grad():
        for parameter in (*layer.parameters(), *twin.parameters()):
            parameter.copy_(torch.linspace(-1, 2, 4))
        drawn = 50 + 3 * torch.randn(batch, 4, 5, 6, 7)
        for inputs in (drawn, drawn.double(), drawn.transpose(2, 4)):
            if inputs.dtype == torch.float64:
                layer.double(), twin.double()
            with profile() as seen, Convolutions():
                found = layer(inputs)
            assert torch.allclose(found, twin(inputs), atol=1e-5)
            by_groups = any(event.name == "aten::native_group_norm" for event in seen.events())
            assert by_groups == (replaced and inputs.dtype == torch.float32)
            layer.float(), twin.float()
    assert all(map(torch.equal, layer.buffers(), twin.buffers()))


def test_instances_of_one_voxel_are_refused_as_by_torch_and_gradients_are_torchs() -> None:
    layer = nn.InstanceNorm3d(4, affine=True)
    with Convolutions():
        with torch.no_grad(), pytest.raises(ValueError, match="more than 1 spatial element"):
            layer(torch.ones(1, 4, 1, 1, 1))
        assert "NativeBatchNorm" in str(layer(torch.randn(1, 4, 3, 3, 3)).grad_fn.next_functions[0][0])


@pytest.mark.parametrize(
    ("layer", "window"),
    [
        (nn.Conv3d(4, 6, 3, padding=1), (5, 6, 7)),
        (nn.Conv3d(4, 6, 3, padding=1, bias=False), (9, 4, 8)),
        (nn.Conv3d(4, 6, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)), (5, 8, 8)),
        (nn.Conv3d(4, 6, 3, dilation=2, padding=2), (8, 8, 8)),
        (nn.Conv3d(4, 6, 2), (3, 3, 3)),
    ],
)
def test_the_values_are_torchs(layer: nn.Module, window: tuple[int, ...]) -> None:
    inputs = torch.randn(1, 4, *window)
    with torch.inference_mode():
        expected = layer(inputs)
        with Convolutions():
            found = layer(inputs)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_onednn_computes_them_and_by_itself_torch_would_not() -> None:
    layer, inputs = nn.Conv3d(8, 8, 3, padding=1), torch.randn(1, 8, 8, 8, 8)

    def aided() -> Tensor:
        with Convolutions():
            return layer(inputs)  # type: ignore[no-any-return]

    with torch.inference_mode():
        assert slow(lambda: layer(inputs)) == 1, "torch has changed: this is in vain"
        assert slow(aided) == 0


def untouched() -> list[Any]:
    plain = nn.Conv3d(4, 6, 3, padding=1)
    return [
        pytest.param(nn.Conv3d(4, 6, 1), torch.float32, id="1 x 1 x 1"),
        pytest.param(nn.Conv3d(4, 6, 3, padding="same"), torch.float32, id="padding by name"),
        pytest.param(nn.Conv3d(4, 6, 3, padding=1).double(), torch.float64, id="double"),
        pytest.param(nn.Conv3d(4, 4, 3, padding=1, groups=4), torch.float32, id="groups"),
        pytest.param(lambda x: nn.functional.conv3d(x, plain.weight, padding=1), torch.float32, id="by name"),
    ]


@pytest.mark.parametrize(("layer", "dtype"), untouched())
def test_others_are_left_to_torch_to_the_bit(layer: Any, dtype: torch.dtype) -> None:
    inputs = torch.randn(1, 4, 6, 6, 6, dtype=dtype)
    with torch.inference_mode():
        expected = layer(inputs)
        with Convolutions():
            assert torch.equal(layer(inputs), expected)


@settings(max_examples=150, deadline=None)
@given(
    windows=st.integers(1, 3),
    channels=st.sampled_from([1, 4, 8, 12]),
    kernel=st.sampled_from([(3, 3, 3), (1, 3, 3), (3, 1, 1), (5, 3, 2)]),
    stride=st.tuples(*[st.integers(1, 3)] * 3),
    dilation=st.tuples(*[st.integers(1, 2)] * 3),
    padding=st.tuples(*[st.integers(0, 2)] * 3),
    axes=st.tuples(*[st.integers(9, 13)] * 3),
    bias=st.booleans(),
    of_inputs=st.booleans(),
)
def test_values_and_gradients_are_those_of_double_precision(
    windows: int,
    channels: int,
    kernel: tuple[int, int, int],
    stride: tuple[int, int, int],
    dilation: tuple[int, int, int],
    padding: tuple[int, int, int],
    axes: tuple[int, int, int],
    bias: bool,
    of_inputs: bool,
) -> None:
    torch.manual_seed(0)
    layer = nn.Conv3d(channels, 5, kernel, stride, padding, dilation, bias=bias)
    exact = copy.deepcopy(layer).double()
    inputs = torch.randn(windows, channels, *axes, requires_grad=of_inputs)
    doubled = inputs.detach().double().requires_grad_(of_inputs)
    expected = exact(doubled)
    gradient = torch.randn(expected.shape)
    expected.backward(gradient.double())
    with Convolutions():
        found = layer(inputs)
    found.backward(gradient)
    pairs = [(found, expected), (layer.weight.grad, exact.weight.grad)]
    pairs += [(layer.bias.grad, exact.bias.grad)] if bias else []
    pairs += [(inputs.grad, doubled.grad)] if of_inputs else []
    for one, other in pairs:
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5 * other.detach().abs().max().item())


def test_the_gradients_of_a_small_window_are_computed_as_those_of_two() -> None:
    layer, inputs = nn.Conv3d(8, 8, 3, padding=1), torch.randn(1, 8, 7, 8, 8, requires_grad=True)
    with Convolutions():
        output = layer(inputs)
    with Gradients() as seen:
        output.sum().backward()
    assert seen.windows == [2]
    assert slow(lambda: layer(inputs)), "torch has changed: this is in vain"
    assert slow(lambda: layer(torch.cat([inputs, inputs]))) == 0, "torch has changed: this is in vain"


def test_zeros_are_written_before_the_gradient_of_weights_where_onednn_is_slow_at_it(monkeypatch: Any) -> None:
    inputs = torch.randn(2, 8, 8, 8, 8)

    def padding(channels: int) -> list[list[int]]:
        layer = nn.Conv3d(channels, 8, 3, padding=1)
        with Convolutions():
            output = layer(inputs[:, :channels])
        with Gradients() as seen:
            output.sum().backward()
        return seen.paddings

    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert padding(8) == [[0, 1, 1]]
    assert padding(4) == [[1, 1, 1]], "with few channels it is not slow"
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert padding(8) == [[1, 1, 1]]


def test_nothing_more_is_kept_for_the_backward_pass() -> None:
    layer, inputs = nn.Conv3d(8, 8, 3, padding=1), torch.randn(2, 8, 8, 8, 8, requires_grad=True)
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), Convolutions():
        layer(inputs)
    assert {tensor.data_ptr() for tensor in kept} == {inputs.data_ptr(), layer.weight.data_ptr()}


def test_a_part_that_is_computed_again_in_the_backward_pass_may_be_computed_by_torch() -> None:
    layer, inputs = nn.Conv3d(8, 8, 3, padding=1), torch.randn(1, 8, 8, 8, 8, requires_grad=True)
    (expected,) = torch.autograd.grad(layer(inputs).sum(), inputs)
    with Convolutions():
        output = checkpoint(layer, inputs, use_reentrant=False)
    (found,) = torch.autograd.grad(output.sum(), inputs)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_autocast_is_left_to_torch() -> None:
    layer, inputs = nn.Conv3d(4, 6, 3, padding=1), torch.randn(1, 4, 6, 6, 6)
    with Convolutions(), torch.autocast("cpu", torch.bfloat16):
        output = layer(inputs)
        assert output.dtype == torch.bfloat16
        output.sum().backward()
    assert layer.weight.grad is not None


def test_a_network_that_is_compiled_is_left_to_the_compiler() -> None:
    network = nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), nn.LeakyReLU(), nn.Conv3d(8, 8, 3, padding=1))
    compiled, windows = torch.compile(network, backend="eager"), torch.randn(1, 1, 8, 8, 8)
    with Convolutions():
        output = compiled(windows)
        output.sum().backward()
        with torch.no_grad():
            torch.testing.assert_close(compiled(windows), output)
    assert network[0].weight.grad is not None


def test_it_is_there_in_prediction_and_in_training() -> None:
    kernels, strides = [[3, 3, 3]] * 3, [[1, 1, 1], [2, 2, 2], [2, 2, 2]]
    network, lanes = DynUNet(3, 1, 2, kernels, strides, strides[1:], filters=[8, 8, 8]), ParallelWindows()
    windows = torch.randn(2, 1, 16, 16, 16)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            with torch.inference_mode():
                for batch in (windows[:1], windows):
                    assert slow(lambda: lanes(windows[:1], network)) == 1, "the 1 x 1 x 1 at the end"
                    torch.testing.assert_close(lanes(batch, network), network(batch), rtol=1e-4, atol=1e-4)
    finally:
        torch.set_num_threads(before)
    for batch in (windows[:1], windows):
        assert slow(lambda batch=batch: lanes(batch, network)) <= 2, "the 1 x 1 x 1 at the end"
