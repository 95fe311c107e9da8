"""Predictions against references: cases scored, prediction sets compared, outliers found."""

from __future__ import annotations

from volseg import names_of_before
from volseg.evaluation.case import evaluate, score_case
from volseg.evaluation.comparison import TEST_DEFINITIONS, Comparison, Difference, compare, set_names
from volseg.evaluation.quality import DEFINITIONS, Quality, rank
from volseg.evaluation.scores import METRICS, STANDARD, EvaluationSettings, Metric, RegionScores

__all__ = [
    "DEFINITIONS",
    "METRICS",
    "STANDARD",
    "TEST_DEFINITIONS",
    "Comparison",
    "Difference",
    "EvaluationSettings",
    "Metric",
    "Quality",
    "RegionScores",
    "compare",
    "evaluate",
    "rank",
    "score_case",
    "set_names",
]

__getattr__ = names_of_before(__name__)
