"""The sliding window: MONAI's result, the windows that are left out, and what happens when memory runs out."""

from __future__ import annotations

import logging
import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.inferers import SlidingWindowInferer
from torch import Tensor, nn

from volseg.errors import VolsegError
from volseg.inference import SlidingWindow, TorchEngine, sliding_window
from volseg.inference.engines import affordable_windows
from volseg.inference.sliding import gaussian, positions

ROI = (16, 12, 8)


class Coarse(nn.Module):
    """A network with two outputs, of full and of half resolution, as deep supervision has them."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fine = nn.Conv3d(channels, 3, 3, padding=1)
        self.coarse = nn.Conv3d(channels, 2, 2, stride=2)

    def forward(self, windows: Tensor) -> list[Tensor]:
        return [self.fine(windows), self.coarse(windows)]


def network(channels: int = 1, out: int = 3) -> nn.Module:
    """It sees its window's edge (padding) and its place in it, so that positions and weights matter."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(channels, 4, 5, padding=2), nn.InstanceNorm3d(4), nn.ReLU(), nn.Conv3d(4, out, 1))


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def monai(roi: tuple[int, ...], overlap: float, at_once: int) -> SlidingWindowInferer:
    return SlidingWindowInferer(roi, sw_batch_size=at_once, overlap=overlap, mode="gaussian")


@pytest.mark.parametrize("at_once", [1, 4])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.7])
@pytest.mark.parametrize(
    "shape",
    [(16, 12, 8), (33, 25, 19), (17, 13, 9), (40, 12, 30), (7, 5, 3), (31, 5, 8), (16, 30, 1)],
    ids=lambda shape: "x".join(map(str, shape)),
)
def test_the_result_is_that_of_monai(shape: tuple[int, ...], overlap: float, at_once: int) -> None:
    image, net = drawn(1, 2, *shape), network(2)
    with torch.no_grad():
        expected = monai(ROI, overlap, at_once)(image, net)
        got = SlidingWindow(ROI, overlap=overlap, windows_at_once=at_once)(image, net)
    assert got.shape == expected.shape
    assert torch.allclose(got, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(33, 25, 19), (10, 30, 6)])
