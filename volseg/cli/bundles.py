"""`volseg bundles`: which there are, where one is, and a copy to edit."""

from __future__ import annotations

from pathlib import Path

import typer

from volseg.cli.shared_options import file_to_write, folder_to_write

app = typer.Typer(
    help="The networks by name: list them, print the folder of one, copy one to edit it.",
    epilog="Example: volseg bundles copy unet bundles/mine, then volseg train mine",
)


@app.callback(invoke_without_command=True)
def bundles(context: typer.Context) -> None:
    """List the bundles: those of bundles/ in the working directory, then those that come with volseg."""
    if context.invoked_subcommand is not None:
        return
    from volseg import bundle as room

    found = room.find_all()
    width = max((len(folder.name) for folder in found), default=0)
    for folder in found:
        trained = "trained; " if room.is_trained(folder) else ""
        typer.echo(f"{folder.name:{width}}  {trained}{room.about(folder) or folder}")
    typer.echo("`volseg bundles path NAME` prints the folder of one; `volseg bundles copy NAME FOLDER` copies it")


@app.command(epilog="Example: volseg bundles path swinunetr")
def path(name: str = typer.Argument(help="Name of a bundle, or its folder.")) -> None:
    """Print the folder of a bundle."""
    from volseg import bundle as room

    typer.echo(room.find(name))


@app.command(epilog="Example: volseg bundles copy unet bundles/mine")
def copy(
    name: str = typer.Argument(help="Name of a bundle, or its folder."),
    folder: Path = typer.Argument(help="New folder.", callback=folder_to_write),
) -> None:
    """Copy a bundle to a folder of your own, to edit its settings there."""
    from volseg import bundle as room

    source = room.find(name)  # before there is a copy of that name in bundles/
    target = room.copy(name, folder)
    known = target.name if target.resolve().parent == (Path.cwd() / "bundles") else target
    typer.echo(f"{target} is a copy of {source}; use it as {known}, such as `volseg train {known}`")


@app.command(epilog="Example: volseg bundles catalogue published/*.zip -o published/networks.json")
def catalogue(
    files: list[Path] = typer.Argument(help="Packages (.zip) and checkpoints (.pt, .safetensors)."),
    output: Path = typer.Option(..., "-o", "--output", help="JSON file beside them.", callback=file_to_write),
    licence: str = typer.Option("", help="Licence of the weights of checkpoints; a package states its own."),
    title: str = typer.Option("", help="Title of the catalogue."),
) -> None:
    """Write a catalogue of networks that you publish, with digests: `volseg fetch NAME --catalogue` reads it."""
    from volseg.datasets import write_networks

    content = write_networks(files, output, licence=licence, title=title)
    typer.echo(f"wrote {output}: {', '.join(entry['name'] for entry in content['networks'])}")
