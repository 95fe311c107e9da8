"""Random numbers that depend on seed and epoch alone, so that a resumed training draws what an unbroken one does."""

from __future__ import annotations

import random

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data.utils import set_rnd


class Seeds:
    """Seed every generator anew as an epoch starts; a handler for a trainer of MONAI.

    Python's, NumPy's and torch's generators and those of the data set's transforms start from (seed, epoch, rank). An
    epoch then depends on what came before through weights and optimizer only. The data loader makes its iterator after
    the epoch has started, and workers take their seeds from torch's generator as they start; those that outlive an
    epoch (`persistent_workers`) do not, so a resumed run with them draws other crops.

    Args:
        seed: None leaves the generators alone.
    """

    def __init__(self, seed: int | None) -> None:
        self.seed = seed

    def attach(self, engine: Engine) -> None:
        """Listen to a trainer."""
        if self.seed is not None:
            engine.add_event_handler(Events.EPOCH_STARTED, self._seed)

    def _seed(self, engine: Engine) -> None:
        numbers = np.random.SeedSequence([self.seed or 0, engine.state.epoch, idist.get_rank()]).generate_state(4)
        for_python, for_numpy, for_torch, for_transforms = map(int, numbers)
        random.seed(for_python)
        np.random.seed(for_numpy)  # noqa: NPY002 - transforms of others may draw from the global generator
        torch.manual_seed(for_torch)
        set_rnd(getattr(engine.data_loader, "dataset", None), for_transforms)
