"""Training in bfloat16 on a CPU without AMX: gradients of weights in single precision, whatever the layer."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from volseg.errors import UsageError
from volseg.inference import Convolutions, ParallelWindows
from volseg.inference.engines import bf16_convolutions

LAYERS = {
    "one axis": (nn.Conv1d(3, 4, 3, padding=1), (2, 3, 9)),
    "two axes, groups": (nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=2), (2, 4, 9, 8)),
    "three axes": (nn.Conv3d(3, 5, 3, padding=1), (2, 3, 6, 5, 4)),
    "few slices": (nn.Conv3d(3, 5, 3, padding=1, stride=2), (1, 3, 6, 6, 2)),
    "one voxel wide": (nn.Conv3d(3, 5, 5, padding=2), (1, 3, 1, 2, 1)),
    "1 x 1 x 1": (nn.Conv3d(3, 5, 1, bias=False), (2, 3, 4, 4, 4)),
    "padding by name": (nn.Conv3d(3, 5, (3, 5, 1), padding="same"), (2, 3, 4, 4, 4)),
    "dilated": (nn.Conv3d(3, 5, 3, dilation=2, padding=2), (2, 3, 6, 6, 6)),
    "other padding": (nn.Conv3d(3, 5, 3, padding=1, padding_mode="replicate"), (2, 3, 6, 6, 6)),
    "transposed": (nn.ConvTranspose3d(3, 5, 2, stride=2), (2, 3, 3, 3, 2)),
    "transposed, two axes": (nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=1, groups=2), (1, 4, 3, 4)),
    "no batch axis": (nn.Conv3d(3, 5, 3, padding=1), (3, 6, 5, 4)),
    "by name": (lambda layer: lambda x: nn.functional.conv3d(input=x, weight=layer.weight, padding=1), (2, 3, 6, 5, 4)),
}


class Types(TorchDispatchMode):
    """The types in which gradients of weights are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.of_weights: list[torch.dtype] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Look, and let it go on."""
        if func is torch.ops.aten.convolution_backward.default and args[-1][1]:
            self.of_weights.append(args[0].dtype)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def without_amx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)


def rounded(layer: Callable[..., Tensor], inputs: Tensor) -> Tensor:
    with Convolutions(), torch.autocast("cpu", torch.bfloat16):
        return layer(inputs)


@pytest.mark.usefixtures("without_amx")
@pytest.mark.parametrize("name", LAYERS)
def test_values_and_gradients_are_near_those_of_double_precision(name: str) -> None:
    torch.manual_seed(0)
    layer, shape = LAYERS[name]
    owner = layer if isinstance(layer, nn.Module) else nn.Conv3d(3, 5, 3)
    exact = copy.deepcopy(owner).double()
    call, exactly = (owner, exact) if owner is layer else (layer(owner), layer(exact))
    inputs = torch.randn(shape, requires_grad=True)
    doubled = inputs.detach().double().requires_grad_()
    expected = exactly(doubled)
    expected.backward(torch.ones_like(expected))
    with Types() as seen:
        found = rounded(call, inputs)
        found.backward(torch.ones_like(found))
    assert seen.of_weights == [torch.float32]
    pairs = [(found, expected), (inputs.grad, doubled.grad)]
    pairs += [(owner.weight.grad, exact.weight.grad)]
    pairs += [(owner.bias.grad, exact.bias.grad)] if exact.bias is not None and exact.bias.grad is not None else []
    for one, other in pairs:
        torch.testing.assert_close(one.double(), other, rtol=0.02, atol=0.02 * other.detach().abs().max().item())


def irregular() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    wide = (2, 16, 8, 9, 10)
    return {
        "few slices": (nn.Conv3d(16, 16, 3, padding=1), (2, 16, 9, 9, 7)),
        "stride": (nn.Conv3d(16, 16, 3, stride=2, padding=1), wide),
        "dilation": (nn.Conv3d(16, 16, 3, dilation=2, padding=2), wide),
        "kernel": (nn.Conv3d(16, 16, 5, padding=2), wide),
        "no padding": (nn.Conv3d(16, 16, 3), wide),
        "groups": (nn.Conv3d(16, 16, 3, padding=1, groups=2), wide),
        "inputs": (nn.Conv3d(8, 16, 3, padding=1), (2, 8, 8, 9, 10)),
        "outputs": (nn.Conv3d(16, 8, 3, padding=1), wide),
        "transposed": (nn.ConvTranspose3d(16, 16, 3, padding=1), wide),
        "1 x 1 x 1": (nn.Conv3d(16, 16, 1), wide),
    }


@pytest.mark.usefixtures("without_amx")
@pytest.mark.parametrize("name", irregular())
def test_gradients_of_other_than_regular_layers_are_in_single_precision_each_time(name: str) -> None:
    layer, shape = irregular()[name]
    for _ in range(2):
        output = rounded(layer, torch.randn(shape))
        with Types() as seen:
            output.sum().backward()
        assert seen.of_weights == [torch.float32]


@pytest.mark.usefixtures("without_amx")
@pytest.mark.parametrize("right", [True, False])
def test_a_regular_layer_is_compared_once_and_then_believed_or_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, right: bool
) -> None:
    monkeypatch.setattr(bf16_convolutions, "_right", {})
    monkeypatch.setattr(bf16_convolutions, "_NEAR", 0.02 if right else 0.0)
    torch.manual_seed(0)
    layer = nn.Conv3d(16, 32, (3, 3, 1), padding=(1, 1, 0))
    exact = copy.deepcopy(layer).double()
    asked = []
    for _ in range(3):
        inputs = torch.randn(2, 16, 8, 10, 9)
        layer.zero_grad()
        exact.zero_grad()
        output, expected = rounded(layer, inputs), exact(inputs.double())
        gradient = torch.randn(expected.shape)
        with Types() as seen:
            output.backward(gradient.to(output.dtype))
        expected.backward(gradient.double())
        asked.append(seen.of_weights)
        for one, other in ((layer.weight.grad, exact.weight.grad), (layer.bias.grad, exact.bias.grad)):
            torch.testing.assert_close(one.double(), other, rtol=0.02, atol=0.02 * other.abs().max().item())
    half, full = torch.bfloat16, torch.float32
    assert asked == ([[half, full], [half], [half]] if right else [[half, full], [full], [full]])
    assert ("differ by" in caplog.text) is not right


@pytest.mark.usefixtures("without_amx")
def test_what_is_kept_for_the_backward_pass_takes_half_of_the_memory() -> None:
    layer, inputs = nn.Conv3d(8, 8, 3, padding=1), torch.randn(2, 8, 8, 8, 8)
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        rounded(layer, inputs)
    assert [tensor.dtype for tensor in kept if tensor.shape == inputs.shape] == [torch.bfloat16]
    assert any(tensor.data_ptr() == layer.weight.data_ptr() for tensor in kept)


def test_predictions_and_cpus_with_amx_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, inputs = nn.Conv3d(4, 6, 3, padding=1), torch.randn(1, 4, 6, 6, 6)
    for amx, grad, name in ((True, True, "ConvolutionBackward0"), (False, False, None), (False, True, "Rounded")):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx)
        with torch.set_grad_enabled(grad):
            output = rounded(layer, inputs)
        assert output.dtype is torch.bfloat16
        assert (output.grad_fn is None) if name is None else output.grad_fn.name().startswith(name)


class Again(nn.Module):
    """A layer that is computed again in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv3d(1, 2, 3, padding=1)
        self.last = nn.Conv3d(2, 2, 1)

    def forward(self, windows: Tensor) -> Tensor:
        """Compute."""
        return self.last(checkpoint(self.layer, windows.clone().requires_grad_(), use_reentrant=True))  # type: ignore[no-any-return]


@pytest.mark.usefixtures("without_amx")
@pytest.mark.parametrize("windows", [1, 2])
@pytest.mark.parametrize("kind", ["computed again", "scripted"])
def test_what_torch_would_compute_by_itself_is_refused(kind: str, windows: int) -> None:
    network = Again() if kind == "computed again" else torch.jit.script(nn.Sequential(nn.Conv3d(1, 2, 3, padding=1)))
    lanes, inputs = ParallelWindows(), torch.randn(windows, 1, 6, 6, 6)
    lanes(inputs, network)
    for asked in (False, True):
        inputs.requires_grad_(asked)
        with torch.autocast("cpu", torch.bfloat16), pytest.raises(UsageError, match="train with --precision fp32"):
            lanes(inputs, network)


@pytest.mark.usefixtures("without_amx")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_network_is_trained_so_in_its_lanes_too(threads: int) -> None:
    network = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.InstanceNorm3d(4), nn.ConvTranspose3d(4, 2, 2, stride=2))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            output = ParallelWindows()(torch.randn(2, 1, 6, 6, 6), network)
        output.float().square().mean().backward()
    finally:
        torch.set_num_threads(before)
    assert all(parameter.grad.dtype is torch.float32 for parameter in network.parameters())
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())
