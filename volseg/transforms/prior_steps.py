"""The steps of a pipeline that concern priors: joined to the image, normalised, drawn and damaged, left out."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai import transforms as mt
from monai.config import KeysCollection
from monai.data import MetaTensor
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from volseg.labels import LabelTable
from volseg.transforms.file_header import with_header
from volseg.transforms.intensity import normalise_
from volseg.transforms.prior import CORRECTED, FOREIGN, PREDICTED, PriorFiles, prior_arrays
from volseg.volume import (
    ChannelNormalisation,
    Grid,
)


class PriorBlocksd(mt.MapTransform):  # type: ignore[misc]  # MONAI has no types
    """Add the channels of each prior of a case behind those of its image, on the grid of the file.

    The item's `prior` lists the priors as `PriorFiles.to_json` has them; `prior_kinds` is left in its place.

    Args:
        keys: Keys of images (C, X, Y, Z) that have been read.
        labels: Label table of the network.
    """

    def __init__(self, keys: KeysCollection, *, labels: LabelTable) -> None:
        super().__init__(keys)
        self.labels = labels

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Read the priors of the item."""
        item = dict(data)
        item.pop("prior_files", None)
        priors = [PriorFiles.from_json(entry) for entry in item.pop("prior", ())]
        for key in self.keys:
            image = item[key]
            grid = Grid(tuple(image.shape[1:]), with_header(image.affine, image.meta))
            blocks = [prior_arrays(prior, grid, self.labels) for prior in priors]
            joined = torch.cat([image.as_tensor(), *map(torch.from_numpy, blocks)])
            item[key] = MetaTensor(joined, meta=image.meta, applied_operations=image.applied_operations)
            item["image_channels"] = len(image)
        item["prior_kinds"] = [prior.kind for prior in priors]
        return item


class NormaliseWithPriorsd(mt.MapTransform):  # type: ignore[misc]  # MONAI has no types
    """Normalise the channels of an image and those of each prior behind them.

    Args:
        keys: Keys of images, see `PriorBlocksd`.
        normalisation: Entries of the image's channels.
        regions: Number of regions of a prior, whose probabilities stay as they are.
    """

    def __init__(self, keys: KeysCollection, *, normalisation: Sequence[ChannelNormalisation], regions: int) -> None:
        super().__init__(keys)
        self.normalisation = tuple(normalisation)
        self.regions = regions

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Normalise in place."""
        item = dict(data)
        for key in self.keys:
            image = item[key] = item[key].float()
            plain = image.as_tensor() if isinstance(image, MetaTensor) else image
            count = len(self.normalisation)
            schemes = [*self.normalisation]
            while len(schemes) < len(plain):
                schemes += [*self.normalisation, *[ChannelNormalisation("none")] * (self.regions + 1)]
            for channel, scheme in zip(plain, schemes[: max(count, len(plain))], strict=True):
                normalise_(channel, scheme)
        return item


class NoPriord(mt.MapTransform):  # type: ignore[misc]  # MONAI has no types
    """At inference: without a prior its channels are 0 whatever the normalisation made of them.

    Args:
        keys: Keys of images whose last channel is 1 where a prior tells something.
        image_channels: Number of channels of today's image.
    """

    def __init__(self, keys: KeysCollection, *, image_channels: int) -> None:
        super().__init__(keys)
        self.image_channels = image_channels

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Empty the channels."""
        for key in self.keys:
            plain = data[key].as_tensor() if isinstance(data[key], MetaTensor) else data[key]
            if not bool((plain[-1] > 0.5).any()):
                plain[self.image_channels :] = 0
        return dict(data)


def joined_prior(image: Tensor, block: Tensor | None, *, image_channels: int, regions: int) -> Tensor:
    """The input of a network (2 C + R + 1, X, Y, Z) of today's channels and those of one prior or none."""
    today = image[:image_channels]
    if block is None:
        block = today.new_zeros((image_channels + regions + 1, *image.shape[1:]))
    return torch.cat([today, block])


