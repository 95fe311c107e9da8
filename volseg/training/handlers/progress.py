"""The progress of a training run: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable
from typing import Any

from ignite.engine import Engine, Events

from volseg.training.handlers.sequence import raised_later
from volseg.training.handlers.stopping import check_interval

logger = logging.getLogger("volseg.training")

_TOO_MUCH = 0.1  # fraction of the time of training


class Stopwatch:
    """Measure the time of training without validation, and the part of it that is spent waiting for batches.

    This is a handler for a trainer; place it first, so that its epoch ends before the validation. On a GPU an epoch's
    time is right because the loss is read in it; the wait is the time that the main process spends in the data loader.

    Args:
        now: Clock in seconds.

    Attributes:
        trained_s: Seconds of training, from the start to the end of each epoch.
        waited_s: Seconds of these that were spent waiting for batches.
        iterations: Number of iterations in these epochs.
        epoch_share: Fraction of the last epoch that was spent waiting.
    """

    def __init__(self, *, now: Callable[[], float] = time.perf_counter) -> None:
        self.now = now
        self.trained_s = 0.0
        self.waited_s = 0.0
        self.iterations = 0
        self.epoch_share = 0.0
        self._epoch_began = 0.0
        self._batch_began = 0.0
        self._waited_in_epoch = 0.0
        self._iterations_in_epoch = 0

    def attach(self, engine: Engine) -> None:
        """Attach the handler to a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start_epoch)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._start_batch)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self._have_batch)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._end_epoch)
        engine.add_event_handler(Events.COMPLETED, self._tell)

    @property
    def share(self) -> float | None:
        """The fraction of all epochs that was spent waiting; None before the first has ended."""
        return self.waited_s / self.trained_s if self.trained_s else None

    @property
    def complaint(self) -> str:
        """Advice about an epoch that waited for more than a tenth of its time; empty if it did not."""
        if self.epoch_share <= _TOO_MUCH:
            return ""
        return f"waits for data {100 * self.epoch_share:.0f} % of the time, more --loader_workers may help"

    def _start_epoch(self) -> None:
        self._epoch_began = self.now()
        self._waited_in_epoch = 0.0
        self._iterations_in_epoch = 0

    def _start_batch(self) -> None:
        self._batch_began = self.now()

    def _have_batch(self) -> None:
        self._waited_in_epoch += self.now() - self._batch_began
        self._iterations_in_epoch += 1

    def _end_epoch(self) -> None:
        seconds = self.now() - self._epoch_began
        self.trained_s += seconds
        self.waited_s += self._waited_in_epoch
        self.iterations += self._iterations_in_epoch
        self.epoch_share = self._waited_in_epoch / seconds if seconds > 0 else 0.0

    def _tell(self) -> None:
        if self.share is not None:
            logger.info(
                "%.3f s per iteration; the network waited for data %.1f %% of the time of training",
                *(self.trained_s / max(1, self.iterations), 100 * self.share),
            )


_SILENT_S = 60.0  # longest time without a line, if an epoch is shorter


class Progress:
    """Show epoch, loss, validation Dice and time left; a handler for MONAI's SupervisedTrainer.

    In a resumed run, time elapsed and time left are computed from the epochs since it was resumed.

    Args:
        evaluator: Evaluator whose key metric is shown; None (the default) for none.
        interval: Number of epochs between lines without a terminal, 5 by default; fewer if they take over a minute.
        stopwatch: Stopwatch that reports if the network waits for data too long.
        every: `interval` in the train.json of version 0.1.

    Raises:
        UsageError: The interval is below 1.
    """

    def __init__(
        self,
        evaluator: Engine | None = None,
        *,
        interval: int = 5,
        stopwatch: Stopwatch | None = None,
        every: int | None = None,
    ) -> None:
        self.evaluator = evaluator
        self.interval = check_interval(interval if every is None else every, "progress_handler")
        self.stopwatch = stopwatch
        self._losses: list[float] = []
        self._started = self._told = 0.0
        self._epochs_before = 0
        self._bar: Any = None
        self._task: Any = None

    def attach(self, engine: Engine) -> None:
        """Attach the handler to a trainer."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._iteration)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch)
        engine.add_event_handler(Events.COMPLETED | Events.TERMINATE, self._stop)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)

    def _start(self, engine: Engine) -> None:
        self._started = self._told = time.monotonic()
        self._epochs_before = engine.state.epoch
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("loss {task.fields[loss]} · Dice {task.fields[dice]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            total = engine.state.max_epochs * engine.state.epoch_length
            self._task = self._bar.add_task(
                "training", total=total, completed=engine.state.iteration, loss="…", dice=self._dice()
            )
            self._bar.start()

    def _iteration(self, engine: Engine) -> None:
        output = engine.state.output
        output = output[0] if isinstance(output, list) else output
        self._losses.append(float(output["loss"]))
        if self._bar is not None:
            epoch = f"epoch {engine.state.epoch}/{engine.state.max_epochs}"
            total = engine.state.max_epochs * engine.state.epoch_length  # which a limit of time may have changed
            loss = f"{self._losses[-1]:.3f}"
            self._bar.update(self._task, advance=1, total=total, description=epoch, loss=loss, dice=self._dice())

    def _epoch(self, engine: Engine) -> None:
        epoch, last, before = engine.state.epoch, engine.state.max_epochs, self._epochs_before
        now = time.monotonic()
        due = epoch % self.interval == 0 or epoch in (before + 1, last) or now - self._told >= _SILENT_S
        if self._bar is None and due:
            self._told = now
            seconds = now - self._started
            left = seconds / (epoch - before) * (last - epoch)
            logger.info(
                "epoch %d/%d  loss %.3f  Dice %s%s  %s elapsed, %s left%s",
                *(epoch, last, sum(self._losses) / len(self._losses), self._dice(), self._regions()),
                *(_clock(seconds), _clock(left), self._complaint()),
            )
        self._losses.clear()

    def _dice(self) -> str:
        if self.evaluator is None or self.evaluator.state.epoch_length == 0:
            return "not measured"
        best = self.evaluator.state.best_metric
        now = self.evaluator.state.metrics.get(self.evaluator.state.key_metric_name or "", math.nan)
        if math.isnan(now):
            name = self.evaluator.state.key_metric_name
            return "undefined" if name in self.evaluator.state.metrics else "…"
        return f"{now:.3f} (best {max(best, 0):.3f})"

    def _regions(self) -> str:
        if self.evaluator is None:
            return ""
        name = f"{self.evaluator.state.key_metric_name}_"
        values = {key.removeprefix(name): v for key, v in self.evaluator.state.metrics.items() if key.startswith(name)}
        told = (f"{region} {'undefined' if math.isnan(value) else f'{value:.3f}'}" for region, value in values.items())
        return f"  [{', '.join(told)}]" if values else ""

    def _complaint(self) -> str:
        complaint = self.stopwatch.complaint if self.stopwatch is not None else ""
        return f"  {complaint}" if complaint else ""

    def _stop(self, _: Engine) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _fail(self, engine: Engine, error: BaseException) -> None:
        self._stop(engine)
        if not raised_later(engine):
            raise error


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min"
