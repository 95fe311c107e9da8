"""Learning rates over a run: the laws of all schedules, and torch's and MONAI's as oracles."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from monai.handlers import LrScheduleHandler
from monai.optimizers import WarmupCosineSchedule
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR, OneCycleLR, PolynomialLR

from volseg.errors import UsageError
from volseg.training import constant_schedule, multi_step, one_cycle, polynomial, warmup_cosine

SCHEDULES = (warmup_cosine, polynomial, multi_step, one_cycle, constant_schedule)

schedules = pytest.mark.parametrize("make", SCHEDULES, ids=lambda make: make.__name__)


def optimizer(*rates: float) -> Optimizer:
    """One group a learning rate."""
    return SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates or (1.0,)])


def rates(schedule: LRScheduler, count: int) -> list[float]:
    """The learning rate of each of the next iterations, as the optimizer has it."""
    found = []
    for _ in range(count):
        found.append(schedule.optimizer.param_groups[0]["lr"])
        schedule.optimizer.step()
        schedule.step()
    return found


# --- laws


@schedules
@pytest.mark.parametrize("iterations", [1, 2, 7, 40, 1000])
def test_rates_stay_between_nothing_and_the_given_one_and_reach_it(make: Any, iterations: int) -> None:
    found = rates(make(optimizer(0.3), iterations=iterations), iterations)
    assert all(0 < rate <= 0.3 for rate in found)
    assert iterations < 7 or max(found) == pytest.approx(0.3, rel=0.05)
    if make is not constant_schedule and iterations >= 7:
        assert found[-1] < 0.1
        assert found.index(max(found)) <= iterations / 2


@schedules
def test_a_run_that_goes_on_keeps_the_last_rate(make: Any) -> None:
    schedule = make(optimizer(), iterations=10)
    rates(schedule, 10)
    last = schedule.get_last_lr()
    assert rates(schedule, 5) == last * 5


@schedules
def test_groups_keep_their_proportions(make: Any) -> None:
    schedule = make(optimizer(1.0, 0.1, 0.0), iterations=20)
    for _ in range(20):
        one, tenth, none = (group["lr"] for group in schedule.optimizer.param_groups)
        assert schedule.get_last_lr() == [one, tenth, none]
        assert tenth == pytest.approx(one / 10)
        assert none == 0
        schedule.step()


@schedules
def test_a_schedule_goes_on_from_its_state_to_the_bit(make: Any) -> None:
    whole = rates(make(optimizer(0.3, 0.7), iterations=30), 30)
    for stop in (0, 1, 2, 13, 29):
        before = make(optimizer(0.3, 0.7), iterations=30)
        assert rates(before, stop) == whole[:stop]
        state = {"schedule": before.state_dict(), "optimizer": before.optimizer.state_dict()}
        after = make(optimizer(0.3, 0.7), iterations=30)
        after.load_state_dict(state["schedule"])
        assert rates(after, 30 - stop) == whole[stop:], "the schedule alone"
        after = make(optimizer(0.3, 0.7), iterations=30)
        after.load_state_dict(state["schedule"])
        after.optimizer.load_state_dict(state["optimizer"])
        assert rates(after, 30 - stop) == whole[stop:], "with the optimizer"
        after = make(optimizer(0.3, 0.7), iterations=30)
        after.load_state_dict({"iteration": stop})
        assert rates(after, 30 - stop) == whole[stop:], "from the state of the first versions of volseg"


@schedules
def test_a_state_is_read_as_weights_only(make: Any, tmp_path: Any) -> None:
    schedule = make(optimizer(), iterations=5)
    rates(schedule, 3)
    torch.save(schedule.state_dict(), tmp_path / "state.pt")
    again = make(optimizer(), iterations=5)
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert again.get_last_lr() == schedule.get_last_lr()


@schedules
def test_gradient_accumulation_brings_no_warning(make: Any) -> None:
    """torch's own schedules warn where they step before the optimizer did."""
    schedule = make(optimizer(), iterations=9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for iteration in range(9):
            if iteration % 3 == 2:
                schedule.optimizer.step()
            schedule.step()
    assert schedule.last_epoch == 9


@schedules
def test_monais_handler_steps_once_an_iteration(make: Any) -> None:
    from ignite.engine import Engine

    schedule = make(optimizer(), iterations=6)
    seen: list[float] = []
    engine = Engine(lambda *_: seen.append(schedule.get_last_lr()[0]))
    LrScheduleHandler(schedule, epoch_level=False, print_lr=True).attach(engine)
    engine.run([0, 1, 2], max_epochs=2)
    assert seen == rates(make(optimizer(), iterations=6), 6)


@pytest.mark.parametrize("make", [polynomial, multi_step, constant_schedule])
def test_a_warm_up_may_come_before(make: Any) -> None:
    found = rates(make(optimizer(), iterations=100, warmup=0.1, start=0.2), 100)
    assert found[:10] == pytest.approx([0.2 + 0.8 * n / 10 for n in range(10)])
    assert found[10:] == pytest.approx(rates(make(optimizer(), iterations=90), 90))


# --- oracles


@pytest.mark.parametrize("iterations", [1, 19, 20, 28 * 20, 340, 1260])
def test_the_default_is_monais_to_the_bit(iterations: int) -> None:
    ours = warmup_cosine(optimizer(0.002), iterations=iterations)
    monai = WarmupCosineSchedule(
        optimizer(0.002), warmup_steps=max(1, iterations // 20), warmup_multiplier=0.05, t_total=iterations
    )
    assert rates(ours, iterations) == rates(monai, iterations)


def test_polynomial_is_torchs() -> None:
    expected = rates(PolynomialLR(optimizer(), total_iters=50, power=0.9), 50)
    assert rates(polynomial(optimizer(), iterations=50), 50) == pytest.approx(expected)


@pytest.mark.parametrize("iterations", [8, 50, 1000])
def test_multi_step_is_torchs(iterations: int) -> None:
    torchs = MultiStepLR(optimizer(), milestones=[math.ceil(iterations * 0.3), math.ceil(iterations * 0.7)], gamma=0.2)
    ours = multi_step(optimizer(), iterations=iterations, milestones=(0.3, 0.7), gamma=0.2)
    assert rates(ours, iterations) == pytest.approx(rates(torchs, iterations))


def test_one_cycle_is_torchs() -> None:
    torchs = OneCycleLR(optimizer(), max_lr=1.0, total_steps=101, pct_start=31 / 101, cycle_momentum=False)
    assert rates(one_cycle(optimizer(), iterations=100), 100) == pytest.approx(rates(torchs, 100), abs=1e-9)


def test_constant_is_constant() -> None:
    assert rates(constant_schedule(optimizer(0.3), iterations=9), 12) == [0.3] * 12


# --- what is refused


@pytest.mark.parametrize("name", ["warmup_cosine", "polynomial", "multi_step", "one_cycle", "constant"])
def test_the_required_arguments_are_the_same(name: str) -> None:
    import inspect

    import volseg.training

    signature = inspect.signature(getattr(volseg.training, name))
    needed = [key for key, value in signature.parameters.items() if value.default is inspect.Parameter.empty]
    assert needed == ["optimizer", "iterations"]


@pytest.mark.parametrize(
    ("make", "options", "told"),
    [
        (polynomial, {"iterations": 0}, "0 iterations, expected at least 1"),
        (warmup_cosine, {"warmup": 1}, "warmup must be a share of the run from 0 to below 1, got 1"),
        (one_cycle, {"warmup": -0.1}, "warmup must be a share of the run from 0 to below 1, got -0.1"),
        (multi_step, {"milestones": [100, 200]}, r"milestones must be shares of the run such as .*, got \[100, 200\]"),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[..., LRScheduler], options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        make(optimizer(), **{"iterations": 10, **options})


def test_an_optimizer_learns_less_as_the_rate_falls() -> None:
    weight = nn.Parameter(torch.zeros(1))
    adamw = AdamW([weight], lr=0.1, weight_decay=0)
    schedule = polynomial(adamw, iterations=4)
    steps = []
    for _ in range(4):
        before = float(weight.detach())
        weight.grad = torch.ones(1)
        adamw.step()
        schedule.step()
        steps.append(before - float(weight.detach()))
    assert steps == sorted(steps, reverse=True)
