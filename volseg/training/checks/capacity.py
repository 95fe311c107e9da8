"""Memory, disk and cores of this machine, and what a training needs of them."""

from __future__ import annotations

import logging
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from volseg.cohort import Cohort
from volseg.errors import UsageError
from volseg.inference import available_bytes, usable_cores
from volseg.volume import read_grid

logger = logging.getLogger("volseg.training")

GIB = 2**30
_BYTES_A_POSITION = 8 * 20_000  # the positions kept of each class, see volseg.transforms.pipelines
_CACHE_SHARE = 0.7  # of the free memory: the network and the preprocessing need some too
_MOST_WORKERS = 8


def cache_bytes(
    cohort: Cohort,
    *,
    fold: int | str,
    spacing_mm: Sequence[float],
    roi_size: Sequence[int],
    channels: int | None = None,
    cases: Sequence[Sequence[Mapping[str, Any]]] | None = None,
) -> int:
    """Compute the bytes of the preprocessed cases of both sides of a fold, from the sizes in cases.csv alone.

    Args:
        cohort: Cohort, with float32 per channel, and one byte for the label or, if regions overlap, for each region.
        fold: Index of the fold, or `all`.
        spacing_mm: Spacing in mm that the cases are resampled to.
        roi_size: Window size in voxels, to which training cases are padded at least.
        channels: Number of channels that are kept of a case; those of the cohort by default.
        cases: Cases of training and of validation that another program hands over, with their files; None for the fold.
    """
    a_voxel = 4 * (channels or cohort.channels) + (len(cohort.labels.names) if cohort.labels.overlap else 1)
    sizes_mm = _sizes_mm(cohort, fold) if cases is None else [_sizes_of_files(items) for items in cases]
    voxels = 0
    for side, least in zip(sizes_mm, (roi_size, (1, 1, 1)), strict=True):
        for size_mm in side:
            shape = (max(round(mm / to), n) for mm, to, n in zip(size_mm, spacing_mm, least, strict=True))
            voxels += math.prod(shape)
    return voxels * a_voxel + len(sizes_mm[0]) * cohort.labels.channels * _BYTES_A_POSITION


def _sizes_mm(cohort: Cohort, fold: int | str) -> list[list[Sequence[float]]]:
    """The size in mm along X, Y, Z of each case, by side of the fold."""
    sides = cohort.fold(fold)
    rows = [[cohort.rows[key] for key in keys] for keys in (sides.training, sides.validation)]
    return [
        [row.along_ras([n * mm for n, mm in zip(row.shape, row.spacing_mm, strict=True)]) for row in side]
        for side in rows
    ]


def _sizes_of_files(items: Sequence[Mapping[str, Any]]) -> list[Sequence[float]]:
    """The same of cases with their files, from the header of the first."""
    sizes: list[Sequence[float]] = []
    for item in items:
        given = item["image"]
        shape, affine_ras = read_grid(given if isinstance(given, (str, Path)) else given[0])
        sizes.append([float(mm) for mm in np.abs(affine_ras[:3, :3]) @ np.asarray(shape)])
    return sizes


def choose_cache(
    cache: str,
    cohort: Cohort,
    *,
    fold: int | str,
    spacing_mm: Sequence[float],
    roi_size: Sequence[int],
    channels: int | None = None,
    cases: Sequence[Sequence[Mapping[str, Any]]] | None = None,
    tell: bool = True,
) -> str:
    """Choose `memory` or `disk`; `auto` takes memory if both sides of the fold fit into 70 % of what is free.

    Each process of a training on several GPUs of one machine keeps cases of its own in memory; files are shared.

    Args:
        cache: `auto`, `memory` or `disk`.
        cohort: Cohort, see `cache_bytes`.
        fold: Index of the fold, or `all`.
        spacing_mm: Spacing in mm of the network's grid.
        roi_size: Window size in voxels.
        channels: Number of channels that are kept of a case; those of the cohort by default.
        cases: Cases of both sides with their files, see `cache_bytes`.
        tell: Whether the choice of `auto` and its reason are logged.

    Raises:
        UsageError: `cache` is another word.
    """
    check_cache(cache)
    if cache != "auto":
        return cache
    sizes: dict[str, Any] = {"spacing_mm": spacing_mm, "roi_size": roi_size, "channels": channels, "cases": cases}
    grid_bytes = cache_bytes(cohort, fold=fold, **sizes)
    needed = grid_bytes * processes_here()
    available = available_bytes()
    chosen = "memory" if available is None or needed <= _CACHE_SHARE * available else "disk"
    if tell:
        logger.info(
            "preprocessed cases are kept %s: they take %.2f GiB, and %s GiB of memory are free",
            *("in memory" if chosen == "memory" else "on disk", needed / GIB),
            "?" if available is None else f"{available / GIB:.1f}",
        )
    return chosen


