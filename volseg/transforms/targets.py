"""Training targets from a label map: class indices, region masks, positions of each class."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai import transforms as mt
from monai.config import KeysCollection
from monai.data import MetaTensor
from torch import Tensor

from volseg.labels import LabelTable

IGNORED = 255
"""Number of the class of a voxel that nobody looked at, and its value in each mask."""
# Number of positions kept per class for balanced crops: enough that crops rarely repeat, without an index of all
# voxels.
_POSITIONS = 20_000


class _OfLabelTable(mt.MapTransform):  # type: ignore[misc]  # MONAI has no types
    """Replaces each item by the result of `change` with a label table."""

    def __init__(self, keys: KeysCollection, *, labels: LabelTable) -> None:
        super().__init__(keys)
        self.labels = labels

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Change the items of all keys."""
        return {**data, **{key: self.change(data[key], key) for key in self.keys}}

    def change(self, tensor: MetaTensor, key: Hashable) -> Tensor:
        """The new item."""
        raise NotImplementedError


class TargetOfLabelMapd(_OfLabelTable):
    """A label map (1, X, Y, Z) as class numbers 0 to K (1, X, Y, Z), or as masks (R, X, Y, Z) if regions overlap.

    Voxels of the label `ignore` are `IGNORED`.
    """

    def change(self, tensor: MetaTensor, _: Hashable) -> MetaTensor:
        """The target, with the label map's grid and history."""
        values = tensor.numpy().astype(np.uint8)[0]
        if self.labels.overlap:
            target = self.labels.masks(values).view(np.uint8)
        else:
            classes = np.zeros(256, np.uint8)
            for number, region in enumerate(self.labels.regions, start=1):
                classes[list(region.values)] = number
            target = classes[values][None]
        ignored = self.labels.ignored(values)
        if ignored is not None:
            target = np.where(ignored, np.uint8(IGNORED), target)
        return MetaTensor(torch.from_numpy(target), meta=tensor.meta, applied_operations=tensor.applied_operations)


class PositionsOfClassesd(mt.MapTransform):  # type: ignore[misc]
    """Possible centres of windows: under `KEY_positions`, voxels outside all regions, then those of each region.

    Args:
        keys: Keys of targets, see `TargetOfLabelMapd`.
        labels: Label table.
    """

    def __init__(self, keys: KeysCollection, *, labels: LabelTable) -> None:
        super().__init__(keys)
        self.labels = labels
        self._indices = mt.ClassesToIndices(1 + len(labels.regions), max_samples_per_class=_POSITIONS)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add flat indices of voxels, some of each class."""
        item = dict(data)
        for key in self.keys:
            target = item[key]
            if self.labels.overlap:
                target = torch.cat([(target == 0).all(dim=0, keepdim=True), target == 1])
            elif self.labels.ignore is not None:
                target = torch.cat([target == number for number in range(self.labels.channels)])
            item[f"{key}_positions"] = self._indices(target)
        return item


def positions_of(target: Tensor, labels: LabelTable) -> list[Tensor]:
    """Flat indices of possible centres of windows: outside all regions, then within each.

    Args:
        target: Target (1 or R, X, Y, Z), see `TargetOfLabelMapd`.
        labels: Label table.
    """
    item = PositionsOfClassesd("label", labels=labels)({"label": target})
    found: list[Tensor] = item["label_positions"]
    return found


class RegionMasksd(_OfLabelTable):
    """Logits (channels, ...) or, under the key `label`, targets as bool masks (R, ...).

    Both are empty where the target is `IGNORED`, so that no metric counts these voxels.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Change the items of all keys."""
        changed = super().__call__(data)
        if self.labels.ignore is not None and "label" in data:
            counted = data["label"][:1] != IGNORED
            counted = counted.as_tensor() if isinstance(counted, MetaTensor) else counted
            changed |= {key: changed[key] & counted.to(changed[key].device) for key in self.keys}
        return changed

    def change(self, tensor: MetaTensor, key: Hashable) -> Tensor:
        """The masks, as a plain tensor."""
        tensor = tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
        if self.labels.overlap:
            masks: Tensor = tensor > 0  # targets are 0 or 1; a logit above 0 is a probability above 0.5
            return masks
        classes = tensor[0] if key == "label" else tensor.max(dim=0)[1]
        return torch.stack([classes == number for number in range(1, self.labels.channels)])
