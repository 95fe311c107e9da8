"""Checks of labels and images of a fold that make a training impossible or doubtful, before it starts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.cohort import Cohort, size_warnings
from volseg.errors import CohortError, first_names, naming
from volseg.training.cache import file_digest
from volseg.training.checks.images import check_images
from volseg.volume import nearest_index, read_volume

LABEL_SECONDS, IMAGE_SECONDS = 3.0, 1.0
"""Seconds for reading labels, and for preprocessing cases, before a training; the message tells what was left out."""
DRY_LABEL_SECONDS, DRY_IMAGE_SECONDS = 20.0, 10.0
"""Seconds for reading labels, and for preprocessing cases, if nothing is trained."""
_COARSER = 1.05


@dataclass
class _Seen:
    """The labels that were read of one side of a fold.

    Attributes:
        sizes: Voxels of each region by case.
        asked: Keys of the cases of the side.
        vanishing: Regions by case that have no voxel on the network's grid.
    """

    sizes: dict[str, dict[str, int]] = field(default_factory=dict)
    asked: int = 0
    vanishing: dict[str, list[str]] = field(default_factory=dict)

    @property
    def all_read(self) -> bool:
        return len(self.sizes) == self.asked

    @property
    def empty(self) -> list[str]:
        return [key for key, sizes in self.sizes.items() if not any(sizes.values())]

    @property
    def scope(self) -> str:
        """Text such as ` of 40 looked at`; empty if all were."""
        return "" if self.all_read else f" of the {len(self.sizes)} that were looked at"

    def absent(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if not any(sizes[name] for sizes in self.sizes.values())]


def check_cases(
    cohort: Cohort,
    *,
    fold: int | str,
    spacing_mm: Sequence[float],
    batch_size: int = 1,
    preprocessing: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None,
    dry: bool = False,
    label_seconds: float | None = None,
    image_seconds: float | None = None,
) -> list[str]:
    """Find what makes a training of a fold fail silently, or its Dice misleading.

    Labels are read for a few seconds and some cases are preprocessed; the other cases of a large cohort are not
    checked.

    Args:
        cohort: The cases.
        fold: Index of the fold, from 0, or `all`, which validates nothing.
        spacing_mm: Grid of the network.
        batch_size: Cases per batch.
        preprocessing: Function from a datalist's item to the input of the network; None checks no image.
        dry: Whether nothing is trained, so that there is more time.
        label_seconds: Seconds for labels; by default according to `dry`.
        image_seconds: Seconds for images; by default according to `dry`.

    Returns:
        Warnings, one sentence each.

    Raises:
        CohortError: No case of a side has a labelled voxel, or all training images are constant.
        VolsegError: A file cannot be read; the message names the key of its case.
    """
    if label_seconds is None:
        label_seconds = DRY_LABEL_SECONDS if dry else LABEL_SECONDS
    if image_seconds is None:
        image_seconds = DRY_IMAGE_SECONDS if dry else IMAGE_SECONDS
    sides = cohort.fold(fold)
    ends = time.monotonic() + label_seconds
    validation = _read(cohort, sides.validation, spacing_mm, until=ends)
    training = _read(cohort, sides.training, spacing_mm, until=ends)
    again = f"split again with `volseg split {cohort.folder}`, or name another --fold"
    if validation.asked and validation.all_read and len(validation.empty) == validation.asked:
        raise CohortError(
            f"fold {fold} validates nothing: none of its {_cases(validation.asked, 'validation')} has a labelled voxel "
            f"({first_names(validation.empty)}), so no network could be chosen; {again}"
        )
    if training.all_read and len(training.empty) == training.asked:
        raise CohortError(
            f"fold {fold} teaches nothing: none of its {_cases(training.asked, 'training')} has a labelled voxel "
            f"({first_names(training.empty)}); {again}"
        )
    told = size_warnings(cohort.rows[key] for key in dict.fromkeys((*sides.training, *sides.validation)))
    if validation.empty:
        told.append(
            f"{len(validation.empty)} of {_cases(len(validation.sizes), 'validation')}{validation.scope} have no "
            f"labelled voxel ({first_names(validation.empty)}): their Dice is undefined, and 0 where the network finds "
            "something that other cases have"
        )
    if 2 * len(training.empty) > len(training.sizes):
        told.append(
            f"{len(training.empty)} of {_cases(len(training.sizes), 'training')}{training.scope} have no labelled "
            f"voxel ({first_names(training.empty)}): more than half of the windows hold background alone"
        )
    names = cohort.labels.names
    for name in training.absent(names):
        told.append(f"{name} is in no training case of fold {fold}{training.scope}: a network cannot learn it; {again}")
    for name in validation.absent(names) if validation.asked else ():
        told.append(
            f"{name} is in no validation case of fold {fold}{validation.scope}: its Dice is undefined, and the mean is "
            "that of the other regions"
        )
    if len(set(sides.training)) < batch_size:
        told.append(
            f"--batch_size is {batch_size} and fold {fold} trains on {len(set(sides.training))} cases: no batch is full"
        )
    told += _twice(cohort, sides.training, sides.validation)
    if preprocessing is not None:
        told += check_images(
            cohort,
            sides.training,
            sides.validation,
            preprocessing=preprocessing,
            vanishing={**training.vanishing, **validation.vanishing},
            sizes={**training.sizes, **validation.sizes},
            spacing_mm=spacing_mm,
            seconds=image_seconds,
        )
    if not (training.all_read and validation.all_read):
        told.append(
            f"{len(training.sizes) + len(validation.sizes)} of {training.asked + validation.asked} labels were looked "
            f"at before the start, in {label_seconds:g} s; `volseg check {cohort.folder}` reads all"
        )
    return told


def _read(cohort: Cohort, keys: Sequence[str], spacing_mm: Sequence[float], *, until: float) -> _Seen:
    """Read labels, evenly spread over the side, until the time is over; at least two."""
    seen = _Seen(asked=len(keys))

    def look(key: str) -> tuple[str, dict[str, int], list[str]]:
        path = cohort.label_path(key)
        if path is None:
            return key, dict.fromkeys(cohort.labels.names, 0), []
        with naming(key):
            label = read_volume(path)
            checked = cohort.labels.check(label.voxels)
        sizes = cohort.labels.voxels_of_regions(checked)
        there = [name for name, size in sizes.items() if size]
        letters = label.grid.orientation
        to = [float(spacing_mm["RLAPSI".index(letter) // 2]) for letter in letters]
        if max(t / mm for t, mm in zip(to, label.spacing_mm, strict=True)) < _COARSER:
            return key, sizes, []
        ends_first = [letter in "LPI" for letter in letters]
        left = cohort.labels.voxels_of_regions(checked[_nearest(checked.shape, label.spacing_mm, to, ends_first)])
        return key, sizes, [name for name in there if not left[name]]

    order = _spread(keys)
    with ThreadPoolExecutor(2) as pool:
        for start in range(0, len(order), 2):
            if start and time.monotonic() > until:
                break
            for key, sizes, vanishing in pool.map(look, order[start : start + 2]):
                seen.sizes[key] = sizes
                if vanishing:
                    seen.vanishing[key] = vanishing
    return seen


def _nearest(
    shape: Sequence[int], spacing_mm: Sequence[float], to_mm: Sequence[float], ends_first: Sequence[bool]
) -> tuple[NDArray[np.intp], ...]:
    """The indices of the voxels that the network's grid takes along each axis, as in `volseg.plan.SmallRegion`.

    It begins at the first voxel along right, front and head: at the last one of an axis that runs the other way.
    """
    picks = []
    for n, mm, to, turned in zip(shape, spacing_mm, to_mm, ends_first, strict=True):
        count = max(1, int(np.rint((n - 1) * mm / to + 1)))
        taken = np.unique(nearest_index(np.arange(count, dtype=np.float64) * (to / mm), n, upwards=True))
        picks.append(n - 1 - taken if turned else taken)
    return np.ix_(*picks)


def _twice(cohort: Cohort, training: Sequence[str], validation: Sequence[str]) -> list[str]:
    """Find images that are on both sides under two keys, by the digests of their files."""
    known = {_image(cohort, key): key for key in training}
    same = [(known[found], key) for key in validation if (found := _image(cohort, key)) in known]
    if not same:
        return []
    pairs = ", ".join(f"{one} = {other}" for one, other in same[:3]) + (", ..." if len(same) > 3 else "")
    return [
        f"{len(same)} validation cases are images that are trained on under another key ({pairs}): the Dice is "
        "better than it is on new patients"
    ]


def _image(cohort: Cohort, key: str) -> tuple[str, ...]:
    return tuple(file_digest(path) for path in cohort.image_paths(key))


def _cases(number: int, kind: str) -> str:
    return f"{number} {kind} {'case' if number == 1 else 'cases'}"


def _spread(keys: Sequence[str]) -> list[str]:
    """All keys in an order in which any number of the first ones is spread over all; it is the same at each call."""
    return [keys[number] for number in np.random.default_rng(0).permutation(len(keys))]
