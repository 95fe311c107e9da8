"""The decision that Dice deserves: the set of voxels whose expected Dice is largest, from probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.errors import GeometryError
from volseg.metrics.dice_optimum import PLAIN, dice_threshold
from volseg.metrics.temperature import Scaling
from volseg.metrics.voxel_sharing import share_out

DICE_DECISION_DEFINITION = (
    "The decision P with the largest expected Dice 2 sum(p over P) / (|P| + sum(p)) consists of the voxels whose "
    "probability p exceeds half of that Dice (Lipton et al. 2014, arXiv:1402.1892; RankSEG, Dai and Li, JMLR 2023). "
    "It equals a threshold of 0.5 where a network is certain, and takes more voxels where it is not."
)


def decide_by_dice(
    probabilities: NDArray[np.floating[Any]], *, exclusive: bool, scalings: Sequence[Scaling] | None = None
) -> NDArray[np.bool_]:
    """Decide the masks with the largest expected Dice, region by region.

    Regions that exclude each other share out the voxels that several claim: a voxel goes to the region whose expected
    Dice it raises most, and the thresholds follow until the sum of the regions' expected Dice no longer grows.

    Args:
        probabilities: Probabilities (R, ...) of the regions, without a channel of background.
        exclusive: Whether a voxel belongs to one region at most.
        scalings: Correction of the probabilities of each region; None (the default) for none.

    Returns:
        Masks (R, ...).

    Raises:
        GeometryError: The array has no axis of regions.

    >>> decide_by_dice(np.array([[0.9, 0.45, 0.1], [0.0, 0.5, 0.2]]), exclusive=True).astype(int).tolist()
    [[1, 0, 0], [0, 1, 0]]
    """
    if probabilities.ndim < 2:
        raise GeometryError(f"probabilities must have the axes (R, ...), got shape {probabilities.shape}")
    given = [PLAIN] * len(probabilities) if scalings is None else scalings
    masks = np.zeros(probabilities.shape, dtype=bool)
    if not exclusive:
        for mask, one, scaling in zip(masks, probabilities, given, strict=True):
            np.greater(one, dice_threshold(one, scaling).threshold, out=mask)
        return masks
    numbers = regions_by_dice(probabilities, given)
    for number, mask in enumerate(masks, start=1):
        np.equal(numbers, number, out=mask)
    return masks


def regions_by_dice(
    probabilities: NDArray[np.floating[Any]],
    scalings: Sequence[Scaling] | None = None,
    *,
    background: NDArray[np.floating[Any]] | None = None,
) -> NDArray[np.unsignedinteger[Any]]:
    """As `decide_by_dice`, for regions that exclude each other, in one array.

    Args:
        probabilities: Probabilities (R, ...) of the regions, without a channel of background.
        scalings: Correction of the probabilities of each region; None (the default) for none.
        background: Probability (...) of the background, 1 less the sum of the regions; it saves time.

    Returns:
        Number (...) of the region of each voxel, from 1; 0 is background. It is uint8 for up to 255 regions.

    >>> regions_by_dice(np.array([[0.9, 0.45, 0.1], [0.0, 0.5, 0.2]])).tolist()
    [1, 2, 0]
    """
    count = len(probabilities)
    given = [PLAIN] * count if scalings is None else scalings
    rest = None if background is None else background.reshape(-1)
    places, region = share_out(probabilities.reshape(count, -1), given, rest)
    numbers = np.zeros(probabilities.shape[1:], region.dtype)
    numbers.reshape(-1)[places] = region
    return numbers


def decide_some_by_dice(
    probabilities: NDArray[np.floating[Any]],
    plain: NDArray[np.bool_],
    scalings: Sequence[Scaling | None],
    *,
    exclusive: bool,
) -> NDArray[np.bool_]:
    """Decide some regions for the largest expected Dice, and leave the others as a threshold has decided them.

    A region that is left keeps each of its voxels. If regions exclude each other, the others share out the rest.

    Args:
        probabilities: Probabilities (R, ...) of the regions, without a channel of background.
        plain: Masks (R, ...) of the plain decision.
        scalings: Correction of the probabilities of each region that is decided by its Dice; None for one that is left.
        exclusive: Whether a voxel belongs to one region at most.

    Returns:
        Masks (R, ...).

    >>> soft = np.array([[0.9, 0.45, 0.1], [0.0, 0.5, 0.2]])
    >>> decide_some_by_dice(soft, soft > 0.5, [Scaling(), None], exclusive=False).astype(int).tolist()
    [[1, 1, 0], [0, 0, 0]]
    """
    chosen = [number for number, scaling in enumerate(scalings) if scaling is not None]
    of_chosen = [scaling for scaling in scalings if scaling is not None]
    masks: NDArray[np.bool_] = plain.copy()
    if not chosen:
        return masks
    if not exclusive:
        for number, scaling in zip(chosen, of_chosen, strict=True):
            masks[number] = probabilities[number] > dice_threshold(probabilities[number], scaling).threshold
        return masks
    if len(chosen) == len(plain):
        return decide_by_dice(probabilities, exclusive=True, scalings=of_chosen)
    taken = plain[[number for number in range(len(plain)) if number not in chosen]].any(axis=0)
    free = np.where(taken, np.zeros((), probabilities.dtype), probabilities[chosen])
    masks[chosen] = decide_by_dice(free, exclusive=True, scalings=of_chosen)
    return masks
