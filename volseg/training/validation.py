"""When a training validates: every few epochs, and after the last one."""

from __future__ import annotations

from ignite.engine import Engine, Events
from monai.engines import Evaluator
from monai.handlers import ValidationHandler


class Validation(ValidationHandler):  # type: ignore[misc]  # MONAI has no types
    """MONAI's handler, which also runs after the last epoch, where the learning rate is lowest and the network best.

    Without that, 19 epochs with a validation every 5 would end with four epochs that no checkpoint can come from.

    Args:
        evaluator: run with the number of the epoch.
        every: epochs between validations.
    """

    def __init__(self, evaluator: Evaluator, *, every: int) -> None:
        super().__init__(every, evaluator)

    def attach(self, engine: Engine) -> None:
        """Listen to a trainer."""
        engine.add_event_handler(Events.EPOCH_COMPLETED(event_filter=self._is_due), self)

    def _is_due(self, engine: Engine, epoch: int) -> bool:
        return bool(epoch % self.interval == 0 or epoch == engine.state.max_epochs)
