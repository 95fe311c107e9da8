"""The order of cases: every one in every epoch, and the same batches for one process and for many."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volseg.errors import UsageError
from volseg.training import BatchOrder

counts = st.integers(1, 40)


def batches(cases, *, epoch=1, **options):
    order = BatchOrder(range(cases), **options)
    order.epoch = epoch
    drawn = list(order)
    assert len(drawn) == len(order)
    return drawn


@given(counts, st.integers(1, 6), st.integers(1, 5), st.integers(0, 9))
def test_processes_share_the_batches_of_one(cases, batch_size, processes, epoch):
    alone = batches(cases, batch_size=batch_size, epoch=epoch, rank=0, processes=1)
    assert sorted(case for batch in alone for case in batch) == list(range(cases))
    shares = [
        batches(cases, batch_size=batch_size, epoch=epoch, rank=rank, processes=processes) for rank in range(processes)
    ]
    # All wait for each other at every step, so all have as many.
    assert len({len(share) for share in shares}) == 1
    together = [batch for column in zip(*shares, strict=True) for batch in column]
    assert together[: len(alone)] == alone
    assert len(together) - len(alone) < processes
    assert all(batch in alone for batch in together)


def test_epochs_and_seeds_differ_and_repeat():
    drawn = {(seed, epoch): batches(30, batch_size=1, seed=seed, epoch=epoch) for seed in (0, 1) for epoch in (1, 2)}
    assert len({str(one) for one in drawn.values()}) == 4
    assert batches(30, batch_size=1, seed=1, epoch=2) == drawn[1, 2]
    assert batches(3, batch_size=2, shuffle=False, epoch=5) == [[0, 1], [2]]


@pytest.mark.parametrize("size", [0, -1, 1.5, "2"])
def test_a_batch_has_a_case_at_least(size):
    with pytest.raises(UsageError, match="--batch_size must be"):
        BatchOrder(range(3), batch_size=size)
