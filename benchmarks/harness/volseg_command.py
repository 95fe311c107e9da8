"""A command of volseg as a process of its own that is measured, of this checkout or of an earlier one."""

from __future__ import annotations

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
