"""Rules of folds and of prediction: number of folds, overlap of windows, windows that are left out."""

from __future__ import annotations

from volseg.plan.decision import Decision
from volseg.plan.fingerprint import Fingerprint

_FOLDS = 5


def plan_folds(facts: Fingerprint) -> Decision:
    """The number of folds: those of the cohort, else five, or as many as there are patients.

    Args:
        facts: Fingerprint.
    """
    if facts.folds:
        sides = ", ".join(f"{train}/{check}" for train, check in facts.folds)
        return Decision(
            "folds", len(facts.folds), f"those of splits.json, training/validation cases: {sides}", "volseg split"
        )
    fitting = min(_FOLDS, facts.patients)
    if fitting < 2:
        return Decision(
            "folds",
            0,
            f"all {facts.cases} cases are of one patient, and none may be on both sides of a fold"
            if facts.cases > 1
            else "there is one case, and a fold needs one to train on and another to validate",
            "a second patient",
        )
    return Decision(
        "folds",
        fitting,
        f"{facts.patients} patients, each validated once and on one side alone; there is no split yet",
        f"volseg split --folds N with up to {facts.patients}",
    )


def plan_overlap(facts: Fingerprint) -> Decision:
    """The fraction of a window that its neighbour covers at prediction.

    Args:
        facts: Fingerprint.
    """
    del facts
    return Decision(
        "overlap",
        0.5,
        "half, as in nnU-Net: each voxel then lies near the centre of some window",
        "predict --overlap 0.25, which takes about a third of the time where windows are many",
    )


def plan_skip_empty(facts: Fingerprint) -> Decision:
    """Whether windows that hold one value only are left out at prediction.

    Args:
        facts: Fingerprint.
    """
    level = [
        region.name
        for region in facts.regions
        if region.intensities and all(one is not None and one.std == 0 for one in region.intensities)
    ]
    if level:
        return Decision(
            "skip_empty",
            False,
            f"{level[0]} has one value in the images, so a window that holds one value may be of it",
            f"images in which {level[0]} varies; predict --no-skip-empty until then",
        )
    return Decision(
        "skip_empty",
        True,
        "no region was seen where the image is constant, so a window of one value holds background",
        "a region in empty parts of an image",
    )
