"""Learning rates over a run: warm-up and cosine, polynomial, steps, one cycle, constant.

All take the optimizer and the number of iterations, so that one replaces another by its name alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from volseg.errors import UsageError


def warmup_cosine(
    optimizer: Optimizer, *, iterations: int, warmup: float = 0.05, start: float = 0.05, end: float = 0.0
) -> LRScheduler:
    """A linear rise, then half a cosine down (Loshchilov and Hutter 2017, arXiv:1608.03983); the default.

    Args:
        optimizer: Optimizer, whose learning rates are the highest ones.
        iterations: Number of iterations of the whole run.
        warmup: Fraction of the run that the rise takes.
        start: First factor of the learning rate.
        end: Last factor of the learning rate.

    >>> from torch import nn, optim
    >>> network = nn.Linear(1, 1)
    >>> schedule = warmup_cosine(optim.SGD(network.parameters(), lr=1.0), iterations=40)
    >>> rates = []
    >>> for _ in range(40):
    ...     rates += schedule.get_last_lr()
    ...     schedule.step()
    >>> [round(rates[n], 3) for n in (0, 1, 2, 21, 39)]
    [0.05, 0.525, 1.0, 0.5, 0.002]
    """
    fall = _warmed(iterations, warmup, start, lambda done: end + (1 - end) * _cosine(done))
    return Schedule(optimizer, iterations=iterations, factor=fall)


def polynomial(
    optimizer: Optimizer, *, iterations: int, power: float = 0.9, warmup: float = 0.0, start: float = 0.05
) -> LRScheduler:
    """A decay by (1 - fraction of the run)^power, as nnU-Net (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z).

    Args:
        optimizer: Optimizer, whose learning rates are the highest ones.
        iterations: Number of iterations of the whole run.
        power: Exponent; 1 is a straight line.
        warmup: Fraction of the run that a linear rise takes before it.
        start: First factor of the rise.
    """
    fall = _warmed(iterations, warmup, start, lambda done: max(0.0, 1 - done) ** power)
    return Schedule(optimizer, iterations=iterations, factor=fall)


def multi_step(
    optimizer: Optimizer,
    *,
    iterations: int,
    milestones: Sequence[float] = (0.5, 0.75),
    gamma: float = 0.1,
    warmup: float = 0.0,
    start: float = 0.05,
) -> LRScheduler:
    """A multiplication of the learning rate by `gamma` at each milestone.

    Args:
        optimizer: Optimizer, whose learning rates are the highest ones.
        iterations: Number of iterations of the whole run.
        milestones: Fractions of the run after the warm-up, above 0 and below 1.
        gamma: Factor at each milestone.
        warmup: Fraction of the run that a linear rise takes before it.
        start: First factor of the rise.
    """
    if not all(0 < milestone < 1 for milestone in milestones):
        raise UsageError(f"milestones must be shares of the run such as [0.5, 0.75], got {list(milestones)}")
    # Rounding must not put a milestone after the iteration it belongs to.
    steps = _warmed(iterations, warmup, start, lambda done: gamma ** sum(done > m - 1e-9 for m in milestones))
    return Schedule(optimizer, iterations=iterations, factor=steps)


def one_cycle(
    optimizer: Optimizer, *, iterations: int, warmup: float = 0.3, start: float = 1 / 25, end: float = 1 / 25e4
) -> LRScheduler:
    """Half a cosine up and half a cosine down (Smith and Topin 2019, arXiv:1708.07120), momentum unchanged.

    Args:
        optimizer: Optimizer, whose learning rates are the highest ones.
        iterations: Number of iterations of the whole run.
        warmup: Fraction of the run that the rise takes.
        start: First factor of the learning rate.
        end: Last factor of the learning rate.
    """
    rise = _share("warmup", warmup) * iterations

    def factor(iteration: float) -> float:
        if iteration < rise:
            return 1 + (start - 1) * _cosine(iteration / rise)
        return end + (1 - end) * _cosine((iteration - rise) / (iterations - rise))

    return Schedule(optimizer, iterations=iterations, factor=factor)


def constant_schedule(
    optimizer: Optimizer, *, iterations: int, warmup: float = 0.0, start: float = 0.05
) -> LRScheduler:
    """A constant learning rate, after the warm-up if there is one. Arguments of `warmup_cosine`."""
    return Schedule(optimizer, iterations=iterations, factor=_warmed(iterations, warmup, start, lambda _: 1.0))


class Schedule(LRScheduler):
    """A schedule that multiplies the learning rate of each parameter group by a function of the iteration.

    `plan` changes the number of iterations of the rest of the course, for a training that ends by the clock.

    One `step` is one iteration of the trainer. If gradients are accumulated, the optimizer steps less often, about
    which torch's own schedules warn. After `load_state_dict` the rates are those of the saved iteration, to the bit.

    Args:
        optimizer: Optimizer, whose learning rates are those of factor 1.
        iterations: Number of iterations of the whole run; later ones keep the last factor.
        factor: Function from the iteration, 0 to `iterations`, to the factor.

    Raises:
        UsageError: The number of iterations is below 1.
    """

    def __init__(self, optimizer: Optimizer, *, iterations: int, factor: Callable[[float], float]) -> None:
        if iterations < 1:
            raise UsageError(f"the run has {iterations} iterations, expected at least 1; are there training cases?")
        self.iterations = iterations
        self.factor = factor
        self._at, self._pace = -1.0, 1.0  # torch makes the first step
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:  # type: ignore[override]  # torch allows tensors too
        """The learning rate of each parameter group at this iteration."""
        factor = self.factor(min(self._at, self.iterations))
        return [float(rate) * factor for rate in self.base_lrs]

    def step(self, epoch: int | None = None) -> None:
        """Go on by one iteration, or to iteration `epoch`."""
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        self._move(self._at + self._pace if epoch is None else epoch)

    def plan(self, left: int) -> None:
        """Let the rest of the course take this many iterations from here on, at least 1."""
        self._pace = max(0.0, self.iterations - self._at) / max(1, left)

    @property
    def ended(self) -> bool:
        """Whether the course is at its end, where the rate may be 0."""
        return self._at >= self.iterations

    def restart(self) -> None:
        """Begin the course again, for a further run of the same trainer, such as a round of a federation."""
        self._pace = 1.0
        self._move(0.0)

    def go_to(self, share: float) -> None:
        """Take the rate of this fraction of the course, 0 to 1."""
        self._move(share * self.iterations)

    def state_dict(self) -> dict[str, Any]:
        """The iteration and its position in the course; all else follows from the settings."""
        return {"iteration": self.last_epoch, "at": self._at, "pace": self._pace}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go to the iteration of a `state_dict`; the first versions of volseg stored the iteration alone."""
        self.last_epoch, self._pace = state_dict["iteration"], state_dict.get("pace", 1.0)
        self._move(state_dict.get("at", float(self.last_epoch)))

    def _move(self, at: float) -> None:
        self._at = at
        self._last_lr: list[Any] = self.get_lr()
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate


def _cosine(done: float) -> float:
    """Half a cosine from 1 to 0 as `done` goes from 0 to 1."""
    return 0.5 * (1 + math.cos(math.pi * done))


def _warmed(iterations: int, warmup: float, start: float, after: Callable[[float], float]) -> Callable[[float], float]:
    """A linear rise from `start` to 1, then `after` of the finished fraction of the rest."""
    rise = math.floor(_share("warmup", warmup) * iterations + 1e-9)
    if warmup:
        rise = max(1, rise)

    def factor(iteration: float) -> float:
        if iteration < rise:
            return start + (1 - start) * (iteration / rise)
        return after((iteration - rise) / max(1, iterations - rise))

    return factor


def _share(name: str, value: float) -> float:
    if not 0 <= value < 1:
        raise UsageError(f"{name} must be a share of the run from 0 to below 1, got {value!r}")
    return value