def check_cache(cache: object) -> None:
    """Refuse a word that names no form of the cache.

    >>> check_cache("ram")
    Traceback (most recent call last):
    volseg.errors.UsageError: --cache must be auto, memory or disk, got 'ram'
    """
    if cache not in ("auto", "memory", "disk"):
        raise UsageError(f"--cache must be auto, memory or disk, got {cache!r}")


def check_memory(needed: int, available: int | None) -> None:
    """Refuse to keep cases in memory if they do not fit.

    >>> check_memory(2 * 2**30, 1 * 2**30)
    Traceback (most recent call last):
    volseg.errors.UsageError: --cache memory needs 2.0 GiB and 1.0 GiB are free; use --cache disk
    """
    if available is not None and needed > 0.9 * available:
        raise UsageError(
            f"--cache memory needs {needed / GIB:.1f} GiB and {available / GIB:.1f} GiB are free; use --cache disk"
        )


def check_disk(folder: str | Path, needed: int, *, what: str, setting: str) -> None:
    """Refuse a folder on a disk that is too full.

    Args:
        folder: Folder, which may not exist yet.
        needed: Bytes that will be written.
        what: Name of what is written, for the message.
        setting: Option that names the folder, for the message.

    Raises:
        UsageError: Too little is free, or the folder cannot be created or written.

    >>> check_disk("/nowhere/at/all", 2**60, what="a test", setting="--output_dir")
    Traceback (most recent call last):
    volseg.errors.UsageError: a test needs 1073741824.0 GiB in /nowhere/at/all and ...
    """
    place = Path(folder).expanduser().absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise UsageError(f"{folder} cannot be written ({place} refuses); name another folder with {setting}")
    free = shutil.disk_usage(place).free
    if needed > free:
        raise UsageError(
            f"{what} needs {needed / GIB:.1f} GiB in {folder} and {free / GIB:.1f} GiB are free; "
            f"free some space, or name another folder with {setting}"
        )


def check_shared_memory(needed: int) -> None:
    """Refuse loader processes whose batches do not fit into shared memory, since a bus error would end them.

    Raises:
        UsageError: /dev/shm is smaller, as in a container started without `--shm-size`.
    """
    place = Path("/dev/shm")
    if place.is_dir() and needed > shutil.disk_usage(place).free:
        raise UsageError(
            f"the batches of the loader's processes need {needed / GIB:.2f} GiB in /dev/shm and "
            f"{shutil.disk_usage(place).free / GIB:.2f} GiB are free; start the container with a larger --shm-size, "
            "or give fewer --loader_workers"
        )


def loader_workers(*, gpu: bool) -> int:
    """Number of processes that augment while the network computes: none on a CPU, whose cores they would take away.

    On a GPU there are as many as there are cores per training process of this machine, less one, and at most 8.

    >>> loader_workers(gpu=False)
    0
    """
    return min(_MOST_WORKERS, max(1, usable_cores() // processes_here() - 1)) if gpu else 0


def processes_here() -> int:
    """Number of processes of this training on this machine, as torchrun says; else 1."""
    word = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return max(1, int(word)) if word.isdigit() else 1
