"""The summary of a cross-validation for programs: its JSON Schema is `summary.schema.json` beside this file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import volseg
from volseg.cohort import Cohort
from volseg.crossval.choice import CHOICE_DEFINITION, Choice, Standing
from volseg.crossval.cleanup import CLEANUP_DEFINITION, RegionCleanup
from volseg.crossval.folder import CHOSEN, CrossvalFolder
from volseg.crossval.run import read_done
from volseg.crossval.settings import CrossvalSettings
from volseg.evaluation import RegionScores
from volseg.files import atomic
from volseg.metrics import Interval
from volseg.report import RegionSummary, Spread, Summary, summarise

SCHEMA = "volseg.crossval/1"
_DIGITS = 6

ESTIMATE = (
    "Out of fold: each case is predicted by the networks of the one fold that has not trained on it. The ensemble "
    "folder holds the networks of all folds, which together have seen every case; its Dice on new patients is not "
    "measured by these cases, and that of one fold's network is."
)
TAKEN = {
    "last": "The network after the last step of each training is taken, which no validation has chosen.",
    "best": "The network of the best validation is taken, which the held-out cases themselves have chosen: the Dice is "
    "a little too high.",
}


def summary_as_json(
    folder: CrossvalFolder,
    settings: CrossvalSettings,
    cohort: Cohort,
    *,
    choice: Choice,
    cleanup: Sequence[RegionCleanup],
    rows: Mapping[str, Sequence[RegionScores]],
    final: Sequence[RegionScores],
    notes: Sequence[str],
    title: str,
) -> dict[str, Any]:
    """The content of `summary.json`, schema `volseg.crossval/1`: numbers with six decimals, null if undefined.

    Args:
        folder: Folder of the cross-validation.
        settings: Settings of the cross-validation.
        cohort: Cohort of the references.
        choice: Chosen candidate.
        cleanup: Decision about each region.
        rows: Out-of-fold scores by candidate.
        final: Scores of the chosen candidate after its clean-up.
        notes: Lines for the reader.
        title: Title of the report.
    """
    chosen = choice.chosen
    keep = [one.region for one in cleanup if one.chosen]
    finished = [name for name in settings.networks if name in rows]
    content = {
        "schema": SCHEMA,
        "volseg": volseg.__version__,
        "title": title,
        "cohort": {
            "folder": str(cohort.folder),
            "digest": cohort.digest,
            "regions": list(cohort.labels.names),
            "folds": [
                {
                    "fold": number,
                    "training": len(cohort.fold(number).training),
                    "held_out": len(cohort.fold(number).validation),
                    "patients_held_out": len({cohort.patient(key) for key in cohort.fold(number).validation}),
                }
                for number in settings.folds
            ],
        },
        "training": settings.facts(),
        "inference": dict(vars(settings.inference)),
        "runs": [_run(folder, name, fold) for name in finished for fold in settings.folds],
        "candidates": [_candidate(one, summarise(rows[one.candidate.name])) for one in choice.standings],
        "choice": {"candidate": chosen.name, "networks": list(chosen.networks), "reason": choice.reason},
        "cleanup": {"keep_largest": keep, "regions": [asdict(one) for one in cleanup]},
        "result": _result(summarise(final)),
        "predictions": f"oof/{CHOSEN if keep else chosen.name}",
        "probabilities": f"oof/{chosen.name}/probabilities" if settings.inference.save_probabilities else None,
        "table": "oof/table.csv",
        "ensemble": "ensemble",
        "failures": [{"key": row.key, "error": row.error} for row in final if row.error is not None],
        "notes": list(notes),
        "definitions": {
            "estimate": ESTIMATE,
            "take": TAKEN[settings.take],
            "choice": CHOICE_DEFINITION,
            "cleanup": CLEANUP_DEFINITION,
        },
    }
    rounded: dict[str, Any] = _rounded(content)
    return rounded


def write_summary(path: Path, content: Mapping[str, Any]) -> Path:
    """Write the summary, whole or not at all."""
    with atomic(path) as partial:
        partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return path


def details_of(content: Mapping[str, Any]) -> dict[str, str]:
    """The facts of a summary that the page shows at its top."""
    training = content["training"]
    length = "the epochs of the bundle" if training["minutes"] is None else f"{training['minutes']:g} minutes per fold"
    keep = content["cleanup"]["keep_largest"]
    found = {
        "Cohort": str(content["cohort"]["folder"]),
        "Folds": f"{len(content['cohort']['folds'])} by patient; each case is predicted by a network that has not seen "
        "its patient",
        "Training": f"{length}. {TAKEN[training['take']]}",
        "Chosen": content["choice"]["reason"],
        "Clean-up": f"the largest part alone of {', '.join(keep)}" if keep else "none: no region gains by it",
        "Ensemble": f"{content['ensemble']}: {len(content['runs'])} trained networks in all. {ESTIMATE}",
    }
    for one in content["candidates"]:
        dice = one["dice"]
        interval = "" if dice["interval"] is None else " [{:.3f}, {:.3f}]".format(*dice["interval"])
        regions = ", ".join(
            f"{name} {'–' if region['dice']['mean'] is None else format(region['dice']['mean'], '.3f')}"
            for name, region in one["regions"].items()
        )
        found[f"Dice of {one['name']}"] = f"{dice['mean']:.3f}{interval} ({regions})"
    for number, note in enumerate(content["notes"], start=1):
        found[f"Note {number}"] = note
    return found


def _run(folder: CrossvalFolder, name: str, fold: int) -> dict[str, Any]:
    done = read_done(folder, name, fold)
    facts = ("epochs", "iterations", "trained_minutes", "parameters", "seconds", "sha256", "warnings", "not_predicted")
    return {"network": name, "fold": fold, **{fact: done.get(fact) for fact in facts}}


def _candidate(one: Standing, summary: Summary) -> dict[str, Any]:
    return {
        "name": one.candidate.name,
        "networks": list(one.candidate.networks),
        "dice": _interval(one.dice),
        "difference_from_best_network": None if one.difference is None else _interval(one.difference),
        "p": one.p,
        "p_holm": one.p_holm,
        "patients_better": one.patients_better,
        "patients_worse": one.patients_worse,
        **_result(summary),
    }


def _result(summary: Summary) -> dict[str, Any]:
    return {
        "cases": summary.cases,
        "patients": summary.patients,
        "failed": len(summary.failures),
        "mean_dice": _spread(summary.mean_dice),
        "regions": {one.region: _region(one) for one in summary.regions},
    }


def _region(one: RegionSummary) -> dict[str, Any]:
    metrics = ("dice", "hd95_mm", "surface_dice", "volume_error_ml")
    return {"cases": one.cases, "outcomes": one.outcomes, **{name: _spread(one.spreads[name]) for name in metrics}}


def _spread(spread: Spread) -> dict[str, Any]:
    return {
        "cases": spread.cases,
        "patients": spread.patients,
        "mean": spread.mean,
        "interval": None if spread.low is None else [spread.low, spread.high],
        "median": spread.median,
    }


def _interval(found: Interval) -> dict[str, Any]:
    return {
        "mean": _defined(found.mean),
        "interval": None if math.isnan(found.low) else [found.low, found.high],
        "cases": found.cases,
        "patients": found.patients,
    }


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value


def _rounded(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, _DIGITS) + 0.0
    if isinstance(value, Mapping):
        return {name: _rounded(entry) for name, entry in value.items()}
    return [_rounded(entry) for entry in value] if isinstance(value, (list, tuple)) else value
