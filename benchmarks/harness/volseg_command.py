"""A command of volseg as a process of its own, of this checkout or of an earlier one, and what a training leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from harness import measurement
from harness.measurement import CPU, PEAK, WALL, Values

HERE = Path(__file__).resolve().parents[2]
MEASURES = [CPU, WALL, replace(PEAK, compared=True)]
_RUN = "import sys; sys.argv[0] = 'volseg'; from volseg.cli import main; main()"
_REFUSED = (
    "import sys\nsys.argv[0] = 'volseg'\nfrom volseg.cli import main\ntry:\n    main()\nexcept SystemExit:\n    pass"
)


def run(*words: str | Path, tree: Path = HERE, refused: bool = False) -> Values:
    """Run a command of volseg.

    Args:
        words: Words of the command.
        tree: Checkout whose volseg runs, in its folder.
        refused: Whether a refusal is what is measured; otherwise it is an error.
    """
    code = _REFUSED if refused else _RUN
    return measurement.run([sys.executable, "-c", code, *words], env={"PYTHONPATH": str(tree)}, cwd=tree)


def show(*words: object) -> None:
    """Run a command of volseg of this checkout; what it writes is shown, and nothing is measured."""
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    subprocess.run([sys.executable, "-c", _RUN, *map(str, words)], env=environment, check=True)


def write_final(run: Path, path: Path) -> None:
    """The weights of a training's last step as a checkpoint, from what it leaves to go on from."""
    import torch

    last = torch.load(run / "last.pt", map_location="cpu", weights_only=True)
    recipe = torch.load(run / "model.pt", map_location="cpu", weights_only=True)["recipe"]
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": last["network"], "recipe": recipe}, path)
