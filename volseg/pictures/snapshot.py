"""Snapshots of a training run: a picture at each validation, which carries its epoch and the Dice of what it shows."""

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
        picture: (height, width, 3).
        epoch: number of it.
        dice: of the case, by region; a region empty in reference and prediction is left out.
        colours: of the regions.
    """

    picture: Pixels
    epoch: int
    dice: Mapping[str, float] = field(default_factory=dict)
    colours: Mapping[str, Colour] = field(default_factory=dict)


def snapshot_path(run: str | Path, epoch: int) -> Path:
    """Where the snapshot of an epoch is, in the output folder of a run.

    >>> snapshot_path("run", 4).name
    'epoch_0004.png'
    """
    return Path(run) / "snapshots" / f"epoch_{epoch:04d}.png"


def write_snapshot(run: str | Path, snapshot: Snapshot) -> None:
    """Write one, as a PNG with its numbers in a text chunk, so that they cannot part."""
    facts = PngInfo()
    facts.add_text(_FACTS, json.dumps({"dice": dict(snapshot.dice), "colours": dict(snapshot.colours)}))
    with atomic(snapshot_path(run, snapshot.epoch)) as partial:
        Image.fromarray(snapshot.picture).save(partial, format="PNG", optimize=True, pnginfo=facts)


def read_snapshots(run: str | Path) -> list[Snapshot]:
    """The snapshots of a training run, in the order of the epochs; other pictures of that name have no Dice.

    Args:
        run: its output folder, or the `snapshots` in it.

    Raises:
        UsageError: there is none, or one cannot be read.
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
