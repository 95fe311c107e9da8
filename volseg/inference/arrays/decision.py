"""The label map where a step needs all probabilities at once on the file's grid; see `native` for slab by slab."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from volseg.inference.arrays.native import NativeGrid, Probabilities
from volseg.inference.arrays.settings import ArraySettings
from volseg.labels import Cleanup
from volseg.metrics import decide_by_dice, expected_dice, regions_by_dice
from volseg.volume import Affine


def needs_all(settings: ArraySettings) -> bool:
    """Whether a step needs all probabilities at once: clean-up, a file of them, or another rule than `threshold`."""
    return bool(settings.cleanup) or settings.save_probabilities or settings.decision != "threshold"


def decide_all(
    logits: NDArray[np.float32], grid: NativeGrid, settings: ArraySettings, *, affine_ras: Affine
) -> tuple[NDArray[np.uint8], dict[str, float | None], NDArray[np.float32] | None]:
    """Decide from the probabilities of all channels, as `volseg.transforms` does.

    Args:
        logits: Logits (channels, X, Y, Z) on the network's grid.
        grid: Way to the grid of the file.
        settings: Settings of the bundle: rule of the decision, clean-up, and whether probabilities are kept.
        affine_ras: Affine of the file, for the volume of a voxel.

    Returns:
        The label map on the grid of the file, the expected Dice of each region, and the probabilities if they are kept.
    """
    labels = settings.recipe.labels
    of_logits = Probabilities(logits, sigmoid=labels.overlap)
    native = np.empty((labels.channels, *grid.shape), np.float32)
    for number in range(labels.channels):
        native[number] = grid.whole(of_logits[number])
    of_regions = native[-len(labels.names) :]  # a softmax has the background before them
    if settings.decision == "threshold":
        label_map = labels.decide(native)
    elif labels.overlap:
        label_map = labels.encode(decide_by_dice(of_regions, exclusive=False))
    else:
        label_map = labels.from_numbers(regions_by_dice(of_regions, background=native[0]))
    voxel_ml = abs(float(np.linalg.det(np.asarray(affine_ras)[:3, :3]))) / 1000
    label_map = Cleanup(**settings.cleanup).apply(label_map, labels, voxel_ml=voxel_ml)
    expected: dict[str, float | None] = {}
    for name, channel, mask in zip(labels.names, of_regions, labels.each_mask(label_map), strict=True):
        value = expected_dice(channel, mask)
        expected[name] = None if np.isnan(value) else value
    return label_map, expected, native if settings.save_probabilities else None
