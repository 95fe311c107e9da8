"""The early end of a training: by a limit of time, or after several validations without improvement."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from torch.optim.lr_scheduler import LRScheduler

from volseg.errors import UsageError
from volseg.training.schedules import Schedule

logger = logging.getLogger("volseg.training")


class TimeLimit:
    """Train for a number of minutes instead of a number of epochs; a handler for a trainer.

    After each epoch it computes from the mean time of an epoch how many more fit, and lets the rest of the schedule
    take these, so that the learning rate reaches its end with the last one. An epoch that would not fit, with the
    validation after it, is not started. Preparing the data does not count; validations and saving do.

    The time of a resumed run before its interruption counts. If none is left, one epoch more ends it: what was
    interrupted has no validation after its last epoch, and a learning rate in mid-course. The number of steps depends
    on the machine, so two runs are not the same to the bit. Place it before the handler that validates, which needs to
    know the last epoch.

    With and without a limit, a trainer that runs again after its end takes the schedule from its beginning: a client of
    a federation runs once a round, and at the end of the schedule it would learn nothing.

    Args:
        minutes: Limit in minutes for the whole training; 0 for no limit.
        schedule: Schedule of the learning rate; one of torch's own is not adapted.
        now: Clock in seconds.

    Raises:
        UsageError: The minutes are below 0.
    """

    def __init__(self, minutes: float, *, schedule: LRScheduler, now: Callable[[], float] = time.monotonic) -> None:
        self.minutes = check_minutes(minutes)
        self.schedule = schedule
        self.now = now
        self._began = now()
        self._before_s = 0.0  # of this training, before it was resumed
        self._minutes_before: float | None = None
        self._completed = self._between_s = 0.0
        self._ended = True  # whether no epoch was to follow when it was last planned; `last.pt` of before do not tell

    def attach(self, engine: Engine) -> None:
        """Attach the handler to a trainer."""
        engine.add_event_handler(Events.STARTED, self._start)
        if self.minutes:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._iteration)
            engine.add_event_handler(Events.EPOCH_STARTED, self._epoch_started)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch)

    def resumed(self, engine: Engine) -> None:
        """Go on with a resumed run; called once it knows at which epoch it continues."""
        if not self.minutes:
            return
        if self._minutes_before != self.minutes:
            share = min(1.0, self._before_s / (60 * self.minutes))
            if isinstance(self.schedule, Schedule):
                self.schedule.go_to(share)
            logger.warning(
                "it was planned %s: the learning rate goes on as after %.0f %% of a training of %g minutes, and the "
                "result is not that of either",
                f"with {self._minutes_before:g} minutes" if self._minutes_before else "without --max_minutes",
                *(100 * share, self.minutes),
            )
        self._plan(engine, done=engine.state.epoch, least=0 if self._ended else 1)

    def state_dict(self) -> dict[str, float]:
        """The seconds of training so far, the limit, and whether the last epoch is done."""
        return {"seconds": self._seconds(), "minutes": self.minutes, "ended": self._ended}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Count the seconds of a `state_dict`."""
        self._before_s, self._minutes_before = float(state["seconds"]), float(state["minutes"])
        self._ended = bool(state.get("ended", True))

    def _start(self) -> None:
        self._began = self.now()
        if isinstance(self.schedule, Schedule) and self.schedule.ended:
            self.schedule.restart()

    def _seconds(self) -> float:
        return self._before_s + self.now() - self._began

    def _iteration(self, engine: Engine) -> None:
        """Plan within the first epoch, after 1, 2, 4, 8, ... iterations."""
        done, length = engine.state.iteration, engine.state.epoch_length
        if done < length and done & (done - 1) == 0:
            self._plan(engine, done=done / length)

    def _epoch_started(self) -> None:
        if self._completed:
            self._between_s = max(self._between_s, self.now() - self._completed)

    def _epoch(self, engine: Engine) -> None:
        self._completed = self.now()
        self._plan(engine, done=engine.state.epoch)

    def _plan(self, engine: Engine, *, done: float, least: int = 0) -> None:
        """Set the last epoch, by the time that the finished ones took; at least so many follow."""
        seconds = self._seconds()
        epoch_s = max(seconds / done, 1e-9)
        last = math.floor(done + (60 * self.minutes - seconds - self._between_s) / epoch_s)
        last = max(last, math.ceil(done) + least)
        if idist.get_world_size() > 1:  # all processes end together
            last = int(idist.broadcast(float(last), src=0))
        engine.state.max_epochs = last
        self._ended = last <= done
        if last > done and isinstance(self.schedule, Schedule):
            self.schedule.plan(math.ceil((last - done) * engine.state.epoch_length))


def check_minutes(minutes: Any) -> float:  # noqa: ANN401 - whatever a user gives
    """Return the number of minutes, or raise an error that says what was expected."""
    if isinstance(minutes, bool) or not isinstance(minutes, (int, float)) or not 0 <= minutes < math.inf:
        raise UsageError(f"--max_minutes must be a number of minutes, got {minutes!r}; 0 sets no limit")
    return float(minutes)


def check_interval(interval: Any, handler: str) -> int:  # noqa: ANN401 - whatever a user gives
    """Return the number of epochs between two events of a handler, or raise an error that says what was expected."""
    if isinstance(interval, bool) or not isinstance(interval, int) or interval < 1:
        raise UsageError(f"--{handler}#interval must be a whole number of epochs of at least 1, got {interval!r}")
    return interval


class Patience:
    """Stop if several validations in a row were not better than the best; a handler for a trainer.

    It only compares epochs with that of the evaluator's best metric, so it has no state that a resumed run could lose,
    and processes that share the metric stop together. (ignite's EarlyStopping counts for itself and takes NaN for an
    improvement.) Place it last, after the handlers that validate, resume and show progress.

    Args:
        evaluator: Evaluator of MONAI, whose `metric_cmp_fn` says what is better.
        validations: Number of validations without a better one after which the training stops; 0 never stops it.
        interval: Number of epochs between validations, 1 by default.
        every: `interval` in the train.json of version 0.1.

    Raises:
        UsageError: The number is below 0, or the interval below 1.
    """

    def __init__(self, evaluator: Engine, *, validations: int, interval: int = 1, every: int | None = None) -> None:
        if not isinstance(validations, int) or validations < 0:
            raise UsageError(f"--patience must be a number of validations, got {validations!r}; 0 never stops early")
        self.evaluator = evaluator
        self.validations = validations
        self.interval = check_interval(interval if every is None else every, "patience_handler")

    def attach(self, engine: Engine) -> None:
        """Attach the handler to a trainer."""
        if self.validations:
            engine.add_event_handler(Events.STARTED, self._look)  # a resumed run may have had enough
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._look)

    def _look(self, engine: Engine) -> None:
        best, epoch = self.evaluator.state.best_metric_epoch, engine.state.epoch
        last = engine.state.max_epochs
        if best > 0 and epoch < last and epoch - best >= self.validations * self.interval:
            logger.info(
                "stopped after epoch %d of %d: no validation was better than that of epoch %d (%s %.3f), "
                "%d in a row, which is --patience",
                *(epoch, last, best, self.evaluator.state.key_metric_name),
                *(self.evaluator.state.best_metric, self.validations),
            )
            engine.terminate()
