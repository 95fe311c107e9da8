"""When a training stops before its last epoch: no validation was better for long."""

from __future__ import annotations

import logging

from ignite.engine import Engine, Events

from volseg.errors import UsageError

logger = logging.getLogger("volseg.training")


class Patience:
    """Stop where several validations in a row were not better than the best; a handler for a trainer.

    It only compares epochs with that of the evaluator's best metric, so it has no state that a resumed run could lose,
    and processes that share the metric stop together. (ignite's EarlyStopping counts for itself and takes NaN for an
    improvement.) Place it last, behind the handlers that validate, resume and show progress.

    Args:
        evaluator: of MONAI; its `metric_cmp_fn` says what is better.
        validations: that may pass without a better one; 0 never stops.
        every: epochs between validations.

    Raises:
        UsageError: a number below 0.
    """

    def __init__(self, evaluator: Engine, *, validations: int, every: int) -> None:
        if not isinstance(validations, int) or validations < 0:
            raise UsageError(f"--patience is {validations!r}, expected a number of validations; 0 never stops early")
        self.evaluator = evaluator
        self.validations = validations
        self.every = every

    def attach(self, engine: Engine) -> None:
        """Listen to a trainer."""
        if self.validations:
            engine.add_event_handler(Events.STARTED, self._look)  # a resumed run may have had enough
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._look)

    def _look(self, engine: Engine) -> None:
        best, epoch = self.evaluator.state.best_metric_epoch, engine.state.epoch
        last = engine.state.max_epochs
        if best > 0 and epoch < last and epoch - best >= self.validations * self.every:
            logger.info(
                "stopped after epoch %d of %d: no validation was better than that of epoch %d (%s %.3f), "
                "%d in a row, which is --patience",
                *(epoch, last, best, self.evaluator.state.key_metric_name),
                *(self.evaluator.state.best_metric, self.validations),
            )
            engine.terminate()
