"""Preprocessing, augmentation and postprocessing: plain functions that return a MONAI Compose.

The dictionaries hold `key` (str), `image` (paths, then C, X, Y, Z), `label` and, after a network, `pred`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai import transforms as mt
from monai.config import KeysCollection
from monai.data import MetaTensor
from scipy.ndimage import gaussian_filter
from torch import Tensor

from volseg.cleanup import Cleanup
from volseg.decision import Decided, SaveLabelMapd, key_of
from volseg.errors import UsageError, VolsegError, VolumeError
from volseg.geometry import space_difference
from volseg.labels import LabelTable
from volseg.native import NativeProbabilitiesd
from volseg.volume import Volume, read_aligned

# Positions kept of each class for balanced crops: enough that no crop repeats, without an index of every voxel.
_POSITIONS = 20_000
# Windows are turned by up to so many radians, 20 degrees, and scaled by up to so much.
_TURN, _SCALING = 0.35, 0.2
# From this factor on a coarser grid is one, and no rounding of a spacing.
_COARSER = 1.05


def preprocessing(
    labels: LabelTable,
    *,
    channels: int,
    spacing_mm: Sequence[float],
    roi_size: Sequence[int] | None = None,
    label: bool = True,
) -> mt.Compose:
    """From files to what a network is given: the same for training, validation and inference.

    Axes run right, anterior, superior; voxels are resampled to `spacing_mm`, an image of one slice after it was
    smoothed where that is coarser; each channel is clipped to its 0.5 and 99.5 percentiles and brought to mean 0 and
    standard deviation 1.

    Args:
        labels: the label table.
        channels: image channels expected.
        spacing_mm: along X, Y, Z after the axes are turned.
        roi_size: with `label`, pad to at least this size and index the classes' positions for balanced crops.
        label: read the reference too; it becomes (1, X, Y, Z) class numbers, or (R, X, Y, Z) masks where regions
            overlap.
    """
    keys = ["image", "label"] if label else ["image"]
    steps: list[Any] = [ReadVolumesd("image", channels=channels)]
    if label:
        steps.append(ReadVolumesd("label", channels=1, like="image", labels=labels))
    steps += [
        mt.Orientationd(keys, axcodes="RAS", labels=None),
        SmoothSliced("image", spacing_mm=spacing_mm),
        mt.Spacingd(keys, pixdim=tuple(spacing_mm), mode=["bilinear", "nearest"][: len(keys)], padding_mode="border"),
        mt.ClipIntensityPercentilesd("image", lower=0.5, upper=99.5, channel_wise=True),
        mt.NormalizeIntensityd("image", channel_wise=True),
        mt.EnsureTyped("image", dtype=torch.float32),
    ]
    if label:
        steps.append(TargetOfLabelMapd("label", labels=labels))
        if roi_size is not None:
            steps += [
                mt.SpatialPadd(keys, spatial_size=tuple(roi_size)),
                PositionsOfClassesd("label", labels=labels),
            ]
    return mt.Compose(steps)


def augmentation(
    labels: LabelTable,
    *,
    roi_size: Sequence[int],
    crops: int = 2,
    flip_axes: Sequence[int] = (),
    affine_prob: float = 0.7,
    coarse_dropout: float = 0.0,
) -> mt.Compose:
    """Random windows and what may happen to a scan: after `preprocessing` with a `roi_size`, for training only.

    A third of the windows is centred on a voxel outside all regions, the others on a voxel of a region drawn evenly:
    a network that is only shown windows full of organs finds organs everywhere when the window slides. The cached
    volume is cropped as a view and copied, so the cache is never changed.

    A window of one slice is turned, scaled and blurred in its plane alone; and the brightness and contrast of each
    channel vary by themselves too, as stains do.

    Args:
        labels: the label table.
        roi_size: window along X, Y, Z.
        crops: windows a case and step.
        flip_axes: axes mirrored half of the time; leave out those along which the body is not symmetric.
        affine_prob: probability that a window is turned, up to 20 degrees around each axis, and scaled, up to 20 %
            along each: more of it for few cases or a long training, which learns its cases by heart.
        coarse_dropout: probability that up to eight boxes of the image, each up to an eighth of the window a side, are
            set to its mean (DeVries and Taylor 2017, arXiv:1708.04552).

    Raises:
        UsageError: a probability that is no number from 0 to 1.
    """
    for name, value in {"affine_prob": affine_prob, "coarse_dropout": coarse_dropout}.items():
        if not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise UsageError(f"{name} is a probability, a number from 0 to 1, and not {value!r}")
    keys = ["image", "label"]
    roi = tuple(roi_size)
    thin = [n == 1 for n in roi]
    turned = thin if sum(thin) == 1 else [not any(thin)] * 3  # around a slice's own normal, or around all axes
    sigmas = [(0.0, 0.0) if one else (0.3, 0.8) for one in thin]
    more: list[Any] = []
    if any(thin):
        more.append(mt.RandScaleIntensityd("image", prob=0.3, factors=0.1, channel_wise=True))
        more.append(mt.RandShiftIntensityd("image", prob=0.3, offsets=0.1, channel_wise=True))
    if coarse_dropout:
        sizes = [[max(1, n // part) for n in roi] for part in (16, 8)]
        holes = {"holes": 1, "max_holes": 8, "spatial_size": sizes[0], "max_spatial_size": sizes[1]}
        more.append(mt.RandCoarseDropoutd("image", prob=coarse_dropout, fill_value=0.0, **holes))
    return mt.Compose(
        [
            mt.RandCropByLabelClassesd(
                keys,
                label_key="label",
                spatial_size=roi,
                ratios=[len(labels.regions) / 2, *[1.0] * len(labels.regions)],
                num_classes=1 + len(labels.regions),
                num_samples=crops,
                indices_key="label_positions",
                allow_smaller=False,
                warn=False,
            ),
            mt.DeleteItemsd("label_positions"),
            mt.Lambdad(keys, func=torch.clone, track_meta=False),
            *[mt.RandFlipd(keys, prob=0.5, spatial_axis=axis) for axis in flip_axes],
            mt.RandAffined(
                keys,
                prob=affine_prob,
                rotate_range=[_TURN * one for one in turned],
                scale_range=[_SCALING * (not one) for one in thin],
                mode=["bilinear", "nearest"],
                padding_mode="border",
            ),
            mt.RandGaussianNoised("image", prob=0.15, std=0.1),
            mt.RandGaussianSmoothd("image", prob=0.1, sigma_x=sigmas[0], sigma_y=sigmas[1], sigma_z=sigmas[2]),
            mt.RandSimulateLowResolutiond("image", prob=0.1, zoom_range=(0.5, 1.0)),
            mt.RandScaleIntensityd("image", prob=0.3, factors=0.25),
            mt.RandShiftIntensityd("image", prob=0.3, offsets=0.2),
            mt.RandAdjustContrastd("image", prob=0.2, gamma=(0.7, 1.5), retain_stats=True),
            *more,
            mt.EnsureTyped(keys, track_meta=False),  # a network on plain tensors is more than twice as fast on a CPU
        ]
    )


def region_masks(labels: LabelTable) -> mt.Compose:
    """Logits and targets as one bool mask a region, for validation on the resampled grid."""
    return mt.Compose([RegionMasksd(["pred", "label"], labels=labels)])


def postprocessing(
    labels: LabelTable,
    before: mt.Compose,
    *,
    output_dir: str | Path | None = None,
    cleanup: Mapping[str, Any] | None = None,
    save_probabilities: bool = False,
) -> mt.Compose:
    """From logits to a label map on the input's own grid: probabilities are brought back before the decision.

    Args:
        labels: the label table.
        before: the preprocessing that is undone.
        output_dir: write `KEY.nii.gz` there.
        cleanup: attributes of `volseg.cleanup.Cleanup`, such as `{"keep_largest": ["liver"]}`; nothing is done without.
        save_probabilities: leave them in the item as `probabilities`, and write `probabilities/KEY.nii.gz` too.

    Raises:
        UsageError: a clean-up of a region that the table does not have.
    """
    steps: list[Any] = [
        NativeProbabilitiesd("pred", before=before, activation=labels.activation),
        Decided("pred", labels=labels, cleanup=Cleanup(**(cleanup or {})), keep_probabilities=save_probabilities),
    ]
    if output_dir is not None:
        steps.append(SaveLabelMapd("pred", output_dir=output_dir))
    return mt.Compose(steps)


class ReadVolumesd(mt.MapTransform):  # type: ignore[misc]  # MONAI has no types
    """Read one NIfTI path, or one a channel, as a MetaTensor (C, X, Y, Z); volseg's door to files.

    Args:
        keys: of paths, or of volumes that have been read.
        channels: expected number.
        like: key of an item already read whose grid must be the same.
        labels: refuse values that the table does not declare, and read as uint8.

    Raises:
        VolsegError: with the case's key: unreadable, no orientation, NaN, other channels, other grids.
    """

    def __init__(
        self, keys: KeysCollection, *, channels: int, like: str | None = None, labels: LabelTable | None = None
    ) -> None:
        super().__init__(keys)
        self.channels = channels
        self.like = like
        self.labels = labels

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace each path by its voxels."""
        item = dict(data)
        for key in self.keys:
            try:
                item[key] = self._read(item[key], item)
            except VolsegError as error:
                raise error.of_case(str(item.get("key") or key_of(item[key]))) from error
        return item

    def _read(
        self, given: str | Path | Volume | Sequence[str | Path | Volume], item: Mapping[Hashable, Any]
    ) -> MetaTensor:
        images = [given] if isinstance(given, (str, Path, Volume)) else list(given)
        if len(images) != self.channels:
            raise VolumeError(f"{len(images)} image files were given, the network takes {self.channels} channels")
        volumes = read_aligned(images)
        first = volumes[0]
        name = str(item.get("key", "a volume") if isinstance(images[0], Volume) else images[0])
        if self.like is not None:
            image = item[self.like]
            difference = space_difference(image.shape[1:], image.affine.numpy(), first.shape, first.affine_ras)
            if difference:
                raise VolumeError(f"the label is not on the image's grid: {difference}")
        if self.labels is not None:
            voxels = self.labels.check(first.voxels)[None]
        else:
            voxels = np.stack([volume.voxels.astype(np.float32) for volume in volumes])
            if not np.isfinite(voxels).all():
                raise VolumeError(f"{Path(name).name} holds NaN or infinity; replace them by the background's value")
        affine = torch.from_numpy(first.affine_ras)
        meta = {
            "filename_or_obj": name,
            "original_affine": affine.clone(),
            "spatial_shape": np.array(first.shape),
            "original_channel_dim": 0,
            "space": "RAS",
        }
        return MetaTensor(torch.from_numpy(np.ascontiguousarray(voxels)), affine=affine.clone(), meta=meta)


