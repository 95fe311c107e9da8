"""What is checked before a training starts, so that a mistake costs a line and not an hour."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from volseg.bundle import axis_divisors, grow_roi
from volseg.cohort import Cohort
from volseg.errors import BundleError, UsageError, VolsegError

logger = logging.getLogger(__name__)

_GIB = 2**30
_BYTES_A_POSITION = 8 * 20_000  # the positions kept of each class, see volseg.transforms


def check_roi(roi_size: object, *, divisor: int | Sequence[int]) -> list[int]:
    """Return the window if it is on the network's grid.

    Args:
        roi_size: voxels along X, Y, Z.
        divisor: what each axis must be a multiple of, one number or one an axis; as in `volseg.bundle.fit_roi`.

    Raises:
        BundleError: with the nearest window that works.

    >>> check_roi([96, 96, 64], divisor=32), check_roi([256, 256, 1], divisor=[32, 32, 1])
    ([96, 96, 64], [256, 256, 1])
    """
    divisors = axis_divisors(divisor)
    if (
        not isinstance(roi_size, (list, tuple))
        or len(roi_size) != 3
        or not all(isinstance(n, int) and n > 0 for n in roi_size)
    ):
        example = ",".join(str(2 * step) for step in divisors)
        raise BundleError(f"roi_size is {roi_size!r}, expected three whole numbers such as [{example}]")
    nearest = [max(1, round(n / step)) * step for n, step in zip(roi_size, divisors, strict=True)]
    nearest = grow_roi(nearest, divisors, shape=roi_size)
    if list(roi_size) != nearest:
        reason = f"its axes must be multiples of {divisors}, one of them at least twice"
        shown = str(nearest).replace(" ", "")
        raise BundleError(f"the network cannot take roi_size {list(roi_size)}: {reason}; try --roi_size {shown}")
    return list(roi_size)


def cache_bytes(cohort: Cohort, *, fold: int, spacing_mm: list[float]) -> int:
    """The memory that CacheDataset will hold for both sides of a fold, from the sizes in cases.csv alone."""
    total = 0.0
    sides = cohort.fold(fold)
    a_voxel = 4 * cohort.channels + (len(cohort.labels.names) if cohort.labels.overlap else 1)
    for key in (*sides.training, *sides.validation):
        row = cohort.rows[key]
        total += math.prod(row.shape) * math.prod(row.spacing_mm) / math.prod(spacing_mm) * a_voxel
    return round(total) + len(sides.training) * cohort.labels.channels * _BYTES_A_POSITION


def available_bytes() -> int | None:
    """Memory that can be had without swapping, or None where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def check_memory(needed: int, available: int | None) -> None:
    """Refuse a cache that does not fit, with the share that would.

    >>> check_memory(2 * 2**30, 1 * 2**30)
    Traceback (most recent call last):
    volseg.errors.UsageError: caching needs 2.0 GiB and 1.0 GiB are free; keep a part: --train#dataset#cache_rate 0.4
    """
    if available is not None and needed > 0.9 * available:
        rate = math.floor(8 * available / needed) / 10
        raise UsageError(
            f"caching needs {needed / _GIB:.1f} GiB and {available / _GIB:.1f} GiB are free; "
            f"keep a part: --train#dataset#cache_rate {rate:g}"
        )


def preflight(parser: Any) -> None:  # noqa: ANN401 - MONAI's ConfigParser
    """Check a bundle's parsed train.json against its cohort: fold, labels, channels, window, memory and numbers.

    Raises:
        VolsegError: the first thing that cannot work, in a sentence with its cure.
    """
    from volseg.inference import check_device, root_error

    def value(name: str) -> Any:  # noqa: ANN401
        try:
            return parser.get_parsed_content(name)
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            found = root_error(error)
            raise found if type(found) is not VolsegError else BundleError(f"{name}: {found}") from error

    check_device(value("device"))  # first: other settings follow from it
    for name, least in (("max_epochs", 1), ("batch_size", 1), ("crops_per_case", 1), ("val_interval", 1)):
        number = value(name)
        if not isinstance(number, int) or number < least:
            raise UsageError(f"--{name} is {number!r}, expected a whole number of at least {least}")
    rate = value("learning_rate")
    if not isinstance(rate, (int, float)) or not 0 < rate < 10:
        raise UsageError(f"--learning_rate is {rate!r}, expected a number above 0, such as 0.001")
    value("train#inferer")  # knows the precisions
    cohort: Cohort = value("cohort")
    fold = cohort.fold(value("fold"))
    if not fold.training or not fold.validation:
        raise UsageError(f"fold {value('fold')} has an empty side; split again with `volseg split {cohort.folder}`")
    outputs, inputs = value("network_def#out_channels"), value("network_def#in_channels")
    if outputs != cohort.labels.channels:
        raise BundleError(
            f"the network has {outputs} output channels, the cohort's labels need {cohort.labels.channels}: "
            f"{', '.join(cohort.labels.channel_names)}"
        )
    if inputs != cohort.channels:
        raise BundleError(
            f"the network has {inputs} input channels, the cohort has {cohort.channels}: {cohort.channel_names}"
        )
    roi = check_roi(value("roi_size"), divisor=value("roi_divisor"))
    spacing = list(value("spacing_mm"))
    needed = cache_bytes(cohort, fold=value("fold"), spacing_mm=spacing)
    check_memory(round(needed * parser["train#dataset"].get("cache_rate", 1.0)), available_bytes())
    logger.info(
        "cohort %s: %d training and %d validation cases; regions %s; grid %s mm; window %s; cache %.2f GiB; device %s",
        *(cohort.folder, len(fold.training), len(fold.validation), ", ".join(cohort.labels.names)),
        *("x".join(f"{mm:g}" for mm in spacing), "x".join(map(str, roi)), needed / _GIB, value("device")),
    )
