"""Predictions that another program wrote: what is not scored, turned, taken by guess or lacking is told, not silent."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from volseg.cli import main
from volseg.cohort import Cohort
from volseg.errors import UsageError, VolumeError
from volseg.evaluation import compare, evaluate, rank
from volseg.jobs import WorkerOptions, evaluate_cases
from volseg.labels import LabelTable
from volseg.volume import Volume, read_volume, write_volume

AFFINE = np.diag([-1.5, -1.5, 3.0, 1.0])
SHAPE = (12, 10, 8)
KEYS = [f"case{number}" for number in range(6)]
LABELS = {"background": 0, "liver": 1, "spleen": 2}


def label(number: int = 0) -> np.ndarray:
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[2:6, 2 : 6 + number % 2, 2:5], voxels[8:11, 4:8, 3:6] = 1, 2
    return voxels


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    folder = tmp_path_factory.mktemp("of_others") / "cohort"
    for number, key in enumerate(KEYS):
        write_volume(folder / f"imagesTr/{key}_0000.nii.gz", Volume(label(number).astype(np.int16) * 100, AFFINE))
        write_volume(folder / f"labelsTr/{key}.nii.gz", Volume(label(number), AFFINE))
    stated = {"channel_names": {"0": "MR"}, "labels": LABELS, "numTraining": len(KEYS), "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(stated))
    (folder / "splits.json").write_text(json.dumps([{"train": KEYS[:4], "val": KEYS[4:]}]))
    return Cohort.open(folder)


def predictions(
    folder: Path,
    *,
    keys: list[str] = KEYS,
    made: Callable[[np.ndarray], np.ndarray] = lambda voxels: voxels,
    affine: np.ndarray = AFFINE,
    table: bool = True,
) -> Path:
    for key in keys:
        write_volume(folder / f"{key}.nii.gz", Volume(made(label(KEYS.index(key))), affine))
    if table:
        stated = {"channel_names": {"0": "MR"}, "labels": LABELS, "file_ending": ".nii.gz"}
        (folder / "dataset.json").write_text(json.dumps(stated))
    return folder


def turned(axis: int) -> np.ndarray:
    """The affine of the same voxels with one axis the other way."""
    affine = AFFINE.copy()
    affine[:3, 3] += AFFINE[:3, axis] * (SHAPE[axis] - 1)
    affine[:3, axis] *= -1
    return affine


def moved(mm: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[0, 3] += mm
    return affine


# --- cases without a prediction


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (KEYS, ""),
        (KEYS[4:], ""),  # the validation cases of a fold
        (KEYS[:5], "note  1 of 6 labelled cases have no prediction and are not scored: case5"),
        (
            KEYS[1:3],
            "note  4 of 6 labelled cases have no prediction and are not scored: case0, case3, case4 and 1 more",
        ),
    ],
)
def test_labelled_cases_without_a_prediction_are_told(
    keys: list[str], told: str, cohort: Cohort, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = predictions(tmp_path / "predictions", keys=keys)
    _run("evaluate", folder, cohort.folder, "-o", tmp_path / "report", "--no-html", "--workers", 1)
    said = capsys.readouterr().err
    assert (told or "note") in said if told else "no prediction" not in said


def test_a_link_to_nowhere_and_a_folder_are_no_predictions(
    cohort: Cohort, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = predictions(tmp_path / "predictions")
    (folder / "case1.nii.gz").unlink()
    (folder / "case1.nii.gz").symlink_to(tmp_path / "nowhere")
    (folder / "case2.nii.gz").unlink()
    (folder / "case2.nii.gz").mkdir()
    _run("evaluate", folder, cohort.folder, "-o", tmp_path / "report", "--no-html", "--workers", 1)
    assert "2 of 6 labelled cases have no prediction and are not scored: case1, case2" in capsys.readouterr().err


def test_compare_tells_cases_that_no_set_has(
    cohort: Cohort, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = [predictions(tmp_path / name, keys=KEYS[:5]) for name in "ab"]
    _run("compare", cohort.folder, *sets, "-o", tmp_path / "out", "--workers", 1)
    assert "1 of 6 labelled cases have no prediction and are not scored: case5" in capsys.readouterr().err


# --- grids


@pytest.mark.parametrize(
    ("made", "affine", "told"),
    [
        (lambda voxels: voxels, AFFINE, ""),
        (lambda voxels: voxels[::-1].copy(), turned(0), "its axes run otherwise"),
        (lambda voxels: voxels[:, :, ::-1].copy(), turned(2), "its axes run otherwise"),
        (lambda voxels: voxels, moved(0.02), "up to 2 % of a voxel"),
    ],
)
def test_turned_and_rounded_predictions_are_told_once(
    made: Callable[[np.ndarray], np.ndarray],
    affine: np.ndarray,
    told: str,
    cohort: Cohort,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = predictions(tmp_path / "predictions", made=made, affine=affine)
    with caplog.at_level(logging.WARNING):
        rows = evaluate(folder, cohort)
        again = evaluate_cases(
            *(folder, cohort, tmp_path), worker_options=WorkerOptions.parse(workers=1), method=_method()
        )
    assert {row.dice for row in (*rows, *again)} == {1.0}
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == (2 if told else 0)
    assert all(told in line and "in 6 of 6 cases (case0, case1, case2 and 3 more)" in line for line in lines)


def _method() -> object:
    from volseg.evaluation import EvaluationSettings

    return EvaluationSettings()


# --- what cannot be used names its cause


def test_sets_that_failed_say_why_and_not_that_they_share_no_case(cohort: Cohort, tmp_path: Path) -> None:
    folder = predictions(tmp_path / "other_grid", affine=np.eye(4))
    rows = {"a": evaluate(predictions(tmp_path / "a"), cohort), "b": evaluate(folder, cohort)}
    with pytest.raises(UsageError, match="6 cases failed, such as case0, b: the prediction must be on the reference"):
        compare(rows)
    with pytest.raises(UsageError, match="6 predictions cannot be used, such as case0: the two predictions must be on"):
        rank(predictions(tmp_path / "c"), LabelTable.exclusive(["liver", "spleen"]), others=[folder])


@pytest.mark.parametrize("axis", [0, -1])
def test_one_hot_masks_are_named(axis: int, tmp_path: Path) -> None:
    import nibabel

    one_hot = np.stack([label() == value for value in range(3)], axis).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(one_hot, AFFINE), tmp_path / "a.nii.gz")
    with pytest.raises(VolumeError, match="of one-hot masks or probabilities the number of the largest"):
        read_volume(tmp_path / "a.nii.gz")


# --- the labels of another reader


def test_the_labels_of_another_cohort_are_read_by_its_own_table(
    cohort: Cohort, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two readers whose tables have another order agreed in nothing: the values were those of the first."""
    reader = predictions(tmp_path / "reader" / "labelsTr", made=lambda voxels: (3 - voxels) * (voxels > 0), table=False)
    stated = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "spleen": 1, "liver": 2}}
    (reader.parent / "dataset.json").write_text(json.dumps({**stated, "file_ending": ".nii.gz"}))
    assert {row.dice for row in evaluate(reader, cohort)} == {1.0}
    _run("evaluate", reader, cohort.folder, "-o", tmp_path / "out", "--no-html")
    assert "says what the values mean" not in capsys.readouterr().err
    monkeypatch.chdir(reader)
    assert {row.dice for row in evaluate(Path(), cohort)} == {1.0}
    monkeypatch.chdir(tmp_path)
    (reader.parent / "dataset.json").write_text("{}")  # no table: the values are the cohort's, and a note says so
    _run("evaluate", reader, cohort.folder, "-o", tmp_path / "out", "--no-html")
    assert "no dataset.json says what the values mean" in capsys.readouterr().err


# --- quality


def test_quality_tells_what_the_further_folders_lack(
    cohort: Cohort, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = predictions(tmp_path / "first")
    other = predictions(tmp_path / "other", keys=KEYS[:2], table=False)
    images = cohort.folder.parent / "images"
    write_volume(images / "imagesTr/zz_0000.nii.gz", Volume(label().astype(np.int16), AFFINE))
    write_volume(images / "labelsTr/zz.nii.gz", Volume(label(), AFFINE))
    (images / "dataset.json").write_text((cohort.folder / "dataset.json").read_text())
    _run("quality", first, "--other", other, "--images", images, "-o", tmp_path / "out", "--workers", 1)
    said = capsys.readouterr().err
    assert "other: no dataset.json says what the values mean" in said
    assert "other: 4 of 6 cases have no prediction there: case2, case3, case4 and 1 more" in said
    assert "images: 6 of 6 cases have no image there, so their intensities are not looked at" in said
    _run("quality", first, "--other", predictions(tmp_path / "whole"), "-o", tmp_path / "out", "--workers", 1)
    assert "note" not in capsys.readouterr().err


def _run(*words: object) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    assert not stopped.value.code
