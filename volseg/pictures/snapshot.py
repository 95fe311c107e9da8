"""Snapshots of a training run: one picture per validation, which stores its epoch and the Dice of its case."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from volseg.errors import UsageError
from volseg.files import atomic
from volseg.pictures.rendering import Colour, Pixels

_FACTS = "volseg"  # name of the PNG's text


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One validation case after one epoch.

    Attributes:
        picture: Picture (height, width, 3).
        epoch: Number of the epoch.
        dice: Dice of the case, by region; a region empty in reference and prediction is left out.
        colours: Colours of the regions.
    """

    picture: Pixels
    epoch: int
    dice: Mapping[str, float] = field(default_factory=dict)
    colours: Mapping[str, Colour] = field(default_factory=dict)


def snapshot_path(run: str | Path, epoch: int) -> Path:
    """The path of an epoch's snapshot, in the output folder of a run.

    >>> snapshot_path("run", 4).name
    'epoch_0004.png'
    """
    return Path(run) / "snapshots" / f"epoch_{epoch:04d}.png"


def write_snapshot(run: str | Path, snapshot: Snapshot) -> None:
    """Write a snapshot as a PNG with its numbers in a text chunk, so that they stay together."""
    facts = PngInfo()
    facts.add_text(_FACTS, json.dumps({"dice": dict(snapshot.dice), "colours": dict(snapshot.colours)}))
    with atomic(snapshot_path(run, snapshot.epoch)) as partial:
        Image.fromarray(snapshot.picture).save(partial, format="PNG", optimize=True, pnginfo=facts)


def read_snapshots(run: str | Path) -> list[Snapshot]:
    """The snapshots of a training run, in the order of the epochs; other pictures of that name have no Dice.

    Args:
        run: Output folder of the run, or the `snapshots` in it.

    Raises:
        UsageError: There is none, or one cannot be read.
    """
    run = Path(run)
    paths = list((run / "snapshots").glob("epoch_*.png")) or list(run.glob("epoch_*.png"))
    if not paths:
        raise UsageError(f"{run} holds no snapshots/epoch_*.png; training writes one at each validation")
    return sorted((_read(path) for path in paths), key=lambda snapshot: snapshot.epoch)


def _read(path: Path) -> Snapshot:
    try:
        epoch = int(path.stem.removeprefix("epoch_"))
        with Image.open(path) as picture:
            facts = json.loads(picture.info.get(_FACTS, "{}"))
            pixels = np.asarray(picture.convert("RGB"), dtype=np.uint8)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is no snapshot ({error}); remove it") from error
    colours = {name: (red, green, blue) for name, (red, green, blue) in facts.get("colours", {}).items()}
    return Snapshot(pixels, epoch, facts.get("dice", {}), colours)
