"""A folder that a command writes never gets the name of a file: `-o plan.json` would be a folder of that name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from command import told

from volseg.cli import app
from volseg.cli.shared_options import folder_to_write

# Commands whose output is a picture, whose ending tells.
FILES = {"picture", "animate"}


def outputs() -> Iterator[tuple[str, bool]]:
    """Each command with -o, and whether a name is checked."""
    top = typer.main.get_command(app)
    for name, command in top.commands.items():
        below = getattr(command, "commands", None)
        for words, one in [(f"{name} {sub}", item) for sub, item in below.items()] if below else [(name, command)]:
            for parameter in one.params:
                if "-o" in parameter.opts:
                    yield words, parameter.callback is not None


def test_each_command_with_a_folder_to_write_checks_its_name() -> None:
    found = dict(outputs())
    assert len(found) > 15
    assert {words for words, checked in found.items() if not checked} == FILES


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("plan cohort -o plan.json", "plan.json"),
        ("predict phantom scan.nii.gz -o out.nii.gz", "out.nii.gz"),
        ("predict phantom scan.nii.gz -o s3://bucket/Out.NII.GZ", "Out.NII.GZ"),
        ("evaluate a b -o sub/report.html", "report.html"),
        ("compare a b c -o table.csv", "table.csv"),
        ("quality a --output quality.md", "quality.md"),
        ("review a b -o todo.csv", "todo.csv"),
        ("days a -o days.md", "days.md"),
        ("crossval unet a -o best.pt", "best.pt"),
        ("export slicer a -o a.seg.nrrd", "a.seg.nrrd"),
        ("export rtstruct a --dicom d -o a.nii.gz", "a.nii.gz"),
        ("export dicom-seg a --dicom d -o a.zip", "a.zip"),
        ("pack phantom --onnx -o model.onnx", "model.onnx"),
    ],
)
def test_the_name_of_a_file_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, text = told(capsys, *words.split())
    assert code == 2
    told_of = f"-o must be a folder, got {name}, the name of a file"
    assert text == f"volseg: {told_of}; name a folder, into which the files are written\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        "calibrate run cohort",
        "export kaggle p c --test-csv t.csv",
        "export safetensors m.pt",
        "bundles catalogue a.zip",
    ],
)
def test_a_folder_where_a_file_is_written_is_refused_before_the_work(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: str
) -> None:
    """`calibrate -o data` predicted and calibrated all cases, and then could not write."""
    for option in ("-o", "--output"):
        code, text = told(capsys, *words.split(), option, tmp_path)
        assert code == 2
        assert text == f"volseg: -o must be a file, got the folder {tmp_path}; name a file in it\n"


@pytest.mark.parametrize(
    ("words", "option"),
    [("phantom raw.zip", "RAW"), ("convert dicom in out.nii.gz", "COHORT"), ("watch in out.csv unet", "OUT")],
)
def test_so_is_that_of_a_folder_that_is_named_by_its_place(
    capsys: pytest.CaptureFixture[str], words: str, option: str
) -> None:
    code, text = told(capsys, *words.split())
    assert code == 2
    assert text.startswith(f"volseg: {option} must be a folder, got ")


def test_folders_that_are_there_and_dots_in_names_are_taken(tmp_path: Path) -> None:
    (tmp_path / "day.zip").mkdir()
    parameter = next(one for one in typer.main.get_command(app).commands["predict"].params if one.name == "output")
    for name in (str(tmp_path / "day.zip"), "run.v2", "2024.11.28", "s3://bucket/run.v2/", "out/", None):
        assert folder_to_write(parameter, name) == name


@pytest.mark.parametrize("kind", ["dicom-seg", "rtstruct"])
def test_one_object_is_no_place_for_several_predictions(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str
) -> None:
    words = ["export", kind, str(tmp_path), "--dicom", str(tmp_path), "-o", str(tmp_path / "all.dcm")]
    code, text = told(capsys, *words)
    assert (code, text.count("\n")) == (2, 1)
    assert "-o all.dcm is one file" in text
    assert not (tmp_path / "all.dcm").exists()
