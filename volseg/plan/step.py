"""Rules of a training step: voxels of a window, cases of a batch, windows of a case, their share of regions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from volseg.plan.decision import Decision
from volseg.plan.fingerprint import Fingerprint

GIB = 2**30
_MEMORY_SHARE = 0.8  # of the memory that is given, for one step of training
_LEAST_STEPS = 1500  # of a training by the clock; below, windows are made smaller
_LEAST_FACTOR = 0.25  # of the usual voxels of a window: a smaller one shows too little
_MANY_REGIONS = 20
_TINY = 1e-3  # fraction of the image's voxels below which a region is tiny


@dataclass(frozen=True)
class StepCost:
    """The cost of a step of training on a machine, measured with two windows.

    Attributes:
        voxels: Number of voxels of each of the two windows, the smaller first.
        windows: Number of windows of the step.
        seconds: Seconds of a step with each, the loading and augmentation of windows included.
        step_bytes: Additional memory of a step with each; None if the system does not say.
        forward_s: Seconds of a window of the larger size through the network, without gradients.
    """

    voxels: tuple[int, int]
    windows: int
    seconds: tuple[float, float]
    step_bytes: tuple[int, int] | None
    forward_s: float

    def seconds_of(self, voxels: float) -> float:
        """Seconds of a step with windows of another size, on the line through the two measured ones.

        >>> StepCost((1000, 3000), 2, (1.0, 2.0), None, 0.1).seconds_of(5000)
        3.0
        """
        return max(0.05 * self.seconds[0], _line(self.voxels, self.seconds, voxels))

    def bytes_of(self, voxels: float) -> float | None:
        """Additional bytes of a step with windows of another size."""
        return None if self.step_bytes is None else max(0.0, _line(self.voxels, self.step_bytes, voxels))

    def most_voxels(self, memory_bytes: float) -> float:
        """Number of voxels of the largest window whose step fits into a memory; infinite if that is not known."""
        if self.step_bytes is None or self.step_bytes[1] <= self.step_bytes[0]:
            return math.inf
        (a, b), (low, high) = self.voxels, self.step_bytes
        return a + (memory_bytes - low) * (b - a) / (high - low)


def _line(at: Sequence[float], values: Sequence[float], to: float) -> float:
    (a, b), (low, high) = at, values
    return low if a == b else low + (high - low) * (to - a) / (b - a)


def plan_roi_voxels(
    facts: Fingerprint,
    *,
    usual: int,
    spacing_mm: Sequence[float],
    cost: StepCost | None,
    minutes: float,
    memory_bytes: float | None,
) -> Decision:
    """The budget of voxels of a training window.

    The usual one of the bundle is kept, unless its step does not fit into the memory, or the minutes give fewer than
    1,500 steps with it. A window that would be larger than the median image is cut by `fit_roi`.

    Args:
        facts: Fingerprint.
        usual: The bundle's own budget on this kind of device.
        spacing_mm: Working spacing in mm.
        cost: Measured cost of a step; None to decide from the sizes alone.
        minutes: Minutes of the training; 0 if it is not by the clock.
        memory_bytes: Memory that a step may take; None if it is not known.
    """
    image = math.prod(facts.shape_on(spacing_mm))
    seen = min(usual, image)
    part = f"a window of {seen:,} voxels shows {100 * min(1.0, seen / image):.3g} % of the median image"
    chosen, reason = float(usual), f"the usual budget of the network on this device; {part}"
    change = "another --device; --memory with less than a step takes; fewer --minutes"
    if cost is not None and minutes:
        fitting = 60 * minutes / cost.seconds_of(chosen)
        if fitting < _LEAST_STEPS:
            smaller = chosen
            while smaller > _LEAST_FACTOR * usual and 60 * minutes / cost.seconds_of(smaller) < _LEAST_STEPS:
                smaller /= 1.25
            smaller = max(smaller, _LEAST_FACTOR * usual)
            reason = (
                f"with the usual {usual:,} voxels {minutes:g} minutes give {fitting:,.0f} steps of "
                f"{cost.seconds_of(chosen):.2g} s, fewer than {_LEAST_STEPS:,}; with this one "
                f"{60 * minutes / cost.seconds_of(smaller):,.0f}"
            )
            change = (
                f"more --minutes: {_LEAST_STEPS * cost.seconds_of(usual) / 60:,.0f} give the usual window enough steps"
            )
            chosen = smaller
    if cost is not None and memory_bytes is not None:
        most = cost.most_voxels(_MEMORY_SHARE * memory_bytes)
        if chosen > most:
            needed = cost.bytes_of(chosen) or 0.0
            reason = (
                f"a step with {chosen:,.0f} voxels takes {needed / GIB:.2g} GiB by two trial steps, and "
                f"{_MEMORY_SHARE * memory_bytes / GIB:.2g} GiB are for it"
            )
            change = f"--memory {math.ceil(needed / _MEMORY_SHARE / GIB * 10) / 10:g}GiB, or a smaller network"
            chosen = max(most, 0.02 * usual)
        elif cost.step_bytes is not None:
            reason += f"; a step takes {(cost.bytes_of(min(chosen, image)) or 0) / GIB:.2g} GiB, measured"
    return Decision("roi_voxels", int(chosen), reason, change)


def plan_batch(facts: Fingerprint, *, usual: int, crops: int, training_cases: int) -> tuple[Decision, Decision]:
    """The cases of a batch and the windows per case: as many windows as usual, from as many cases as there are.

    Args:
        facts: Fingerprint.
        usual: Usual number of cases per batch.
        crops: Usual number of windows per case.
        training_cases: Number of training cases of the fold.
    """
    del facts
    batch = max(1, min(usual, training_cases))
    each = crops if batch == usual else max(1, round(usual * crops / batch))
    there = "is 1 training case" if training_cases == 1 else f"are {training_cases} training cases"
    if batch < usual:
        why = f"there {there}, and a batch takes each once"
        more = f"{usual * crops} windows per step from {batch} {'case' if batch == 1 else 'cases'}"
    else:
        why = "the usual one: more cases per step mean fewer steps in the same time"
        more = "the usual number: two windows of a case cost its reading once"
    return (
        Decision("batch_size", batch, why, f"at least {usual} training cases" if batch < usual else "another --device"),
        Decision("crops_per_case", each, more, "the batch"),
    )


def usual_background_share(*, regions: int) -> float:
    """The fraction of windows outside all regions, by the number of regions alone.

    Args:
        regions: Number of regions that any case holds.

    >>> usual_background_share(regions=104)
    0.2
    """
    return 0.2 if regions > _MANY_REGIONS else 1 / 3


def plan_background_share(facts: Fingerprint) -> Decision:
    """The fraction of windows that are centred on a voxel outside all regions; the others show each region equally.

    Args:
        facts: Fingerprint.
    """
    held = [region for region in facts.regions if region.cases]
    tiny = [region for region in held if region.share < _TINY]
    share = usual_background_share(regions=len(held))
    if len(held) > _MANY_REGIONS:
        return Decision(
            "background_share",
            share,
            f"there are {len(held)} regions, and a window on one of them mostly holds background too",
            f"at most {_MANY_REGIONS} regions give a third",
        )
    if tiny:
        least = min(tiny, key=lambda region: region.share)
        return Decision(
            "background_share",
            share,
            f"a third, so that the network learns what is no region; the other windows are shared out equally, so "
            f"{least.name}, with {100 * least.share:.2g} % of the voxels, is in one of {len(held)} of them",
            f"more than {_MANY_REGIONS} regions",
        )
    return Decision(
        "background_share",
        share,
        "a third: a network that only sees windows full of regions finds them everywhere",
        f"more than {_MANY_REGIONS} regions",
    )
