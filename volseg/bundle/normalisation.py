"""The normalisation of a cohort's channels: chosen from their names, with constants measured on its training cases."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.cohort import Cohort, intensity_notes, range_of
from volseg.errors import UsageError, naming
from volseg.labels import LabelMap, LabelTable
from volseg.volume import (
    SCHEMES,
    ChannelNormalisation,
    Grid,
    aligned,
    read_grid,
    read_volume,
    scheme_of_channel,
)

logger = logging.getLogger(__name__)

Asked = str | Sequence[str | Mapping[str, Any] | ChannelNormalisation] | None

_CASES = 100
"""Training cases that constants are measured on, evenly spread over a larger fold."""
_QUANTILES = 10_000
"""Values that stand for the foreground of one case: evenly spaced in its sorted voxels, so that cases count alike."""
_DEFAULT = "mr"
_MR = {"mri", "t1", "t2", "flair", "t1c", "t1ce", "pd", "dwi", "grey", "xray"}


def fit_normalisation(cohort: Cohort, asked: Asked = "auto", *, fold: int | str = 0) -> list[dict[str, Any]]:
    """Choose the normalisation of each channel, and measure the constants that it needs on the fold's training cases.

    `ct`: percentiles 0.5 and 99.5, mean and standard deviation of the voxels of all regions, each case with the same
    weight, as nnU-Net has them; the limits are widened to those percentiles of each region, so that none, however
    small, is cut off. `pet`: the mean of the body, on average over the cases. `rgb`: 255, or the largest value of other
    numbers than bytes. The other schemes need nothing and read no file. Of more than 100 cases of a fold at most 100
    are read.

    Args:
        cohort: The cases.
        asked: `auto` chooses by `channel_names`; else one scheme for all channels or one per channel: names of schemes
            or of modalities with commas between (`CT,MR`), a list of them, or entries with constants, see
            `volseg.volume.ChannelNormalisation`. None means `percentiles`.
        fold: Index of the fold, from 0, or `all`.

    Returns:
        One entry per channel, as a recipe stores it.

    Raises:
        UsageError: There is no such scheme, or there are more or fewer than channels.
        VolsegError: A file cannot be read; the message names the key of its case.
    """
    schemes = asked_schemes(asked, cohort.channel_names)
    lacking = [number for number, scheme in enumerate(schemes) if scheme.missing]
    if lacking:
        keys = cohort.fold(fold).training
        read = keys[:: -(-len(keys) // _CASES)]
        if len(read) < len(keys):
            logger.info("intensities are measured on %d of %d training cases", len(read), len(keys))
        measured = _measure(cohort, read, [(number, schemes[number].scheme) for number in lacking])
        for number in lacking:
            found = _constants(schemes[number].scheme, [one[number] for one in measured])
            given = {name: value for name, value in schemes[number].to_json().items() if name != "scheme"}
            schemes[number] = replace(schemes[number], **{**found, **given})
        ranges = {
            key: {number: one[number].range for number in lacking} for key, one in zip(read, measured, strict=True)
        }
        names = [scheme.scheme for scheme in schemes]
        for note in intensity_notes(cohort.channel_names, ranges, schemes=names):
            logger.warning("warning: %s", note)
    return [scheme.to_json() for scheme in schemes]


def asked_schemes(asked: Asked, channel_names: Sequence[str]) -> list[ChannelNormalisation]:
    """The scheme of each channel that a user asks for, without measured constants.

    Args:
        asked: Normalisation that was asked for, see `fit_normalisation`.
        channel_names: Names of the channels.

    Raises:
        UsageError: There is no such scheme, or there are more or fewer than channels.

    >>> [one.scheme for one in asked_schemes("auto", ["CT", "T1w", "PET"])]
    ['ct', 'mr', 'pet']
    >>> [one.scheme for one in asked_schemes("CT,noNorm", ["a", "b"])], len(asked_schemes("MR", ["a", "b"]))
    (['ct', 'none'], 2)
    """
    if asked == "auto":
        return [ChannelNormalisation(scheme_of_channel(name) or _DEFAULT) for name in channel_names]
    words: Sequence[Any] = ["percentiles"] if asked is None else asked.split(",") if isinstance(asked, str) else asked
    if isinstance(words, Mapping) or not isinstance(words, Sequence):
        words = [words]
    found = [_scheme(word) for word in words]
    if len(found) == 1:
        found *= len(channel_names)
    if len(found) != len(channel_names):
        raise UsageError(
            f"--normalisation names {len(found)} schemes, and the cohort has {len(channel_names)} channels "
            f"({', '.join(channel_names)}); give one for each, or one for all"
        )
    return found


def _scheme(word: object) -> ChannelNormalisation:
    """One entry of the setting."""
    if isinstance(word, ChannelNormalisation):
        return word
    if isinstance(word, Mapping):
        return ChannelNormalisation.from_json(word)
    if word is None:  # as a command line reads `none`
        return ChannelNormalisation("none")
    scheme = scheme_of_channel(str(word)) or (_DEFAULT if _is_mr(str(word)) else None)
    if scheme is None:
        raise UsageError(
            f"--normalisation {str(word).strip()!r} must be auto, or one of {', '.join(SCHEMES)} for each channel, "
            "such as CT,MR"
        )
    return ChannelNormalisation(scheme)


def _is_mr(word: str) -> bool:
    """Whether a word names an MR sequence or another modality whose values have no unit."""
    return word.strip().casefold().rstrip("w") in _MR


class _Measured:
    """What one channel of one case tells: a range, and what stands for its foreground if that is asked for."""

    def __init__(self, voxels: NDArray[Any], masks: Iterable[NDArray[np.bool_]] = ()) -> None:
        self.range = range_of(voxels)
        self.mean = self.square = 0.0
        # One array per mask: all regions together, then each; empty where the case has none of it.
        self.quantiles: list[NDArray[np.float64]] = []
        for mask in masks:
            values = voxels[mask]
            if not self.quantiles and values.size:
                inside = values.astype(np.float64)
                self.mean, self.square = float(inside.mean()), float((inside**2).mean())
            self.quantiles.append(_spread(values))


def _spread(values: NDArray[Any]) -> NDArray[np.float64]:
    """Some values that stand for all: evenly spaced among the sorted ones."""
    ordered = np.sort(values).astype(np.float64)
    count = min(_QUANTILES, len(ordered))
    places = (np.arange(count) + 0.5) / max(1, count) * len(ordered) - 0.5
    return np.interp(places, np.arange(len(ordered)), ordered) if count else ordered


def _measure(cohort: Cohort, keys: Sequence[str], asked: Sequence[tuple[int, str]]) -> list[dict[int, _Measured]]:
    """Read the channels that need constants, case by case; only small tables of each stay in memory."""
    return [_of_case(cohort, key, asked) for key in keys]


def _of_case(cohort: Cohort, key: str, asked: Sequence[tuple[int, str]]) -> dict[int, _Measured]:
    images, label = cohort.image_paths(key), cohort.label_path(key)
    files = tuple((str(images[number]), scheme, _stamp(images[number])) for number, scheme in asked)
    with naming(key):
        found = _of_files(files, None if label is None else (str(label), _stamp(label)), cohort.labels)
    return {number: one for (number, _), one in zip(asked, found, strict=True)}


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat() if path.is_file() else None
    return (0, 0) if status is None else (status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=512)  # the checks before a training and the training itself ask for the same
def _of_files(
    files: tuple[tuple[str, str, tuple[int, int]], ...], label: tuple[str, tuple[int, int]] | None, labels: LabelTable
) -> list[_Measured]:
    checked: LabelMap | None = None
    if label is not None and any(scheme == "ct" for _, scheme, _ in files):
        shape, affine_ras = read_grid(files[0][0])
        x, y, z = shape[:3]
        checked = labels.check(aligned(read_volume(label[0]), Grid((x, y, z), affine_ras))[0].voxels)

    def masks() -> Iterator[NDArray[np.bool_]]:
        if checked is not None:
            unseen = labels.ignored(checked)
            yield checked > 0 if unseen is None else (checked > 0) & ~unseen
            yield from labels.each_mask(checked) if len(labels.regions) > 1 else ()

    return [_Measured(read_volume(path).voxels, masks() if scheme == "ct" else ()) for path, scheme, _ in files]


def _constants(scheme: str, cases: Sequence[_Measured]) -> dict[str, float]:
    """The constants of a scheme from what the cases tell."""
    ranges = [case.range for case in cases]
    if scheme == "ct":
        return _of_foreground(cases)
    if scheme == "pet":
        bodies = [one.body for one in ranges if one.body > 0]
        return {"std": float(np.mean(bodies)) if bodies else max((abs(one.high) for one in ranges), default=0.0) or 1.0}
    highest = max((one.high for one in ranges), default=255.0)
    return {"upper": 1.0 if 0 < highest <= 1 else 255.0 if highest <= 255 else 65535.0 if highest <= 65535 else highest}


def _of_foreground(cases: Sequence[_Measured]) -> dict[str, float]:
    """Mean and standard deviation of all regions, each case with the same weight, and limits that cut off no region."""
    inside = [case for case in cases if case.quantiles and len(case.quantiles[0])]
    if not inside:
        raise UsageError(
            "no training case has a labelled voxel, so the range of CT values cannot be measured; state it: "
            "--normalisation \"[{'scheme': 'ct', 'lower': -160, 'upper': 240, 'mean': 40, 'std': 100}]\""
        )
    limits = []
    for of_region in zip(*(case.quantiles for case in inside), strict=True):
        there = [one for one in of_region if len(one)]
        if there:
            weights = np.concatenate([np.full(len(one), 1 / len(one)) for one in there])
            limits.append(_weighted_quantiles(np.concatenate(there), weights, (0.005, 0.995)))
    lower, upper = min(low for low, _ in limits), max(high for _, high in limits)
    mean = float(np.mean([case.mean for case in inside]))
    variance = float(np.mean([case.square for case in inside])) - mean**2
    if not lower < upper:  # every labelled voxel has one value
        lower, upper = min(case.range.low for case in inside), max(case.range.high for case in inside)
    if not lower < upper:
        lower, upper = lower - 1, lower + 1
    return {"lower": lower, "upper": upper, "mean": mean, "std": max(variance, 0.0) ** 0.5 or (upper - lower) / 4}


def _weighted_quantiles(
    values: NDArray[np.float64], weights: NDArray[np.float64], shares: Sequence[float]
) -> list[float]:
    """The values below which shares of the weight lie, with linear interpolation."""
    order = np.argsort(values, kind="stable")
    ordered, of_each = values[order], weights[order]
    middle = np.cumsum(of_each) - of_each / 2
    first, last = middle[0], middle[-1]
    places = [first + share * (last - first) for share in shares]
    return [float(one) for one in np.interp(places, middle, ordered)]
