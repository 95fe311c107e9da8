"""Probabilities in rows, beside the plain array."""

from __future__ import annotations

import numpy as np
import pytest

from volseg.metrics import decide_by_dice, regions_by_dice
from volseg.metrics.probability_rows import ProbabilityRows


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(0,), (3,), (1024,), (1025,), (40, 50, 33)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_hold_what_the_array_holds(kind, shape, order):
    rng = np.random.default_rng(0)
    probability = np.asarray(rng.random(shape) ** 40, kind, order=order)
    rows = ProbabilityRows(probability)
    exact = probability.astype(np.float64)
    assert rows.size == probability.size
    assert rows.highest == exact.max(initial=0)
    assert rows.total == pytest.approx(exact.sum(), rel=1e-6)
    for threshold in (0.0, 1e-3, 0.5, 0.99, 1.0):
        np.testing.assert_array_equal(np.sort(rows.above(threshold)), np.sort(exact[exact > kind(threshold)]))
        parts = sum(float(part.sum(dtype=np.float64)) for part in rows.parts(threshold))
        assert parts + rows.total_below(threshold) == pytest.approx(exact.sum(), rel=1e-6)


def test_an_axis_backwards_and_a_part_of_an_array_are_read_as_they_stand():
    probability = np.random.default_rng(1).random((20, 30, 40)).astype(np.float32)[::-1, ::2]
    np.testing.assert_array_equal(
        np.sort(ProbabilityRows(probability).above(0.9)), np.sort(probability[probability > 0.9])
    )


def test_the_numbers_of_regions_are_their_masks():
    raw = np.random.default_rng(2).random((4, 11, 12, 13)) ** 6
    probabilities = (raw / np.maximum(1, raw.sum(axis=0)))[1:]
    numbers = regions_by_dice(probabilities)
    masks = decide_by_dice(probabilities, exclusive=True)
    np.testing.assert_array_equal(masks, numbers == np.arange(1, 4)[:, None, None, None])
    assert masks.any()
