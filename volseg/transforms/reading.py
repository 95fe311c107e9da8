"""Reading the volumes of a case, and bringing them to the spacing of the network."""

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

from volseg.errors import GeometryError, VolsegError, VolumeError
from volseg.labels import LabelTable, channel_order, image_channels
from volseg.transforms.decision import key_of
from volseg.transforms.file_header import metadata_of, with_header
from volseg.volume import Grid, Volume, aligned, read_aligned, read_case_channels

# A grid is coarser from this factor on; below, the difference may be the rounding of a spacing.
_COARSER = 1.05


class ReadVolumesd(mt.MapTransform):  # type: ignore[misc]  # MONAI has no types
    """Read one NIfTI path, or one per channel, as a MetaTensor (C, X, Y, Z).

    A single file for several channels has them along its fourth axis, as the decathlon does.
    MONAI Deploy reads images by itself and hands MetaTensors over, (X, Y, Z) or with channels, whose affine is in RAS;
    they pass the same checks.

    Args:
        keys: Keys of paths, or of volumes or MetaTensors that have been read.
        channels: Expected number of channels.
        like: Key of an item already read whose grid must be the same.
        labels: Label table; values that it does not declare are refused, and the voxels are read as uint8.
        names: Names of the channels of the network, for items that state those of their files as `channel_names`, one
            file per channel: they are taken by name, see `volseg.labels.channel_order`.

    Raises:
        UsageError: By their names, the channels are not those of the network.
        VolsegError: The file is unreadable, lacks an orientation, holds NaN, or has other channels or another grid; the
            message names the key of the case.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        channels: int,
        like: str | None = None,
        labels: LabelTable | None = None,
        names: Sequence[str] = (),
    ) -> None:
        super().__init__(keys)
        self.channels = channels
        self.like = like
        self.labels = labels
        self.names = image_channels(names)
        # Behind the channels of the image those of a prior, which are 0 if none is handed over.
        self.of_prior = len(names) - len(self.names)
        self._orders: dict[tuple[str, ...], list[int]] = {}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace each path by its voxels."""
        item = dict(data)
        given = tuple(item.pop("channel_names", ()))
        for key in self.keys:
            if given and self.names and self.labels is None:
                item[key] = self._by_name(item[key], given)
            try:
                item[key] = self._read(item[key], item)
            except VolsegError as error:
                raise error.of_case(str(item.get("key") or key_of(item[key]))) from error
        return item

    def _by_name(self, paths: Sequence[str | Path], given: tuple[str, ...]) -> list[str | Path]:
        """One file per channel of the network, of those with the given names."""
        if given not in self._orders:  # the same for all cases of a cohort, and so told once
            self._orders[given] = channel_order(given, self.names, source="the cohort")
        return [paths[place] for place in self._orders[given]]

    def _read(
        self, given: str | Path | Volume | MetaTensor | Sequence[str | Path | Volume], item: Mapping[Hashable, Any]
    ) -> MetaTensor:
        if isinstance(given, torch.Tensor):
            given = _volumes_of(given, channels=self.channels - self.of_prior)
        images = [given] if isinstance(given, (str, Path, Volume)) else list(given)
        wanted = self.channels - self.of_prior if len(images) != self.channels else self.channels
        volumes = read_aligned(images) if self.labels is not None else read_case_channels(images, names=wanted)
        if self.labels is None and self.of_prior and len(volumes) < self.channels:
            empty = Volume(np.zeros(volumes[0].shape, np.float32), volumes[0].affine_ras)
            volumes = [*volumes, *[empty] * self.of_prior]
        first = volumes[0]
        name = str(item.get("key", "a volume") if isinstance(images[0], Volume) else images[0])
        if self.like is not None:
            image = item[self.like]
            try:
                first, _ = aligned(first, Grid(tuple(image.shape[1:]), with_header(image.affine, image.meta)))
            except GeometryError as error:
                raise VolumeError(
                    f"the label is not on the image's grid: {error}; resample it to that by the nearest voxel, or take "
                    "the one of this image"
                ) from error
        if self.labels is not None:
            voxels = self.labels.check(first.voxels)[None]
        else:
            voxels = np.stack([volume.voxels.astype(np.float32) for volume in volumes])
            if not np.isfinite(voxels).all():
                raise VolumeError(f"{Path(name).name} holds NaN or infinity; replace them by the background's value")
        affine = torch.from_numpy(np.asarray(first.affine_ras))
        meta = {
            "filename_or_obj": name,
            "original_affine": affine.clone(),
            "spatial_shape": np.array(first.shape),
            "original_channel_dim": 0,
            "space": "RAS",
            **metadata_of(first.affine_ras),
        }
        return MetaTensor(torch.from_numpy(np.ascontiguousarray(voxels)), affine=affine.clone(), meta=meta)


def _volumes_of(image: torch.Tensor, *, channels: int) -> list[Volume]:
    """One volume per channel of an image that another program has read.

    Raises:
        VolumeError: There is no affine, or the array has other axes than (X, Y, Z) and channels.
    """
    if not isinstance(image, MetaTensor) or not ({"affine", "original_affine"} & image.meta.keys()):
        raise VolumeError("the image is an array without an affine; hand over a MetaTensor with one, or a path")
    # If the metadata of a tensor state only original_affine, MONAI gives it the identity as its affine.
    untouched = "original_affine" in image.meta and not image.applied_operations
    affine = image.meta["original_affine"] if untouched else image.affine
    where, voxels = image.meta.get("original_channel_dim"), np.asarray(image.as_tensor().cpu())
    if voxels.ndim == 3:
        voxels = voxels[None]
    elif voxels.ndim == 4 and where in (-1, 3) and voxels.shape[-1] == channels:
        voxels = np.moveaxis(voxels, -1, 0)  # MONAI Deploy: (X, Y, Z, C)
    if voxels.ndim != 4:
        raise VolumeError(f"the image has shape {list(image.shape)}, expected (X, Y, Z), with channels first or last")
    return [Volume(channel, np.asarray(affine, dtype=np.float64)) for channel in voxels]


class SmoothSliced(mt.MapTransform):  # type: ignore[misc]  # MONAI has no types
    """Smooth images of one slice before they are resampled to a coarser grid, which would keep single pixels' noise.

    The Gaussian has a standard deviation of (factor - 1) / 2 pixels, as in scikit-image's `resize`. Volumes are left
    unchanged.

    Args:
        keys: Keys of images (C, X, Y, Z) with an affine along their axes.
        spacing_mm: Spacing in mm of the grid that they are resampled to.
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


class ImageSpacingd(mt.Spacingd):  # type: ignore[misc]  # MONAI has no types
    """MONAI's `Spacingd`, which takes every entry whose name begins with that of an image for its metadata.

    MONAI Label puts the path of the image into the item as `image_path`, on which MONAI 1.6.1 fails. Entries that are
    no dictionaries are kept aside.
    """

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:
        """Resample the images of all keys."""
        begins = tuple(f"{key}_" for key in self.keys)
        aside = {k: v for k, v in data.items() if str(k).startswith(begins) and not isinstance(v, dict)}
        rest = {k: v for k, v in data.items() if k not in aside}
        return {**super().__call__(rest, lazy=lazy), **aside}
