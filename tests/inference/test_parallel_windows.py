"""`ParallelWindows`: the values and gradients of the whole batch, from parts of it side by side."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from monai.networks.nets import DynUNet
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from volseg.inference import ParallelWindows

SEEN: list[int] = []
BF16: list[bool] = []


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    SEEN.clear()
    BF16.clear()
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class Watched(nn.Module):
    """Tells how large the batches were, and under which autocast."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), *layers, nn.Conv3d(4, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        SEEN.append(len(x))
        BF16.append(torch.is_autocast_enabled("cpu"))
        return self.layers(x)  # type: ignore[no-any-return]


def unet() -> DynUNet:
    torch.manual_seed(0)
    kernels, strides = [[3, 3, 3]] * 3, [[1, 1, 1], [2, 2, 2], [2, 2, 2]]
    return DynUNet(3, 1, 2, kernels, strides, strides[1:], filters=[4, 8, 8], deep_supervision=True)


def gradients(network: nn.Module, call: Any, windows: Tensor) -> tuple[Tensor, list[Tensor | None]]:
    """Output and gradients of a step."""
    network.zero_grad()
    output = call(windows)
    output.square().mean().backward()
    return output.detach(), [None if p.grad is None else p.grad.clone() for p in network.parameters()]


@pytest.mark.parametrize("batch", [2, 3, 5])
def test_values_and_gradients_are_those_of_the_whole_batch(batch: int) -> None:
    # In double precision: rounding to single moves a voxel over the kink of a ReLU now and then.
    network, lanes = unet().train().double(), ParallelWindows()
    windows = torch.randn(batch, 1, 16, 16, 16, dtype=torch.float64)
    expected, wanted = gradients(network, network, windows)
    output, found = gradients(network, lambda x: lanes(x, network), windows)
    assert output.shape == expected.shape == (batch, 2, 2, 16, 16, 16), "a head of deep supervision is an axis"
    torch.testing.assert_close(output, expected, rtol=1e-10, atol=1e-12)
    for ours, theirs in zip(found, wanted, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    again, repeated = gradients(network, lambda x: lanes(x, network), windows)
    assert torch.equal(again, output)
    assert all(a is None or torch.equal(a, b) for a, b in zip(repeated, found, strict=True)), "to the bit"
    assert torch.get_num_threads() == 2


def test_without_gradients_too() -> None:
    network = Watched().eval()
    windows = torch.randn(4, 1, 8, 8, 8)
    lanes = ParallelWindows()
    with torch.inference_mode():
        expected = network(windows)
        for _ in range(2):
            torch.testing.assert_close(lanes(windows, network), expected)
    assert SEEN == [4, 4, 2, 2], "the first pass shows that they can be separated, without one of its own"


def test_windows_at_once_are_known_after_the_first() -> None:
    class Two(Watched):
        def forward(self, x: Tensor) -> Any:
            return [super().forward(x), x]

    def known(network: nn.Module) -> tuple[int, int]:
        before = lanes.windows_at_once(network)
        with torch.inference_mode():
            lanes(torch.ones(1, 1, 4, 4, 4), network)
        return before, lanes.windows_at_once(network)

    locked, lanes, plain = Watched().eval(), ParallelWindows(), Watched().eval()
    locked.lock = threading.Lock()
    assert known(plain) == (1, 2)
    assert known(Watched(nn.BatchNorm3d(4), nn.Dropout()).eval()) == (1, 2)
    assert known(Watched(nn.Dropout()).train()) == (1, 1)
    assert known(Two().eval()) == (1, 1)
    assert known(locked) == (1, 1)
    torch.set_num_threads(16)
    assert lanes.windows_at_once(plain) == 4, "each has activations in memory"


def test_training_after_prediction_by_the_same_lanes() -> None:
    network, lanes, windows = unet().eval(), ParallelWindows(), torch.randn(2, 1, 16, 16, 16)
    with torch.inference_mode():
        for _ in range(2):
            lanes(windows, network)
    expected, wanted = gradients(network.train(), network, windows)
    output, found = gradients(network, lambda x: lanes(x, network), windows)
    torch.testing.assert_close(output, expected)
    assert all((a is None) == (b is None) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize(
    "layer", [nn.BatchNorm3d(4, momentum=None), nn.SyncBatchNorm(4), nn.Dropout(0.5), nn.AlphaDropout(0.1)]
)
def test_a_batch_stays_together_where_its_parts_depend_on_each_other(layer: nn.Module) -> None:
    network, lanes = Watched(layer).train(), ParallelWindows()
    windows, state = torch.randn(4, 1, 8, 8, 8), torch.get_rng_state()
    expected = copy.deepcopy(network)(windows)
    torch.set_rng_state(state)
    SEEN.clear()
    torch.testing.assert_close(lanes(windows, network), expected)
    assert SEEN[-1] == 4
    SEEN.clear()
    network.eval()
    lanes(windows, network)
    assert SEEN[-2:] == [2, 2], "in prediction they do not"


@pytest.mark.parametrize("training", [True, False])
def test_a_network_of_several_outputs_is_called_once(training: bool) -> None:
    class Two(Watched):
        def forward(self, x: Tensor) -> Any:
            return [super().forward(x), x]

    network = Two().train(training)
    outputs = ParallelWindows()(torch.ones(2, 1, 4, 4, 4), network)
    assert [len(output) for output in outputs] == [2, 2]
    assert SEEN[-1] == 2
    outputs[0].sum().backward()


def test_a_network_that_cannot_be_copied_is_called_once() -> None:
    network, lanes = Watched().train(), ParallelWindows()
    network.lock = threading.Lock()
    for _ in range(2):
        SEEN.clear()
        lanes(torch.ones(2, 1, 4, 4, 4), network).sum().backward()
        assert SEEN[-1] == 2
    assert SEEN == [2], "and not tried again"


def test_the_random_numbers_of_the_training_are_left_alone() -> None:
    network, lanes, state = Watched().train(), ParallelWindows(), torch.get_rng_state()
    lanes(torch.ones(2, 1, 4, 4, 4), network)
    assert torch.equal(torch.get_rng_state(), state)
    assert SEEN[-2:] == [1, 1]


def test_autocast_holds_in_the_parts() -> None:
    network, lanes = Watched().train(), ParallelWindows()
    with torch.autocast("cpu", torch.bfloat16):
        output = lanes(torch.ones(2, 1, 4, 4, 4), network)
    assert output.dtype == torch.bfloat16
    assert all(BF16)
    BF16.clear()
    output.float().sum().backward()
    lanes(torch.ones(2, 1, 4, 4, 4), network)
    assert BF16 == [False, False]


def test_a_look_at_the_network_takes_no_gradients_from_autocast() -> None:
    network = Watched(nn.Dropout(0.5)).train()  # looked at, then called as a whole
    with torch.autocast("cpu", torch.bfloat16):
        output = ParallelWindows()(torch.ones(2, 1, 4, 4, 4), network)
    output.float().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_frozen_and_an_unused_weight_get_no_gradient() -> None:
    network = Watched().train()
    network.layers[0].requires_grad_(False)
    network.unused = nn.Parameter(torch.ones(1))
    _, found = gradients(network, lambda x: ParallelWindows()(x, network), torch.ones(2, 1, 4, 4, 4))
    assert [gradient is None for gradient in found] == [True, True, True, False, False]  # unused comes first


def test_an_error_in_a_part_reaches_the_caller() -> None:
    with pytest.raises(RuntimeError, match="expected input"):
        ParallelWindows()(torch.ones(2, 3, 4, 4, 4), Watched().eval())


@pytest.mark.parametrize(("batch", "threads"), [(1, 2), (4, 1)])
def test_one_window_or_one_core_is_a_single_call(batch: int, threads: int) -> None:
    torch.set_num_threads(threads)
    network = Watched().train()
    ParallelWindows()(torch.ones(batch, 1, 4, 4, 4), network)
    assert [batch] == SEEN


def test_the_cores_are_shared_out() -> None:
    torch.set_num_threads(5)

    class Asked(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.get_num_threads()

    lanes = ParallelWindows()
    assert lanes(torch.zeros(2, 1), Asked().eval()).tolist() == [[2], [2]]
    assert lanes(torch.zeros(5, 1), Asked().eval()).tolist() == [[1]] * 5
    assert torch.get_num_threads() == 5


def test_lanes_follow_the_network() -> None:
    network, lanes, windows = Watched().eval(), ParallelWindows(), torch.randn(2, 1, 4, 4, 4)
    with torch.no_grad():
        before = lanes(windows, network)
        network.load_state_dict({name: 2 * value for name, value in network.state_dict().items()})
        torch.testing.assert_close(lanes(windows, network), network(windows))
        network.layers[0].weight = nn.Parameter(torch.zeros_like(network.layers[0].weight))
        torch.testing.assert_close(lanes(windows, network), network(windows))
    assert not torch.equal(before, lanes(windows, network))
    network.train()
    lanes(windows, network)
    assert all(like.training for like in lanes._alike[network])


# Batch normalisation: the parts meet


def normalising(*, affine: bool = True, tracked: bool = True) -> nn.Module:
    torch.manual_seed(0)
    norms = [nn.BatchNorm3d(4, affine=affine, track_running_stats=tracked, momentum=0.3) for _ in range(2)]
    return Watched(norms[0], nn.ReLU(), nn.Conv3d(4, 4, 3), norms[1], nn.ReLU(), norms[1]).train()


@pytest.mark.parametrize("batch", [2, 3, 5])
@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("options", [{}, {"affine": False}, {"tracked": False}], ids=str)
def test_batch_normalisation_is_that_of_the_whole_batch(batch: int, threads: int, options: dict[str, bool]) -> None:
    torch.set_num_threads(threads)
    network, lanes = normalising(**options).double(), ParallelWindows()
    whole = copy.deepcopy(network)
    for step in range(3):
        SEEN.clear()
        windows = 3 + torch.randn(batch, 1, 8, 8, 8, dtype=torch.float64) * (1 + torch.arange(batch)).view(
            -1, 1, 1, 1, 1
        )
        expected, wanted = gradients(whole, whole, windows)
        output, found = gradients(network, lambda x: lanes(x, network), windows)
        torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(network.state_dict(), whole.state_dict(), rtol=1e-9, atol=1e-11)
        assert len(SEEN) == 1 + min(batch, threads) + (step == 0) * 2, "whole, and in parts after two looks"
    network.eval(), whole.eval()
    with torch.no_grad():
        torch.testing.assert_close(lanes(windows, network), whole(windows), rtol=1e-9, atol=1e-11)


def test_batch_normalisation_in_single_and_half_precision() -> None:
    network, lanes = normalising(), ParallelWindows()
    whole = copy.deepcopy(network)
    windows = torch.randn(4, 1, 8, 8, 8)
    expected, wanted = gradients(whole, whole, windows)
    output, found = gradients(network, lambda x: lanes(x, network), windows)
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        expected = whole(windows)
        output, mixed = gradients(network, lambda x: lanes(x, network), windows)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output, expected, rtol=0.05, atol=0.05)
    _, half = gradients(network.bfloat16(), lambda x: lanes(x, network), windows.bfloat16())
    assert all(gradient is not None and gradient.isfinite().all() for gradient in mixed + half)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("reentrant", [True, False])
def test_a_batch_stays_together_where_batch_normalisation_is_computed_again(reentrant: bool) -> None:
    class Again(Watched):
        def forward(self, x: Tensor) -> Tensor:
            SEEN.append(len(x))
            first, *middle, last = self.layers
            x = first(x)
            for layer in middle:
                x = checkpoint(layer, x, use_reentrant=reentrant)
            return last(x)  # type: ignore[no-any-return]

    torch.manual_seed(0)
    network, lanes = Again(nn.BatchNorm3d(4), nn.ReLU()).train().double(), ParallelWindows()
    whole = copy.deepcopy(network)
    windows = torch.randn(4, 1, 8, 8, 8, dtype=torch.float64)
    for _ in range(2):
        expected, wanted = gradients(whole, whole, windows)
        output, found = gradients(network, lambda x: lanes(x, network), windows)
        torch.testing.assert_close(output, expected)
        torch.testing.assert_close(found, wanted)
        torch.testing.assert_close(network.state_dict(), whole.state_dict())
        assert SEEN[-1] == 4


def test_parts_that_go_different_ways_are_put_together_again() -> None:
    class Wayward(Watched):
        """Normalises twice where the first window is bright."""

        def forward(self, x: Tensor) -> Tensor:
            SEEN.append(len(x))
            first, norm, last = self.layers
            x = norm(first(x))
            return last(norm(x) if x.shape[0] == 4 or self.bright(x) else x)

        def bright(self, x: Tensor) -> bool:
            return bool(x[0].mean() > 0)

    torch.manual_seed(0)
    network, lanes = Wayward(nn.BatchNorm3d(4)).train(), ParallelWindows()
    whole = copy.deepcopy(network)
    windows = torch.randn(4, 1, 8, 8, 8)
    windows[:2] += 5
    expected, wanted = gradients(whole, whole, windows)
    for _ in range(2):
        network.load_state_dict(copy.deepcopy(whole.state_dict()))
        before = copy.deepcopy(network.state_dict())
        output, found = gradients(network, lambda x: lanes(x, network), windows)
        torch.testing.assert_close(output, expected)
        torch.testing.assert_close(found, wanted)
        assert (
            int(network.state_dict()["layers.1.num_batches_tracked"]) == int(before["layers.1.num_batches_tracked"]) + 2
        )
    assert SEEN[-1] == 4


def test_an_error_in_a_part_that_meets_others_reaches_the_caller() -> None:
    class Failing(Watched):
        def forward(self, x: Tensor) -> Tensor:
            if self.armed and bool((x[0] == 7).all()):
                raise ValueError("a seven")
            return super().forward(x)

    network, lanes, windows = Failing(nn.BatchNorm3d(4)).train(), ParallelWindows(), torch.ones(2, 1, 4, 4, 4)
    network.armed = False
    lanes(windows, network)
    before = copy.deepcopy(network.state_dict())
    network.armed, windows[1] = True, 7
    for like in lanes._alike[network]:
        like.armed = True
    with pytest.raises(ValueError, match="a seven"):
        lanes(windows, network)
    torch.testing.assert_close(network.state_dict(), before)
