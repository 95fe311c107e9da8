"""The record of a run: run.json for programs, train.json to run it again, summary.md for people."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn

from volseg.bundle import Recipe
from volseg.cohort import Cohort
from volseg.errors import root_error
from volseg.files import Lock, atomic
from volseg.inference import peak_memory
from volseg.report import SCHEMA, run_as_markdown, status_of
from volseg.training.handlers.earlier_run import set_aside_run
from volseg.training.handlers.progress import Stopwatch
from volseg.training.handlers.run_facts import now_utc, run_facts
from volseg.training.handlers.sequence import raise_at_last, raised_later
from volseg.training.handlers.signals import Signals, Stopped
from volseg.training.handlers.validation import VolumetricDice
from volseg.training.rank_errors import told_error
from volseg.training.run_lock import lock_run
from volseg.training.settings import Settings, settings_of_earlier_config

logger = logging.getLogger("volseg.training")


class Record:
    """Write the settings and results of a run into its folder; a handler for MONAI's SupervisedTrainer.

    `run.json` (schema `volseg/report/run.schema.json`) is there from the first epoch on, with the status `running`; it
    is written anew after each epoch. At the end its status is `finished`, `stopped early`, `interrupted` or `failed`,
    with the reason: a signal that ends the process (SIGTERM, SIGHUP, SIGINT) interrupts. The record names the process,
    so that a reader knows if it was killed (`volseg.report.status_of`); a second training on the folder is refused. A
    resumed run continues the history of its record; record, curves and snapshots of another run are moved aside.
    `train.json` is the config with the values of its settings. `summary.md` is a page with the results and the commands
    that use them. Among several processes the first one writes.

    Place it after the handlers that validate, and before those that save for resuming and that show progress.

    Args:
        output_dir: Folder of the run.
        evaluator: Evaluator, whose key metric is the score.
        network: Network of the run.
        cohort: Cohort of the training.
        recipe: Recipe with the window and the fold.
        stopwatch: Stopwatch, attached before this handler.
        scores: Key metric, if it knows the Dice of each case: those of the best validation are kept.
        settings: Settings of the run, which train.json hands in; without a bundle there are none to record.
    """

    def __init__(
        self,
        output_dir: str | Path,
        *,
        evaluator: Engine,
        network: nn.Module,
        cohort: Cohort,
        recipe: Recipe,
        stopwatch: Stopwatch,
        scores: VolumetricDice | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.evaluator = evaluator
        self.network = network
        self.cohort = cohort
        self.recipe = recipe
        self.stopwatch = stopwatch
        self.scores = scores
        self.settings = settings if settings is not None else settings_of_earlier_config()
        self._content: dict[str, Any] = {}
        self._best_cases: dict[str, Any] = {}
        self._losses: list[Tensor] = []
        self._rows: list[str] = []  # the epochs of the history as text
        self._began = 0.0
        self._elapsed_before = 0.0
        self._signals = Signals()
        self._lock: Lock | None = None

    def attach(self, engine: Engine) -> None:
        """Attach the handler to a trainer."""
        if idist.get_rank() > 0:
            return
        engine.add_event_handler(Events.STARTED, raise_at_last)
        engine.add_event_handler(Events.STARTED, self._take_lock)
        engine.add_event_handler(Events.EPOCH_STARTED, self._start_epoch)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._iteration)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch)
        engine.add_event_handler(Events.COMPLETED, self._complete)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)

    def _take_lock(self, _: Engine) -> None:
        if self._lock is None:
            self._lock = lock_run(self.output_dir)

    def _release_lock(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _start_epoch(self, engine: Engine) -> None:
        self._start(engine, done=engine.state.epoch - 1)

    def _start(self, engine: Engine, *, done: int) -> None:
        """Open the record once, after `done` earlier epochs, which a resumed trainer knows only now."""
        if self._content:
            if self._content["status"] != "running":  # the trainer runs again, as in each round of a federation
                self._content |= {"status": "running", "error": None}
                self._signals.enter()
            return
        self._signals.enter()
        self._began = time.monotonic()
        earlier = self._earlier() if done > 0 else None
        if earlier is None:
            set_aside_run(self.output_dir)
        self._content = run_facts(
            self.output_dir,
            network=self.network,
            cohort=self.cohort,
            recipe=self.recipe,
            settings=self.settings,
            device=_device(engine),
            max_epochs=engine.state.max_epochs,
            first_epoch=done + 1,
            cases=(_cases_of(engine), _cases_of(self.evaluator)),
        )
        if earlier is not None:
            if status_of(earlier) == "killed":
                logger.warning("the last session of this run was killed: it wrote nothing after %s", earlier["updated"])
            self._content["started"] = earlier["started"]
            self._best_cases = earlier["best"] or {}
            self._content["history"] = [row for row in earlier["history"] if row["epoch"] <= done]
            self._content["sessions"] = [*map(_ended, earlier["sessions"]), *self._content["sessions"]]
            self._elapsed_before = sum(one["seconds"] for one in earlier["sessions"])
        if self.settings is not None:
            _write(self.output_dir / "train.json", json.dumps(self.settings.config(), indent=4) + "\n")
        self._write(engine)

    def _iteration(self, engine: Engine) -> None:
        output = engine.state.output
        output = output[0] if isinstance(output, list) else output
        self._losses.append(torch.as_tensor(output["loss"]).detach())  # no value is asked for: a GPU need not wait

    def _epoch(self, engine: Engine) -> None:
        state = self.evaluator.state
        validated = state.epoch == engine.state.epoch and bool(state.metrics)
        name = state.key_metric_name
        regions = {
            key.removeprefix(f"{name}_"): _number(value)
            for key, value in state.metrics.items()
            if key.startswith(f"{name}_")
        }
        self._content["history"].append(
            {
                "epoch": engine.state.epoch,
                "elapsed_s": round(self._elapsed_before + time.monotonic() - self._began, 3),
                "loss": _number(torch.stack(self._losses).float().mean()) if self._losses else None,
                "learning_rate": max(float(group["lr"]) for group in engine.optimizer.param_groups),
                "data_wait_share": round(self.stopwatch.epoch_share, 4),
                "dice": _number(state.metrics[name]) if validated else None,
                "regions": regions if validated else None,
            }
        )
        self._losses.clear()
        best = _best(self._content["history"])
        if best is not None and best["epoch"] == engine.state.epoch:
            self._best_cases = {"epoch": best["epoch"], "cases": self._cases()}
        self._write(engine)

    def _complete(self, engine: Engine) -> None:
        self._start(engine, done=engine.state.epoch)  # a run that was resumed at its end has no epoch
        early = engine.state.epoch < engine.state.max_epochs
        self._end(engine, "stopped early" if early else "finished")
        self._release_lock()

    def _fail(self, engine: Engine, error: BaseException) -> None:
        if self._content and self._content["status"] == "running":
            told = told_error()  # by another process, whose end has stopped this one
            if told is not None:
                self._end(engine, "failed", error=told)
            elif isinstance(error, (KeyboardInterrupt, Stopped)):
                reason = error.reason if isinstance(error, Stopped) else "stopped by SIGINT"
                self._end(engine, "interrupted", error=reason)
                logger.warning("%s in epoch %d; --resume goes on", reason, engine.state.epoch)
            else:
                self._end(engine, "failed", error=str(root_error(error)))
        self._release_lock()
        if not raised_later(engine):
            raise error

    def _end(self, engine: Engine, status: str, *, error: str | None = None) -> None:
        self._content["status"] = status
        self._content["error"] = error
        self._write(engine)
        self._signals.leave()

    def _write(self, engine: Engine) -> None:
        content, now = self._content, now_utc()
        history, stopwatch = content["history"], self.stopwatch
        content["updated"] = now
        content["max_epochs"] = engine.state.max_epochs  # which a limit of time may have changed
        content["sessions"][-1].update(
            ended=now,
            status=content["status"],
            epochs=sum(row["epoch"] >= content["sessions"][-1]["first_epoch"] for row in history),
            seconds=round(time.monotonic() - self._began, 3),
            trained_s=round(stopwatch.trained_s, 3),
            waited_s=round(stopwatch.waited_s, 3),
            iterations=stopwatch.iterations,
        )
        total = {name: sum(one[name] for one in content["sessions"]) for name in ("seconds", "trained_s", "waited_s")}
        iterations = sum(one["iterations"] for one in content["sessions"])
        content["timing"] = {
            "seconds": round(total["seconds"], 3),
            "iterations": iterations,
            "seconds_per_iteration": round(total["trained_s"] / iterations, 6) if iterations else None,
            "data_wait_share": round(total["waited_s"] / total["trained_s"], 4) if total["trained_s"] else None,
        }
        content["memory"] = peak_memory(_device(engine))
        best = _best(history)
        if best is not None:
            of_best = self._best_cases if self._best_cases.get("epoch") == best["epoch"] else {}
            best["cases"] = of_best.get("cases", [])  # which the first versions of volseg did not record
        content["best"] = best
        content["checkpoints"] = [
            {"file": path.name, "bytes": path.stat().st_size}
            for path in (*sorted(self.output_dir.glob("model*.pt")), self.output_dir / "last.pt")
            if path.is_file()
        ]
        _write(self.output_dir / "run.json", self._text())
        _write(self.output_dir / "summary.md", run_as_markdown(content))

    def _text(self) -> str:
        """The record as JSON, a line per epoch; each epoch becomes text once, however many there are."""
        history = self._content["history"]
        self._rows += [json.dumps(row, allow_nan=False) for row in history[len(self._rows) :]]
        parts = []
        for name, value in self._content.items():
            if name == "history" and self._rows:
                lines = ",\n  ".join(self._rows)
                parts.append(f' "history": [\n  {lines}\n ]')
            else:
                text = json.dumps(value, indent=1, allow_nan=False).replace("\n", "\n ")
                parts.append(f" {json.dumps(name)}: {text}")
        return "{\n" + ",\n".join(parts) + "\n}\n"

    def _earlier(self) -> dict[str, Any] | None:
        """The existing record, if it is complete and written by volseg."""
        try:
            content: dict[str, Any] = json.loads((self.output_dir / "run.json").read_text())
            return content if content["schema"] == SCHEMA and content["history"] and content["sessions"] else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _cases(self) -> list[dict[str, Any]]:
        """The Dice of each case of the cohort in the last validation."""
        if self.scores is None or not self.cohort.digest:  # cases of another program have no key
            return []
        return [
            {
                "key": key,
                "patient": self.cohort.patient(key),
                "dice": {region: _number(value) for region, value in regions.items()},
            }
            for key, regions in self.scores.by_case().items()
            if key in self.cohort.rows
        ]


def _cases_of(engine: Engine) -> int:
    """Number of cases of the data loader that MONAI's engine was built with; one that stands several times is one."""
    dataset = getattr(getattr(engine, "data_loader", None), "dataset", ())
    items = getattr(dataset, "data", ())
    keys = {str(item["key"]) for item in items if isinstance(item, Mapping) and "key" in item}
    return len(keys) or len(dataset)


def _best(history: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The first validation with the highest score, which is the one that `Checkpoints` keeps.

    None if each score is 0 or undefined: model.pt is then that of the last validation, and not called the best.
    """
    scored = [row for row in history if row["dice"]]
    if not scored:
        return None
    row = max(scored, key=lambda row: (row["dice"], -row["epoch"]))
    return {"epoch": row["epoch"], "dice": row["dice"], "regions": row["regions"]}


def _ended(session: Mapping[str, Any]) -> dict[str, Any]:
    """A session with an end: one that was killed has recorded none."""
    return {**session, "status": "killed" if session["status"] == "running" else session["status"]}


def _number(value: Any) -> float | None:  # noqa: ANN401 - a number of Python or a tensor of one
    number = float(value)
    return round(number, 6) if math.isfinite(number) else None


def _device(engine: Engine) -> torch.device:
    return torch.device(getattr(engine.state, "device", "cpu"))


def _write(path: Path, text: str) -> None:
    with atomic(path) as partial:
        partial.write_text(text)
