"""`volseg plan COHORT`."""

from __future__ import annotations

import math
import re
from pathlib import Path

import typer

from volseg.cli.shared_options import folder_to_write
from volseg.errors import UsageError

_NUMBER = re.compile(r"\d+(\.\d+)?")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: volseg plan data/cohort --minutes 20")(plan)


def plan(
    cohort: str = typer.Argument(help="A cohort folder, of volseg or of nnU-Net; or its URL."),
    minutes: float = typer.Option(0.0, min=0, help="Minutes of the training; 0 counts epochs."),
    memory: str | None = typer.Option(
        None,
        metavar="AMOUNT",
        help="Memory of a step, as 8GiB; a number alone counts GiB; by default what the GPU has free, or half of this "
        "machine's.",
    ),
    device: str | None = typer.Option(None, help="cpu, cuda, cuda:1; by default a GPU if there is one."),
    bundle: list[str] = typer.Option(
        [], help="Name or folder of a network; may be repeated; by default all untrained ones."
    ),
    fold: int = typer.Option(0, min=0, help="Fold whose cases are counted."),
    output: Path | None = typer.Option(
        None,
        "-o",
        "--output",
        help="Folder for plan.json and plan.html; by default the cohort's.",
        callback=folder_to_write,
    ),
    all_cases: bool = typer.Option(False, "--all", help="Read the voxels of all cases, whatever their size."),
    measure: bool = typer.Option(True, help="Make two steps of training per network and measure them."),
) -> None:
    """Plan a training: what the cohort is, and each setting with its reason and what would change it.

    Headers of all cases are read, and the voxels of some. Train by it with --plan_file plan.json.
    """
    from volseg import bundle as bundles
    from volseg.cli.bar import bar
    from volseg.cli.place import fetched
    from volseg.cohort import Cohort
    from volseg.report import plan_as_text, write_plan_page

    memory_gib = None if memory is None else _gib(memory)
    opened = Cohort.open(fetched(cohort))
    folders = [bundles.find(name) for name in bundle]
    folders = folders or [folder for folder in bundles.find_all() if not bundles.is_trained(folder)]
    if not folders:
        raise UsageError("there is no bundle here; name one with --bundle FOLDER")
    import warnings

    with warnings.catch_warnings(), bar("read") as progress:
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        from volseg.training import make_plan

        made = make_plan(
            opened,
            folders,
            minutes=minutes,
            memory_gib=memory_gib,
            device=device,
            fold=fold,
            voxels=math.inf if all_cases else None,
            measure=measure,
            progress=progress,
        )
    folder = output or opened.folder
    folder.mkdir(parents=True, exist_ok=True)
    made.write(folder / "plan.json")
    page = write_plan_page(made, folder)
    typer.echo(plan_as_text(made, bundle=folders[0].name if len(folders) == 1 else None))
    name = folders[0].name if len(folders) == 1 else made.advised
    typer.echo(f"\n{folder / 'plan.json'} and {page.name} are written")
    if name is not None and not made.bundles[name].refusal:
        typer.echo(f"train by it: volseg train {name} --dataset_dir {opened.folder} --plan_file {folder / 'plan.json'}")


def _gib(text: str) -> float:
    """An amount of memory in GiB, which a number without a unit counts.

    >>> _gib("8"), _gib("8GiB"), _gib("512MB")
    (8.0, 8.0, 0.5)
    >>> _gib("-1")
    Traceback (most recent call last):
    volseg.errors.UsageError: --memory must be an amount of at least 256 MiB, such as 8GiB or 500MB, got -1
    """
    from volseg.inference import parse_bytes

    return parse_bytes(f"{text}GiB" if _NUMBER.fullmatch(text.strip()) else text) / 2**30
