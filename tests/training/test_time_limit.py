"""A training that ends by the clock: with a clock of our own, and a real one that is resumed."""

from __future__ import annotations

import itertools
import logging
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from small_training import trainer_of
from torch import nn
from torch.optim.lr_scheduler import LinearLR, LRScheduler

from volseg.errors import UsageError
from volseg.training import TimeLimit, polynomial, warmup_cosine

LENGTH = 10  # iterations of an epoch


class Run:
    """A trainer whose iterations and validations take as many seconds of a clock as they are told to."""

    def __init__(self, minutes: float, *, make: Any = polynomial, max_epochs: int = 28, **options: Any) -> None:
        self.seconds = 0.0
        self.iteration_s = options.pop("iteration_s", lambda seconds: 1.0)
        self.validation_s = options.pop("validation_s", 0.0)
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        self.schedule: LRScheduler = make(optimizer, iterations=max_epochs * LENGTH)
        self.rates: list[float] = []
        self.limit = TimeLimit(minutes, schedule=self.schedule, now=lambda: self.seconds)
        self.trainer = Engine(self._iterate)
        self.limit.attach(self.trainer)
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, self._validate)
        self.max_epochs = max_epochs

    def _iterate(self, engine: Engine, _: object) -> None:
        self.rates.append(self.schedule.get_last_lr()[0])
        self.seconds += self.iteration_s(self.seconds)
        self.schedule.optimizer.step()
        self.schedule.step()

    def _validate(self) -> None:
        self.seconds += self.validation_s

    def go(self, epochs: int | None = None) -> Run:
        if epochs is not None:
            self.trainer.add_event_handler(Events.EPOCH_COMPLETED(once=epochs), self.trainer.terminate)
        self.trainer.run([0] * LENGTH, max_epochs=self.max_epochs)
        return self


