"""The score of the UW-Madison GI tract challenge: 0.4 Dice + 0.6 Hausdorff score."""

from __future__ import annotations

import math
from collections.abc import Sequence

from volseg.errors import GeometryError
from volseg.metrics.overlap import Mask, dice, outcome
from volseg.metrics.surface import surface_distances

DICE_SHARE = 0.4

UW_MADISON_DEFINITION = (
    "UW-Madison score = 0.4 Dice + 0.6 H of the UW-Madison GI tract challenge, with H = 1 - d / D for d the Hausdorff "
    "distance in voxel steps (slice depth 1) between boundary voxels and D the diagonal of the image in such steps. "
    "The challenge's code is not public: this is a reading of its text, and the score of its server may differ. A "
    "missed organ counts as 0; one that the reference does not hold is left out, as the organisers say of their code."
)


def uw_madison_score(
    prediction: Mask,
    reference: Mask,
    *,
    image_shape: Sequence[int] | None = None,
    unseen: Mask | None = None,
) -> float:
    """The challenge's score of one organ in one scan, 0 to 1: 0.4 Dice + 0.6 Hausdorff score.

    The challenge asks for the 3D Hausdorff distance of locations normalised by image size, with slice depth 1, and its
    server's code is not public. The reading here is that of most public re-implementations: steps of one voxel along
    each axis, and the larger directed maximum over boundary voxels, divided by the diagonal of the whole image and
    subtracted from 1. A missed organ scores 0. An organ that the reference does not hold is left out, even if it was
    invented: the organisers' tools say that the evaluation code "ignores those scans without ground-truth masks". The
    score of a cohort is the mean over scans and organs. To divide each axis by its own length instead would weigh the
    slice axis more; some re-implementations take one direction only.

    Sources: kaggle.com/competitions/uw-madison-gi-tract-image-segmentation, page "Evaluation"; common.py of
    github.com/happyharrycn/UW-Madison-GI-Tract-Segmentation-Data-Tools.

    Args:
        prediction: Mask (X, Y, Z), True inside; it may be cropped to a box that holds both masks.
        reference: Mask of the same shape, True inside.
        image_shape: Shape of the whole image in voxels, if the masks are cropped.
        unseen: Mask of the voxels that nobody looked at, see `surface_distances`; None (the default) if all were seen.

    Returns:
        The score, or NaN if the reference is empty, or if nobody has seen any surface of a mask.

    Raises:
        LabelError: A mask is not boolean.
        GeometryError: The shapes differ, or the image is smaller than the masks.

    >>> import numpy as np
    >>> prediction, reference = np.zeros((2, 3, 4, 12), bool)
    >>> prediction[0, 0, :3], reference[0, 0, 1:4] = True, True  # Dice 2 / 3; Hausdorff 1 step of a diagonal of 13
    >>> round(uw_madison_score(prediction, reference), 6) == round(0.4 * 2 / 3 + 0.6 * 12 / 13, 6)
    True
    """
    shape = tuple(prediction.shape if image_shape is None else image_shape)
    if len(shape) != prediction.ndim or any(whole < part for whole, part in zip(shape, prediction.shape, strict=False)):
        raise GeometryError(f"the shape must hold the masks' {prediction.shape}, got {shape}; give the whole image's")
    found = outcome(prediction, reference)
    if found in ("both empty", "invented"):
        return math.nan
    if found != "both present":
        return 0.0
    steps = surface_distances(prediction, reference, (1.0,) * prediction.ndim, unseen=unseen).hausdorff_mm(100)
    return DICE_SHARE * dice(prediction, reference) + (1 - DICE_SHARE) * (1 - steps / math.hypot(*shape))
