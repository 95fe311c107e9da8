"""Normalisation of a channel on an array: the values of `volseg.transforms.NormaliseIntensityd`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from volseg.volume import ChannelNormalisation, body_statistics

_LINEAR = np.float32(100.0)  # as in volseg.transforms: standard deviations up to which `mr` is linear
_CLIPPED = (0.5, 99.5)  # percentiles of networks of before


def normalise(channel: NDArray[np.float32], normalisation: ChannelNormalisation | None) -> None:
    """Normalise a channel (X, Y, Z) in place.

    Args:
        channel: Finite voxels.
        normalisation: Scheme with its constants; None for `percentiles`.

    >>> volume = np.array([0.0, 50.0, 400.0], np.float32)
    >>> normalise(volume, ChannelNormalisation("ct", lower=0, upper=100, mean=50, std=25))
    >>> volume.tolist()
    [-2.0, 0.0, 2.0]
    """
    scheme = "percentiles" if normalisation is None else normalisation.scheme
    if normalisation is not None and scheme in ("ct", "pet", "rgb", "none"):
        _by_constants(channel, normalisation)
        return
    low, high = float(channel.min()), float(channel.max())
    if low == high:
        channel.fill(0)
    elif scheme == "mr":
        _by_body(channel, low, high)
    elif scheme == "rescale_to_0_1":
        channel -= np.float32(low)
        channel /= np.float32(high - low)
    else:
        if scheme == "percentiles":
            np.clip(channel, *np.percentile(channel, _CLIPPED).astype(np.float32), out=channel)
        _standardise(channel)


def _standardise(channel: NDArray[np.float32]) -> None:
    """Mean 0 and standard deviation 1; a volume of one value becomes 0."""
    mean = float(channel.mean(dtype=np.float64))
    channel -= np.float32(mean)
    std = float(np.sqrt(sum(float(np.dot(row, row)) for row in channel.reshape(len(channel), -1)) / channel.size))
    if std > 0:
        channel /= np.float32(std)


def _by_body(channel: NDArray[np.float32], low: float, high: float) -> None:
    mean, std = body_statistics(channel, low=low)
    channel -= np.float32(mean)
    channel /= np.float32(std)
    for sign, furthest in ((1, (high - mean) / std), (-1, (mean - low) / std)):
        if furthest > _LINEAR:
            beyond = channel > _LINEAR if sign > 0 else channel < -_LINEAR
            channel[beyond] = sign * (_LINEAR + np.log1p(np.abs(channel[beyond]) - _LINEAR))


def _by_constants(channel: NDArray[np.float32], constants: ChannelNormalisation) -> None:
    if constants.scheme == "ct":
        np.clip(channel, constants.lower, constants.upper, out=channel)
        channel -= np.float32(constants.constant("mean"))
        channel /= np.float32(constants.constant("std"))
    elif constants.scheme == "pet":
        channel /= np.float32(constants.constant("std"))
        np.arcsinh(channel, out=channel)
    elif constants.scheme == "rgb":
        half = constants.constant("upper") / 2
        channel -= np.float32(half)
        channel /= np.float32(half / 2)
