"""The commands: help, exit codes, and one line with the cure for each mistake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from command import told

import volseg
from volseg.cli import main


@pytest.mark.parametrize(
    "command",
    [
        "phantom",
        "convert",
        "check",
        "split",
        "train",
        "predict",
        "watch",
        "evaluate",
        "export slicer",
        "export slices",
        "export kaggle",
        "export dicom-seg",
        "export rtstruct",
    ],
)
def test_each_command_shows_an_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, text = told(capsys, *command.split(), "--help")
    assert code == 0
    assert f"Example: volseg {command}" in text.replace("\n", " ")


def test_version_and_bare_call(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "--version")[1].startswith("volseg 0.")
    assert "Usage" in told(capsys)[1]


def test_python_runs_the_package_as_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "volseg", "--version"], capture_output=True, text=True, check=False)
    assert done.stdout == f"volseg {volseg.__version__}\n"


def test_a_mistyped_command_or_option_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = told(capsys, "convrt")
    assert code == 2
    assert "convert" in text
    code, text = told(capsys, "split", "x", "--fold", "3")
    assert code == 2
    assert "--folds" in text


@pytest.mark.parametrize(
    ("words", "cure"),
    [
        (("convert", "uw_madison", "nowhere", "cohort"), "nowhere"),
        (("convert", "decathlon", "nowhere", "cohort"), "nowhere"),
        (("convert", "decathlon", "nowhere", "cohort", "--case", "a"), "--case"),
        (("check", "nowhere"), "there is no folder nowhere"),
        (("split", "nowhere"), "there is no folder nowhere"),
        (("train", "swinunet"), "no bundle"),
        (("train", "swinunetr", "max_epochs"), "settings are given as --name value"),
        (("evaluate", "nowhere", "nowhere", "-o", "report"), "there is no folder nowhere"),
        (("export", "slicer", "nowhere"), "nowhere"),
        (("export", "slices", "nowhere", "raw"), "nowhere"),
        (("export", "rtstruct", "nowhere", "--dicom", "nowhere", "-o", "out"), "nowhere"),
        (("convert", "dicom", "nowhere", "cohort"), "nowhere"),
    ],
)
def test_a_missing_folder_costs_one_line_and_exit_2(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    cure: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, text = told(capsys, *words)
    assert code == 2
    assert text.startswith("volseg: ")
    assert text.count("\n") == 1
    assert cure in text
    assert not any(tmp_path.iterdir())


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    from volseg.errors import CohortError

    with pytest.raises(CohortError):
        main(["check", str(tmp_path / "nowhere"), "--debug"])


def test_what_nobody_foresaw_is_one_line_too(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("volseg.cohort.Cohort.open", fail)
    assert told(capsys, "check", tmp_path) == (
        1,
        "volseg: unexpected ZeroDivisionError: by zero; --debug shows where\n",
    )


def test_some_failed_cases_make_exit_1(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    raw, cohort = tmp_path / "raw", tmp_path / "cohort"
    assert told(capsys, "phantom", raw, "--patients", "2", "--days", "1")[0] == 0
    broken = sorted(raw.glob("train/*/*/scans/slice_0007_*.png"))[0]
    broken.write_bytes(broken.read_bytes()[:200])
    key = broken.parent.parent.name
    code, text = told(capsys, "convert", "uw_madison", raw, cohort)
    assert code == 1
    assert "1 written, 0 finished before, 1 failed" in text
    assert f"failed  {key}: " in text
    assert "slice_0007" in text
    assert not list(cohort.rglob(f"*{key}*"))
    code, text = told(capsys, "phantom", raw)
    assert code == 2
