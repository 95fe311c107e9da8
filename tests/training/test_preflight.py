"""What is refused before a training starts, each in a line, on the bundle that people run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets import UNETR
from preflight_check import check
from torch import nn

from volseg.errors import BundleError, UsageError, VolsegError
from volseg.training.checks.preflight import check_roi
from volseg.training.window_trial import try_window


def test_nothing_is_written_where_all_is_well(
    tiny_cohort: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        check(tiny_cohort, tmp_path / "run")
        check(tiny_cohort, tmp_path / "run", cache="disk")
    assert "3 training and 2 validation cases; regions large, small; grid 1.5x1.5x3 mm; window 64x32x32" in caplog.text
    assert "GiB (memory); device cpu" in caplog.text
    assert "GiB (disk); device cpu" in caplog.text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"roi_size": [50, 50, 50]}, r"multiples of \[32, 32, 32\], .* try --roi_size \[64,64,64\]"),
        ({"roi_divisor": [32, 32, 16], "roi_size": [64, 32, 16]}, r"cannot take roi_size \[64, 32, 16\]: .*divisible"),
        ({"roi_divisor": "x"}, "roi_divisor is 'x', expected"),
        ({"loader_workers": -1}, "--loader_workers must be a whole number of at least 0, got -1"),
        ({"loader_workers": 10**9}, "--shm-size, or give fewer --loader_workers"),
        ({"cache": "ram"}, "--cache must be auto, memory or disk, got 'ram'"),
        ({"learning_rate": float("nan")}, "must be a number above 0"),
        ({"accumulate": 0}, "--accumulate must be a whole number of at least 1, got 0"),
        ({"patience": -1}, "--patience must be a whole number of at least 0, got -1"),
        ({"max_minutes": -1}, "--max_minutes must be a number of minutes, got -1"),
        ({"val_interval": True}, "--val_interval must be a whole number of at least 1, got True"),
        (
            {"validation_handler__interval": 0},
            "--validation_handler#interval must be a whole number of at least 1, got 0",
        ),
        ({"progress_handler__interval": 0}, "--progress_handler#interval must be a whole number of at least 1, got 0"),
        ({"keep": 0}, "--keep must be a whole number of at least 1, got 0"),
        ({"clip_norm": -1}, "--clip_norm must be a number of at least 0, such as 1.0, got -1"),
        ({"ema_decay": 1}, "--ema_decay must be a number below 1, such as 0.999, got 1"),
        ({"network_def__out_channels": 3}, "the network has 3 output channels, the cohort's labels need 2"),
        ({"network_def__in_channels": 2}, "the network has 2 input channels, the cohort has 1"),
        ({"feature_size": 13}, "feature_size"),
        ({"seed": -1}, "--seed must be a whole number of at least 0, got -1"),
        ({"seed": "abc"}, "--seed must be a whole number of at least 0, got 'abc'"),
        ({"resume": "maybe"}, "--resume must be true, false or anyway, got 'maybe'"),
        ({"spacing_mm": [1.5, 3]}, r"--spacing_mm must be three sizes in mm above 0, .* got \[1.5, 3\]"),
        ({"spacing_mm": 2}, r"--spacing_mm must be three sizes in mm above 0, .* got 2"),
        ({"roi_voxels": 0}, "--roi_voxels must be a number of voxels above 0"),
        ({"flip_axes": [3]}, r"flip_axes must be a list of the axes 0, 1 and 2, .* got \[3\]"),
        ({"flip_axes": 0}, r"flip_axes must be a list of the axes 0, 1 and 2, .* got 0"),
        ({"background_share": 1.5}, "background_share is a probability"),
        ({"affine_prob": 2}, "affine_prob is a probability"),
        ({"loss__region_weights": {"larg": 2}}, "region_weights names 'larg', .* did you mean large"),
        ({"optimizer__weight_decay": -1}, "optimizer: .*weight_decay"),
        ({"lr_scheduler__warmup": 2}, "warmup must be a share of the run"),
    ],
)
def test_what_cannot_work_is_refused(tiny_cohort: Path, tmp_path: Path, overrides: dict[str, Any], told: str) -> None:
    if "loader_workers" in overrides and not Path("/dev/shm").is_dir():
        pytest.skip("this system has no /dev/shm")
    with pytest.raises(VolsegError, match=told) as caught:
        check(tiny_cohort, tmp_path, **overrides)
    assert "\n" not in str(caught.value)


def test_a_schedule_that_counts_batches_is_left_to_the_training(tiny_cohort: Path, tmp_path: Path) -> None:
    """Its number of batches is known once all cases are preprocessed, which no check does."""
    step = {"_target_": "torch.optim.lr_scheduler.StepLR", "optimizer": "@optimizer"}
    check(tiny_cohort, tmp_path / "run", lr_scheduler={**step, "step_size": "$len(@train#dataloader)"})
    assert list(tmp_path.iterdir()) == []


def test_the_batches_of_a_training_with_a_prior_have_its_channels(
    tiny_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed: list[int] = []
    monkeypatch.setattr(sys.modules["volseg.training.checks.preflight"], "check_shared_memory", needed.append)
    for prior in (False, True):
        check(tiny_cohort, tmp_path / "run", loader_workers=1, prior=prior)
    regions, masks = 2, 2
    assert needed[1] * (1 + masks) == needed[0] * (1 + 1 + regions + 1 + masks)  # image, regions, where it was


@pytest.mark.parametrize(
    ("avx512", "told"),
    [(True, "gradients of small layers can be wrong there"), (False, "imitates there, many times slower")],
)
def test_bf16_is_refused_on_a_cpu_without_amx(
    tiny_cohort: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    avx512: bool,
    told: str,
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    simple = {"_target_": "SimpleInferer"}
    inferer = {"_target_": "volseg.inference.MixedPrecision", "inferer": simple, "precision": "@precision"}
    with pytest.raises(VolsegError, match=told):
        check(tiny_cohort, tmp_path, precision="bf16", train__inferer=inferer)
    if avx512:
        with caplog.at_level("INFO"):
            check(tiny_cohort, tmp_path, precision="fp32")
            assert "device cpu\n" in caplog.text
            check(tiny_cohort, tmp_path, precision="auto")
            assert "device cpu, bfloat16\n" in caplog.text


def test_a_network_of_a_fixed_window_takes_that_window_only(tiny_cohort: Path, tmp_path: Path) -> None:
    network = {"_target_": "UNETR", "in_channels": 1, "out_channels": 2, "hidden_size": 48, "mlp_dim": 48}
    check(tiny_cohort, tmp_path, network_def={**network, "num_heads": 4, "img_size": "@roi_size"})
    with pytest.raises(BundleError, match=r"the network cannot take roi_size \[64, 32, 32\]"):
        check(tiny_cohort, tmp_path, network_def={**network, "num_heads": 4, "img_size": [64, 64, 32]})


def test_a_network_that_gives_other_channels_is_refused(tiny_cohort: Path, tmp_path: Path) -> None:
    network = {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 2, "kernel_size": 3}  # no padding
    with pytest.raises(BundleError, match=r"logits of shape \(1, 2, 62, 30, 30\) for a window, expected \(1, 2, 64"):
        check(tiny_cohort, tmp_path, network_def=network)


def test_a_full_disk_is_told_before_the_training(tiny_cohort: Path, tmp_path: Path) -> None:
    parameters = 10**14  # of a network that is never built: the meta device holds none

    class Huge(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.empty(parameters, device="meta"))
            self.layer = nn.Conv3d(1, 2, 1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.layer(image)

    with pytest.raises(UsageError, match=r"saving checkpoints needs .* name another folder with --output_dir"):
        check(tiny_cohort, tmp_path, network_def=Huge())


def test_a_trial_leaves_network_and_random_state_alone() -> None:
    network = UNETR(1, 2, (32, 32, 32), hidden_size=48, mlp_dim=48, num_heads=4, dropout_rate=0.1).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    trial = try_window(network, channels=1, roi_size=[32, 32, 32])
    assert trial is not None
    assert trial.shape == (1, 2, 32, 32, 32)
    assert trial.flops > 10**6
    assert torch.equal(torch.get_rng_state(), state)
    assert not network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network(torch.zeros(1, 1, 32, 32, 32)).shape == (1, 2, 32, 32, 32)


def test_a_trial_counts_a_convolution_by_hand() -> None:
    # 8 * 8 * 8 places, 2 outputs, 3 inputs, 27 weights, a multiplication and an addition each.
    trial = try_window(nn.Conv3d(3, 2, 3, padding=1), channels=3, roi_size=[8, 8, 8])
    assert trial is not None
    assert trial.flops == 8**3 * 2 * 3 * 27 * 2


def test_a_network_that_looks_at_values_cannot_be_tried() -> None:
    class Looks(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image if float(image.sum()) > 0 else -image

    assert try_window(Looks(), channels=1, roi_size=[4, 4, 4]) is None


def test_a_divisor_an_axis_holds_for_the_check() -> None:
    assert check_roi([64, 64, 1], divisor=[32, 32, 1]) == [64, 64, 1]
