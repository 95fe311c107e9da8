"""Options that say nothing beside others are refused, and a report leaves nothing of an earlier one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command import told
from PIL import Image


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("evaluate a b -o c --fold 1", "--fold must be given with --part training or validation, got no --part"),
        (
            "evaluate a b -o c --part labelled --fold 0",
            "--fold must be given with --part training or validation, got --",
        ),
        ("predict nowhere b -o c --fold 1", "--fold must be given with --part training or validation, got --part all"),
        ("train nowhere --times 4", "--times says how often corrected cases are taken; give --corrections RUN too"),
        (
            "compare one two -o c --regions liver",
            "--regions chooses regions of predictions; training runs are compared",
        ),
        (
            "demo nowhere --write-space c --cohort d --axes LPS",
            "--write-space writes the folder of a demo elsewhere, which --cohort, --axes would not reach; leave it out",
        ),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: str, line: str
) -> None:
    """`predict --fold 1` predicted the training cases too, and said nothing."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    code, text = told(capsys, *words.split())
    assert code == 2
    assert text.startswith(f"volseg: {line}")
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("option", ["--folds", "--seed"])
def test_the_chosen_fold_of_images_is_the_only_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, option: str
) -> None:
    for number in range(3):
        for name in ("images", "masks"):
            (tmp_path / "raw" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(tmp_path / "raw" / name / f"p{number}.png")
    words = ("convert", "images", tmp_path / "raw", tmp_path / "cohort", "--images", "images/{key}.png", "--masks")
    code, text = told(capsys, *words, "masks/{key}.png", "--validation", "images/p0.png", option, "3")
    assert code == 2
    assert "--validation chooses the cases of the only fold; leave --folds and --seed out" in text


def test_a_seed_draws_other_folds_than_those_that_the_list_states(
    capsys: pytest.CaptureFixture[str], tiny_cohort: Path, tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(tiny_cohort, raw)
    keys = sorted(path.name.removesuffix(".nii.gz") for path in (raw / "labelsTr").iterdir())
    stated = [{"train": keys[1:], "val": keys[:1]}]
    (raw / "splits.json").unlink(missing_ok=True)
    (raw / "splits_final.json").write_text(json.dumps(stated))
    for more, same in (((), True), (("--seed", "3"), False)):
        assert told(capsys, "convert", "decathlon", raw, tmp_path / f"cohort{same}", *more)[0] == 0
        assert (json.loads((tmp_path / f"cohort{same}" / "splits.json").read_text()) == stated) is same


def test_a_report_without_a_page_leaves_none_of_an_earlier_one(
    capsys: pytest.CaptureFixture[str], tiny_cohort: Path, tmp_path: Path
) -> None:
    """`report.html` showed the scores of the predictions before, beside the tables of these."""
    words = ("evaluate", tiny_cohort / "labelsTr", tiny_cohort, "-o", tmp_path / "report")
    assert told(capsys, *words)[0] == 0
    assert (tmp_path / "report" / "report.html").is_file()
    (tmp_path / "report" / "report_data").mkdir(exist_ok=True)
    (tmp_path / "report" / "report_data" / "case-1.webp").touch()
    (tmp_path / "report" / "notes.html").write_text("of a person")
    assert told(capsys, *words, "--no-html")[0] == 0
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == [
        "cases.csv",
        "notes.html",
        "report.md",
        "summary.json",
    ]


def test_a_comparison_leaves_no_rounds_of_an_earlier_one(
    capsys: pytest.CaptureFixture[str], tiny_cohort: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_cohort / "labelsTr", tmp_path / "other")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "rounds.html").write_text("of an earlier comparison")
    words = ("compare", tiny_cohort, tiny_cohort / "labelsTr", tmp_path / "other", "-o", tmp_path / "out")
    assert told(capsys, *words)[0] == 0
    assert not (tmp_path / "out" / "rounds.html").exists()


def test_a_part_that_is_of_no_fold_is_told_without_one(
    capsys: pytest.CaptureFixture[str], tiny_cohort: Path, tmp_path: Path
) -> None:
    words = ("evaluate", tiny_cohort / "labelsTr", tiny_cohort, "-o", tmp_path / "report", "--no-html", "--part")
    assert told(capsys, *words, "labelled")[0] == 0
    assert "- part: labelled\n" in (tmp_path / "report" / "report.md").read_text()