class SmoothSliced(mt.MapTransform):  # type: ignore[misc]  # MONAI has no types
    """Smooth images of one slice before they are resampled to a coarser grid, which else keeps single pixels' noise.

    The Gaussian has a standard deviation of (factor - 1) / 2 pixels, as in scikit-image's `resize`. Volumes are left as
    they are.

    Args:
        keys: of images (C, X, Y, Z) with an affine along their axes.
        spacing_mm: of the grid that they are resampled to.
    """

    def __init__(self, keys: KeysCollection, *, spacing_mm: Sequence[float]) -> None:
        super().__init__(keys)
        self.spacing_mm = [float(mm) for mm in spacing_mm]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Smooth the images of all keys."""
        return {**data, **{key: self._smooth(data[key]) for key in self.keys}}

    def _smooth(self, image: MetaTensor) -> MetaTensor:
        shape, pixdim = image.shape[1:], [float(mm) for mm in image.pixdim]
        factors = [to / mm if n > 1 else 1.0 for n, mm, to in zip(shape, pixdim, self.spacing_mm, strict=True)]
        if 1 not in shape or max(factors) < _COARSER:
            return image
        sigmas = [max(0.0, (factor - 1) / 2) for factor in factors]
        smooth = np.stack([gaussian_filter(channel, sigmas, mode="nearest") for channel in image.numpy()])
        return MetaTensor(torch.from_numpy(smooth), meta=image.meta, applied_operations=image.applied_operations)


class _OfLabelTable(mt.MapTransform):  # type: ignore[misc]  # MONAI has no types
    """Replaces each item by what `change` makes of it with a label table."""

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
    """A label map (1, X, Y, Z) as class numbers 0 to K (1, X, Y, Z), or as masks (R, X, Y, Z) where regions overlap."""

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
        return MetaTensor(torch.from_numpy(target), meta=tensor.meta, applied_operations=tensor.applied_operations)


class PositionsOfClassesd(mt.MapTransform):  # type: ignore[misc]
    """Where windows may be centred: under `KEY_positions`, voxels outside all regions, then those of each region.

    Args:
        keys: of targets, see `TargetOfLabelMapd`.
        labels: the label table.
    """

    def __init__(self, keys: KeysCollection, *, labels: LabelTable) -> None:
        super().__init__(keys)
        self.labels = labels
        self._indices = mt.ClassesToIndices(1 + len(labels.regions), max_samples_per_class=_POSITIONS)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add flat numbers of voxels, some of each class."""
        item = dict(data)
        for key in self.keys:
            target = item[key]
            if self.labels.overlap:
                target = torch.cat([(target == 0).all(dim=0, keepdim=True), target != 0])
            item[f"{key}_positions"] = self._indices(target)
        return item


class RegionMasksd(_OfLabelTable):
    """Logits (channels, ...) or, under the key `label`, targets as bool masks (R, ...)."""

    def change(self, tensor: MetaTensor, key: Hashable) -> Tensor:
        """The masks, as a plain tensor."""
        tensor = tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
        if self.labels.overlap:
            masks: Tensor = tensor > 0  # targets are 0 or 1; a logit above 0 is a probability above 0.5
            return masks
        classes = tensor[0] if key == "label" else tensor.max(dim=0)[1]
        return torch.stack([classes == number for number in range(1, self.labels.channels)])
