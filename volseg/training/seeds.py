"""Random numbers that depend on seed and epoch alone, so that a resumed training draws what an unbroken one does."""

from __future__ import annotations

import random

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data.utils import set_rnd

from volseg.training.cached_dataset import CachedDataset
from volseg.training.order import Order


class Seeds:
    """Seed every generator anew as an epoch starts; a handler for a trainer of MONAI.

    Python's, NumPy's and torch's generators start from (seed, epoch, rank), `Order` from (seed, epoch) and the random
    transforms of a `CachedDataset`, case by case, from (seed, epoch, case), whichever process takes it; those of other
    data sets from (seed, epoch, rank). An epoch then depends on what came before through weights and optimizer only.
    The data loader makes its iterator and its workers after the epoch has started; workers that outlive an epoch
    (`persistent_workers`) know nothing of the next, so a resumed run with them draws other crops.

    Args:
        seed: None leaves the generators alone; only the order of the cases is then known beforehand.
    """

    def __init__(self, seed: int | None) -> None:
        self.seed = seed

    def attach(self, engine: Engine) -> None:
        """Listen to a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._seed)

    def _seed(self, engine: Engine) -> None:
        order = getattr(engine.data_loader, "batch_sampler", None)
        if isinstance(order, Order):
            order.epoch = engine.state.epoch
        if self.seed is None:
            return
        numbers = np.random.SeedSequence([self.seed, engine.state.epoch, idist.get_rank()]).generate_state(4)
        for_python, for_numpy, for_torch, for_transforms = map(int, numbers)
        random.seed(for_python)
        np.random.seed(for_numpy)  # noqa: NPY002 - transforms of others may draw from the global generator
        torch.manual_seed(for_torch)
        dataset = getattr(engine.data_loader, "dataset", None)
        if isinstance(dataset, CachedDataset):
            dataset.epoch_seed = (self.seed, engine.state.epoch)
        else:
            set_rnd(dataset, for_transforms)
