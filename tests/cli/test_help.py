"""The help: words in brackets stay, whatever Rich makes of them, in every command and option."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from command import told

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


def test_the_demo_says_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert 'pip install "volseg[demo]"' in " ".join(told(capsys, "demo", "--help")[1].split())
