"""The help: words in brackets stay, whatever Rich makes of them, in every command and option."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from command import told
from shipped_bundles import BUNDLES

from volseg.bundle import settings_table
from volseg.cli import app

_BRACKETS = re.compile(r"\[[a-zA-Z/@#][^\]\s]*\]")


def commands(command: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    below = getattr(command, "commands", {})
    yield path, command
    for name, one in below.items():
        yield from commands(one, *path, name)


def test_no_word_in_brackets_is_dropped(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    seen = 0
    for path, command in commands(typer.main.get_command(app)):
        texts = [command.help, command.epilog, *(getattr(one, "help", "") for one in command.params)]
        expected = [found for text in texts for found in _BRACKETS.findall(text or "")]
        if expected:
            shown = told(capsys, *path, "--help")[1]
            assert [word for word in expected if word not in shown] == [], path
            seen += 1
    assert seen >= 1


def test_the_help_of_train_lists_the_settings_of_the_bundle(capsys: pytest.CaptureFixture[str]) -> None:
    folder = BUNDLES / "unet"
    code, text = told(capsys, "train", folder, "--help")
    assert code == 0
    assert "Settings of unet, each given as --NAME VALUE:" in text
    assert "--max_epochs  <whole number>  default: 28; on a GPU 300\n      passes over the training cases" in text
    names = re.findall(r"^  --(\w+)  <", text, re.MULTILINE)
    assert {"learning_rate", "roi_size", "patience", "tracker"} <= set(names)
    stated = set(json.loads((folder / "train.json").read_text()))
    assert set(names) <= stated
    kinds = {setting.name: setting.kind for setting in settings_table(folder)}
    assert (kinds["output_dir"], kinds["resume"], kinds["learning_rate"]) == ("path", "true or false", "number")
    assert (kinds["roi_size"], kinds["seed"], kinds["cache"]) == ("list", "whole number", "text")
    assert told(capsys, "train", "--help")[1].rstrip().endswith("lists the settings of a bundle too.")


def test_a_bundle_without_a_page_has_its_plain_settings(tmp_path: Path) -> None:
    content = {
        "imports": [],
        "lr": 0.1,
        "steps": 3,
        "fast": False,
        "parts": {},
        "words": "$1 + 1",
        "recipe": {},
        "x": 1,
    }
    (tmp_path / "train.json").write_text(json.dumps(content))
    found = [(setting.name, setting.kind, setting.default) for setting in settings_table(tmp_path)]
    assert found == [
        ("lr", "number", "0.1"),
        ("steps", "whole number", "3"),
        ("fast", "true or false", "false"),
        ("words", "text", "computed"),
    ]


def test_the_demo_says_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert 'pip install "volseg[demo]"' in " ".join(told(capsys, "demo", "--help")[1].split())
