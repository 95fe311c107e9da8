"""The kinds of `volseg convert`: each with its own options, and no option of another one accepted."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from command import told
from typer.main import get_command

from volseg.cli import app
from volseg.cli.convert import KINDS
from volseg.dicom import KEY
from volseg.formats import MAX_PIXELS
from volseg.formats.uw_madison import THICKNESS_MM

SHARED = {"patient-pattern", "folds", "seed", "workers", "ray", "shard", "journal"}
# The options by kind, as the help of version 0.1 named them when one command had all of them.
OWN = {
    "uw_madison": {"case", "thickness-mm", "axes"},
    "decathlon": set(),
    "dicom": {"modality", "series", "labels", "key", "keep-ids", "secret-file", "overlaps"},
    "images": {"images", "masks", "classes", "threshold", "objects", "colour", "spacing-mm", "missing"}
    | {"validation", "test", "max-pixels", "axes", "overlaps"},
    "class_masks": {"image", "class", "overlaps", "no-overlaps"},
}
ROOT: Any = get_command(app)
COMMANDS: dict[str, Any] = ROOT.commands["convert"].commands


def options_of(command: Any) -> dict[str, Any]:
    return {
        name.removeprefix("--"): parameter
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
        if name.startswith("--")
    }


@pytest.mark.parametrize("kind", OWN)
def test_a_kind_has_the_options_that_it_had(kind: str) -> None:
    assert set(options_of(COMMANDS[kind])) >= OWN[kind] | SHARED
    for other in OWN.keys() - {kind}:
        assert not set(options_of(COMMANDS[kind])) & OWN[other] - OWN[kind]


def test_an_option_takes_a_value_in_all_kinds_or_in_none() -> None:
    """Else options before the kind could be read in two ways."""
    flags: dict[str, set[bool]] = {}
    for command in COMMANDS.values():
        for name, option in options_of(command).items():
            flags.setdefault(name, set()).add(bool(option.is_flag))
    assert not {name for name, found in flags.items() if len(found) > 1}


def test_the_help_lists_each_kind_in_a_line_and_each_kind_has_an_example(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, text = told(capsys, "convert", "--help")
    assert code == 0
    assert "Example: volseg convert" in text
    for kind in KINDS:
        (line,) = [line for line in text.splitlines() if line.strip("│ ").startswith(f"{kind.name} ")]
        assert (kind.read.__doc__ or "").split("\n")[0] in line
        assert kind.example.startswith(f"volseg convert {kind.name} ")
        assert f"Example: {kind.example}" in told(capsys, "convert", kind.name, "--help")[1]


def test_texts_of_the_help_state_the_true_defaults() -> None:
    assert str(MAX_PIXELS) in options_of(COMMANDS["images"])["max-pixels"].help
    assert options_of(COMMANDS["dicom"])["key"].default == KEY
    assert options_of(COMMANDS["uw_madison"])["thickness-mm"].default == THICKNESS_MM


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("decathlon a b --axes LPI", "--axes is an option of uw_madison and images, not of decathlon; leave it out"),
        ("uw_madison a b --modality CT", "--modality is an option of dicom, not of uw_madison"),
        ("images a b --series=x", "--series is an option of dicom, not of images"),
        ("dicom a b --thickness-mm 5", "--thickness-mm is an option of uw_madison, not of dicom"),
        ("dicom --case a b c", "--case is an option of uw_madison, not of dicom"),
        ("class_masks a b --keep-ids", "--keep-ids is an option of dicom, not of class_masks"),
        ("--colour grey decathlon a b", "--colour is an option of images, not of decathlon"),
        ("decathlon a b --no-overlaps", "--no-overlaps is an option of class_masks, not of decathlon"),
        ("uw_madison a b --max-pixels 9", "--max-pixels is an option of images"),
        ("dicom a b --modalty CT", "convert dicom has no option --modalty; did you mean --modality?"),
        (
            "decathlon a b --thikness-mm 3",
            "convert decathlon has no option --thikness-mm; --thickness-mm is an",
        ),
        (
            "decathlon a b --zzz",
            "convert decathlon has no option --zzz; `volseg convert decathlon --help` lists",
        ),
        ("--wrokers 3 decathlon a b", "no kind has the option --wrokers; did you mean --workers?"),
        ("uw-madison a b", "got uw-madison; did you mean uw_madison?"),
        ("Dicom a b", "got Dicom; did you mean dicom?"),
        ("nnunet a b", "got nnunet; did you mean decathlon?"),
        ("TotalSegmentator a b", "got TotalSegmentator; did you mean class_masks?"),
        ("imges a b", "got imges; did you mean images?"),
        ("xyzzy a b", "KIND must be uw_madison, decathlon, dicom, images or class_masks, got xyzzy; `volseg"),
        ("data/raw b", "got data/raw, which is a path; name the kind before it"),
        ("--workers 3", "KIND must be uw_madison, decathlon, dicom, images or class_masks, got none"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, text = told(capsys, "convert", *words.split())
    assert code == 2
    assert text.startswith("volseg: ")
    assert text.count("\n") == 1
    assert said in text
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        "decathlon nowhere cohort --workers 1 --folds 3",
        "--workers 1 decathlon nowhere cohort",
        "--workers=1 --folds 3 decathlon nowhere cohort",
        "decathlon --folds 3 nowhere cohort",
        "decathlon nowhere --seed 2 cohort",
        "-- decathlon nowhere cohort",
        "--folds 3 -- decathlon nowhere cohort",
    ],
)
def test_options_may_stand_anywhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, text = told(capsys, "convert", *words.split())
    assert (code, text.count("\n")) == (2, 1)
    assert "there is no folder nowhere" in text


def test_options_before_the_kind_count(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    raw, cohort = tmp_path / "raw", tmp_path / "cohort"
    assert told(capsys, "phantom", raw, "--patients", "2", "--days", "1")[0] == 0
    words = ("--workers", "1", "--case", "case202", "--thickness-mm=5", "uw_madison", raw, cohort)
    code, text = told(capsys, "convert", *words)
    assert code == 0
    assert "1 written, 0 finished before, 0 failed" in text
    with (cohort / "cases.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["key"] == "case202_day0"
    assert float(row["spacing_mm"].split("x")[-1].split()[-1]) == 5


def test_help_before_the_kind_is_that_of_the_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--modality" in told(capsys, "convert", "--help", "dicom")[1]
    assert "--modality" not in told(capsys, "convert", "--help")[1]


def test_the_panel_of_every_kind_is_shown_by_convert_alone(capsys: pytest.CaptureFixture[str]) -> None:
    for kind in KINDS:
        assert "Options of every kind" in told(capsys, "convert", kind.name, "--help")[1]
    for command in ("split", "evaluate", "predict"):
        text = told(capsys, command, "--help")[1]
        assert "Options of every kind" not in text
        assert "--patient-pattern" in text or "--shard" in text
