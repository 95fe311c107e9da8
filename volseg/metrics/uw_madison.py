"""The score of the UW-Madison GI tract challenge: 0.4 Dice + 0.6 Hausdorff score."""

from __future__ import annotations

UW_MADISON_DEFINITION = (
    "UW-Madison score = 0.4 Dice + 0.6 H of the UW-Madison GI tract challenge, with H = 1 - d / D for d the Hausdorff "
    "distance in voxel steps (slice depth 1) between all voxels of the masks and D the diagonal of the image in such "
    "steps. The challenge's code is not public: this is a reading of its text. Missed and invented count as 0; both "
    "empty is undefined and left out."
)
