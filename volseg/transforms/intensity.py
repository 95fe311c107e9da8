"""Normalisation of intensities, channel by channel: the step of the preprocessing after the resampling."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from monai import transforms as mt
from monai.config import KeysCollection
from monai.data import MetaTensor
from torch import Tensor

from volseg.transforms.decision import key_of
from volseg.volume import ChannelNormalisation, body_statistics

logger = logging.getLogger(__name__)

_LINEAR = 100.0
"""Standard deviations from the body's mean up to which `mr` is linear; beyond, it grows with the logarithm."""


class NormaliseIntensityd(mt.MapTransform):  # type: ignore[misc]  # MONAI has no types
    """Normalise each channel by its own scheme, see `volseg.volume.ChannelNormalisation`.

    No value becomes NaN: a channel that holds one value everywhere becomes 0, or what that value is in a scheme with
    constants. The image of the item is changed in place: a pipeline hands over one that it has made itself.

    Args:
        keys: Keys of images (C, X, Y, Z), float32.
        normalisation: One entry per channel.
    """

    def __init__(self, keys: KeysCollection, *, normalisation: Sequence[ChannelNormalisation]) -> None:
        super().__init__(keys)
        self.normalisation = tuple(normalisation)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Normalise the images of all keys."""
        item = dict(data)
        for key in self.keys:
            image = item[key] = item[key].float()
            plain = image.as_tensor() if isinstance(image, MetaTensor) else image
            for channel, scheme in zip(plain, self.normalisation, strict=True):
                normalise_(channel, scheme)
        return item


class TellConstantd(mt.MapTransform):  # type: ignore[misc]  # MONAI has no types
    """Log each channel that has one value everywhere, and note their numbers in the image's metadata.

    Args:
        keys: Keys of images (C, X, Y, Z).
        channels: Number of the first channels that are looked at; all by default.
    """

    def __init__(self, keys: KeysCollection, *, channels: int | None = None) -> None:
        super().__init__(keys)
        self.channels = channels

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Leave the images as they are but for the note."""
        for key in self.keys:
            image = data[key]
            if numbers := constant_channels(image[: self.channels]):
                image.meta[CONSTANT] = ",".join(map(str, numbers))
                logger.warning(
                    "%s: channel %s has one value everywhere, so the network sees nothing in it",
                    *(data.get("key") or key_of(image.meta["filename_or_obj"]), " and ".join(map(str, numbers))),
                )
        return dict(data)


CONSTANT = "constant_channels"
"""Entry of an image's metadata: the numbers of its channels that have one value everywhere, with commas between."""


def constant_channels(image: Tensor) -> list[int]:
    """The numbers of the channels of an image (C, X, Y, Z) that have one value everywhere, from 0."""
    found = []
    for number, channel in enumerate(image.as_tensor() if isinstance(image, MetaTensor) else image):
        low, high = channel.aminmax()
        if bool(low == high):
            found.append(number)
    return found


def normalise_(channel: Tensor, normalisation: ChannelNormalisation) -> None:
    """Normalise a channel (X, Y, Z) of float32 in place.

    Args:
        channel: Voxels on the CPU, all finite.
        normalisation: Scheme with its constants.

    >>> import torch
    >>> volume = torch.tensor([0.0, 50.0, 400.0])
    >>> normalise_(volume, ChannelNormalisation("ct", lower=0, upper=100, mean=50, std=25))
    >>> volume
    tensor([-2.,  0.,  2.])
    """
    if normalisation.scheme in _BY_COHORT:
        _BY_COHORT[normalisation.scheme](channel, normalisation)
        return
    low, high = (float(one) for one in channel.aminmax())
    if low == high:
        channel.zero_()
    else:
        _BY_VOLUME[normalisation.scheme](channel, low, high)


def _mr(channel: Tensor, low: float, high: float) -> None:
    """The deviation from the body's mean in its standard deviations; from 100 on, 100 + ln(deviation - 99)."""
    mean, std = body_statistics(channel.numpy(), low=low)
    channel.sub_(mean).div_(std)
    for sign, furthest in ((1.0, (high - mean) / std), (-1.0, (mean - low) / std)):
        if furthest > _LINEAR:
            beyond = channel > _LINEAR if sign > 0 else channel < -_LINEAR
            channel[beyond] = sign * (_LINEAR + (channel[beyond].abs() - _LINEAR).log1p())


def _zscore(channel: Tensor, low: float, high: float) -> None:  # noqa: ARG001 - as all schemes of a volume
    std = float(channel.std(correction=0))
    channel.sub_(float(channel.mean())).div_(std if std > 0 else 1.0)


def _rescale(channel: Tensor, low: float, high: float) -> None:
    channel.sub_(low).div_(high - low)


def _percentiles(channel: Tensor, low: float, high: float) -> None:  # noqa: ARG001 - as all schemes of a volume
    for step in before_schemes("image"):
        channel.copy_(step({"image": channel[None]})["image"][0])


def _ct(channel: Tensor, constants: ChannelNormalisation) -> None:
    mean, std = constants.constant("mean"), constants.constant("std")
    channel.clamp_(constants.lower, constants.upper).sub_(mean).div_(std)


def _pet(channel: Tensor, constants: ChannelNormalisation) -> None:
    channel.div_(constants.constant("std")).asinh_()


def _rgb(channel: Tensor, constants: ChannelNormalisation) -> None:
    half = constants.constant("upper") / 2
    channel.sub_(half).div_(half / 2)


def _none(channel: Tensor, constants: ChannelNormalisation) -> None:
    """Leave the values as they are."""


_BY_VOLUME: dict[str, Callable[[Tensor, float, float], None]] = {
    "mr": _mr,
    "zscore": _zscore,
    "rescale_to_0_1": _rescale,
    "percentiles": _percentiles,
}
_BY_COHORT: dict[str, Callable[[Tensor, ChannelNormalisation], None]] = {
    "ct": _ct,
    "pet": _pet,
    "rgb": _rgb,
    "none": _none,
}


def before_schemes(key: str) -> list[Any]:
    """The steps of networks that were trained before there were schemes, to the bit."""
    return [
        mt.ClipIntensityPercentilesd(key, lower=0.5, upper=99.5, channel_wise=True),
        mt.NormalizeIntensityd(key, channel_wise=True),
    ]


def split_at_normalisation(steps: mt.Compose) -> tuple[mt.Compose, mt.Compose]:
    """Split a preprocessing before its first step that normalises: what makes the grid, and what follows.

    The second part is empty if there is no such step. The step that tells of constant channels goes with the first one.
    """
    kinds = (NormaliseIntensityd, mt.ClipIntensityPercentilesd, mt.NormalizeIntensityd)
    every = list(steps.flatten().transforms)
    first = next((number for number, step in enumerate(every) if isinstance(step, kinds)), len(every))
    telling = [step for step in every[first:] if isinstance(step, TellConstantd)]
    following = [step for step in every[first:] if not isinstance(step, TellConstantd)]
    return mt.Compose([*every[:first], *telling]), mt.Compose(following)
