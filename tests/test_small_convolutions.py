"""`SmallConvolutions`: torch's own values, by oneDNN where torch would not take it, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.networks.nets import DynUNet
from torch import Tensor, nn
from torch.profiler import profile

from volseg.engines import Lanes
from volseg.engines.small_convolutions import SmallConvolutions

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


def slow(call: Any) -> int:
    """How many of a call's convolutions torch's slow operator computes."""
    with profile() as seen:
        call()
    return sum(event.name == "aten::slow_conv3d_forward" for event in seen.events())


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
        with SmallConvolutions():
            found = layer(inputs)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_onednn_computes_them_and_by_itself_torch_would_not() -> None:
    layer, inputs = nn.Conv3d(8, 8, 3, padding=1), torch.randn(1, 8, 8, 8, 8)

    def aided() -> Tensor:
        with SmallConvolutions():
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
        with SmallConvolutions():
            assert torch.equal(layer(inputs), expected)


def test_gradients_and_autocast_are_left_to_torch() -> None:
    layer, inputs = nn.Conv3d(4, 6, 3, padding=1), torch.randn(1, 4, 6, 6, 6)
    with SmallConvolutions():
        layer(inputs).sum().backward()
        assert layer.weight.grad is not None
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            assert layer(inputs).dtype == torch.bfloat16


def test_it_is_there_in_prediction_and_not_in_training() -> None:
    kernels, strides = [[3, 3, 3]] * 3, [[1, 1, 1], [2, 2, 2], [2, 2, 2]]
    network, lanes = DynUNet(3, 1, 2, kernels, strides, strides[1:], filters=[8, 8, 8]), Lanes()
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
    assert slow(lambda: lanes(windows[:1], network)) > 5
