"""`volseg fetch NAME`."""

from __future__ import annotations

from pathlib import Path

import typer

from volseg.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: volseg fetch msd-hippocampus")(fetch)


def fetch(
    name: str | None = typer.Argument(None, help="Name of the data set, see --list."),
    folder: Path | None = typer.Argument(None, help="New folder for the data set; one below data/ by default."),
    show: bool = typer.Option(False, "--list", help="Show the data sets and stop."),
    archive: Path | None = typer.Option(None, help="Archive that was downloaded by hand; then nothing is fetched."),
    keep_archive: bool = typer.Option(False, help="Leave the archive beside the folder."),
) -> None:
    """Fetch a public data set, compare and unpack it. Run again to go on after a stop.

    Where it cannot be reached, the steps to do it by hand are told. Each set has a licence, and Kaggle's needs a token
    and rules that you accept yourself.
    """
    from volseg.cli.bar import bar
    from volseg.datasets import PUBLISHED, find
    from volseg.datasets import fetch as get

    if show:
        for one in PUBLISHED.values():
            typer.echo(f"{one.name:20} {one.about:13} {one.title}\n{'':20} {'':13} {one.licence}; {one.page}")
        return
    if name is None:
        raise UsageError("no data set was named; `volseg fetch --list` shows all")
    published = find(name)
    folder = folder or Path("data") / published.folder
    with bar("fetch, MiB") as progress:
        record = get(
            published,
            folder,
            archive=archive,
            keep=keep_archive,
            progress=lambda done, total: progress(done >> 20, total >> 20),
        )
    typer.echo(f"{folder}: {record['file']}, {record['bytes']} bytes, compared {record['compared']}")
    typer.echo(f"sha256 {record['sha256']}")
    typer.echo(f"next: {published.command(folder)}")
