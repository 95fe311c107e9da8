"""Temperatures and the decision of some regions by their Dice: laws, and the likelihood by hand."""

from __future__ import annotations

import numpy as np
import pytest

from volseg.metrics import (
    decide_by_dice,
    decide_some_by_dice,
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
    masks = decide_some_by_dice(regions, plain, [None, 1.0, 1.5], exclusive=True)
    assert np.array_equal(masks[0], plain[0])
    assert masks.sum(axis=0).max() <= 1
    assert np.array_equal(decide_some_by_dice(regions, plain, [None] * 3, exclusive=True), plain)
    whole = decide_some_by_dice(regions, plain, [1.0] * 3, exclusive=True)
    assert np.array_equal(whole, decide_by_dice(regions, exclusive=True))
    apart = decide_some_by_dice(regions, regions > 0.5, [1.0, None, None], exclusive=False)
    assert np.array_equal(apart[0], decide_by_dice(regions, exclusive=False)[0])
    assert np.array_equal(apart[1:], regions[1:] > 0.5)
