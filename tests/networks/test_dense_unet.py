"""The dense U-Net: shapes, dense connections, the equality of its forms, and what it refuses."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor

from volseg.errors import BundleError
from volseg.networks import DenseUNet
from volseg.networks.dense_unet import DenseBlock

_STRIDES = [[1, 1, 1], [2, 2, 1], [2, 2, 2]]
_KERNELS = [[3, 3, 1], [3, 3, 3], [3, 3, 3]]


def small(**options: object) -> DenseUNet:
    """A network of three stages whose axes differ."""
    torch.manual_seed(0)
    given = {"strides": _STRIDES, "kernels": _KERNELS, "growth_rate": 4, "block_layers": [1, 2, 2], **options}
    return DenseUNet(3, 2, 3, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("window", "strides"),
    [
        ([16, 16], [[1, 1], [2, 2], [2, 2]]),
        ([16, 24, 8], [[1, 1, 1], [2, 2, 2], [2, 2, 2]]),
        ([16, 16, 3], [[1, 1, 1], [2, 2, 1], [2, 2, 1]]),
        ([8, 8, 1], [[1, 1, 1], [2, 2, 1]]),
    ],
)
def test_logits_have_the_size_of_the_image(window: list[int], strides: list[list[int]]) -> None:
    kernels = [[1 if size == 1 else 3 for size in window]] * len(strides)
    network = DenseUNet(len(window), 2, 5, strides=strides, kernels=kernels, growth_rate=4, block_layers=2)
    assert network(torch.rand(2, 2, *window)).shape == (2, 5, *window)


def test_a_stage_gives_logits_of_its_own_size_in_training_only() -> None:
    network = small(strides=[*_STRIDES, [2, 2, 2]], kernels=None, block_layers=1, deep_supervision=2)
    outputs = network(torch.rand(1, 2, 16, 16, 8))
    assert [tuple(logits.shape) for logits in outputs] == [(1, 3, 16, 16, 8), (1, 3, 8, 8, 8), (1, 3, 4, 4, 4)]
    assert isinstance(network.eval()(torch.rand(1, 2, 16, 16, 8)), Tensor)
    plain = small(strides=[*_STRIDES, [2, 2, 2]], kernels=None, block_layers=1)
    assert isinstance(plain(torch.rand(1, 2, 16, 16, 8)), Tensor)


def test_each_layer_of_a_block_sees_all_maps_before_it() -> None:
    seen: list[Tensor] = []

    class Layer(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return x[:, :2] + len(seen)

    x = torch.rand(1, 5, 4, 4)
    maps, new = DenseBlock([Layer(), Layer(), Layer()])(x)
    assert [part.shape[1] for part in seen] == [5, 7, 9]
    assert torch.equal(maps, torch.cat([x, new], dim=1))
    assert torch.equal(seen[2], maps[:, :9])


def test_every_parameter_learns() -> None:
    network = small(deep_supervision=1)
    sum(logits.square().mean() for logits in network(torch.rand(2, 2, 8, 8, 4))).backward()
    assert not [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


def test_computing_layers_again_changes_no_gradient() -> None:
    x = torch.rand(1, 2, 8, 8, 4)
    once, again = small(), small(use_checkpoint=True)
    for network in (once, again):
        network(x).square().mean().backward()
    for one, other in zip(once.parameters(), again.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


def test_with_kernels_of_1_along_z_a_volume_is_its_slices() -> None:
    """The 3D form with the weights of the 2D one, slice by slice; batch normalisation, as the others look along Z."""
    options = {"growth_rate": 4, "block_layers": 2, "norm": "batch"}
    flat = DenseUNet(2, 1, 2, strides=[[1, 1], [2, 2], [2, 2]], **options).eval()  # type: ignore[arg-type]
    kernels = [[3, 3, 1]] * 3
    deep = DenseUNet(3, 1, 2, strides=[[1, 1, 1], [2, 2, 1], [2, 2, 1]], kernels=kernels, **options).eval()  # type: ignore[arg-type]
    deep.load_state_dict({name: w[..., None] if w.ndim == 4 else w for name, w in flat.state_dict().items()})
    volume = torch.rand(1, 1, 16, 8, 5)
    with torch.no_grad():
        slices = torch.stack([flat(volume[..., z]) for z in range(5)], dim=-1)
        assert torch.allclose(deep(volume), slices, atol=1e-5)


def test_bfloat16_is_near_float32() -> None:
    network, x = small().eval(), torch.rand(1, 2, 16, 16, 4)
    with torch.no_grad():
        exact = network(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = network(x)
    assert rough.dtype == torch.bfloat16
    assert float((rough - exact).abs().max()) < 0.05 * float(exact.abs().max())


def test_dropout_works_in_training_only() -> None:
    network, x = small(dropout=0.5), torch.rand(1, 2, 8, 8, 4)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


def test_a_trace_is_the_network() -> None:
    network, x = small(deep_supervision=1).eval(), torch.rand(1, 2, 16, 16, 4)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated; torch's normalisation compares sizes
        traced = torch.jit.trace(network, torch.rand_like(x))
        assert torch.allclose(traced(x), network(x), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"strides": [[2, 2, 2], [2, 2, 2], [2, 2, 2]]}, "the full resolution"),
        ({"strides": [[1, 1, 1]]}, "two stages at least"),
        ({"block_layers": [1, 2]}, "expected one of each per stage"),
        ({"strides": [[1, 1], [2, 2], [2, 2]]}, "expected 3 numbers"),
        ({"kernels": [[2, 3, 3]] * 3}, "odd numbers"),
        ({"compression": 0}, "compression of at most 1"),
        ({"growth_rate": 0}, "numbers above 0"),
        ({"deep_supervision": 2}, "at most 1"),
    ],
)
def test_numbers_that_make_no_network_are_refused(options: dict[str, object], problem: str) -> None:
    with pytest.raises(BundleError, match=problem):
        small(**options)


def test_one_spatial_axis_is_refused() -> None:
    with pytest.raises(BundleError, match="expected 2 or 3"):
        DenseUNet(1, 1, 2, strides=[[1], [2]])


def test_an_image_that_cannot_be_halved_is_refused_with_the_multiple() -> None:
    with pytest.raises(BundleError, match=r"\[16, 16, 3\] voxels: each axis must be a multiple of \[4, 4, 2\]"):
        small()(torch.rand(1, 2, 16, 16, 3))
