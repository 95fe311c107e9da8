"""The moving average of a network's weights, which often segments better than the weights themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ignite.engine import Engine, Events
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from volseg.errors import UsageError
from volseg.training.gradients import batches_of_step


class Average:
    """Keep an exponential moving average of the weights; a handler for MONAI's SupervisedTrainer.

    At step t of the optimizer the average is multiplied by min(`decay`, (1 + t) / (10 + t)), the weights by the rest,
    so that a short run does not end near its beginning. Buffers, such as the statistics of a batch normalisation, are
    those of the network. (ignite's EMAHandler warms up linearly, and steps at every batch even where gradients
    accumulate.)

    Args:
        network: the one that is trained, on its device.
        decay: 0 for no average, else below 1, such as 0.999.

    Attributes:
        network: the one to validate and to save: the average, or with a decay of 0 the trained network itself.

    Raises:
        UsageError: another decay.

    >>> net = nn.Linear(1, 1)
    >>> Average(net, decay=0).network is net, Average(net, decay=0.999).network is net
    (True, False)
    """

    def __init__(self, network: nn.Module, *, decay: float) -> None:
        if not isinstance(decay, (int, float)) or not 0 <= decay < 1:
            raise UsageError(f"--ema_decay is {decay!r}, expected a number below 1, such as 0.999; 0 takes no average")
        self.decay = decay
        self._trained = network.module if isinstance(network, DistributedDataParallel) else network
        self._average = AveragedModel(self._trained) if decay else None
        self.network: nn.Module = self._average.module if self._average else network

    def attach(self, engine: Engine) -> None:
        """Listen to a trainer."""
        if self._average is not None:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._update)

    def _update(self, engine: Engine) -> None:
        if self._average is not None and batches_of_step(engine):
            steps = int(self._average.n_averaged)
            decay = min(self.decay, (1 + steps) / (10 + steps))
            self._average.multi_avg_fn = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]  # torch's
            self._average.update_parameters(self._trained)

    def state_dict(self) -> dict[str, Any]:
        """The average and its number of steps; empty with a decay of 0."""
        return self._average.state_dict() if self._average else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""
        if self._average is not None:
            self._average.load_state_dict(state)
