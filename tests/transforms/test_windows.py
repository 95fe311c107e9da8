"""The windows of a training: their share of background, in cases too that lack regions or all that is wanted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from volseg.labels import LabelTable
from volseg.transforms import IGNORED, augmentation, positions_of

SHAPE = (24, 24, 24)


def case_of(label: np.ndarray, table: LabelTable) -> dict:
    target = torch.from_numpy(label.astype(np.uint8))[None]
    return {
        "image": MetaTensor(torch.zeros(1, *SHAPE)),
        "label": MetaTensor(target),
        "label_positions": positions_of(target, table),
    }


def values_at_centres(label: np.ndarray, table: LabelTable, *, share: float, seeds: int = 30) -> np.ndarray:
    """The value at the centre of each window, of windows of three voxels that are neither turned nor shifted."""
    steps = augmentation(table, roi_size=[3, 3, 3], crops=8, background_share=share, affine_prob=0.0)
    case, found = case_of(label, table), []
    for seed in range(seeds):
        steps.set_random_state(seed=seed)
        found += [int(window["label"][0, 1, 1, 1]) for window in steps(dict(case))]
    return np.array(found)


@pytest.mark.parametrize("regions", [2, 104])
def test_a_case_that_lacks_regions_keeps_its_share_of_background(regions):
    """Of one with a single region of 104 nine tenths of the windows were background, where a fifth was asked for."""
    table = LabelTable.exclusive([f"r{number}" for number in range(regions)])
    label = np.zeros(SHAPE)
    label[4:20, 4:20, 4:20] = 2
    found = values_at_centres(label, table, share=0.2)
    assert np.mean(found == 0) == pytest.approx(0.2, abs=0.08)
    assert set(found) == {0, 2}


def test_the_regions_that_a_case_has_come_equally_often():
    table = LabelTable.exclusive(["a", "b", "c", "absent"])
    label = np.zeros(SHAPE)
    label[2:22, 2:22, 2:12], label[2:22, 2:22, 12:20], label[5, 5, 21] = 1, 2, 3
    shares = np.bincount(values_at_centres(label, table, share=1 / 3), minlength=4) / 240
    assert shares == pytest.approx([1 / 3, 2 / 9, 2 / 9, 2 / 9], abs=0.08)


@pytest.mark.parametrize(
    ("value", "share", "ignore"),
    [(0, 0.0, None), (1, 1.0, None), (0, 1 / 3, None), (1, 1 / 3, None), (IGNORED, 1 / 3, 9), (IGNORED, 0.0, 9)],
)
def test_a_case_without_what_is_wanted_gives_windows_of_what_it_has(value, share, ignore):
    """A case without a region beside `background_share` 0 ended a training with "probabilities contain NaN"."""
    table = replace(LabelTable.exclusive(["a", "b"]), ignore=ignore)
    found = values_at_centres(np.full(SHAPE, value), table, share=share, seeds=2)
    assert set(found) == {value}
    assert len(found) == 16


def test_a_case_that_nobody_looked_at_gives_windows_of_all_its_parts():
    table = replace(LabelTable.exclusive(["a"]), ignore=9)
    case = case_of(np.full(SHAPE, IGNORED), table)
    case["image"] = MetaTensor(torch.arange(24.0).view(1, 24, 1, 1).expand(1, *SHAPE).clone())
    steps = augmentation(table, roi_size=[3, 3, 3], crops=64, affine_prob=0.0).set_random_state(seed=0)
    means = [float(window["image"].mean()) for window in steps(case)]
    assert min(means) < 6
    assert max(means) > 18
