"""The progress of the commands: a bar on a terminal, a line per minute elsewhere; and how failed cases are told."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import typer

_EVERY_S = 60.0
_TERMINAL = ("FORCE_COLOR", "TTY_COMPATIBLE")  # variables by which rich takes for a terminal what is none


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Give a function (done, total) that moves a bar on a terminal; elsewhere a line per minute says how far it is."""
    if not any((sys.stderr.isatty(), *map(os.environ.get, _TERMINAL))):  # so that rich need not be imported to say so
        with _lines(what) as told:
            yield told
        return
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        with _lines(what) as told:
            yield told
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def _lines(what: str) -> Iterator[Callable[[int, int], None]]:
    """Print a line per minute; a thread of its own does, since a single case may take longer."""
    began, ended = time.monotonic(), threading.Event()
    at: list[tuple[int, int]] = []

    def move(done: int, total: int) -> None:
        at[:] = [(done, total)]

    def tell() -> None:
        while not ended.wait(_EVERY_S):
            typer.echo(line_of_progress(what, *(at[0] if at else (0, 0)), seconds=time.monotonic() - began), err=True)

    thread = threading.Thread(target=tell, name="progress", daemon=True)
    thread.start()
    try:
        yield move
    finally:
        ended.set()
        thread.join()


def line_of_progress(what: str, done: int, total: int, *, seconds: float) -> str:
    """A line that says how far a command is.

    Args:
        what: Word for the work.
        done: Number of finished cases.
        total: Number of cases; 0 if it is not known yet.
        seconds: Seconds since the start.

    >>> line_of_progress("predict", 5, 20, seconds=120)
    'predict: 5 of 20, 2:00 min elapsed, about 6:00 min left'
    >>> line_of_progress("predict", 0, 20, seconds=60), line_of_progress("predict", 0, 0, seconds=61.2)
    ('predict: 0 of 20, 1:00 min elapsed', 'predict: 1:01 min elapsed')
    """
    parts = [f"{done} of {total}"] if total else []
    parts.append(f"{_clock(seconds)} min elapsed")
    if 0 < done < total:
        parts.append(f"about {_clock(seconds * (total - done) / done)} min left")
    return f"{what}: {', '.join(parts)}"


def tell_failures(failed: Mapping[str, str]) -> None:
    """Name each failed case with its error and leave with exit code 1; do nothing where none failed."""
    for key, error in failed.items():
        typer.secho(f"failed  {key}: {error}", fg="red", err=True)
    if failed:
        raise typer.Exit(1)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
