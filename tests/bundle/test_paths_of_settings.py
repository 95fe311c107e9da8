"""Paths with signs that MONAI's configs read as their own: the folder that is named is the one that is taken."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from volseg.bundle import literal, literal_text, path_values
from volseg.bundle.config_text import check_words
from volseg.cli.train import _overrides
from volseg.errors import BundleError, UsageError
from volseg.training.settings import Settings

PATHS = [
    *("Study #3/run", "#", "a##b", "a::b", "@home/x", "@data", "$HOME/x", "$x y", "%TEMP%/x", "50 % of #4"),
    *(
        "with space",
        "Köln ü",
        "it's",
        'a "b"',
        "[1]",
        "{a}",
        "-x",
        "back\\slash#",
        "x@::y",
        "tab\t#",
        "données#1",
        "import os#1",
    ),
]


def parsed(text: str) -> object:
    parser = ConfigParser({"imports": ["$import os"], "other": 1, "output_dir": text, "again": "$str(@output_dir)"})
    assert parser.get_parsed_content("again") == str(parser.get_parsed_content("output_dir"))
    return parser.get_parsed_content("output_dir")


@pytest.mark.parametrize("path", PATHS)
def test_monai_gives_a_path_back_as_it_was_typed(path: str) -> None:
    assert parsed(literal(path)) == path
    assert literal_text(literal(path)) == path


@pytest.mark.parametrize("path", [*PATHS, "2024", "1e3", "True", "007", "null#"])
def test_the_command_line_hands_it_over_as_it_was_typed(path: str) -> None:
    if path == "$HOME/x":
        return  # Python, divided: told below
    assert path_values(_overrides([f"--output_dir={path}"]), ids=["other"])["output_dir"] == literal(path)


def test_references_expressions_and_macros_stay_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kept = {"output_dir": "@other", "cache_dir": "$@other + '/x'", "more_file": "%other.json#a", "device": "$1 + 1"}
    assert path_values(kept, ids=["other"]) == kept
    (tmp_path / "@other").mkdir()
    assert path_values(kept, ids=["other"])["output_dir"] == literal("@other")  # a folder that is there is meant
    nested = {"optimizer": {"_target_": "a#b", "file": "x#1", "params": "@network#p"}, "list": ["#", 3]}
    given = path_values(nested, ids=[])
    assert given["optimizer"] == {"_target_": "a#b", "file": literal("x#1"), "params": "@network#p"}
    assert given["list"] == [literal("#"), 3]


def test_the_record_of_a_run_tells_the_path_and_its_config_runs_again() -> None:
    parser = ConfigParser({"output_dir": literal("Study #3"), "rate": 0.1})
    parser.get_parsed_content("output_dir")
    assert Settings({}, parser=parser).values()["output_dir"] == "Study #3"
    again = json.loads(json.dumps(Settings({}, parser=parser).config()))
    assert ConfigParser(again).get_parsed_content("output_dir") == "Study #3"


def test_a_path_that_begins_with_dashes() -> None:
    assert _overrides(["--output_dir", "-run"])["output_dir"] == "-run"
    assert _overrides(["--output_dir=--run"])["output_dir"] == "--run"
    with pytest.raises(UsageError, match="a path that begins with -- is given as --output_dir=--run"):
        _overrides(["--output_dir", "--run"])


def test_monais_own_command_is_refused_with_the_words_that_it_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "training", "--config_file", "a#b/train.json", "--lr_scheduler#_target_", "x.constant"]
    check_words(words)
    with pytest.raises(BundleError, match=r'write --dataset_dir "\$\'Study .x233\'", or use `volseg train`'):
        check_words([*words, "--dataset_dir=Study #3"])
    check_words([*words, "--dataset_dir", literal("Study #3")])
    check_words(["volseg", "train", "unet", "--output_dir", "Study #3"])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "argv", ["monai.bundle", *words, "--output_dir", "x#1"])
    parser = ConfigParser({"imports": ["$import volseg"], "data_dir": "$volseg.bundle.data_dir('/nowhere')"})
    with pytest.raises(RuntimeError) as caught:
        parser.get_parsed_content("data_dir")
    assert isinstance(caught.value.__cause__, BundleError)
    sys.excepthook(type(caught.value), caught.value, None)
    assert capsys.readouterr().err == f"volseg: {caught.value.__cause__}\n"  # one line, not MONAI's sixty
