"""Temperatures and the decision of some regions by their Dice: laws, and the likelihood by hand."""

from __future__ import annotations

import numpy as np
import pytest

from volseg.metrics import (
    Scaling,
    decide_by_dice,
    decide_some_by_dice,
    dice,
    dice_threshold,
    fit_scaling,
    fit_temperature,
    probability_histogram,
    temper,
)


def test_a_temperature_that_made_probabilities_too_sure_is_found_again() -> None:
    draw = np.random.default_rng(0)
    true = draw.beta(0.8, 0.8, 200_000)
    truth = draw.random(true.size) < true
    for temperature in (0.6, 1.0, 2.0):
        said = temper(true, 1 / temperature)
        assert fit_temperature(probability_histogram(said, truth)) == pytest.approx(temperature, rel=0.05)


def test_it_moves_no_voxel_across_one_half_and_keeps_the_order() -> None:
    p = np.sort(np.random.default_rng(1).random(1000))
    for temperature in (0.3, 1.0, 4.0):
        warm = temper(p, temperature)
        assert ((warm > 0.5) == (p > 0.5)).all()
        inside = (p > 0.001) & (p < 0.999)
        assert (np.diff(warm[inside]) > 0).all()
    assert temper(p, 1.0) is p
    certain = np.array([0.0, 5e-4, 1.0])
    assert temper(certain, 3.0).tolist() == certain.tolist()
    assert fit_temperature(np.zeros((2, 65536))) == 1.0


@pytest.mark.parametrize("seed", range(4))
def test_a_region_that_is_left_keeps_its_voxels_and_none_is_claimed_twice(seed: int) -> None:
    draw = np.random.default_rng(seed)
    soft = np.exp(2 * draw.normal(size=(4, 8, 7, 6)))
    soft /= soft.sum(axis=0)
    regions = soft[1:]
    plain = np.stack([soft.argmax(axis=0) == number for number in (1, 2, 3)])
    masks = decide_some_by_dice(regions, plain, [None, Scaling(), Scaling(1.5, -0.3)], exclusive=True)
    assert np.array_equal(masks[0], plain[0])
    assert masks.sum(axis=0).max() <= 1
    assert np.array_equal(decide_some_by_dice(regions, plain, [None] * 3, exclusive=True), plain)
    whole = decide_some_by_dice(regions, plain, [Scaling()] * 3, exclusive=True)
    assert np.array_equal(whole, decide_by_dice(regions, exclusive=True))
    apart = decide_some_by_dice(regions, regions > 0.5, [Scaling(), None, None], exclusive=False)
    assert np.array_equal(apart[0], decide_by_dice(regions, exclusive=False)[0])
    assert np.array_equal(apart[1:], regions[1:] > 0.5)


@pytest.mark.parametrize("scaling", [Scaling(), Scaling(2.0), Scaling(0.5, -4.0), Scaling(0.3, 6.0), Scaling(4.0, 2.0)])
def test_a_scaling_keeps_the_order_and_its_threshold_is_that_of_the_corrected_probabilities(scaling: Scaling) -> None:
    p = np.sort(np.concatenate([np.random.default_rng(2).random(3000), np.linspace(0, 0.002, 50), [1.0, 0.9995]]))
    corrected = scaling.apply(p)
    assert (np.diff(corrected) >= 0).all()
    assert (corrected[0], corrected[-1]) == (0.0, 1.0)
    certain = (p <= 0.001) | (p >= 0.999)
    assert (np.abs(corrected - 0.5)[certain] >= np.abs(p - 0.5)[certain] - 1e-12).all()  # never less certain
    for threshold in (1e-4, 0.01, 0.2, 0.5, 0.9):
        assert np.mean((p > scaling.threshold(threshold)) == (corrected > threshold)) > 0.999
    found, direct = dice_threshold(p, scaling), dice_threshold(corrected)
    assert (found.voxels, found.expected_dice) == (direct.voxels, pytest.approx(direct.expected_dice))
    assert np.mean((p > found.threshold) == (corrected > direct.threshold)) > 0.999
    given = np.stack([p, p[::-1]])
    for exclusive in (False, True):
        one = decide_by_dice(given / 2, exclusive=exclusive, scalings=[scaling, Scaling(1.0, -1.0)])
        other = np.stack([scaling.apply(given[0] / 2), Scaling(1.0, -1.0).apply(given[1] / 2)])
        assert np.mean(one == decide_by_dice(other, exclusive=exclusive)) > 0.999


def test_a_shift_that_was_taken_away_is_found_again_and_makes_the_sum_right() -> None:
    draw = np.random.default_rng(3)
    true = draw.beta(0.5, 3.0, 200_000)
    truth = draw.random(true.size) < true
    for wrong in (Scaling(1.0, 2.0), Scaling(2.0, 1.0), Scaling(0.7, -1.0)):
        said = wrong.apply(true)
        found = fit_scaling(probability_histogram(said, truth))
        assert found.temperature == pytest.approx(1 / wrong.temperature, rel=0.05)
        assert found.shift == pytest.approx(-wrong.shift * wrong.temperature, abs=0.08)
        assert found.apply(said).sum() == pytest.approx(truth.sum(), rel=0.02)
    assert fit_scaling(np.zeros((2, 65536))) == Scaling()
    one_sided = probability_histogram(np.array([0.3, 0.4]), np.array([False, False]))
    assert fit_scaling(one_sided).shift == 0


def test_a_network_that_gives_something_to_every_voxel_does_not_flood_the_image() -> None:
    """A tenth everywhere and a third in the organ: at 0.5 nothing, for the largest expected Dice everything."""
    draw = np.random.default_rng(4)
    truth = np.zeros(20_000, bool)
    truth[:400] = True
    said = np.clip(np.where(truth, 0.33, 0.1) + draw.normal(0, 0.04, truth.size), 0.01, 0.99)
    scaling = fit_scaling(probability_histogram(said, truth))
    (flooded,), (right,) = (decide_by_dice(said[None], exclusive=False, scalings=[one]) for one in (Scaling(), scaling))
    assert (dice(said > 0.5, truth), dice(flooded, truth) < 0.2, dice(right, truth) > 0.9) == (0, True, True)