def test_a_list_of_outputs_stays_one_whatever_their_resolution(shape: tuple[int, ...]) -> None:
    shape = tuple(n // 2 * 2 for n in shape)
    image, net = drawn(1, 1, *shape), Coarse()
    with torch.no_grad():
        expected = monai(ROI, 0.5, 1)(image, net)
        got = sliding_window(ROI, overlap=0.5, precision="fp32")(image, net)
    assert isinstance(got, list)
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.shape == theirs.shape
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_volumes_of_a_batch_are_as_each_alone() -> None:
    image, net = drawn(2, 1, 20, 13, 9), network()
    inferer = SlidingWindow(ROI)
    both = inferer(image, net)
    assert both.shape == (2, 3, 20, 13, 9)
    assert torch.equal(both[1:], inferer(image[1:], net))


def test_images_have_two_axes_too() -> None:
    image = drawn(1, 1, 30, 21)
    net = nn.Conv2d(1, 2, 3, padding=1)
    with torch.no_grad():
        expected = SlidingWindowInferer((16, 12), overlap=0.5, mode="gaussian")(image, net)
    assert torch.allclose(SlidingWindow((16, 12))(image, net), expected, atol=1e-5)


def test_the_image_is_not_changed_and_no_gradient_is_kept() -> None:
    image = drawn(1, 1, 20, 13, 9)
    before = image.clone()
    assert not SlidingWindow(ROI)(image, network()).requires_grad
    assert torch.equal(image, before)


def test_weights_are_computed_once() -> None:
    with torch.inference_mode():
        first = gaussian(ROI, torch.device("cpu"))
    assert first is gaussian(ROI, torch.device("cpu"))
    assert not first.is_inference()


def test_the_last_windows_end_with_the_volume() -> None:
    boxes = positions([21, 12, 8], ROI, overlap=0.5)
    assert [box[0].start for box in boxes] == [0, 5]
    assert all(axis.stop <= n for box in boxes for axis, n in zip(box, (21, 12, 8), strict=True))


@pytest.mark.parametrize(("overlap", "at_once"), [(1.0, 1), (-0.1, 1), (0.5, 0)])
def test_what_cannot_be_is_refused(overlap: float, at_once: int) -> None:
    with pytest.raises(VolsegError, match=r"must be from 0 to below 1, got|must be at least 1, got"):
        SlidingWindow(ROI, overlap=overlap, windows_at_once=at_once)


def test_another_number_of_axes_is_refused() -> None:
    with pytest.raises(VolsegError, match="3 axes"):
        SlidingWindow(ROI)(drawn(1, 20, 20), network())


# --- windows that hold nothing

BACKGROUND = (-20.0, -20.0, -20.0)


def scan() -> Tensor:
    """A body of noise in the first third along X; the rest is the lowest value."""
    image = torch.full((1, 1, 60, 20, 16), -0.5)
    image[..., :20, :, :] = drawn(1, 1, 20, 20, 16).abs()
    return image


def test_empty_windows_are_background_and_the_others_as_before(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    shown = []

    def net(windows: Tensor) -> Tensor:
        shown.append(windows)
        return network()(windows)

    with torch.no_grad():
        every = SlidingWindow(ROI)(scan(), net)
        looked = len(shown)
        got = SlidingWindow(ROI, background=BACKGROUND)(scan(), net)
    # Windows start at 0, 8, 16, 24, ... along X: those from 24 on hold nothing, and begin to count there.
    assert torch.equal(got[:, :, :24], every[:, :, :24])
    assert (got[:, :, 32:] == -20).all()
    count = 3 * 3  # along Y and Z
    assert looked == 7 * count
    assert len(shown) - looked == 3 * count
    assert f"{4 * count} of {7 * count} windows are empty and skipped" in caplog.text


def test_what_is_fainter_than_the_rule_is_found_without_it() -> None:
    """A lesion of 1/200,000 of the range, outside the body, and a network that sees it."""
    image = scan()
    lesion = (..., slice(50, 53), slice(5, 8), slice(5, 8))
    image[lesion] += 5e-6 * (image.max() - image.min())

    def net(windows: Tensor) -> Tensor:
        return torch.where(windows > -0.5, 5.0, -5.0).expand(-1, 3, -1, -1, -1)

    assert (SlidingWindow(ROI)(image, net)[lesion] > 0).all()
    assert (SlidingWindow(ROI, background=BACKGROUND)(image, net)[lesion] < 0).all()
    image[lesion] = -0.4  # a tenth of what the rule calls empty is enough in any one channel
    two = torch.cat([torch.full_like(image, 3.0), image], dim=1)
    assert (SlidingWindow(ROI, background=BACKGROUND)(two, lambda w: net(w[:, 1:]))[lesion] > 0).all()


@pytest.mark.parametrize("shape", [(40, 20, 16), (5, 5, 5)])
def test_a_volume_of_one_value_is_looked_at_once(shape: tuple[int, ...]) -> None:
    shown = []

    def net(windows: Tensor) -> Tensor:
        shown.append(windows)
        return torch.zeros(len(windows), 3, *windows.shape[2:])

    got = SlidingWindow(ROI, background=BACKGROUND)(torch.full((1, 1, *shape), 7.0), net)
    assert len(shown) == 1
    assert got.shape == (1, 3, *shape)
    assert not got.isnan().any()


def test_background_is_for_the_channels_that_the_network_has() -> None:
    with pytest.raises(VolsegError, match="must be one per channel of the network, 3, got 1"):
        SlidingWindow(ROI, background=[0.0])(scan(), network())


# --- windows side by side


class Threaded(nn.Sequential):
    """The network, telling which threads called it."""

    def __init__(self) -> None:
        super().__init__(*network())
        self.threads: list[str] = []

    def forward(self, windows: Tensor) -> Tensor:
        self.threads.append(threading.current_thread().name)
        return super().forward(windows)

    def __deepcopy__(self, memo: dict[int, object]) -> Threaded:
        alike = Threaded()
        alike.threads = self.threads
        return alike


@pytest.mark.parametrize("engine", [False, True])
@pytest.mark.parametrize(("free", "side_by_side"), [(2**60, True), (0, False)])
def test_cores_have_windows_of_their_own_where_the_memory_allows(
    monkeypatch: pytest.MonkeyPatch, free: int, side_by_side: bool, engine: bool
) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setattr("volseg.inference.engines.memory.available_bytes", lambda: free)
    monkeypatch.setattr("volseg.inference.engines.memory.peak_resident_bytes", lambda: 2**50)
    image, net = drawn(1, 1, 40, 25, 8), Threaded().eval()
    with torch.inference_mode():
        expected = monai(ROI, 0.5, 1)(image, net)
        net.threads.clear()
        called = TorchEngine(net, device=torch.device("cpu"), precision="fp32") if engine else net
        got = SlidingWindow(ROI)(image, called)
    torch.set_num_threads(threads)
    assert torch.allclose(got, expected, atol=1e-5)
    first, *others = net.threads
    assert first == threading.current_thread().name, "it shows what a window takes"
    assert len(others) > 8
    assert all(name.startswith("volseg-lane") for name in others[:8]) == side_by_side


@given(st.integers(1, 8), st.integers(0, 2**40), st.integers(0, 2**40), st.integers(0, 2**40))
def test_windows_beside_the_first_fit_into_half_of_the_free_memory(
    wanted: int, held: int, peak: int, free: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("volseg.inference.engines.memory.available_bytes", lambda: free)
        patch.setattr("volseg.inference.engines.memory.peak_resident_bytes", lambda: peak)
        count = affordable_windows(wanted, held)
    assert 1 <= count <= wanted
    assert count == 1 or (count - 1) * (peak - held) <= free / 2
    assert count == wanted or count * max(1, peak - held) > free / 2


@pytest.mark.parametrize("unknown", ["available_bytes", "peak_resident_bytes"])
def test_where_nothing_says_how_much_memory_there_is_windows_go_alone(
    monkeypatch: pytest.MonkeyPatch, unknown: str
) -> None:
    monkeypatch.setattr(f"volseg.inference.engines.memory.{unknown}", lambda: None)
    assert affordable_windows(4, 0) == 1
    assert affordable_windows(4, None) == 1


# --- memory


def test_out_of_memory_falls_back_once_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    image, net, calls = drawn(1, 1, 40, 20, 9), network(), []

    def scarce(windows: Tensor) -> Tensor:
        calls.append(len(windows))
        if len(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return net(windows)

    got = SlidingWindow(ROI, windows_at_once=4)(image, scarce)
    assert torch.allclose(got, SlidingWindow(ROI)(image, net), atol=1e-6)
    assert calls[:3] == [4, 4, 4]
    assert set(calls[3:]) == {1}
    assert caplog.text.count("ran out") == 1


def test_out_of_memory_again_is_an_error() -> None:
    def hopeless(_: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        SlidingWindow(ROI)(drawn(1, 1, 20, 20, 9), hopeless)