@pytest.mark.parametrize("max_epochs", [1, 3, 28, 300])
def test_it_takes_as_many_epochs_as_fit_and_the_rate_comes_to_its_end(max_epochs):
    run = Run(2, max_epochs=max_epochs).go()
    assert run.trainer.state.epoch == run.trainer.state.max_epochs == 12
    assert run.seconds == 120
    assert run.rates[0] == 1
    assert run.rates == sorted(run.rates, reverse=True)
    assert 0 < run.rates[-1] < 0.05
    assert run.schedule.get_last_lr()[0] == pytest.approx(0, abs=1e-9)
    halfway = run.rates[len(run.rates) // 2]
    assert halfway == pytest.approx(0.5**0.9, rel=0.15)


def test_a_warm_up_takes_its_share_of_the_time():
    run = Run(20, make=warmup_cosine, max_epochs=28).go()
    assert run.trainer.state.epoch == 120
    assert run.rates.index(max(run.rates)) == pytest.approx(0.05 * 1200, abs=20)


@pytest.mark.parametrize("validation_s", [1, 5, 30])
def test_no_epoch_is_begun_that_would_not_fit_with_its_validation(validation_s):
    run = Run(4, validation_s=validation_s).go()
    assert 240 - 2 * (10 + validation_s) < run.seconds <= 240
    assert run.rates[-1] < 0.2


@pytest.mark.parametrize(("factor", "epochs"), [(2.0, 18), (0.5, 36)])
def test_it_goes_by_the_machine_as_it_is(factor, epochs):
    run = Run(4, iteration_s=lambda seconds: 1.0 if seconds < 120 else factor).go()
    assert run.seconds <= 240 + 10 * factor
    assert run.trainer.state.epoch == pytest.approx(epochs, abs=3)
    assert run.rates[-1] < 0.25


def test_one_epoch_is_done_in_any_case():
    run = Run(0.05).go()
    assert run.trainer.state.epoch == run.trainer.state.max_epochs == 1
    assert run.rates[-1] < 0.3


def test_without_minutes_nothing_changes():
    run, plain = Run(0, max_epochs=5).go(), polynomial(torch.optim.SGD([nn.Parameter(torch.zeros(1))]), iterations=50)
    assert run.trainer.state.epoch == 5
    assert run.rates == [plain.factor(n) for n in range(50)]


def test_a_schedule_of_torch_is_stopped_in_time_too():
    run = Run(2, make=lambda optimizer, iterations: LinearLR(optimizer, 1.0, 0.0, iterations)).go()
    assert run.trainer.state.epoch == 12


@pytest.mark.parametrize("stop", [1, 5, 11, 12])
def test_what_was_done_before_counts(stop):
    whole, before, after = Run(2).go(), Run(2).go(stop), Run(2)
    after.limit.load_state_dict(before.limit.state_dict())
    after.schedule.load_state_dict(before.schedule.state_dict())
    # As `Resume` does it when the trainer starts.
    after.trainer.add_event_handler(Events.STARTED, lambda engine: setattr(engine.state, "epoch", stop))
    after.trainer.add_event_handler(Events.STARTED, lambda engine: setattr(engine.state, "iteration", stop * LENGTH))
    after.trainer.add_event_handler(Events.STARTED, after.limit.resumed)
    after.go()
    assert after.trainer.state.epoch == 12
    assert before.rates + after.rates == pytest.approx(whole.rates)


@pytest.mark.parametrize("told", [True, False])
def test_a_run_that_was_interrupted_when_its_time_was_over_gets_one_epoch_to_end_with(told):
    """It ended at once: without a validation after its last epoch, and so perhaps without a network."""
    before, after = Run(2).go(7), Run(2)
    state = before.limit.state_dict() | {"seconds": 119.0}
    assert state["ended"] is False
    if not told:  # a file of before
        del state["ended"]
    after.limit.load_state_dict(state)
    after.schedule.load_state_dict(before.schedule.state_dict())
    after.trainer.add_event_handler(Events.STARTED, lambda engine: setattr(engine.state, "epoch", 7))
    after.trainer.add_event_handler(Events.STARTED, lambda engine: setattr(engine.state, "iteration", 7 * LENGTH))
    after.trainer.add_event_handler(Events.STARTED, after.limit.resumed)
    after.go()
    assert after.trainer.state.epoch == (8 if told else 7)
    if told:
        assert after.schedule.get_last_lr()[0] == pytest.approx(0, abs=1e-9)
        assert after.limit.state_dict()["ended"] is True


@pytest.mark.parametrize("minutes", [-1, float("nan"), float("inf"), "20", None, True])
def test_other_minutes_are_refused(minutes):
    with pytest.raises(UsageError, match="--max_minutes must be"):
        TimeLimit(minutes, schedule=LRScheduler.__new__(LRScheduler))


def test_a_training_with_all_its_handlers_ends_in_time_and_goes_on_with_more(tmp_path, caplog):
    def train(minutes: float, **options: Any) -> tuple[int, list[float]]:
        clock = itertools.count(step=0.1)  # seconds, each time that it is looked at
        trainer = trainer_of(tmp_path, max_minutes=minutes, max_epochs=2, now=lambda: next(clock), **options)
        rates = []
        trainer.add_event_handler(Events.ITERATION_STARTED, lambda e: rates.append(e.optimizer.param_groups[0]["lr"]))
        trainer.run()
        assert trainer.state.epoch == trainer.state.max_epochs
        assert torch.load(tmp_path / "last.pt", weights_only=True)["epoch"] == trainer.state.epoch
        return trainer.state.epoch, rates

    caplog.set_level(logging.INFO, logger="volseg.training")
    first, rates = train(0.05)
    assert first > 2
    assert rates[-1] < 0.02 < max(rates)
    assert f"epoch {first}/{first}" in caplog.text

    assert train(0.05, resume=True) == (first, [])
    assert f"epoch {first} of {first} is done, nothing is left to do" in caplog.text

    more, rates = train(0.1, resume=True)
    assert more > first
    assert "it was planned with 0.05 minutes: the learning rate goes on as after" in caplog.text
    assert 0.02 < rates[0] < 0.045  # about half of the course is left
    assert rates[-1] < 0.02
