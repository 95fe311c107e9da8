"""What a user asks to be scored: nothing, a case that nobody knows, a metric that is told apart or mistyped."""

from __future__ import annotations

import json

import numpy as np
import pytest
from command import told
from scored_cohort import REFERENCE, make_cohort, write

from volseg.cohort import Fold, write_splits
from volseg.cohort.table import write_table
from volseg.errors import UsageError
from volseg.evaluation import settings_for
from volseg.inference import find_inputs
from volseg.jobs import WorkerOptions, evaluate_cases

KEYS = ("p1_day1", "p1_day2", "p2_day1")


@pytest.fixture
def cohort(tmp_path):
    return make_cohort(tmp_path / "cohort", dict.fromkeys(KEYS, REFERENCE))


@pytest.fixture
def predictions(tmp_path, cohort):
    folder = tmp_path / "predictions"
    for key in KEYS:
        write(folder / f"{key}.nii.gz", np.roll(REFERENCE, 1, axis=0))
    (folder / "dataset.json").write_bytes((cohort.folder / "dataset.json").read_bytes())
    return folder


def test_a_part_without_a_case_is_refused_and_nothing_is_written(cohort, predictions, tmp_path, capsys):
    write_splits(cohort.folder, [Fold(KEYS, ())])
    words = ("evaluate", predictions, cohort.folder, "--part", "validation", "-o", tmp_path / "report", "--no-html")
    for more in ((), ("--journal", str(tmp_path / "journal.jsonl"))):
        code, text = told(capsys, *words, *more)
        assert (code, "must have a validation case of fold 0, got none" in text) == (2, True), text
        assert not (tmp_path / "report").exists()
    with pytest.raises(UsageError, match="must have a validation case of fold 0, got none"):
        find_inputs(cohort.folder, channels=1, part="validation")


def test_a_report_into_a_cohort_is_refused(cohort, predictions, capsys):
    """The report's cases.csv replaced that of the cohort, with its patients and sessions."""
    write_table(cohort.folder / "cases.csv", cohort.rows.values())
    before = (cohort.folder / "cases.csv").read_bytes()
    code, text = told(capsys, "evaluate", predictions, cohort.folder, "-o", cohort.folder, "--no-html")
    assert (code, "-o must be no cohort, whose cases.csv would be replaced" in text) == (2, True), text
    assert (cohort.folder / "cases.csv").read_bytes() == before


@pytest.mark.parametrize("command", ["crossval", "days"])
def test_a_report_into_the_folder_of_another_command_is_refused(cohort, predictions, tmp_path, capsys, command):
    (tmp_path / f"{command}.json").write_text("{}")
    code, text = told(capsys, "evaluate", predictions, cohort.folder, "-o", tmp_path, "--no-html")
    assert (code, f"-o must be no folder of volseg {command}" in text) == (2, True), text


def test_a_folder_without_predictions_is_refused_with_a_journal_too(cohort, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    options = WorkerOptions(journal=tmp_path / "journal.jsonl")
    with pytest.raises(UsageError, match="holds no prediction"):
        evaluate_cases(
            tmp_path / "empty", cohort, tmp_path / "report", worker_options=options, method=settings_for("dice")
        )


def test_a_segmentation_of_a_case_that_the_cohort_lacks_fails_alone(cohort, predictions, tmp_path, capsys):
    """The other cases went unscored: unexpected KeyError."""
    assert told(capsys, "export", "slicer", predictions, "-o", tmp_path / "slicer")[0] == 0
    (tmp_path / "slicer" / "p9_day1.seg.nrrd").write_bytes((tmp_path / "slicer" / "p1_day1.seg.nrrd").read_bytes())
    words = ("evaluate", tmp_path / "slicer", cohort.folder, "-o", tmp_path / "report", "--no-html")
    code, text = told(capsys, *words)
    assert (code, "failed  p9_day1: the cohort has no case p9_day1" in text) == (1, True), text
    assert json.loads((tmp_path / "report" / "summary.json").read_text())["cases"]["scored"] == len(KEYS)


def test_metrics_that_are_computed_on_demand_can_be_compared(cohort, predictions, tmp_path, capsys):
    other = tmp_path / "other"
    for key in KEYS:
        write(other / f"{key}.nii.gz", np.roll(REFERENCE, 2, axis=0))
    for metric in ("object_f1", "margin_mm"):
        words = ("compare", cohort.folder, predictions, other, "--metric", metric, "-o", tmp_path / metric)
        code, text = told(capsys, *words)
        assert (code, "other − predictions" in text) == (0, True), text
        assert json.loads((tmp_path / metric / "comparison.json").read_text())["metric"]["name"] == metric


def test_a_mistyped_metric_is_told_before_a_case_is_scored(cohort, predictions, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("volseg.evaluation.evaluate", lambda *_, **__: pytest.fail("cases were scored"))
    other = tmp_path / "other"
    write(other / "p1_day1.nii.gz", REFERENCE)
    words = ("compare", cohort.folder, predictions, other, "--metric", "dcie", "-o", tmp_path / "out")
    code, text = told(capsys, *words)
    assert (code, "the metric must be one of dice, " in text) == (2, True), text


def test_a_set_without_predictions_is_named(cohort, predictions, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    code, text = told(capsys, "compare", cohort.folder, predictions, tmp_path / "empty", "-o", tmp_path / "out")
    assert (code, f"{tmp_path / 'empty'} holds no prediction" in text) == (2, True), text
