"""The content of `summary.json`, for programs: its JSON Schema is `summary.schema.json` beside this file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from volseg.evaluation import METRICS, PROMISE_DEFINITION, STANDARD, EvaluationSettings
from volseg.metrics import DRAWS, LEVEL, SEED
from volseg.report.cells import rounded
from volseg.report.summary import RegionSummary, Spread, Summary

SCHEMA = "volseg.report/1"

DEFINITIONS = {
    **{metric.name: metric.definition for metric in METRICS},
    "interval": (
        f"{LEVEL * 100:.0f} % interval of the mean over cases: percentile bootstrap that resamples patients with all "
        f"their cases, {DRAWS} draws, seed {SEED}; none below two patients. It says how the mean varies with the "
        "choice of patients, not how one case varies."
    ),
    "mean_of_regions": (
        "Mean of regions = unweighted mean of the regions' means, with regions resampled together; undefined unless "
        "every region has a mean. A draw that leaves a region without a value is not counted."
    ),
    "promise": PROMISE_DEFINITION,
    "outcome": (
        "Both present; missed: in the reference, not predicted; invented: predicted, not in the reference; both empty. "
        "A failed case is in no mean and in no count but that of the failures."
    ),
}


def summary_as_json(
    summary: Summary, *, title: str, details: Mapping[str, str], method: EvaluationSettings = STANDARD
) -> dict[str, Any]:
    """The content of `summary.json`, schema `volseg.report/1`: numbers with six decimals, null if undefined.

    Numbers below 0.001 have six digits.

    >>> from volseg.report import summarise
    >>> content = summary_as_json(summarise([]), title="Test", details={})
    >>> content["schema"], content["method"]["reading"], content["mean_of_regions"]["dice"]["mean"]
    ('volseg.report/1', 'directed', None)
    """
    content = {
        "schema": SCHEMA,
        "title": title,
        "details": {**details, **method.details},
        "method": asdict(method),
        "cases": {"scored": summary.cases, "failed": len(summary.failures), "patients": summary.patients},
        "bootstrap": {"unit": "patient", "draws": DRAWS, "level": LEVEL, "seed": SEED},
        "metrics": [
            {
                "name": metric.name,
                "title": metric.title,
                "unit": metric.unit,
                "higher_is_better": metric.higher_is_better,
                "digits": metric.digits,
            }
            for metric in METRICS
        ],
        "regions": {region.region: _region(region) for region in summary.regions},
        "mean_of_regions": {name: _spread(spread) for name, spread in summary.means.items()},
        "failures": [{"key": row.key, "patient": row.patient, "error": row.error} for row in summary.failures],
        "definitions": DEFINITIONS,
    }
    result: dict[str, Any] = rounded(content)
    return result


def _region(region: RegionSummary) -> dict[str, Any]:
    return {
        "cases": region.cases,
        "outcomes": region.outcomes,
        **{name: _spread(spread) for name, spread in region.spreads.items()},
    }


def _spread(spread: Spread) -> dict[str, Any]:
    return {
        "cases": spread.cases,
        "patients": spread.patients,
        "mean": spread.mean,
        "interval": None if spread.low is None else [spread.low, spread.high],
        "interval_method": None if spread.low is None else spread.method,
        "median": spread.median,
        "std": spread.std,
    }
