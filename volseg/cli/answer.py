"""`--json`: one JSON document on the standard output, for scripts; all else goes to the standard error.

The documents have the schemas of `answer.schema.json` beside this file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import typer

import volseg

JSON = "--json"
AsJson = typer.Option(
    False, JSON, help="Print one JSON document instead of text, for scripts; progress stays on stderr."
)


def answer(
    command: str, facts: Mapping[str, Any], *, failed: Mapping[str, str], exit_code: int | None = None
) -> dict[str, Any]:
    """The document of a command that has run.

    Args:
        command: Name of the command.
        facts: What the command found or wrote.
        failed: Error of each failed case, by key.
        exit_code: Exit code; by default 1 if a case failed, else 0.

    >>> answer("predict", {"done": 2}, failed={})["exit_code"]
    0
    """
    code = int(bool(failed)) if exit_code is None else exit_code
    return {**_head(command), "exit_code": code, "error": None, **facts, "failed": dict(failed)}


def refusal(words: Sequence[str], line: str, code: int) -> dict[str, Any]:
    """The document of a command that was refused or stopped: no facts, and the line that people are told.

    >>> refusal(["check", "nowhere", "--json"], "there is no folder nowhere", 2)["error"]
    'there is no folder nowhere'
    """
    return {**_head(words[0] if words else ""), "exit_code": code, "error": line}


def print_answer(document: Mapping[str, Any]) -> None:
    """Print a document."""
    typer.echo(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False))


def _head(command: str) -> dict[str, Any]:
    return {"schema": f"volseg.{command}/1", "volseg": volseg.__version__, "command": command}
