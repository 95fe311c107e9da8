"""The random windows of a training: which share of them shows the background, and which regions the others show."""

from __future__ import annotations

from collections.abc import Sequence

import monai.transforms as mt
import torch
from monai.config import KeysCollection
from torch import Tensor

_EVERYWHERE = 20_000
"""Voxels, evenly spread, that may be the centre of a window where no class has one."""


class RandWindowsd(mt.RandCropByLabelClassesd):  # type: ignore[misc]  # MONAI has no types
    """MONAI's RandCropByLabelClassesd, whose share of background is that of each case, whatever regions it lacks.

    MONAI takes the ratios of all classes and sets those to 0 that a case lacks. Of a case with one of 104 regions more
    than nine tenths of the windows would then be centred outside it, where a fifth was meant; and where every class
    with a ratio is absent, it fails ("probabilities contain NaN"). Here a case that lacks what is wanted gives windows
    of what it has: of background if it has no region, of regions if it has no background, and of any voxel if nobody
    looked at it. Of a case with all regions the draws are those of MONAI.

    Args:
        keys: Keys of arrays (C, X, Y, Z), the target among them.
        spatial_size: Window size in voxels along X, Y, Z.
        regions: Number of regions.
        background_share: Fraction of the windows that are centred outside all regions, 0 to 1.
        num_samples: Number of windows.
        indices_key: Key of the possible centres, see `PositionsOfClassesd`; it is taken out of the item.

    >>> step = RandWindowsd("label", spatial_size=(2, 2, 2), regions=2, background_share=0.0).set_random_state(0)
    >>> empty = {"label": torch.zeros(1, 4, 4, 4), "label_positions": [torch.arange(64), *[torch.arange(0)] * 2]}
    >>> [window["label"].shape for window in step(empty)]
    [torch.Size([1, 2, 2, 2])]
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        spatial_size: Sequence[int],
        regions: int,
        background_share: float,
        num_samples: int = 1,
        indices_key: str = "label_positions",
    ) -> None:
        super().__init__(
            keys,
            label_key="label",
            spatial_size=tuple(spatial_size),
            ratios=window_ratios([True] * (1 + regions), background_share),
            num_classes=1 + regions,
            num_samples=num_samples,
            indices_key=indices_key,
            allow_smaller=False,
            warn=False,
        )
        self.background_share = background_share

    def randomize(self, label: Tensor, indices: Sequence[Tensor], image: Tensor | None = None) -> None:
        """Draw the centres of the windows."""
        held = [len(one) > 0 for one in indices]
        if not any(held):
            voxels = label[0].numel()
            everywhere = torch.linspace(0, voxels - 1, min(voxels, _EVERYWHERE), dtype=torch.float64).round().long()
            indices, held = [everywhere, *indices[1:]], [True, *held[1:]]
        self.cropper.ratios = window_ratios(held, self.background_share)
        self.cropper.randomize(label=label, indices=list(indices), image=image)


def window_ratios(held: Sequence[bool], background_share: float) -> list[float]:
    """The relative number of windows on the background and on each region.

    Args:
        held: Whether a case has any voxel outside all regions, then of each region; of one of them at least.
        background_share: Fraction of the windows that are centred outside all regions.

    >>> window_ratios([True] * 4, 1 / 3), window_ratios([True, False, True, False], 1 / 3)
    ([1.5, 1.0, 1.0, 1.0], [0.5, 0.0, 1.0, 0.0])
    >>> window_ratios([True, False], 0.0), window_ratios([False, True, True], 1.0)
    ([1.0, 0.0], [0.0, 1.0, 1.0])
    """
    background, *regions = held
    there = sum(regions)
    if not there or (background and background_share == 1):
        return [1.0, *[0.0] * len(regions)]
    share = round(there * background_share / (1 - background_share), 12) if background else 0.0
    return [share, *(float(one) for one in regions)]
