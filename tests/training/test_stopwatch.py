"""The share of time that a network waits for data, on a clock of the test's own."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import torch
from ignite.engine import Engine, Events

from volseg.training import Progress, Stopwatch


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def run(*, wait: float, step: float, validate: float = 0.0, epochs: int = 2, every: int = 1) -> Stopwatch:
    """A training of three iterations an epoch whose parts take the given seconds."""
    clock = Clock()

    class Slow:
        def __len__(self) -> int:
            return 3

        def __iter__(self) -> Iterator[int]:
            for number in range(3):
                clock.seconds += wait
                yield number

    def train(*_: object) -> list[dict[str, torch.Tensor]]:
        clock.seconds += step
        return [{"loss": torch.tensor(0.5)}]

    def validation() -> None:
        clock.seconds += validate

    trainer = Engine(train)
    stopwatch = Stopwatch(now=clock)
    stopwatch.attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, validation)
    Progress(interval=every, stopwatch=stopwatch).attach(trainer)
    trainer.run(Slow(), max_epochs=epochs)
    return stopwatch


def test_waiting_and_training_add_up_and_validation_is_not_counted() -> None:
    stopwatch = run(wait=1, step=3, validate=100)
    assert stopwatch.trained_s == 2 * 3 * (1 + 3)
    assert stopwatch.waited_s == 2 * 3 * 1
    assert stopwatch.iterations == 6
    assert stopwatch.share == stopwatch.epoch_share == 0.25


def test_a_share_above_a_tenth_stands_in_the_epoch_line_with_the_cure(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="volseg.training"):
        run(wait=1, step=3, epochs=1)
        run(wait=1, step=99, epochs=1)
    first, end, second, _ = [record.getMessage() for record in caplog.records]
    assert first.endswith("waits for data 25 % of the time, more --loader_workers may help")
    assert end == "4.000 s per iteration; the network waited for data 25.0 % of the time of training"
    assert "waits" not in second


def test_before_the_first_epoch_there_is_no_share() -> None:
    assert Stopwatch().share is None
    assert Stopwatch().complaint == ""
