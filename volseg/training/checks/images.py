"""Checks of preprocessed images: a constant image, a region clipped away, a region too thin for the grid."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice, zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.cohort import Cohort
from volseg.errors import CohortError, first_names, naming
from volseg.volume import aligned, read_volume

_VOXELS_PER_SECOND = 4e6  # of the preprocessing, on a slow core
_MOST_SECONDS = 3.0  # for one case; a larger one is checked when the training preprocesses it
_AT_LIMIT = 0.9  # fraction of a region's voxels with the image's lowest or highest value: its structure is lost


def check_images(
    cohort: Cohort,
    training: Sequence[str],
    validation: Sequence[str],
    *,
    preprocessing: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    vanishing: Mapping[str, Sequence[str]],
    sizes: Mapping[str, Mapping[str, int]],
    spacing_mm: Sequence[float],
    seconds: float,
) -> list[str]:
    """Preprocess some cases of both sides in turn, at least one and as many more as there is time for.

    Args:
        cohort: The cases.
        training: Keys of this side of the fold.
        validation: Keys of the other side.
        preprocessing: Function from a datalist's item to `image` (C, X, Y, Z) and `label`, see
            `volseg.transforms.preprocessing`.
        vanishing: Regions without a voxel on the network's grid by case, as its label tells; these cases come first,
            and are told where there is no time for them, or they are too large.
        sizes: Voxels of each region by case, if its label was read.
        spacing_mm: Grid of the network.
        seconds: Time for the check, estimated from the sizes of the cases.

    Returns:
        Warnings, one sentence each.

    Raises:
        CohortError: All training images were checked, and all are constant.
        VolsegError: A file cannot be read; the message names the key of its case.
    """
    turns = [key for pair in zip_longest(training, validation) for key in pair if key is not None]
    ends = time.monotonic() + seconds
    looked: list[str] = []
    constant: dict[bool, list[str]] = {True: [], False: []}  # by whether the file is constant already
    blind: dict[int, list[str]] = {}  # cases by the number of a channel that is constant beside others
    clipped: dict[str, list[str]] = {}
    empty: dict[str, list[str]] = {}
    vanished: dict[str, list[str]] = {}
    for key in dict.fromkeys([*vanishing, *turns]):
        cost = math.prod(cohort.rows[key].shape) * cohort.channels / _VOXELS_PER_SECOND
        if cost > _MOST_SECONDS or (looked and time.monotonic() + cost > ends):
            continue
        looked.append(key)
        with naming(key):
            item = preprocessing(_item(cohort, key))
        image = np.asarray(item["image"])[: cohort.channels]
        if all(channel.min() == channel.max() for channel in image):
            constant[_is_constant(cohort, key)].append(key)
            continue
        for number, channel in enumerate(image):
            if channel.min() == channel.max():
                blind.setdefault(number, []).append(key)
        for name, mask in zip(cohort.labels.names, _masks(cohort, np.asarray(item["label"])), strict=True):
            if not mask.any():
                if sizes.get(key, {}).get(name):
                    vanished.setdefault(name, []).append(key)
            elif all(_is_at_limit(channel, mask) for channel in image):
                if _varies(cohort, key, name):
                    clipped.setdefault(name, []).append(key)
                elif all(_share(channel, mask, channel.min()) >= _AT_LIMIT for channel in image):
                    empty.setdefault(name, []).append(key)
    for key in [key for key in vanishing if key not in looked]:
        for name in vanishing[key]:
            vanished.setdefault(name, []).append(key)
    flat = {key for keys in constant.values() for key in keys}
    if set(training) <= flat:
        raise CohortError(
            f"all {len(training)} training images are constant once they are normalised ({first_names(training)}), so "
            "there is nothing to learn from: all voxels of each have one value, or nearly all, or lie beyond the "
            "values that images are clipped to; look at the files, crop them to where values differ, or name another "
            "--normalisation"
        )
    told = []
    if constant[True]:
        told.append(f"{_images(constant[True])} one value everywhere, so the network learns nothing from it")
    if constant[False]:
        told.append(
            f"{_images(constant[False])} one value everywhere once clipped, since nearly all voxels are equal or "
            "beyond the limits: the network sees no structure"
        )
    for number, keys in blind.items():
        told.append(
            f"channel {number} ({cohort.channel_names[number]}) has one value everywhere in {_cases(keys)}: the "
            "network learns nothing from it there"
        )
    for name, keys in clipped.items():
        told.append(
            f"{name} is clipped to one value in {_cases(keys)}: its intensities lie beyond the values that images are "
            "clipped to, and other tissue that lies there becomes equal to it"
        )
    for name, keys in empty.items():
        told.append(
            f"{name} lies where the image is empty, at its lowest value, in {_cases(keys)}: look whether image and "
            "label belong together"
        )
    for name, keys in vanished.items():
        told.append(
            f"{name} has no voxel left on the network's grid of {'x'.join(f'{mm:g}' for mm in spacing_mm)} mm in "
            f"{_cases(keys)}: it is too thin for it; give a finer --spacing_mm"
        )
    return told


def _item(cohort: Cohort, key: str) -> dict[str, Any]:
    """The case as a datalist has it."""
    label = cohort.label_path(key)
    return {"key": key, "image": [str(path) for path in cohort.image_paths(key)], "label": str(label)}


def _masks(cohort: Cohort, target: NDArray[Any]) -> list[NDArray[np.bool_]]:
    """One mask per region, of class numbers (1, X, Y, Z) or of masks (R, X, Y, Z)."""
    if cohort.labels.overlap:
        return [channel == 1 for channel in target]  # a voxel that nobody looked at is in none
    return [target[0] == number for number in range(1, 1 + len(cohort.labels.names))]


def _is_at_limit(channel: NDArray[Any], mask: NDArray[np.bool_]) -> bool:
    return any(_share(channel, mask, limit) >= _AT_LIMIT for limit in (channel.min(), channel.max()))


def _share(channel: NDArray[Any], mask: NDArray[np.bool_], value: float) -> float:
    """The fraction of a region's voxels that have a value."""
    return float((channel[mask] == value).mean())


def _is_constant(cohort: Cohort, key: str) -> bool:
    """Whether each file of a case holds a single value."""
    voxels = [read_volume(path).voxels for path in cohort.image_paths(key)]
    return all(bool(one.min() == one.max()) for one in voxels)


def _varies(cohort: Cohort, key: str, name: str) -> bool:
    """Whether a region's voxels have several values in some file of the case."""
    path = cohort.label_path(key)
    if path is None:
        return False
    label = read_volume(path)
    for image in map(read_volume, cohort.image_paths(key)):
        label_map = cohort.labels.check(aligned(label, image.grid)[0].voxels)
        mask = next(islice(cohort.labels.each_mask(label_map), cohort.labels.names.index(name), None))
        inside = image.voxels[mask]
        if inside.size and inside.min() != inside.max():
            return True
    return False


def _images(keys: Sequence[str]) -> str:
    return f"the image of {_cases(keys)} has" if len(keys) == 1 else f"the images of {_cases(keys)} have each"


def _cases(keys: Sequence[str]) -> str:
    return f"{len(keys)} {'case' if len(keys) == 1 else 'cases'} ({first_names(keys)})"
