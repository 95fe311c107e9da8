"""The lines that `volseg crossval` prints while folds are trained: what is done, and the time left."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from volseg.crossval import CrossvalFolder, CrossvalSettings

_LOOK_EVERY_S = 60.0


class FoldProgress:
    """A line when a fold is finished, and one a minute for those that are being trained, with the time left."""

    def __init__(
        self, folder: CrossvalFolder, jobs: Sequence[tuple[str, int]], settings: CrossvalSettings, *, workers: int
    ) -> None:
        self.folder = folder
        self.jobs = list(jobs)
        self._workers = workers
        self._expected_s = 66 * settings.minutes if settings.minutes else None
        self._seconds: list[float] = []
        self._began = time.time()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> FoldProgress:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def told(self, name: str, fold: int, facts: Mapping[str, Any]) -> None:
        """Tell of a finished fold."""
        from volseg.crossval import is_done

        self._seconds.append(float(facts.get("seconds", 0)))
        done = sum(is_done(self.folder, *job) for job in self.jobs)
        epochs = f", {facts['epochs']} epochs in {facts['trained_minutes']:g} min" if facts.get("epochs") else ""
        typer.echo(f"{name} fold {fold}: trained and predicted{epochs}; {done} of {len(self.jobs)} done{self._left()}")
        for warning in facts.get("warnings", ()):
            typer.secho(f"warning  {name} fold {fold}: {warning}", fg="yellow", err=True)
        for key, error in dict(facts.get("not_predicted", {})).items():
            typer.secho(f"failed  {name} fold {fold}, {key}: {error}", fg="red", err=True)

    def _look(self) -> None:
        while not self._stop.wait(_LOOK_EVERY_S):
            for name, fold, record in self._running():
                history = record.get("history") or [{}]
                dice = next((row["dice"] for row in reversed(history) if row.get("dice") is not None), None)
                shown = "" if dice is None else f", Dice {dice:.3f} on its held-out cases"
                last = (
                    f" of {record.get('max_epochs')}" if self._expected_s is None else ""
                )  # by the clock it is not known
                epoch = f"epoch {len(record.get('history', ()))}{last} is done"
                typer.echo(f"{name} fold {fold}: {epoch}{shown}{self._left()}")

    def _running(self) -> list[tuple[str, int, dict[str, Any]]]:
        import json

        found = []
        for name, fold in self.jobs:
            path = self.folder.run(name, fold) / "run.json"
            try:
                if path.stat().st_mtime >= self._began and not self.folder.network(name, fold).is_file():
                    found.append((name, fold, json.loads(path.read_text(encoding="utf-8"))))
            except (OSError, ValueError):
                continue
        return found

    def _left(self) -> str:
        from volseg.crossval import duration, is_done, time_left

        expected = sum(self._seconds) / len(self._seconds) if self._seconds else self._expected_s
        if expected is None:
            return ""
        running = [float(record["timing"]["seconds"]) for _, _, record in self._running() if record.get("timing")]
        left = sum(not is_done(self.folder, *job) for job in self.jobs)
        if not left:
            return ""
        minutes = time_left(
            expected, waiting=max(0, left - len(running)), running_s=running, workers=min(self._workers, left)
        )
        return f", about {duration(minutes)} left"
