"""Predictions against references: cases scored, prediction sets compared, outliers found."""

from __future__ import annotations

from volseg import names_of_before
from volseg.evaluation.case import evaluate, score_case, tell_notes
from volseg.evaluation.comparison import TEST_DEFINITIONS, Comparison, Difference, compare, set_names, settings_for
from volseg.evaluation.promises import (
    PROMISE_DEFINITION,
    PromiseCheck,
    check_promises,
    review_curve,
    with_bounds,
)
from volseg.evaluation.quality import DEFINITIONS, Quality, rank
from volseg.evaluation.scores import METRICS, STANDARD, EvaluationSettings, Metric, RegionScores

__all__ = [
    "DEFINITIONS",
    "METRICS",
    "PROMISE_DEFINITION",
    "STANDARD",
    "TEST_DEFINITIONS",
    "Comparison",
    "Difference",
    "EvaluationSettings",
    "Metric",
    "PromiseCheck",
    "Quality",
    "RegionScores",
    "check_promises",
    "compare",
    "evaluate",
    "rank",
    "review_curve",
    "score_case",
    "set_names",
    "settings_for",
    "tell_notes",
    "with_bounds",
]

__getattr__ = names_of_before(__name__)
