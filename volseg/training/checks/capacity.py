"""What this machine has for a training: memory, disk and cores, and what the training needs of them."""

from __future__ import annotations

import logging
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from volseg.cohort import Cohort
from volseg.errors import UsageError
from volseg.inference import available_bytes

logger = logging.getLogger("volseg.training")

GIB = 2**30
_BYTES_A_POSITION = 8 * 20_000  # the positions kept of each class, see volseg.transforms.pipelines
_CACHE_SHARE = 0.7  # of the free memory: the network and the preprocessing need some too
_MOST_WORKERS = 8


def cache_bytes(cohort: Cohort, *, fold: int, spacing_mm: Sequence[float], roi_size: Sequence[int]) -> int:
    """What the preprocessed cases of both sides of a fold take, from the sizes in cases.csv alone.

    Args:
        cohort: the cases: float32 a channel, and a byte for the label or, where they overlap, a region.
        fold: its number.
        spacing_mm: grid that they are resampled to.
        roi_size: training cases are padded to at least this.
    """
    sides = cohort.fold(fold)
    a_voxel = 4 * cohort.channels + (len(cohort.labels.names) if cohort.labels.overlap else 1)
    voxels = 0
    for keys, least in ((sides.training, roi_size), (sides.validation, (1, 1, 1))):
        for key in keys:
            row = cohort.rows[key]
            sizes_mm = row.along_ras([n * mm for n, mm in zip(row.shape, row.spacing_mm, strict=True)])
            shape = (max(round(mm / to), n) for mm, to, n in zip(sizes_mm, spacing_mm, least, strict=True))
            voxels += math.prod(shape)
    return voxels * a_voxel + len(sides.training) * cohort.labels.channels * _BYTES_A_POSITION


def choose_cache(
    cache: str, cohort: Cohort, *, fold: int, spacing_mm: Sequence[float], roi_size: Sequence[int], tell: bool = True
) -> str:
    """`memory` or `disk` as given; for `auto`, memory where both sides of the fold fit into 70 % of what is free.

    Each process of a training on several GPUs of one machine keeps cases of its own in memory; files are shared.

    Args:
        cache: `auto`, `memory` or `disk`.
        cohort: as in `cache_bytes`, and so are
        fold: the number,
        spacing_mm: the grid, and
        roi_size: the window.
        tell: log what `auto` chose, and why.

    Raises:
        UsageError: another word.
    """
    check_cache(cache)
    if cache != "auto":
        return cache
    needed = cache_bytes(cohort, fold=fold, spacing_mm=spacing_mm, roi_size=roi_size) * processes_here()
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
    """Refuse a word that is no place for the preprocessed cases.

    >>> check_cache("ram")
    Traceback (most recent call last):
    volseg.errors.UsageError: --cache is 'ram', expected auto, memory or disk
    """
    if cache not in ("auto", "memory", "disk"):
        raise UsageError(f"--cache is {cache!r}, expected auto, memory or disk")


def check_memory(needed: int, available: int | None) -> None:
    """Refuse to keep cases in memory that do not fit.

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
        folder: it may be absent yet.
        needed: bytes that will be written.
        what: is written, for the message.
        setting: that names the folder.

    Raises:
        UsageError: less is free, or the folder cannot be made or written.

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
    """Refuse loader processes whose batches do not fit into shared memory, where they would die of a bus error.

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
    """Processes that augment while the network computes: none on a CPU, which they would only share.

    On a GPU as many as there are cores for each training process of this machine, less one, and at most 8.

    >>> loader_workers(gpu=False)
    0
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(_MOST_WORKERS, max(1, cores // processes_here() - 1)) if gpu else 0


def processes_here() -> int:
    """The processes of this training on this machine, as torchrun says; else 1."""
    word = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return max(1, int(word)) if word.isdigit() else 1
