"""Batches that a thread makes ahead: the same ones, in their order, with their errors."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.transforms import Compose, RandGaussianNoise

from volseg.training import BatchOrder, LoaderAhead


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Two threads of torch, whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def loaded(kind: type[DataLoader], **more: object) -> tuple[list[torch.Tensor], set[str], list[int]]:
    """The batches of two epochs, the names of the threads that made them, and the threads of torch there."""
    names: set[str] = set()
    counts: list[int] = []

    def noted(item: torch.Tensor) -> torch.Tensor:
        names.add(threading.current_thread().name)
        counts.append(torch.get_num_threads())
        return item

    steps = Compose([noted, RandGaussianNoise(prob=0.5)]).set_random_state(0)
    data = Dataset([torch.full((1, 4), float(number)) for number in range(7)], steps)
    torch.manual_seed(0)
    loader = kind(data, batch_sampler=BatchOrder(data, batch_size=2, seed=1), num_workers=0, **more)
    return [torch.as_tensor(batch) for _ in range(2) for batch in loader], names, counts


def test_the_batches_are_those_of_monai_and_another_thread_makes_them(two_threads: None) -> None:
    expected, here, _ = loaded(DataLoader)
    got, elsewhere, counts = loaded(LoaderAhead)
    assert len(got) == 8
    assert all(torch.equal(one, other) for one, other in zip(got, expected, strict=True))
    assert here == {"MainThread"}
    assert all(name.startswith("volseg-loader") for name in elsewhere)
    assert set(counts) == {1}


def test_with_one_thread_nothing_is_made_ahead() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert loaded(LoaderAhead)[1] == {"MainThread"}
    finally:
        torch.set_num_threads(before)


def test_an_error_comes_at_its_batch(two_threads: None) -> None:
    def fail(item: float) -> float:
        if item == 2:
            raise ValueError("case 2 is damaged")
        return item

    batches = iter(LoaderAhead(Dataset([0.0, 1.0, 2.0, 3.0], fail), batch_size=1))
    assert [float(next(batches)) for _ in range(2)] == [0, 1]
    with pytest.raises(RuntimeError, match="applying transform") as raised:
        next(batches)
    assert "case 2 is damaged" in str(raised.value.__cause__)


def test_an_epoch_that_is_left_early_leaves_no_thread_behind(two_threads: None) -> None:
    batches = iter(LoaderAhead(Dataset(list(np.arange(9.0))), batch_size=1))
    next(batches)
    assert any(thread.name.startswith("volseg-loader") for thread in threading.enumerate())
    batches.close()  # type: ignore[attr-defined]  # a generator: what happens where nothing refers to it any more
    assert not any(thread.name.startswith("volseg-loader") for thread in threading.enumerate())


def test_the_next_batch_is_made_while_the_last_is_used(two_threads: None) -> None:
    made = [threading.Event() for _ in range(3)]

    def note(item: int) -> float:
        made[item].set()
        return float(item)

    batches = iter(LoaderAhead(Dataset([0, 1, 2], note), batch_size=1))
    next(batches)
    assert made[1].wait(timeout=60)
    assert not made[2].is_set()
