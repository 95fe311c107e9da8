"""How long a training takes, and for what share of it the network waits for data."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from ignite.engine import Engine, Events

logger = logging.getLogger("volseg.training")

_TOO_MUCH = 0.1  # of the time of training


class Stopwatch:
    """Measure the time of training without validation, and in it the time until batches are there.

    A handler for a trainer; place it first, so that an epoch ends for it before the validation. On a GPU an epoch's
    time is right because the loss is read in it; the wait is the time that the main process spends in the data loader.

    Args:
        now: a clock in seconds.

    Attributes:
        trained_s: in epochs, from start to end.
        waited_s: of these, for batches.
        iterations: in these epochs.
        epoch_share: of the last epoch that was spent waiting.
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
        """Listen to a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start_epoch)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._start_batch)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self._have_batch)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._end_epoch)
        engine.add_event_handler(Events.COMPLETED, self._tell)

    @property
    def share(self) -> float | None:
        """The share of all epochs that was spent waiting; None before the first has ended."""
        return self.waited_s / self.trained_s if self.trained_s else None

    @property
    def complaint(self) -> str:
        """What to do about an epoch that waited for more than a tenth of its time; empty where it did not."""
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
                "%.3f s an iteration; the network waited for data %.1f %% of the time of training",
                *(self.trained_s / max(1, self.iterations), 100 * self.share),
            )
