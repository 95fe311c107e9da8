"""The texts of the help, in which words in brackets stay: Rich takes `[demo]` for a style of its own and drops it."""

from __future__ import annotations

import re
from typing import Any

# What Rich reads as a tag: brackets that begin with a letter, a slash, # or @.
_TAG = re.compile(r"(?<!\\)\[(?=[a-zA-Z/@#])")


def keep_brackets(command: Any) -> Any:  # noqa: ANN401 - typer has its own click
    r"""Escape brackets in the help of a command, of its options and of its subcommands; returns the command.

    >>> import typer
    >>> app = typer.Typer()
    >>> _ = app.command(help="It needs volseg[demo].")(lambda: None)
    >>> print(keep_brackets(typer.main.get_command(app)).help)
    It needs volseg\[demo].
    """
    for text in ("help", "short_help", "epilog"):
        if getattr(command, text, None):
            setattr(command, text, _TAG.sub(r"\\[", getattr(command, text)))
    for parameter in getattr(command, "params", ()):
        if getattr(parameter, "help", None):
            parameter.help = _TAG.sub(r"\\[", parameter.help)
    for below in getattr(command, "commands", {}).values():
        keep_brackets(below)
    return command
