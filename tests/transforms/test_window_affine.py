"""Rotated and scaled windows against MONAI's own."""

from __future__ import annotations

from collections.abc import Sequence

import monai.transforms as mt
import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor

from volseg.transforms.window_affine import RandAffineWindowd

FORM = {"rotate_range": [0.35] * 3, "scale_range": [0.2] * 3, "mode": ["bilinear", "nearest"], "padding_mode": "border"}
KEYS = ["image", "label"]


def window(size: Sequence[int]) -> dict[str, Tensor]:
    """A smooth image of two channels, and a label of one."""
    axes = torch.meshgrid(*[torch.linspace(-1, 1, n) for n in size], indexing="ij")
    image = torch.stack([torch.sin(3 * axes[0] + axes[1]), torch.cos(2 * axes[2] - axes[0])])
    return {"image": image, "label": (image[:1] > 0.3).float()}


@pytest.mark.parametrize("more", [{}, {"translate_range": [3.0, 2.0, 1.0]}, {"shear_range": [0.1] * 6}])
@pytest.mark.parametrize("size", [(16, 12, 8), (9, 7, 5), (16, 12, 1), (1, 8, 10)])
def test_values_are_those_of_monai(size: Sequence[int], more: dict[str, Sequence[float]]) -> None:
    ours = RandAffineWindowd(KEYS, prob=0.7, **{**FORM, **more}).set_random_state(1)
    theirs = mt.RandAffined(KEYS, prob=0.7, **{**FORM, **more}).set_random_state(1)
    item = window(size)
    for _ in range(8):  # the draws of one call are where those of the call before ended
        got, expected = ours(item), theirs(item)
        assert type(got["image"]) is type(got["label"]) is Tensor
        assert torch.allclose(got["image"], expected["image"].as_tensor(), atol=1e-4)
        assert float((got["label"] != expected["label"].as_tensor()).float().mean()) < 0.01


def test_the_cache_is_not_changed_and_metadata_are_left_behind() -> None:
    item = {key: MetaTensor(value) for key, value in window((8, 8, 8)).items()}
    before = {key: value.clone() for key, value in item.items()}
    done = RandAffineWindowd(KEYS, prob=1.0, **FORM).set_random_state(0)(item)
    assert all(torch.equal(item[key], before[key]) for key in KEYS)
    assert not torch.equal(done["image"], before["image"].as_tensor())
    assert type(done["image"]) is Tensor


@pytest.mark.parametrize(
    ("item", "form"),
    [
        ({"image": torch.rand(1, 9, 8), "label": torch.zeros(1, 9, 8)}, {"rotate_range": 0.3}),
        (window((8, 8, 8)), {**FORM, "spatial_size": (6, 6, 6)}),
        (window((8, 8, 8)), {**FORM, "mode": [3, 0]}),
        ({key: value[..., :size] for size, (key, value) in zip((8, 6), window((8, 8, 8)).items(), strict=True)}, {}),
    ],
)
def test_what_is_no_window_is_left_to_monai(item: dict[str, Tensor], form: dict[str, object]) -> None:
    got = RandAffineWindowd(KEYS, prob=1.0, **form).set_random_state(0)(item)
    expected = mt.RandAffined(KEYS, prob=1.0, **form).set_random_state(0)(item)
    assert all(torch.equal(got[key], expected[key]) for key in KEYS)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 5.0), (0.6, 3.0, 0.6), (2.0, 2.0, 2.0)])
def test_a_window_of_thick_slices_is_turned_in_mm(spacing_mm: Sequence[float]) -> None:
    """A ball in mm stays a ball, and no turn around three axes tilts its slices by more than 35 degrees."""
    mm = torch.tensor(spacing_mm)
    size = [int(48 / one) // 2 * 2 for one in spacing_mm]
    places = torch.stack(torch.meshgrid(*[torch.arange(n) - (n - 1) / 2 for n in size], indexing="ij"), dim=-1) * mm
    item = {"ball": torch.exp(-(places**2).sum(-1) / 100)[None]}
    item |= {name: places[None, ..., axis] for axis, name in enumerate("xyz")}
    form = {"rotate_range": [0.35] * 3, "mode": "bilinear", "padding_mode": "border", "spacing_mm": spacing_mm}
    step = RandAffineWindowd(list(item), prob=1.0, **form).set_random_state(0)
    middle = tuple(slice(n // 2 - 1, n // 2 + 1) for n in size)
    for _ in range(10):
        done = step(item)
        assert torch.allclose(done["ball"], item["ball"], atol=0.08)
        found = torch.stack([done[name][0] for name in "xyz"])[(slice(None), *middle)]
        turn = torch.stack(
            [found.diff(dim=axis + 1).mean(dim=(1, 2, 3)) / mm[axis] for axis in range(3)], dim=1
        )  # mm of the window before per mm along each axis of the one after
        assert torch.allclose(turn @ turn.T, torch.eye(3), atol=0.02)
        assert all(float(turn[axis, axis]) > 0.81 for axis in range(3))
