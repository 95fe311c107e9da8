"""The progress bar of the commands, and how failed cases are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import typer


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Give a function (done, total) that moves a bar on a terminal and is silent elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def tell_failures(failed: Mapping[str, str]) -> None:
    """Name each failed case with its error and leave with exit code 1; do nothing where none failed."""
    for key, error in failed.items():
        typer.secho(f"failed  {key}: {error}", fg="red", err=True)
    if failed:
        raise typer.Exit(1)
