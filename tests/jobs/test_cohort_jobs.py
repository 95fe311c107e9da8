"""`volseg convert` and `volseg evaluate` as fleets: the same cohort, the same rows."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from command import told
from job_report import SCHEMA

from volseg.cohort import Cohort, write_cohort, write_patients
from volseg.datasets import write_phantom
from volseg.evaluation import STANDARD, EvaluationSettings, RegionScores, evaluate
from volseg.formats import UwMadison
from volseg.jobs import WorkerOptions, evaluate_cases
from volseg.volume import Volume, read_volume, write_volume


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and ".volseg" not in path.parts)
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in files if not path.name.startswith("run_report")
    }


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw") / "raw"
    write_phantom(folder, patients=3, days=2)
    return folder


def test_shards_write_the_cohort_of_one_run(capsys: pytest.CaptureFixture[str], raw: Path, tmp_path: Path) -> None:
    write_cohort(UwMadison(raw), tmp_path / "whole" / "cohort")
    cohort = tmp_path / "parts" / "cohort"
    for number in (1, 0, 0):
        words = ("--workers", "1", "--shard", f"{number}/2")
        assert told(capsys, "convert", "uw_madison", raw, cohort, *words)[0] == 0
    assert contents(cohort) == contents(tmp_path / "whole" / "cohort")
    parts = [json.loads((cohort / f"run_report-{number}-of-2.json").read_text()) for number in range(2)]
    for part in parts:
        jsonschema.validate(part, SCHEMA)
    assert sum(part["cases"]["all"] for part in parts) == 6
    code, text = told(capsys, "convert", "uw_madison", raw, cohort, "--workers", "1", "--shard", "0/1")
    assert code == 0
    assert "0 written, 6 finished before, 0 failed" in text


@pytest.mark.slow
def test_processes_write_the_cohort_of_one_run(capsys: pytest.CaptureFixture[str], raw: Path, tmp_path: Path) -> None:
    write_cohort(UwMadison(raw), tmp_path / "whole" / "cohort")
    cohort = tmp_path / "cohort"
    journal = tmp_path / "journal.jsonl"
    assert told(capsys, "convert", "uw_madison", raw, cohort, "--workers", "2", "--journal", journal)[0] == 0
    assert contents(cohort) == contents(tmp_path / "whole" / "cohort")
    assert len(journal.read_text().splitlines()) == 6


@pytest.fixture
def predictions(tiny_cohort: Path, tmp_path: Path) -> Path:
    """Of four of the five cases, one of them damaged, and one of a case that nobody knows."""
    cohort = Cohort.open(tiny_cohort)
    for key in cohort.keys[:3]:
        label = cohort.label_path(key)
        assert label is not None
        volume = read_volume(label)
        moved = type(volume)(np.roll(volume.voxels, 1, axis=0), volume.affine_ras)
        write_volume(tmp_path / "predictions" / f"{key}.nii.gz", moved)
        write_volume(tmp_path / "predictions" / "nobody.nii.gz", moved)
    (tmp_path / "predictions" / f"{cohort.keys[3]}.nii.gz").write_bytes(b"no image")
    return tmp_path / "predictions"


@pytest.mark.parametrize("method", [STANDARD, EvaluationSettings(objects=True)], ids=["standard", "objects"])
def test_a_team_gives_the_rows_of_one_run(
    tiny_cohort: Path, predictions: Path, tmp_path: Path, method: EvaluationSettings
) -> None:
    cohort = Cohort.open(tiny_cohort)
    expected = evaluate(predictions, cohort, method=method)
    by_shard = [
        evaluate_cases(
            predictions, cohort, tmp_path / "out", worker_options=WorkerOptions.parse(shard=f"{n}/2"), method=method
        )
        for n in range(2)
    ]
    assert sorted(map(repr, [*by_shard[0], *by_shard[1]])) == sorted(map(repr, expected))
    assert (
        evaluate_cases(predictions, cohort, tmp_path / "out", worker_options=WorkerOptions(), method=method) == expected
    )
    report = json.loads((tmp_path / "out" / "run_report.json").read_text())
    assert (report["cases"]["done_before"], report["cases"]["failed"]) == (3, 2)
    asked = evaluate_cases(
        predictions, cohort, tmp_path / "out", worker_options=WorkerOptions(), keys=cohort.keys, method=method
    )
    assert asked == evaluate(predictions, cohort, keys=cohort.keys, method=method)


def test_rows_of_another_version_are_scored_anew(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cohort"
    write_cohort(UwMadison(raw), folder)
    cohort = Cohort.open(folder)
    (tmp_path / "predictions").mkdir()
    for key in cohort.keys:
        shutil.copyfile(cohort.label_path(key), tmp_path / "predictions" / f"{key}.nii.gz")

    def scored() -> int:
        evaluate_cases(
            tmp_path / "predictions", cohort, tmp_path / "out", worker_options=WorkerOptions(), method=STANDARD
        )
        report = json.loads((tmp_path / "out" / "run_report.json").read_text())
        return report["cases"]["done"]

    assert scored() == len(cohort.keys)
    assert scored() == 0
    monkeypatch.setattr("volseg.__version__", "9.0")
    assert scored() == len(cohort.keys)


def test_a_resumed_evaluation_knows_of_corrected_patients_and_headers(raw: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cohort"
    write_cohort(UwMadison(raw), folder)
    cohort = Cohort.open(folder)
    for key in cohort.keys:
        (tmp_path / "predictions").mkdir(exist_ok=True)
        shutil.copyfile(cohort.label_path(key), tmp_path / "predictions" / f"{key}.nii.gz")

    def rows(cohort: Cohort) -> list[RegionScores]:
        return evaluate_cases(
            tmp_path / "predictions", cohort, tmp_path / "out", worker_options=WorkerOptions(), method=STANDARD
        )

    before = rows(cohort)
    assert len({row.patient for row in before}) == 3
    corrected = write_patients(cohort, r"(.*)")  # each scan is of a patient of its own
    after = rows(corrected)
    assert [replace(row, patient="") for row in after] == [replace(row, patient="") for row in before]
    assert len({row.patient for row in after}) == len(cohort.keys) == 6
    image = corrected.image_paths(cohort.keys[0])[0]
    volume = read_volume(image)
    affine = np.array(volume.affine_ras)
    affine[:3, :3] *= 2
    write_volume(image, Volume(volume.voxels, affine))
    errors = {row.key: row.error for row in rows(corrected) if row.error}
    assert list(errors) == [cohort.keys[0]]
    assert "the reference must be on the grid of its image" in errors[cohort.keys[0]]
