"""`volseg …`: parse, call, exit code. One file a command; the logic is elsewhere.

Exit codes: 0 done, 1 some cases failed or the work stopped, 2 wrong use, 130 Ctrl-C. `--debug` anywhere adds the
traceback.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator, Sequence
from copy import copy
from pathlib import Path
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
from volseg.cli.mistakes import WrongUse, explain, option_names
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
# The commands whose data may lie behind a URL, and what else of each may.
_TAKE_URLS: dict[str, tuple[str, ...]] = {
    "check": (),
    "convert": (),
    "crossval": (),
    "evaluate": ("--output", "-o"),
    "plan": (),
    "predict": ("--output", "-o", "--prior"),
    "train": ("--dataset_dir",),
}
_TAKE_TEXT = ("--title", "--catalogue", "--ray")
_ONE_SLASH = re.compile(r"(s3a?|gs|gcs|az|abfss?|memory|https?):/(?!/)")
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
    for name in ("aiobotocore", "botocore"):  # they tell each time where they found credentials and endpoint
        logging.getLogger(name).setLevel(logging.WARNING)
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


def _check_urls(words: Sequence[str]) -> None:
    """Refuse a URL where a command takes a path, of which it would make a folder called `s3:` here.

    Raises:
        UsageError: There is one, or a URL with one slash.
    """
    for word in words:
        value = word.partition("=")[2] if word.startswith("-") else word
        if _ONE_SLASH.match(value) and not Path(value).exists():
            raise UsageError(f"{value} has one slash and is no URL; write {value.replace(':/', '://', 1)}")
    if not words or not any("://" in word for word in words):
        return
    takes = _TAKE_URLS.get(words[0])
    for option, _ in _with_urls(words):
        if option in _TAKE_TEXT:
            continue
        if takes is None:
            raise UsageError(
                f"volseg {words[0]} takes folders; `volseg check URL` makes a copy and tells where it lies"
            )
        if option and option not in takes:
            named = [*([] if words[0] == "train" else ["its data"]), *(name for name in takes if name.startswith("--"))]
            raise UsageError(
                f"{option} must name what lies on this machine, got a URL; volseg {words[0]} takes URLs for "
                f"{' and '.join([', '.join(named[:-1]), named[-1]] if named[1:] else named)} alone"
            )


def _with_urls(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The option, empty for none, and the value of each word that holds a URL."""
    command: Any = typer.main.get_command(_called(words))
    for word in words[:2]:
        command = getattr(command, "commands", {}).get(word, command)
    takes_value = option_names(command)
    for before, word in zip(["", *words], words, strict=False):
        if "://" not in word:
            continue
        name, equals, value = word.partition("=")
        if word.startswith("-") and equals:
            yield name, value
        elif before.startswith("-") and "=" not in before and takes_value.get(before, True):
            yield before, word
        else:
            yield "", word


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
