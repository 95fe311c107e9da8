"""`volseg fetch NAME`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from volseg.errors import UsageError

if TYPE_CHECKING:
    from volseg.datasets import Published


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: volseg fetch msd-hippocampus")(fetch)


def fetch(
    name: str | None = typer.Argument(None, help="Name of the data set or network, see --list."),
    folder: Path | None = typer.Argument(
        None, help="New folder; one below data/ by default, and bundles/NAME for a packed network."
    ),
    show: bool = typer.Option(False, "--list", help="Show the data sets and networks, and stop."),
    archive: Path | None = typer.Option(None, help="File that was downloaded by hand; then nothing is fetched."),
    keep_archive: bool = typer.Option(False, help="Leave the archive beside the folder."),
    catalogue: str | None = typer.Option(
        None, help="URL or file of a catalogue of trained networks; VOLSEG_CATALOGUE names one for all commands."
    ),
) -> None:
    """Fetch a public data set, or a network of a catalogue; compare and unpack it. Run again to go on after a stop.

    Where it cannot be reached, the steps to do it by hand are told. Each set has a licence, and Kaggle's needs a token
    and rules that you accept yourself.
    """
    from volseg.cli.bar import bar
    from volseg.datasets import fetch as get

    if show:
        for one in _listed(catalogue):
            typer.echo(f"{one.name:20} {one.about:13} {one.title}\n{'':20} {'':13} {one.licence}; {one.page}")
        return
    if name is None:
        raise UsageError("no data set was named; `volseg fetch --list` shows all")
    published = _found(name, catalogue)
    folder = folder or (Path(published.folder) if published.catalogue else Path("data") / published.folder)
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


def _listed(named: str | None) -> list[Published]:
    """The networks of the catalogue that is named; else the public data sets, and the networks of the known one."""
    from volseg.datasets import PUBLISHED, catalogue_of_networks, read_networks

    known = catalogue_of_networks(named)
    networks = list(read_networks(known).values()) if known else []
    return networks if named else [*PUBLISHED.values(), *networks]


def _found(name: str, named: str | None) -> Published:
    from volseg.datasets import PUBLISHED, catalogue_of_networks, find, find_network, read_networks

    known = catalogue_of_networks(named)
    if known is None or (named is None and name in PUBLISHED):
        return find(name)
    return find_network(name, read_networks(known), known)