class LastPriord(mt.MapTransform):  # type: ignore[misc]  # MONAI has no types
    """For validation: the first prior of the case, or none.

    Args:
        keys: Keys of images, see `PriorBlocksd`.
        image_channels: Number of channels of today's image.
        regions: Number of regions.
    """

    def __init__(self, keys: KeysCollection, *, image_channels: int, regions: int) -> None:
        super().__init__(keys)
        self.image_channels = image_channels
        self.regions = regions

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Join the channels."""
        item = {name: value for name, value in data.items() if name != "prior_kinds"}
        count = self.image_channels + self.regions + 1
        for key in self.keys:
            image = item[key]
            plain = image.as_tensor() if isinstance(image, MetaTensor) else image
            there = len(plain) >= self.image_channels + count
            block = plain[self.image_channels : self.image_channels + count] if there else None
            joined = joined_prior(plain, block, image_channels=self.image_channels, regions=self.regions)
            item[key] = (
                MetaTensor(joined, meta=image.meta, applied_operations=image.applied_operations)
                if isinstance(image, MetaTensor)
                else joined
            )
        return item


class RandPriord(mt.RandomizableTransform, mt.MapTransform):  # type: ignore[misc]  # MONAI has no types
    """For training: one prior drawn of the case's, damaged at times, or none.

    Contours of another patient come with 5 %, predicted contours with 20 % where there are some, else one of the
    corrected days. With 30 % a prior that is shown is shifted by up to 15 mm along each axis, with 20 % it is bent by a
    smooth field of up to 12 mm, with 10 % one region of it is absent, and with 10 % its contours are unknown in a part
    of the volume, as they are beyond an earlier field of view or where nobody looked.

    Args:
        keys: Keys of images, see `PriorBlocksd`.
        image_channels: Number of channels of today's image.
        regions: Number of regions.
        spacing_mm: Spacing of the network's grid.
        dropout: Share of the cases that are shown without a prior, 0 to 1.
    """

    SHIFT_MM, BEND_MM = 15.0, 12.0
    FOREIGN_PROB, PREDICTED_PROB, SHIFT_PROB, BEND_PROB, REMOVE_PROB, HIDE_PROB = 0.05, 0.2, 0.3, 0.2, 0.1, 0.1

    def __init__(
        self, keys: KeysCollection, *, image_channels: int, regions: int, spacing_mm: Sequence[float], dropout: float
    ) -> None:
        mt.MapTransform.__init__(self, keys)
        mt.RandomizableTransform.__init__(self, prob=1.0)
        self.image_channels = image_channels
        self.regions = regions
        self.spacing_mm = [float(mm) for mm in spacing_mm]
        self.dropout = dropout

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Draw and join."""
        item = {name: value for name, value in data.items() if name != "prior_kinds"}
        kinds = [str(kind) for kind in data.get("prior_kinds", ())]
        number = self._chosen(kinds)
        count = self.image_channels + self.regions + 1
        for key in self.keys:
            image = item[key]
            plain = image.as_tensor() if isinstance(image, MetaTensor) else image
            block = None
            if number is not None:
                start = self.image_channels + number * count
                block = self._damaged(plain[start : start + count])
            joined = joined_prior(plain, block, image_channels=self.image_channels, regions=self.regions)
            item[key] = MetaTensor(joined, meta=image.meta) if isinstance(image, MetaTensor) else joined
        return item

    def _chosen(self, kinds: Sequence[str]) -> int | None:
        """The number of the prior, or None for none; as many random numbers are drawn in every case."""
        dropped, foreign, predicted, which = self.R.uniform(size=4)
        if not kinds or dropped < self.dropout:
            return None
        kind = FOREIGN if foreign < self.FOREIGN_PROB else PREDICTED if predicted < self.PREDICTED_PROB else CORRECTED
        found = [n for n, one in enumerate(kinds) if one == kind]
        found = found or [n for n, one in enumerate(kinds) if one == CORRECTED]
        return found[int(which * len(found))] if found else None

    def _damaged(self, block: Tensor) -> Tensor:
        shift, bend, remove, which, hide, low, high = self.R.uniform(size=7)
        along = int(self.R.randint(3))
        moves = self.R.uniform(-self.SHIFT_MM, self.SHIFT_MM, size=3)
        if bend < self.BEND_PROB:
            field = torch.from_numpy(self.R.uniform(-1, 1, size=(1, 3, 4, 4, 3)).astype(np.float32)) * self.BEND_MM
            block = self._bent(block, field)
        if shift < self.SHIFT_PROB:
            block = self._shifted(block, moves)
        if remove < self.REMOVE_PROB and self.regions > 1:
            block = block.clone()
            block[self.image_channels + int(which * self.regions)] = 0
        if hide < self.HIDE_PROB:
            n = block.shape[1 + along]
            hidden: list[slice] = [slice(self.image_channels, None), *[slice(None)] * 3]
            hidden[1 + along] = slice(int(min(low, high) * n), int(np.ceil(max(low, high) * n)))
            block = block.clone()
            block[tuple(hidden)] = 0
        return block

    def _shifted(self, block: Tensor, mm: NDArray[np.float64]) -> Tensor:
        """Shifted by whole voxels; what comes in is the channel's least value, and not known."""
        low = block.flatten(1).amin(1).view(-1, 1, 1, 1)
        moved = low.expand_as(block).clone()
        moved[-1] = 0
        to: list[slice] = [slice(None)]
        source: list[slice] = [slice(None)]
        for axis, (distance, spacing) in enumerate(zip(mm, self.spacing_mm, strict=True), start=1):
            n = block.shape[axis]
            steps = int(np.clip(round(distance / spacing), 1 - n, n - 1))
            to.append(slice(max(steps, 0), n + min(steps, 0)))
            source.append(slice(max(-steps, 0), n + min(-steps, 0)))
        moved[tuple(to)] = block[tuple(source)]
        return moved

    def _bent(self, block: Tensor, field_mm: Tensor) -> Tensor:
        """Moved along a smooth field, given at a few points."""
        sizes = tuple(block.shape[1:])
        if min(sizes) < 2:
            return block
        field = functional.interpolate(field_mm, size=sizes, mode="trilinear", align_corners=True)[0]
        axes = [torch.linspace(-1, 1, n) for n in sizes]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))
        for axis in range(3):
            grid[axis] += field[axis] * (2 / ((sizes[axis] - 1) * self.spacing_mm[axis]))
        # PyTorch's grid names the last axis first.
        found: Tensor = functional.grid_sample(
            block[None], grid.flip(0).permute(1, 2, 3, 0)[None], padding_mode="border", align_corners=True
        )[0]
        return found


class OnImaged(mt.MapTransform):  # type: ignore[misc]  # MONAI has no types
    """Take the channels of the prior aside under `KEY_prior`, or put them back, so that noise concerns today alone.

    Args:
        keys: Keys of images with the prior's channels.
        image_channels: Number of channels of today's image.
        back: Whether they are put back.
    """

    def __init__(self, keys: KeysCollection, *, image_channels: int, back: bool) -> None:
        super().__init__(keys)
        self.image_channels = image_channels
        self.back = back

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Split or join."""
        item = dict(data)
        for key in self.keys:
            aside = f"{key}_prior"
            if self.back:
                image = item[key]
                plain = image.as_tensor() if isinstance(image, MetaTensor) else image
                item[key] = torch.cat([plain, item.pop(aside)])
            else:
                plain = item[key].as_tensor() if isinstance(item[key], MetaTensor) else item[key]
                item[aside] = plain[self.image_channels :]
                item[key] = plain[: self.image_channels]
        return item
