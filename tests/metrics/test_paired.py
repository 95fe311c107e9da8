"""The signed-rank test and Holm's correction, against tables by hand and scipy."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from volseg.metrics import holm, signed_rank_p


def test_holm_by_hand():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1 = 0.02, 0.03, 0.06, 0.04; never falling: the last is 0.06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_no_test_is_not_counted():
    adjusted = holm([0.01, math.nan, 0.04])
    assert adjusted[::2] == pytest.approx([0.02, 0.04])
    assert math.isnan(adjusted[1])


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_never_lowers_keeps_the_order_and_stays_below_bonferroni(p):
    adjusted = holm(p)
    assert all(a >= b for a, b in zip(adjusted, p, strict=True))
    assert all(a <= min(1, len(p) * b) + 1e-12 for a, b in zip(adjusted, p, strict=True))
    order = np.argsort(p, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


@pytest.mark.parametrize("values", [[1, 2, 3, 4, 5, 6, -7], [1, 1, 2, 2, -3, 4, 4], [0, 0, 1, 2, 3, -4, 5, 6]])
def test_the_p_value_is_that_of_all_sign_patterns(values):
    kept = np.array([value for value in values if value], float)
    ranks = stats.rankdata(np.abs(kept))
    observed = abs((ranks * np.sign(kept)).sum())
    sums = [abs((ranks * signs).sum()) for signs in product((-1, 1), repeat=len(kept))]
    assert signed_rank_p(values) == pytest.approx(np.mean(np.array(sums) >= observed - 1e-9))


@pytest.mark.parametrize("count", [13, 14, 30, 60])
def test_the_p_value_agrees_with_scipy_and_does_not_depend_on_the_sign(count):
    values = np.random.default_rng(count).normal(0.3, 1, count)
    assert signed_rank_p(values) == signed_rank_p(-values)
    method = "exact" if count <= 50 else "approx"
    assert signed_rank_p(values) == pytest.approx(stats.wilcoxon(values, method=method).pvalue, abs=1e-6)


def test_too_few_differences_give_no_p_value():
    assert math.isnan(signed_rank_p([0.1] * 5))
    assert math.isnan(signed_rank_p([0.0] * 50))
    assert math.isnan(signed_rank_p([]))
    assert (
        signed_rank_p([0.1 + 0.2 - 0.3] * 3 + [1, 2, 3, 4, 5, 6]) == 0.03125
    )  # the rounding of a sum is no difference
