"""The rules by which probabilities become a label map, by name; without PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from volseg.errors import UsageError

DECISIONS = {
    "threshold": "each voxel for itself: above 0.5, or the largest channel",
    "dice": "the set of voxels whose expected Dice is largest, region by region",
}
Decision = str | Mapping[str, Sequence[float]]
"""A key of `DECISIONS`; or temperature and shift of each region decided by its Dice, others by the threshold."""


def check_decision(decision: Decision) -> Decision:
    """The rule, if there is one of this name.

    Raises:
        UsageError: There is none.

    >>> check_decision("dice")
    'dice'
    """
    if isinstance(decision, str) and decision not in DECISIONS:
        raise UsageError(f"the decision must be auto, {' or '.join(DECISIONS)}, got {decision!r}")
    return decision
