"""The resampling of a label map to the grid of its resampled image."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai import transforms as mt
from monai.config import KeysCollection
from monai.data import MetaTensor

from volseg.volume import nearest_voxels


class OnGridOfd(mt.MapTransform):  # type: ignore[misc]  # MONAI has no types
    """Resample label maps (C, X, Y, Z) to the current grid of an image: each voxel takes the value of the nearest one.

    It replaces MONAI's `Spacingd(mode="nearest")`, which rounds halves to the even voxel: if a grid is made twice as
    fine, a slice becomes one or three slices in turn; see `volseg.volume.nearest_voxels`.

    Args:
        keys: Keys of label maps with an affine.
        like: Key of the image, resampled already.
    """

    def __init__(self, keys: KeysCollection, *, like: str = "image") -> None:
        super().__init__(keys)
        self.like = like

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Resample the label maps of all keys."""
        image = data[self.like]
        shape, affine = tuple(image.shape[1:]), image.affine.numpy().astype(np.float64)
        return {**data, **{key: self._resampled(data[key], shape, affine) for key in self.keys}}

    def _resampled(self, label: MetaTensor, shape: tuple[int, ...], affine: Any) -> MetaTensor:  # noqa: ANN401 - numpy
        before = label.affine.numpy().astype(np.float64)
        channels = [nearest_voxels(channel, before, shape, affine) for channel in label.numpy()]
        found = MetaTensor(
            torch.from_numpy(np.stack(channels)), meta=label.meta, applied_operations=label.applied_operations
        )
        found.affine = torch.from_numpy(affine)
        return found
