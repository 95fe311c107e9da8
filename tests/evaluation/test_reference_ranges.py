"""Norms: what is measured, what is usual, how unusual a value is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from volseg.errors import UsageError
from volseg.evaluation.outliers import ReferenceRange, area_jump, learn, measure, surprisal, unusual
from volseg.labels import LabelTable

LABELS = LabelTable.exclusive(["a", "b"])


def masks_of(*boxes: tuple[slice, slice, slice]) -> np.ndarray:
    masks = np.zeros((2, 12, 12, 8), bool)
    for box in boxes:
        masks[0][box] = True
    return masks


BLOCK = (slice(2, 8), slice(2, 8), slice(1, 7))


def test_what_is_measured_by_hand():
    image = np.zeros((12, 12, 8))
    image[BLOCK] = 10
    image[0] = 20
    values = measure(masks_of(BLOCK), (1, 1, 3), LABELS, image)
    assert math.exp(values["volume", "a"]) == pytest.approx(6 * 6 * 6 * 3 / 1000)
    assert values["parts", "a"] == 0
    assert values["jump", "a"] == 0
    assert values["grey", "a"] == pytest.approx((10 - 0) / 20)
    assert values["range", ""] == pytest.approx(math.log(20))
    assert ("volume", "b") not in values  # an empty region has no value
    two = measure(masks_of(BLOCK, (slice(10, 12), slice(10, 12), slice(0, 2))), (1, 1, 3), LABELS)
    assert two["parts", "a"] == pytest.approx(math.log(2))
    assert ("grey", "a") not in two


def test_a_jump_is_seen_and_does_not_depend_on_direction_or_size():
    mask = masks_of(BLOCK)[0]
    mask[:, :, 4] = False
    mask[2:4, 2:8, 4] = True
    assert area_jump(mask, 2) == pytest.approx(24 / 36)
    assert area_jump(mask[:, :, ::-1], 2) == area_jump(mask, 2)
    assert area_jump(np.repeat(mask, 3, axis=0), 2) == pytest.approx(area_jump(mask, 2))
    assert area_jump(mask.transpose(2, 0, 1), 0) == area_jump(mask, 2)


def test_the_slices_are_those_across_the_thickest_axis():
    masks = masks_of(BLOCK)
    masks[0, :, :, 4] = False
    masks[0, 2:4, 2:8, 4] = True
    assert measure(masks, (1, 1, 3), LABELS)["jump", "a"] == pytest.approx(24 / 36)
    assert measure(masks, (5, 1, 3), LABELS)["jump", "a"] == pytest.approx(6 / 36)


@pytest.mark.parametrize("image", [np.full((12, 12, 8), 7.0), np.full((12, 12, 8), np.nan)])
def test_an_image_without_range_has_no_grey(image):
    assert {check for check, _ in measure(masks_of(BLOCK), (1, 1, 1), LABELS, image)} == {"volume", "parts", "jump"}


def cases_of(volumes: np.ndarray) -> list[dict[tuple[str, str], float]]:
    return [{("volume", "a"): float(volume), ("parts", "a"): 0.0, ("jump", "a"): 0.2} for volume in volumes]


def test_the_spread_is_robust():
    volumes = np.random.default_rng(0).normal(3, 0.2, 200)
    norm = learn(cases_of(volumes))["volume", "a"]
    assert norm.spread == pytest.approx(stats.median_abs_deviation(volumes, scale="normal"), rel=1e-4)
    wild = learn(cases_of(np.append(volumes, [50, 60])))["volume", "a"]
    assert wild.spread == pytest.approx(norm.spread, rel=0.05)
    assert learn(cases_of(np.full(9, 3.0)))["volume", "a"].spread == 0.05  # the floor
    with pytest.raises(UsageError, match="at least 5"):
        learn(cases_of(np.ones(4)))


def test_what_training_cases_show_too_is_not_unusual():
    # Two kinds of scanner: one in ten cases has a range a thousand times as wide.
    values = np.array([5.0] * 90 + [12.0] * 10) + np.linspace(0, 0.1, 100)
    norm = ReferenceRange(5.0, 0.1, np.sort(values), 1.0)
    assert norm.z(12.0) == pytest.approx(stats.norm.isf(0.1), abs=0.01)
    assert norm.z(13.0) == 6.0  # beyond all of them
    assert norm.z(-13.0) == -6.0


def test_a_case_is_not_usual_because_it_is_itself():
    values = np.sort(np.append(np.linspace(0, 1, 20), 9.0))
    norm = ReferenceRange(0.5, 0.3, values, 1.0)
    assert norm.z(9.0, among=True) == 6.0
    assert norm.z(9.0) < 2.0


@given(st.floats(-6, 6), st.floats(0, 2))
def test_a_value_farther_out_is_never_less_unusual(z, more):
    norm = ReferenceRange(0.0, 1.0, np.linspace(-2, 2, 50), 1.0)
    farther = z + math.copysign(more, z)
    assert abs(norm.z(farther)) >= abs(norm.z(z)) - 1e-9


def test_surprise_is_that_of_the_normal_distribution():
    for z in (-3.0, 0.0, 1.0, 6.0):
        assert surprisal(z, two_sided=False) == pytest.approx(-math.log10(stats.norm.sf(z)))
    assert surprisal(0.0) == pytest.approx(0)


def test_an_odd_case_scores_more_and_says_why():
    norms = learn(cases_of(np.random.default_rng(0).normal(3, 0.2, 200)))
    usual, none = unusual({("volume", "a"): 3.0, ("parts", "a"): 0.0, ("jump", "a"): 0.2}, norms)
    assert none == []
    odd, findings = unusual({("volume", "a"): 1.0, ("parts", "a"): math.log(5), ("jump", "a"): 0.9}, norms)
    assert odd > usual
    assert {finding.check for finding in findings} == {"volume", "parts", "jump"}
    assert any("is small: 2.72 ml" in finding.reason for finding in findings)
    assert any("in 5 parts, usually 1" in finding.reason for finding in findings)
    absent, findings = unusual({}, norms)
    assert absent > 2 * usual
    assert findings[0].reason == "a is empty; 100 % of the training cases have it"
    _, findings = unusual({("volume", "b"): 1.0}, norms)
    assert "invented" in {finding.check for finding in findings}


def test_few_parts_and_small_jumps_are_not_unusual():
    cases = [{("parts", "a"): math.log(4 + i % 3), ("jump", "a"): 0.5 + i % 3 / 50} for i in range(30)]
    assert unusual({("parts", "a"): 0.0, ("jump", "a"): 0.0}, learn(cases))[1] == []
