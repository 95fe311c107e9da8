"""`volseg …`: parse, call, exit code. One file a command; the logic is elsewhere.

Exit codes: 0 done, 1 some cases failed or the work stopped, 2 wrong use. `--debug` anywhere adds the traceback.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from copy import copy
from typing import Any

import typer
from typer.core import TyperGroup

import volseg
from volseg.cli import (
    adapt,
    adopt,
    bundles,
    calibrate,
    check,
    compare,
    convert,
    crossval,
    days,
    demo,
    evaluate,
    export,
    fetch,
    pack,
    phantom,
    picture,
    plan,
    predict,
    quality,
    review,
    serve,
    split,
    train,
    watch,
)
from volseg.cli.answer import JSON, print_answer, refusal
from volseg.cli.disk import told_of_disk
from volseg.cli.help_texts import keep_brackets
from volseg.cli.mistakes import WrongUse, explain
from volseg.cli.process import load_nibabel, settle
from volseg.errors import UsageError, VolsegError
from volseg.inference import open_at_first_use


class _Commands(TyperGroup):
    """The commands, told in the order of the work."""

    _first = ("phantom", "fetch", "convert")

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401 - typer has its own click
        """The names: raw data and their conversion first."""
        return [*self._first, *(name for name in super().list_commands(ctx) if name not in self._first)]


app = typer.Typer(
    name="volseg",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Volumetric medical image segmentation: slices to volumes, networks, predictions and Dice reports.",
    epilog="Each command shows an example with --help. Add --debug for the traceback of an error.",
)
_STOPPED = 130
_COMMANDS = (
    phantom,
    fetch,
    check,
    split,
    plan,
    train,
    crossval,
    adapt,
    days,
    calibrate,
    predict,
    demo,
    watch,
    evaluate,
    compare,
    quality,
    review,
    adopt,
    serve,
    picture,
    pack,
)
_READ_VOLUMES = {"check", "compare", "convert", "evaluate", "export", "picture", "plan", "predict", "quality"}
_TAKE_URLS = {"check", "convert", "crossval", "evaluate", "plan", "predict", "train"}
_TAKE_TEXT = {"--title", "--catalogue"}
for command in _COMMANDS:
    command.register(app)
app.add_typer(convert.app, name="convert")
app.add_typer(export.app, name="export")
app.add_typer(bundles.app, name="bundles")


@app.callback(invoke_without_command=True)
def _options(version: bool = typer.Option(False, "--version", help="Print the version and stop.")) -> None:
    if version:
        typer.echo(f"volseg {volseg.__version__}")
        raise typer.Exit


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the console script."""
    if arguments is None:  # a process of its own
        settle()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None and words and words[0] in _READ_VOLUMES and not {"-h", "--help"} & set(words):
        load_nibabel()
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if arguments is None and words[:1] == ["predict"]:  # what trains uses most of MONAI
        open_at_first_use()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("aiobotocore").setLevel(logging.WARNING)  # it tells each time where it found credentials
    try:
        _check_urls(words)
        command = keep_brackets(typer.main.get_command(_called(words)))
        code = command(words, prog_name="volseg", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = _STOPPED
    except Exception as error:
        if debug:
            raise
        line, code = _told(error, words)
        if line and JSON in words:
            print_answer(refusal(words, line, code))
        if line:
            typer.secho(f"volseg: {line}", fg="red", err=True)
    if code == _STOPPED and JSON in words:
        print_answer(refusal(words, "stopped; run again to go on", code))
    if code == _STOPPED:
        typer.secho("volseg: stopped; run again to go on", err=True)
    sys.exit(code if isinstance(code, int) else 0)


def _called(words: Sequence[str]) -> typer.Typer:
    """The program with the one command that is called; with all, which takes 20 ms longer, if that is unclear."""
    named = [info for info in app.registered_commands if words and _name(info) == words[0]]
    groups = [info for info in app.registered_groups if words and info.name == words[0]]
    if len(named) + len(groups) != 1:
        return app
    alone = copy(app)
    alone.registered_commands, alone.registered_groups = named, groups
    return alone


def _name(info: Any) -> str:  # noqa: ANN401 - typer does not export the type
    return str(info.name or (info.callback.__name__ if info.callback else ""))


def _check_urls(words: list[str]) -> None:
    """Refuse URLs where a command takes folders; a title may hold one, and a catalogue be one.

    Raises:
        UsageError: There is one.
    """
    if not words or words[0] in _TAKE_URLS:
        return
    before = ["", *words]
    found = [word for word, last in zip(words, before, strict=False) if "://" in word and last not in _TAKE_TEXT]
    if any(word.partition("=")[0] not in _TAKE_TEXT for word in found):
        raise UsageError(f"volseg {words[0]} takes folders; `volseg check URL` makes a copy and tells where it lies")


def _told(error: Exception, words: list[str]) -> tuple[str, int]:
    """The line for an error, and the exit code."""
    if isinstance(error, WrongUse):
        return explain(error, words), 2
    if isinstance(error, VolsegError):
        return str(error), 2
    if isinstance(error, OSError):
        return told_of_disk(error, words)
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"unexpected {type(error).__name__}: {reason}; --debug shows where", 1
