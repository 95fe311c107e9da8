"""The rules by which probabilities become a label map, by name; without PyTorch."""

from __future__ import annotations

from volseg.errors import UsageError

DECISIONS = {
    "threshold": "each voxel for itself: above 0.5, or the largest channel",
    "dice": "the set of voxels whose expected Dice is largest, region by region",
}


def check_decision(decision: str) -> str:
    """The name of a rule, if there is one of this name.

    Raises:
        UsageError: There is none.

    >>> check_decision("dice")
    'dice'
    """
    if decision not in DECISIONS:
        raise UsageError(f"the decision must be {' or '.join(DECISIONS)}, got {decision!r}")
    return decision
