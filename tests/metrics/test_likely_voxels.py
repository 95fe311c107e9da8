"""Likely voxels and sums beside the plain array; regions decided with and without a background."""

from __future__ import annotations

import numpy as np
import pytest

from volseg.metrics import Scaling, decide_by_dice, dice_threshold, expected_dice, regions_by_dice
from volseg.metrics.likely_voxels import likely_voxels, sum_voxels

SCALINGS = [Scaling(), Scaling(0.8, -0.5), Scaling(1.5, 2.0)]


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("size", [0, 3, 1024, 1025, 40 * 50 * 33])
def test_the_sum_and_the_likely_voxels_are_those_of_the_array(kind, size):
    flat = (np.random.default_rng(0).random(size) ** 40).astype(kind)
    exact = flat.astype(np.float64)
    assert sum_voxels(flat) == pytest.approx(exact.sum(), rel=1e-6)
    for bound in (0.0, 1e-3, 0.5, 0.99, 1.0):
        values, total = likely_voxels(flat, bound, Scaling())
        assert total == pytest.approx(exact.sum(), rel=1e-6)
        np.testing.assert_array_equal(values, exact[exact > kind(bound)])


@pytest.mark.parametrize("scaling", SCALINGS[1:])
@pytest.mark.parametrize("bound", [1e-6, 1e-3, 0.3])
def test_a_correction_gives_what_it_gives_of_the_whole_array(scaling, bound):
    flat = (np.random.default_rng(1).random(200_000) ** 12).astype(np.float32)
    corrected = scaling.apply(flat)
    values, total = likely_voxels(flat, bound, scaling)
    np.testing.assert_array_equal(values, corrected[corrected > np.float32(bound)])
    assert total == pytest.approx(corrected.sum(dtype=np.float64), rel=1e-5)


def test_an_axis_backwards_and_a_part_of_an_array_are_read_as_they_stand():
    probability = np.random.default_rng(1).random((20, 30, 40)).astype(np.float32)[::-1, ::2]
    assert dice_threshold(probability) == dice_threshold(probability.copy())


@pytest.mark.parametrize("soft", [2, 4, 12])
@pytest.mark.parametrize("absent", [False, True])
@pytest.mark.parametrize("scaling", SCALINGS)
def test_a_background_saves_time_and_changes_no_voxel(soft, absent, scaling):
    raw = np.random.default_rng(2).random((4, 21, 22, 23)) ** soft
    raw[1:] *= np.linspace(0, 1, 21)[:, None, None] ** soft  # so that the background is almost sure in a part
    if absent:
        raw[2] *= 1e-4
    raw /= raw.sum(axis=0)
    raw[0] = 1 - raw[1:].sum(axis=0)
    scalings = [scaling] * 3
    numbers = regions_by_dice(raw[1:], scalings, background=raw[0])
    np.testing.assert_array_equal(numbers, regions_by_dice(raw[1:], scalings))
    masks = decide_by_dice(raw[1:], exclusive=True, scalings=scalings)
    np.testing.assert_array_equal(masks, numbers == np.arange(1, 4)[:, None, None, None])


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("power", [0.3, 1, 5, 30])
def test_the_expected_dice_is_that_of_a_sort_to_a_ten_thousandth(kind, power):
    probability = (np.random.default_rng(3).random(50_000) ** power).astype(kind)
    found = dice_threshold(probability)
    ranked = np.sort(probability.astype(np.float64))[::-1]
    best = (2 * ranked.cumsum() / (np.arange(1, ranked.size + 1) + ranked.sum())).max()
    assert found.expected_dice == pytest.approx(best, abs=1e-6)
    assert expected_dice(probability, probability > found.threshold) == pytest.approx(best, abs=1e-6)
