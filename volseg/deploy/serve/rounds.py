"""The trainings of a server, one folder each, so that it goes on after a stop where it was.

COHORT/.volseg/serve/runs/001/          the run, as `volseg train` writes it
COHORT/.volseg/serve/runs/001.json      what it began from: digests of the network and of corrections.csv
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from volseg.bundle import read_recipe, weights_digest
from volseg.cohort import ALL, CORRECTIONS, Cohort, corrected_keys
from volseg.errors import UsageError
from volseg.files import atomic

_FINISHED = ("finished", "stopped early")


class Rounds:
    """The trainings that clients have started, and which network is served.

    A chain begins at the network that the server was given. Each training goes on from the last one that ended well;
    one that was cut off is resumed unless further labels came home since.

    Args:
        cohort: Folder of the cohort.
        bundle: Folder of the bundle.
        checkpoint: Network that the server was given.
        minutes: Minutes of a training.
    """

    def __init__(self, cohort: Path, bundle: Path, checkpoint: Path, *, minutes: float) -> None:
        self.cohort = cohort
        self.bundle = bundle
        self.given = checkpoint
        self.minutes = minutes
        self.folder = cohort / ".volseg" / "serve" / "runs"
        self._root = weights_digest(checkpoint)

    def latest(self) -> Path:
        """The network to serve: that of the last training that ended well and is not worse; else the one given.

        A training is worse if both it and the network that it began from were validated on the same fold, and its best
        Dice is the smaller one.
        """
        return next((run / "model.pt" for run in reversed(self._own()) if _kept(run)), self.given)

    def worse(self) -> str:
        """Why the last training is not served; empty if it is, or if there is none that ended."""
        ended = [run for run in self._own() if _read(run / "run.json").get("status") in _FINISHED]
        if not ended or _kept(ended[-1]):
            return ""
        facts = _read(ended[-1].with_suffix(".json"))
        return f"{ended[-1].name} has a Dice of {_dice(ended[-1]):.3f}, and its start had {facts['dice']:.3f}"

    def words(self, _: Mapping[str, Any]) -> list[str]:
        """The words of `volseg` for the next training.

        Raises:
            UsageError: No case was corrected, or the cohort lacks the fold of the network.
        """
        cohort = Cohort.open(self.cohort)
        start = self.latest()
        fold = read_recipe(start).facts.get("fold", 0)
        if not set(corrected_keys(self.cohort)) & cohort.labelled:
            raise UsageError("no label was corrected yet; submit one, then train")
        if fold != ALL:
            cohort.fold(fold)
        facts = {"root": self._root, "start": weights_digest(start), "corrections": _digest(self.cohort / CORRECTIONS)}
        own = self._own()
        resumed = bool(own) and _unfinished(own[-1]) and facts.items() <= _read(own[-1].with_suffix(".json")).items()
        if resumed:
            run = own[-1]
        else:
            number = 1 + max((int(path.stem) for path in self.folder.glob("*.json") if path.stem.isdigit()), default=0)
            run = self.folder / f"{number:03d}"
            with atomic(run.with_suffix(".json")) as partial:
                partial.write_text(json.dumps({**facts, "fold": fold, "dice": _dice(start.parent)}) + "\n")
        words = ["train", str(self.bundle), "--dataset_dir", str(self.cohort), "--corrections", str(start)]
        words += ["--output_dir", str(run), "--max_minutes", str(self.minutes)]
        return [*words, "--fold", str(fold), *(["--resume"] if resumed else [])]

    def last_state(self, model: str) -> dict[str, Any] | None:
        """The state of the last training, in the words of MONAI Label; None if there was none."""
        own = self._own()
        if not own:
            return None
        status = str(_read(own[-1] / "run.json").get("status", "not begun"))
        told = "DONE" if status in _FINISHED else "ERROR"
        note = status if told == "DONE" else f"{status}: the server ended; the next training resumes it"
        return {"id": own[-1].name, "category": "train", "model": model, "status": told, "details": [note]}

    def _own(self) -> list[Path]:
        """The runs of the chain that began at the network given, in their order."""
        found = [path for path in sorted(self.folder.glob("*.json")) if _read(path).get("root") == self._root]
        return [path.with_suffix("") for path in found]


def _kept(run: Path) -> bool:
    """Whether a training ended well, and is not worse than what it began from."""
    if _read(run / "run.json").get("status") not in _FINISHED or not (run / "model.pt").is_file():
        return False
    before, now = _read(run.with_suffix(".json")).get("dice"), _dice(run)
    return before is None or now is None or now >= before


def _unfinished(run: Path) -> bool:
    return _read(run / "run.json").get("status") not in (*_FINISHED, "failed")


def _dice(run: Path) -> float | None:
    """The best Dice of a run's validation; None where none was measured."""
    best = _read(run / "run.json").get("best")
    return float(best["dice"]) if isinstance(best, dict) and isinstance(best.get("dice"), (int, float)) else None


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else ""


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; nothing where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def served_note(rounds: Rounds) -> str:
    """A line that says which network is served, if it is not the one that was given."""
    latest = rounds.latest()
    if latest != rounds.given:
        return f"goes on with the network of {latest}, trained from {rounds.given} on corrections"
    return ""
