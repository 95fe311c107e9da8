"""The order of the cases in training: known from seed and epoch, and the same for one process and for many."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sized
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data.utils import set_rnd
from torch.utils.data import Sampler

from volseg.errors import UsageError
from volseg.training.cache import CachedDataset


class BatchOrder(Sampler[list[int]]):
    """The batches of this process; a `batch_sampler` of a data loader.

    In each epoch all cases are shuffled by (seed, epoch) and cut into batches, which the processes take in turn:

        cases        4 1 | 0 5 | 3 2 | 6        batches of two
        process 0    4 1         3 2            of two processes; one step of the optimizer takes
        process 1          0 5         6        the mean over a column's batches

    So two processes make the same steps as one that accumulates the gradients of two batches. If the number of batches
    is no multiple of the processes, the first ones are taken again, so that no process waits for ever. `EpochSeeds`
    sets `epoch`.

    Args:
        cases: Data set, or anything else that has a length.
        batch_size: Number of cases per batch and process.
        seed: Seed of the order.
        shuffle: Whether each epoch shuffles the cases; if false, they keep their order.
        rank: Rank of this process; that of torchrun by default.
        processes: Number of processes; that of torchrun by default.

    Raises:
        UsageError: The batch size is below 1, or the seed is no whole number.

    >>> list(BatchOrder(range(5), batch_size=2, seed=0, shuffle=False, rank=1, processes=2))
    [[2, 3], [0, 1]]
    """

    def __init__(
        self,
        cases: Sized,
        *,
        batch_size: int,
        seed: int | None = 0,
        shuffle: bool = True,
        rank: int | None = None,
        processes: int | None = None,
    ) -> None:
        if not isinstance(batch_size, int) or batch_size < 1:
            raise UsageError(f"--batch_size must be a whole number of at least 1, got {batch_size!r}")
        self.cases = cases
        self.batch_size = batch_size
        self.seed = check_seed(seed) or 0
        self.shuffle = shuffle
        self.rank = idist.get_rank() if rank is None else rank
        self.processes = idist.get_world_size() if processes is None else processes
        self.epoch = 0

    def __len__(self) -> int:
        batches = -(-len(self.cases) // self.batch_size)
        return -(-batches // self.processes)

    def __iter__(self) -> Iterator[list[int]]:
        cases = np.arange(len(self.cases))
        if self.shuffle:
            cases = np.random.default_rng([self.seed, self.epoch]).permutation(cases)
        batches = [cases[start : start + self.batch_size].tolist() for start in range(0, len(cases), self.batch_size)]
        for turn in range(len(self)):
            yield batches[(turn * self.processes + self.rank) % len(batches)]


class EpochSeeds:
    """Seed every generator anew at the start of each epoch; a handler for a trainer of MONAI.

    Python's, NumPy's and torch's generators start from (seed, epoch, rank), `BatchOrder` from (seed, epoch) and the
    random transforms of a `CachedDataset`, case by case, from (seed, epoch, case), whichever process takes it; those
    of other data sets from (seed, epoch, rank). An epoch then depends on earlier ones through weights and optimizer
    only. The data loader makes its iterator and its workers after the epoch has started; workers that outlive an epoch
    (`persistent_workers`) are not seeded for the next one, so a resumed run with them draws other crops.

    Args:
        seed: Seed; None leaves the generators alone, so that only the order of the cases is known beforehand.
    """

    def __init__(self, seed: int | None) -> None:
        self.seed = check_seed(seed)

    def attach(self, engine: Engine) -> None:
        """Attach the handler to a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._seed)

    def _seed(self, engine: Engine) -> None:
        order = getattr(engine.data_loader, "batch_sampler", None)
        if isinstance(order, BatchOrder):
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


def check_seed(seed: Any) -> int | None:  # noqa: ANN401 - whatever a user gives
    """The seed, if it is a whole number of at least 0 or None.

    Raises:
        UsageError: It is something else; MONAI and NumPy take other numbers for a seed than each other.

    >>> check_seed(3), check_seed(None)
    (3, None)
    >>> check_seed(-1)
    Traceback (most recent call last):
    volseg.errors.UsageError: --seed must be a whole number of at least 0, got -1
    """
    if seed is None or (isinstance(seed, (int, np.integer)) and not isinstance(seed, bool) and seed >= 0):
        return None if seed is None else int(seed)
    raise UsageError(f"--seed must be a whole number of at least 0, got {seed!r}")
