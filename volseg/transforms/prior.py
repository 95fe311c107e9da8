"""An earlier day of the same patient as further channels of a network's input: a hint, and never the truth.

The earlier image is put where the alignment says, each region of the earlier contours becomes a blurred probability
(its signed distance through a sigmoid), and one more channel is 1 where the earlier contours tell something: within the
earlier field of view, where somebody looked. Elsewhere that channel and the probabilities are 0. Without a prior all of
them are 0 everywhere, as a network with a prior sees it in a share of its training.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from monai import transforms as mt
from monai.config import KeysCollection
from monai.data import MetaTensor
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from volseg.errors import VolumeError
from volseg.labels import LabelTable
from volseg.transforms.file_header import with_header
from volseg.transforms.intensity import normalise_
from volseg.volume import (
    ChannelNormalisation,
    Grid,
    Registration,
    Volume,
    covered,
    nearest_voxels,
    placed,
    read_case_channels,
    read_volume,
    resampled,
)

WIDTH_MM = 8.0
"""Width over which the probability rises from 12 to 88 % where none was measured: an assumption of how far contours of
two days lie apart."""
CORRECTED, PREDICTED, FOREIGN = "corrected", "predicted", "foreign"
_DISTANCE_GRID_MM = 3.0
_FAR_MM = 96.0


@dataclass(frozen=True)
class PriorFiles:
    """An earlier day: its files and where they lie in today's image.

    Attributes:
        key: Key of the earlier case.
        images: One image file per channel of today's image.
        label: File of its label map.
        labels: Label table of that map, which may have other values than the network's; as `dataset.json` states it.
        registration: Alignment from today's image to the earlier one.
        kind: `corrected` contours, `predicted` ones, or those of another patient, `foreign`.
        widths_mm: Width of each region's blur, see `prior_arrays`; `WIDTH_MM` for those that are not named.
    """

    key: str
    images: tuple[str, ...]
    label: str
    labels: Mapping[str, Any]
    registration: Registration
    kind: str = CORRECTED
    widths_mm: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The entry of a datalist; the paths come first, so that a cache sees when a file changes."""
        return {
            "files": [*self.images, self.label],
            "key": self.key,
            "labels": dict(self.labels),
            "matrix_ras": [list(row) for row in self.registration.matrix_ras],
            "kind": self.kind,
            "widths_mm": dict(self.widths_mm),
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> PriorFiles:
        """The inverse of `to_json`; of the alignment only the matrix comes back."""
        matrix = tuple(tuple(float(value) for value in row) for row in entry["matrix_ras"])
        files = [str(file) for file in entry["files"]]
        found = Registration(matrix, 1.0, 1.0, 0.0, 0.0)
        kind, widths = str(entry["kind"]), entry.get("widths_mm", {})
        return cls(str(entry["key"]), tuple(files[:-1]), files[-1], entry["labels"], found, kind, widths)


def prior_arrays(prior: PriorFiles, grid: Grid, labels: LabelTable) -> NDArray[np.float32]:
    """The earlier image, its blurred contours and where they are known, on today's grid.

    Args:
        prior: Earlier day, whose alignment has not failed.
        grid: Grid of today's image.
        labels: Label table of the network, whose regions the earlier table must have by name.

    Returns:
        Array (channels + regions + 1, X, Y, Z). A region's probability rises from 12 to 88 % over its width. The last
        channel is 1 within the earlier field of view, without voxels of the label `ignore`; elsewhere it and the
        probabilities are 0.

    Raises:
        VolumeError: The earlier table lacks a region, or its label map is on another grid than its image.
    """
    images = read_case_channels(list(prior.images), names=len(prior.images))
    found = [resampled(placed(image, prior.registration), grid)[0].voxels for image in images]
    distances, known = prior_distances(prior, grid, labels, image_grid=images[0].grid)
    for name, distance in distances.items():
        width = float(prior.widths_mm.get(name, WIDTH_MM))
        found.append(np.where(known, 1 / (1 + np.exp(np.clip(distance / width, -30, 30) * 4)), 0))
    return np.stack([*found, known]).astype(np.float32)


def prior_distances(
    prior: PriorFiles, grid: Grid, labels: LabelTable, *, image_grid: Grid | None = None
) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.bool_]]:
    """The signed distance of each voxel of today's grid to the earlier contours, and where these tell something.

    Args:
        prior: Earlier day, whose alignment has not failed.
        grid: Grid.
        labels: Label table of the network, whose regions the earlier table must have by name.
        image_grid: Grid that the earlier label map must have; None to trust it.

    Returns:
        Distances (X, Y, Z) in mm by region, negative inside; and the mask (X, Y, Z) of what is known.

    Raises:
        VolumeError: The earlier table lacks a region, or its label map is on another grid than its image.
    """
    table = LabelTable.from_dataset_json(dict(prior.labels))
    missing = [name for name in labels.names if name not in table.names]
    if missing:
        raise VolumeError(
            f"the prior {prior.key} has no region {', '.join(missing)}, only {', '.join(table.names)}; name a prior "
            "with the regions of the network"
        )
    label = read_volume(prior.label)
    if image_grid is not None and (difference := image_grid.difference(label.grid)):
        raise VolumeError(f"the label map of the prior {prior.key} is not on the grid of its image: {difference}")
    values = table.check(label.voxels)
    ignored = table.ignored(values)
    there = placed(label, prior.registration)
    known = covered(there.grid, grid)
    if ignored is not None:
        affines = np.asarray(there.affine_ras), np.asarray(grid.affine_ras)
        known &= nearest_voxels(ignored.astype(np.uint8), affines[0], grid.shape, affines[1]) == 0
    masks = dict(zip(table.names, table.masks(values), strict=True))
    found = {}
    for name in labels.names:
        distance = placed(_signed_distance(masks[name], label, ignored), prior.registration)
        found[name] = resampled(distance, grid)[0].voxels
    return found, known


def _signed_distance(mask: NDArray[np.bool_], label: Volume, ignored: NDArray[np.bool_] | None) -> Volume:
    """The distance in mm to a region's border, negative inside, on a grid of about 3 mm; far away if it is absent.

    The edge of what was ignored is no border.
    """
    from scipy.ndimage import distance_transform_edt

    factors = [
        max(1, min(n, round(_DISTANCE_GRID_MM / mm))) for n, mm in zip(mask.shape, label.spacing_mm, strict=True)
    ]
    first = [f // 2 for f in factors]
    every = tuple(slice(a, None, f) for a, f in zip(first, factors, strict=True))
    coarse = mask[every]
    beyond = ~coarse if ignored is None else ~(coarse | ignored[every])
    affine = np.array(label.affine_ras, dtype=np.float64)
    affine[:3, 3] += affine[:3, :3] @ np.array(first, dtype=np.float64)
    affine[:3, :3] *= factors
    spacing = [f * mm for f, mm in zip(factors, label.spacing_mm, strict=True)]
    far = _FAR_MM
    if not coarse.any():
        return Volume(np.full(coarse.shape, far, np.float32), affine)
    outside = distance_transform_edt(~coarse, spacing)
    inside = distance_transform_edt(~beyond, spacing) if beyond.any() else np.full(coarse.shape, far)
    half = 0.5 * min(spacing)  # the border lies between the voxels
    distance = np.where(coarse, -(inside - half), outside - half)
    return Volume(np.clip(distance, -far, far).astype(np.float32), affine)


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
