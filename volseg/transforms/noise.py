"""A preprocessed case of noise: to measure what augmentation and network cost, without a file."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from volseg.labels import LabelTable
from volseg.transforms.targets import PositionsOfClassesd, TargetOfLabelMapd


def noise_case(
    labels: LabelTable, *, channels: int, shape: Sequence[int], generator: np.random.Generator
) -> dict[Hashable, Any]:
    """Make what `preprocessing` with a `roi_size` gives, of noise.

    Args:
        labels: Label table; each of its values is somewhere.
        channels: Number of image channels.
        shape: Number of voxels along X, Y, Z.
        generator: Generator of the noise.

    >>> case = noise_case(LabelTable.exclusive(["a"]), channels=2, shape=(8, 8, 4), generator=np.random.default_rng(0))
    >>> tuple(case["image"].shape), tuple(case["label"].shape), len(case["label_positions"])
    ((2, 8, 8, 4), (1, 8, 8, 4), 2)
    """
    image = generator.standard_normal((channels, *shape), dtype=np.float32)
    values = np.asarray(labels.values, np.uint8)[generator.integers(0, len(labels.values), shape)]
    item: dict[Hashable, Any] = {
        "image": MetaTensor(torch.from_numpy(image)),
        "label": MetaTensor(torch.from_numpy(values[None].astype(np.float32))),
    }
    return PositionsOfClassesd("label", labels=labels)(TargetOfLabelMapd("label", labels=labels)(item))
