"""Preprocessing, augmentation and postprocessing: plain functions that return a MONAI Compose.

The dictionaries hold `key` (str), `image` (paths, then C, X, Y, Z), `label` and, after a network, `pred`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import monai.transforms as mt
import torch

from volseg.errors import UsageError
from volseg.labels import Cleanup, LabelTable, image_channels, takes_prior
from volseg.transforms.decision import MANY, Decided, SaveImageLabelMapd
from volseg.transforms.intensity import NormaliseIntensityd, TellConstantd, before_schemes
from volseg.transforms.label_grid import OnGridOfd
from volseg.transforms.native_grid import NativeProbabilitiesd
from volseg.transforms.prior_steps import LastPriord, NoPriord, NormaliseWithPriorsd, OnImaged, PriorBlocksd, RandPriord
from volseg.transforms.reading import ImageSpacingd, ReadVolumesd, SmoothSliced
from volseg.transforms.targets import PositionsOfClassesd, RegionMasksd, TargetOfLabelMapd
from volseg.transforms.window_affine import RandAffineWindowd
from volseg.transforms.windows import RandWindowsd
from volseg.volume import InputSpacing, check_normalisation

# Largest rotation of windows in radians, 20 degrees, and largest change of their scale.
_TURN, _SCALING = 0.35, 0.2


def preprocessing(
    labels: LabelTable,
    *,
    channels: int,
    spacing_mm: Sequence[float],
    roi_size: Sequence[int] | None = None,
    label: bool = True,
    normalisation: Sequence[Mapping[str, Any]] | None = None,
    prior: bool = False,
) -> mt.Compose:
    """Make the transforms from files to the input of a network: the same for training, validation and inference.

    Axes are turned to right, anterior, superior. Voxels are resampled to `spacing_mm`, an image of one slice after
    smoothing if that is coarser; a label's voxel takes the nearest value, see `OnGridOfd`. Then each channel is
    normalised by its own scheme.

    Args:
        labels: Label table.
        channels: Number of image channels.
        spacing_mm: Spacing in mm along X, Y, Z after the axes are turned.
        roi_size: Window size in voxels; with `label`, volumes are padded to at least this size, and the positions of
            classes are indexed for balanced crops.
        label: Whether the reference is read too; it becomes class numbers (1, X, Y, Z), or masks (R, X, Y, Z) if
            regions overlap.
        normalisation: Scheme of each channel with its constants, see `volseg.volume.ChannelNormalisation`; by default
            what comes with the spacing of a recipe (`volseg.volume.InputSpacing`), else `percentiles` for all.
        prior: Whether the items list priors, see `volseg.transforms.PriorFiles`: in training all of them are kept
            behind the image for `augmentation` to draw from, without a `roi_size` the first one is taken.

    Raises:
        UsageError: There is another number of normalisations than channels, or one is wrong.
    """
    if normalisation is None and isinstance(spacing_mm, InputSpacing):
        normalisation = spacing_mm.normalisation
    schemes = check_normalisation(normalisation, channels=channels)
    keys = ["image", "label"] if label else ["image"]
    steps: list[Any] = [ReadVolumesd("image", channels=channels, names=labels.image_channels)]
    regions, today = len(labels.names), len(image_channels(labels.image_channels))
    takes = takes_prior(labels.image_channels) and not prior
    if label:
        steps.append(ReadVolumesd("label", channels=1, like="image", labels=labels))
    if prior:
        steps.append(PriorBlocksd("image", labels=labels))
        if schemes is None:
            raise UsageError("a prior needs a normalisation of each channel; name one with --normalisation")
    steps += [
        mt.Orientationd(keys, axcodes="RAS", labels=None),
        SmoothSliced("image", spacing_mm=spacing_mm),
        ImageSpacingd("image", pixdim=tuple(spacing_mm), mode="bilinear", padding_mode="border"),
        *([OnGridOfd("label", like="image")] if label else []),
        *(
            [NormaliseWithPriorsd("image", normalisation=schemes, regions=regions)]
            if prior and schemes
            else [NormaliseIntensityd("image", normalisation=schemes)]
            if schemes
            else before_schemes("image")
        ),
        mt.EnsureTyped("image", dtype=torch.float32),
    ]
    if prior and roi_size is None:
        steps.append(LastPriord("image", image_channels=channels, regions=regions))
    if takes:
        steps.append(NoPriord("image", image_channels=today))
    if not label:
        steps.append(TellConstantd("image", channels=today if takes else None))
    else:
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
    background_share: float = 1 / 3,
    flip_axes: Sequence[int] = (),
    affine_prob: float = 0.7,
    coarse_dropout: float = 0.0,
    prior: Mapping[str, Any] | None = None,
    spacing_mm: Sequence[float] | None = None,
) -> mt.Compose:
    """Make the random windows and changes for training, after `preprocessing` with a `roi_size`.

    A fraction of the windows is centred on a voxel outside all regions, the others on a voxel of a region drawn evenly
    among those that the case has, see `RandWindowsd`: a network that only sees windows full of organs finds organs
    everywhere when the window slides. The cached volume is cropped as a view and copied, so the cache is never changed.

    A window of one slice is rotated, scaled and blurred in its plane alone; and the brightness and contrast of each
    channel vary independently too, as stains do.

    Args:
        labels: Label table.
        roi_size: Window size in voxels along X, Y, Z.
        crops: Number of windows per case and step.
        background_share: Fraction of the windows that are centred outside all regions.
        flip_axes: Axes that are mirrored with probability 0.5; leave out those along which the body is not symmetric.
        affine_prob: Probability that a window is rotated, by up to 20 degrees around each axis, and scaled, by up to 20
            % along each. Raise it for few cases or a long training, which overfits.
        coarse_dropout: Probability that up to eight boxes of the image, each with sides up to an eighth of the window,
            are set to 0, the mean of a grey image's body and the middle grey of colours (DeVries and Taylor 2017,
            arXiv:1708.04552).
        prior: Arguments of `RandPriord` if the items hold priors; None for none.
        spacing_mm: Spacing in mm of the windows, by which they are rotated in mm; None (the default) for voxels of
            equal sides.

    Raises:
        UsageError: A probability is no number from 0 to 1, or an axis is none.
    """
    probabilities = {"affine_prob": affine_prob, "coarse_dropout": coarse_dropout, "background_share": background_share}
    for name, value in probabilities.items():
        if not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise UsageError(f"{name} is a probability, a number from 0 to 1, and not {value!r}")
    if not isinstance(flip_axes, (list, tuple)) or any(isinstance(n, bool) or n not in (0, 1, 2) for n in flip_axes):
        raise UsageError(f"flip_axes must be a list of the axes 0, 1 and 2, such as [0,2], got {flip_axes!r}")
    keys = ["image", "label"]
    roi = tuple(roi_size)
    thin = [n == 1 for n in roi]
    turned = thin if sum(thin) == 1 else [not any(thin)] * 3  # around the normal of a single slice, or around all axes
    sigmas = [(0.0, 0.0) if one else (0.3, 0.8) for one in thin]
    more: list[Any] = []
    if any(thin):
        more.append(mt.RandScaleIntensityd("image", prob=0.3, factors=0.1, channel_wise=True))
        more.append(mt.RandShiftIntensityd("image", prob=0.3, offsets=0.1, channel_wise=True))
    if coarse_dropout:
        sizes = [[max(1, n // part) for n in roi] for part in (16, 8)]
        holes = {"holes": 1, "max_holes": 8, "spatial_size": sizes[0], "max_spatial_size": sizes[1]}
        more.append(mt.RandCoarseDropoutd("image", prob=coarse_dropout, fill_value=0.0, **holes))
    aside, back = (
        [OnImaged("image", image_channels=prior["image_channels"], back=one)] if prior else [] for one in (False, True)
    )
    return mt.Compose(
        [
            *([RandPriord("image", **prior)] if prior else []),
            RandWindowsd(
                keys,
                spatial_size=roi,
                regions=len(labels.regions),
                background_share=background_share,
                num_samples=crops,
            ),
            mt.DeleteItemsd("label_positions"),
            mt.Lambdad(keys, func=torch.clone, track_meta=False),
            *[mt.RandFlipd(keys, prob=0.5, spatial_axis=axis) for axis in flip_axes],
            RandAffineWindowd(
                keys,
                spacing_mm=spacing_mm,
                prob=affine_prob,
                rotate_range=[_TURN * one for one in turned],
                scale_range=[_SCALING * (not one) for one in thin],
                mode=["bilinear", "nearest"],
                padding_mode="border",
            ),
            *aside,
            mt.RandGaussianNoised("image", prob=0.15, std=0.1),
            mt.RandGaussianSmoothd("image", prob=0.1, sigma_x=sigmas[0], sigma_y=sigmas[1], sigma_z=sigmas[2]),
            # MONAI's own "nearest" would move the image by half a voxel and more against its label
            mt.RandSimulateLowResolutiond("image", prob=0.1, zoom_range=(0.5, 1.0), downsample_mode="area"),
            mt.RandScaleIntensityd("image", prob=0.3, factors=0.25),
            mt.RandShiftIntensityd("image", prob=0.3, offsets=0.2),
            mt.RandAdjustContrastd("image", prob=0.2, gamma=(0.7, 1.5), retain_stats=True),
            *more,
            *back,
            mt.EnsureTyped(keys, track_meta=False),  # a network on plain tensors is more than twice as fast on a CPU
        ]
    )


def region_masks(labels: LabelTable) -> mt.Compose:
    """Make the transform of logits and targets to one bool mask per region, for validation on the resampled grid."""
    return mt.Compose([RegionMasksd(["pred", "label"], labels=labels)])


def postprocessing(
    labels: LabelTable,
    before: mt.Compose,
    *,
    output_dir: str | Path | None = None,
    cleanup: Mapping[str, Any] | None = None,
    save_probabilities: bool = False,
) -> mt.Compose:
    """Make the transforms from logits to a label map on the input's grid; the decision follows the resampling.

    Args:
        labels: Label table.
        before: Preprocessing that is inverted.
        output_dir: Folder in which `KEY.nii.gz` is written; None for none.
        cleanup: Attributes of `volseg.labels.Cleanup`, such as `{"keep_largest": ["liver"]}`; nothing is done without.
        save_probabilities: Whether they stay in the item as `probabilities`, and `probabilities/KEY.nii.gz` is written
            too.

    Raises:
        UsageError: A clean-up names a region that the table does not have.
    """
    steps: list[Any] = [
        NativeProbabilitiesd(
            "pred",
            before=before,
            activation=labels.activation,
            many=None if save_probabilities or labels.overlap else MANY,
        ),
        Decided("pred", labels=labels, cleanup=Cleanup(**(cleanup or {})), keep_probabilities=save_probabilities),
    ]
    if output_dir is not None:
        steps.append(SaveImageLabelMapd("pred", output_dir=output_dir))
    return mt.Compose(steps)


PATCH, STRIDE = 128, 20


def grid_patches(keys: Sequence[str] = ("image", "label"), *, size: int = PATCH, stride: int = STRIDE) -> mt.Compose:
    """Cut images of one slice into all patches of a regular grid, instead of random windows.

    The first patch starts at the first voxel. The rest at the far border, less than a stride, is in no patch, and
    nothing is padded: an image of n voxels along an axis gives floor((n - size) / stride) + 1 patches there. An image
    smaller than a patch gives one patch of its own size; pad it first (`SpatialPadd`).

    Args:
        keys: Keys of arrays (C, X, Y, 1), all of one size.
        size: Size of a patch in voxels along X and Y.
        stride: Number of voxels from one patch to the next.

    Returns:
        A transform that makes each item (patches, C, size, size, 1), X slowest.

    Raises:
        UsageError: The size or stride is below 1, or the stride leaves gaps between patches.

    >>> grid_patches(["image"]).transforms[0].patcher.patch_size
    (128, 128, 1)
    """
    if not 1 <= stride <= size:
        raise UsageError(f"patches of {size} voxels, {stride} apart, were asked for; the stride is 1 to {size}")
    overlap = 1 - stride / size
    # One value per axis of (C, X, Y, Z): MONAI takes overlaps as fractions, and that of the channels would be no
    # integer.
    return mt.Compose(
        [mt.GridPatchd(list(keys), patch_size=(size, size, 1), overlap=(0.0, overlap, overlap, 0.0), pad_mode=None)]
    )


def patch_counts(shape: Sequence[int], *, size: int = PATCH, stride: int = STRIDE) -> tuple[int, ...]:
    """Number of patches of the grid along each axis; 0 if the image is smaller than a patch.

    >>> patch_counts((512, 300)), patch_counts((128, 147)), patch_counts((148, 127))
    ((20, 9), (1, 1), (2, 0))
    """
    return tuple(max(0, (n - size) // stride + 1) for n in shape)
