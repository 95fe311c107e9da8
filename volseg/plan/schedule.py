"""Rules of time: the steps that fit into the minutes, and how often a training validates."""

from __future__ import annotations

import math
from collections.abc import Sequence

from volseg.plan.decision import Decision
from volseg.plan.step import StepCost

_SHARE = 0.1  # of the time, for validations
_MOST_VALIDATIONS = 25
_FEW_STEPS = 200


def plan_schedule(
    *,
    minutes: float,
    cost: StepCost | None,
    roi_voxels: int,
    steps_per_epoch: int,
    validation_windows: int,
    usual_interval: int,
) -> tuple[Decision, ...]:
    """The minutes, and the epochs between validations.

    Args:
        minutes: Minutes of the training; 0 if it counts epochs.
        cost: Measured cost of a step; None if nothing was measured.
        roi_voxels: Number of voxels of the window that was chosen.
        steps_per_epoch: Number of steps per epoch.
        validation_windows: Number of windows of all validation cases.
        usual_interval: Usual number of epochs between validations.

    Returns:
        Decisions on `max_minutes` and `val_interval`.
    """
    if not minutes:
        return (
            Decision("max_minutes", 0, "no limit was given, so epochs count", "--minutes"),
            Decision("val_interval", usual_interval, "the usual interval", "--minutes, with a measured step"),
        )
    if cost is None:
        return (
            Decision("max_minutes", minutes, "as given; no step was measured", "--minutes"),
            Decision("val_interval", usual_interval, "the usual interval; no step was measured", "a measured step"),
        )
    step_s = cost.seconds_of(roi_voxels)
    steps = 60 * minutes / step_s
    epoch_s = step_s * steps_per_epoch
    validation_s = validation_windows * cost.forward_s * min(1.0, roi_voxels / cost.voxels[1])
    epochs = max(1.0, 60 * minutes / epoch_s)
    fitting = max(1.0, _SHARE * 60 * minutes / max(validation_s, 1e-9))
    validations = min(fitting, _MOST_VALIDATIONS, epochs)
    interval = max(1, math.ceil(epochs / validations))
    warned = "" if steps >= _FEW_STEPS else f"; {steps:.0f} steps are too few to learn from"
    each = f"{validation_s:.2g} s" if validation_s < 60 else f"{validation_s / 60:.1f} min"
    return (
        Decision(
            "max_minutes",
            minutes,
            f"as given: about {steps:,.0f} steps of {step_s:.2g} s, measured here, which are {epochs:,.1f} epochs of "
            f"{steps_per_epoch}; the learning rate ends with them{warned}",
            "--minutes, or a faster device",
        ),
        Decision(
            "val_interval",
            interval,
            f"a validation takes about {each} ({validation_windows:,} windows), so that {validations:.0f} of them take "
            f"{100 * min(1.0, validations * validation_s / (60 * minutes)):.0f} % of the time",
            "more --minutes, or fewer validation cases",
        ),
    )


def window_count(shape: Sequence[int], roi_size: Sequence[int], *, overlap: float) -> int:
    """Number of windows of a sliding window over a volume.

    >>> window_count([64, 64, 40], [64, 64, 32], overlap=0.25), window_count([10, 10, 10], [32, 32, 32], overlap=0.5)
    (2, 1)
    """
    count = 1
    for n, size in zip(shape, roi_size, strict=True):
        step = max(1, int(size * (1 - overlap)))
        count *= 1 if n <= size else math.ceil((n - size) / step) + 1
    return count
