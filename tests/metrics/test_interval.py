from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from volseg.errors import UsageError
from volseg.metrics import mean_interval


def test_equal_values_have_an_interval_of_no_width():
    found = mean_interval([0.5] * 6, ["a", "a", "b", "b", "c", "c"])
    assert (found.mean, found.low, found.high) == (0.5, 0.5, 0.5)
    assert (found.cases, found.dropped, found.patients, found.draws) == (6, 0, 3, 2000)


def test_two_patients_by_hand():
    # The samples are aa, ab, ba, bb with means 0, 0.5, 0.5, 1: a quarter of them at either end.
    found = mean_interval([0, 1], ["a", "b"])
    assert (found.mean, found.low, found.high) == (0.5, 0.0, 1.0)
    half = mean_interval([0, 1], ["a", "b"], level=0.4)
    assert (half.low, half.high) == (0.5, 0.5)


def test_three_patients_equal_the_enumeration_of_all_samples():
    values, patients = np.array([0.1, 0.3, 0.9, 0.5, 0.6]), ["a", "a", "b", "c", "c"]
    means = [
        np.mean(np.concatenate([values[[p == name for p in patients]] for name in sample]))
        for sample in itertools.product("abc", repeat=3)
    ]
    found = mean_interval(values, patients, draws=200_000, level=0.9)
    # The 5 % and 95 % points of 27 equally likely means.
    assert found.low == pytest.approx(np.quantile(means, 0.05, method="inverted_cdf"))
    assert found.high == pytest.approx(np.quantile(means, 0.95, method="inverted_cdf"))


def test_nan_is_dropped_and_counted():
    found = mean_interval([0.2, math.nan, 0.4, math.nan], ["a", "a", "b", "c"])
    assert found.mean == pytest.approx(0.3)
    assert (found.cases, found.dropped, found.patients) == (2, 2, 2)
    alone = mean_interval([0.2, 0.4], ["a", "b"])
    assert (found.mean, found.low, found.high) == (alone.mean, alone.low, alone.high)


@pytest.mark.parametrize("values", [[], [math.nan, math.nan]])
def test_no_value_gives_no_number(values):
    found = mean_interval(values, ["a", "b"][: len(values)])
    assert math.isnan(found.mean)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert (found.cases, found.dropped, found.patients, found.draws) == (0, len(values), 0, 0)


def test_one_patient_gives_a_mean_but_no_interval():
    found = mean_interval([0.2, 0.4, 0.9], ["a", "a", "a"])
    assert found.mean == pytest.approx(0.5)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_patients_are_resampled_not_cases():
    # Ten cases a patient, alike within the patient: twenty patients know no more than twenty cases do.
    generator = np.random.default_rng(1)
    of_patient = generator.normal(0.8, 0.1, 20)
    names = [str(i) for i in range(20)]
    once = mean_interval(of_patient, names)
    tenfold = mean_interval(np.repeat(of_patient, 10), np.repeat(names, 10).tolist())
    as_if_independent = mean_interval(np.repeat(of_patient, 10), [str(i) for i in range(200)])
    assert (tenfold.low, tenfold.high) == pytest.approx((once.low, once.high))
    assert as_if_independent.high - as_if_independent.low < 0.5 * (tenfold.high - tenfold.low)


def test_the_interval_agrees_with_scipy_where_each_case_is_a_patient():
    from scipy.stats import bootstrap

    values = np.random.default_rng(3).beta(8, 2, 40)
    theirs = bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(0))
    ours = mean_interval(values, [str(i) for i in range(40)], draws=20_000)
    low, high = theirs.confidence_interval
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.003)


def test_about_95_in_100_intervals_hold_the_truth():
    generator = np.random.default_rng(7)
    patients = np.repeat([str(i) for i in range(40)], 3).tolist()
    held = 0
    for _ in range(200):
        values = 0.8 + np.repeat(generator.normal(0, 0.1, 40), 3) + generator.normal(0, 0.03, 120)
        found = mean_interval(values, patients, draws=500)
        held += found.low <= 0.8 <= found.high
    assert 180 <= held <= 198


def test_the_order_of_the_cases_does_not_matter():
    values, patients = [0.1, 0.7, 0.4, 0.9], ["b", "a", "b", "c"]
    order = [2, 0, 3, 1]
    assert mean_interval(values, patients) == mean_interval([values[i] for i in order], [patients[i] for i in order])


def test_the_seed_decides():
    values, patients = np.linspace(0, 1, 12), [str(i) for i in range(12)]
    assert mean_interval(values, patients, seed=1) == mean_interval(values, patients, seed=1)
    assert mean_interval(values, patients, seed=1) != mean_interval(values, patients, seed=2)


def test_columns_give_the_mean_of_their_means():
    # Column means 0.5 (two cases) and 0.9 (one case): 0.7, whatever the numbers of cases.
    found = mean_interval([[0.4, 0.9], [0.6, math.nan], [math.nan, math.nan]], ["a", "b", "c"])
    assert found.mean == pytest.approx(0.7)
    assert (found.cases, found.dropped, found.patients) == (2, 1, 2)
    # A quarter of the samples is b twice, which leaves the second column empty.
    assert 1400 < found.draws < 1600


def test_a_column_without_a_value_leaves_the_whole_undefined():
    found = mean_interval([[0.4, math.nan], [0.6, math.nan]], ["a", "b"])
    assert math.isnan(found.mean)
    assert math.isnan(found.low)


def test_drawing_in_blocks_equals_drawing_at_once():
    patients, draws = 5000, 1000  # more counts than one block holds
    values = np.random.default_rng(5).random(patients)
    times = np.random.default_rng(0).multinomial(patients, np.full(patients, 1 / patients), size=draws)
    means = (times @ values) / patients
    found = mean_interval(values, [f"{i:04d}" for i in range(patients)], draws=draws, seed=0)
    assert (found.low, found.high) == pytest.approx(np.quantile(means, [0.025, 0.975]))


def test_what_cannot_be_is_refused():
    with pytest.raises(UsageError, match="must have one patient per case"):
        mean_interval([1, 2], ["a"])
    with pytest.raises(UsageError, match="must be finite or NaN"):
        mean_interval([1, math.inf], ["a", "b"])
    with pytest.raises(UsageError, match="draws"):
        mean_interval([1, 2], ["a", "b"], draws=0)
    with pytest.raises(UsageError, match="level"):
        mean_interval([1, 2], ["a", "b"], level=95)


def test_means_over_as_many_patients_share_their_draws(monkeypatch):
    """A report of 104 regions and 20 metrics has 2,000 means; to draw anew for each took minutes."""
    made = []
    new = np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda seed: made.append(seed) or new(seed))
    names = [f"p{number:02d}" for number in range(37)]
    values = new(1).random((37, 2))
    first = mean_interval(values[:, 0], names, draws=501, seed=11)
    again = [mean_interval(values[:, 1], names, draws=501, seed=11), mean_interval(values, names, draws=501, seed=11)]
    assert len(made) == 1
    times = new(11).multinomial(37, np.full(37, 1 / 37), size=501)
    for found, of_patient in zip([first, *again], [values[:, 0], values[:, 1], values.mean(axis=1)], strict=True):
        ends = np.quantile(times @ of_patient / 37, [0.025, 0.975])
        assert (found.low, found.high) == pytest.approx(tuple(ends))
