"""Batches made ahead: the next one in a thread, while the network computes on the last."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from monai.data import DataLoader

_END = object()


class LoaderAhead(DataLoader):  # type: ignore[misc]  # MONAI has no types
    """MONAI's DataLoader without processes, of which a thread makes the next batch while the last one is used.

    A step on a CPU leaves a part of the second core idle: there the network would wait for each batch otherwise. The
    batches are the same and come in the same order; one more of them is in memory. Where torch has one thread, or the
    loader has processes, it is MONAI's own.

    The thread computes with one thread of torch, and draws from the random states of the transforms alone: transforms
    that draw from torch's or NumPy's global generators would draw beside the network.

    >>> loader = LoaderAhead([1.0, 2.0, 3.0], batch_size=1)
    >>> [float(batch) for batch in loader]
    [1.0, 2.0, 3.0]
    """

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the batches of an epoch."""
        batches = super().__iter__()
        return batches if self.num_workers or torch.get_num_threads() == 1 else _ahead(batches)


def _ahead(batches: Iterator[Any]) -> Iterator[Any]:
    total = torch.get_num_threads()
    with ThreadPoolExecutor(1, "volseg-loader") as pool:
        pool.submit(_compute_alone).result()
        torch.set_num_threads(total)  # for this thread and those to come
        coming = pool.submit(next, batches, _END)
        while (batch := coming.result()) is not _END:
            coming = pool.submit(next, batches, _END)
            yield batch


def _compute_alone() -> None:
    torch.get_num_threads()  # without it the first operation of a thread sets the number of all again
    torch.set_num_threads(1)
