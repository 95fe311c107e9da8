"""The rule of advice: which bundle to train, and the warnings where a training cannot succeed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from volseg.plan.decision import Decision
from volseg.plan.fingerprint import Fingerprint

_ENOUGH_STEPS = 1000
_ALIKE = 0.75  # fraction of the most steps that is as good as the most


@dataclass(frozen=True)
class Candidate:
    """A bundle that may be advised.

    Attributes:
        name: Name of the bundle.
        rank: Place by accuracy where all have enough steps, the best first; as its metadata.json states.
        steps: Number of steps that fit into the minutes; None if nothing was measured.
        refusal: Sentence on why it cannot take the cohort; empty if it can.
    """

    name: str
    rank: int
    steps: float | None
    refusal: str = ""


def plan_bundle_choice(candidates: Sequence[Candidate], *, device: str, minutes: float) -> Decision:
    """The bundle to train: the most accurate of those that make 1,000 steps in the time.

    Args:
        candidates: Bundles.
        device: Kind of device, `cpu` or `cuda`.
        minutes: Minutes of the training; 0 if it counts epochs.
    """
    able = sorted((one for one in candidates if not one.refusal), key=lambda one: (one.rank, one.name))
    out = "; ".join(f"{one.name} is left out: {one.refusal}" for one in candidates if one.refusal)
    if not able:
        return Decision("bundle", None, out or "there is no bundle", "another cohort")
    enough = [one for one in able if one.steps is None or not minutes or one.steps >= _ENOUGH_STEPS]
    most = max((one.steps or 0.0 for one in able), default=0.0)
    best = enough[0] if enough else next(one for one in able if (one.steps or 0.0) >= _ALIKE * most)
    where = "a GPU" if device == "cuda" else "a CPU"
    steps = (
        ""
        if best.steps is None or not minutes
        else f" and makes {best.steps:,.0f} steps in {minutes:g} minutes on {where}"
    )
    if not enough:
        reason = (
            f"no network makes {_ENOUGH_STEPS:,} steps in {minutes:g} minutes on {where}; of those that make the most, "
            f"up to {most:,.0f}, {best.name} is the most accurate in equal time"
        )
        change = "more --minutes, or a GPU"
    else:
        reason = f"the most accurate in equal time on the benchmark's cohort of those that take this one{steps}"
        before = [one.name for one in able if one not in enough and one.rank < best.rank]
        if before:
            reason += f"; {', '.join(before)} would need more time for {_ENOUGH_STEPS:,} steps"
        change = "`volseg crossval` on this cohort, which measures them"
    return Decision("bundle", best.name, f"{reason}; {out}" if out else reason, change)


def plan_warnings(facts: Fingerprint) -> list[str]:
    """What would keep a training from succeeding, or its Dice from meaning something; a sentence each.

    Args:
        facts: Fingerprint.
    """
    told = []
    of = "" if facts.looked_at == facts.cases else f" of the {facts.looked_at} that were read"
    for key, error in list(facts.unreadable.items())[:3]:
        told.append(f"{key} could not be read: {error}")
    if len(facts.unreadable) > 3:
        told.append(f"{len(facts.unreadable) - 3} more cases could not be read; `volseg check` names each")
    if not facts.looked_at:
        told.append("no label was read, so spacing, window and intensities come from the headers alone")
    for region in facts.regions:
        if facts.looked_at and not region.cases:
            told.append(f"{region.name} is in no case{of or f' of {facts.cases}'}: a network cannot learn it")
    for name, folds in facts.region_cases.items():
        if not any(train or check for train, check in folds):
            continue
        for number, (train, check) in enumerate(folds):
            if not train:
                told.append(f"{name} is in no training case of fold {number}{of}: that fold cannot learn it")
            elif not check:
                told.append(f"{name} is in no validation case of fold {number}{of}: its Dice there is undefined")
    if facts.images_read:
        for name in facts.constant:
            told.append(f"channel {name} holds one value in each image that was read: it tells a network nothing")
        for name, keys in facts.constant_cases.items():
            some = ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
            told.append(f"channel {name} holds one value in {len(keys)} cases ({some})")
    if facts.cases < 2:
        told.append("there is one case: nothing can be validated")
    elif facts.patients < 2:
        told.append(
            f"all {facts.cases} cases are of one patient: no fold can be made, and a Dice would say nothing of others"
        )
    return [*told, *facts.unlike]
