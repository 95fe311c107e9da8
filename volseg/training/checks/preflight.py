"""The checks before a training starts, so that a mistake costs a line and not an hour."""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from volseg.cohort import ALL, Cohort, Fold
from volseg.errors import BundleError, UsageError, VolsegError, root_error
from volseg.inference import MixedPrecision, available_bytes, check_device
from volseg.plan import axis_divisors, check_roi, fit_spacing
from volseg.report import running_process
from volseg.training.cache import size_bytes
from volseg.training.checks.capacity import (
    GIB,
    cache_bytes,
    check_disk,
    check_memory,
    check_shared_memory,
    choose_cache,
    processes_here,
)
from volseg.training.checks.cases import check_cases
from volseg.training.checks.parts import check_grid, check_parts
from volseg.training.handlers import Average, GradientClipping, check_minutes, check_tracker
from volseg.training.start import start_from
from volseg.training.window_trial import try_window

logger = logging.getLogger(__name__)

_RATE = 10  # no optimizer here learns with a larger learning rate
_BATCHES_A_WORKER = 2  # that torch's DataLoader prepares ahead
# last.pt holds weights, averaged weights and Adam's two moments; it exists twice while it is written.
_LAST = 4
_ABSENT = object()


def check_slices(cohort: Cohort, *, divisor: int | Sequence[int]) -> None:
    """Refuse to train a network on cases of one slice, of which it would need many copies.

    Args:
        cohort: Cohort of the cases.
        divisor: Number of which each axis must be a multiple, or one number per axis.

    Raises:
        BundleError: Each case is one voxel along an axis that the network halves.
    """
    shapes = [row.along_ras(row.shape) for row in cohort.rows.values()]
    thin = [name for name, along in zip("XYZ", zip(*shapes, strict=True), strict=True) if all(n == 1 for n in along)]
    if len(thin) > 1:
        raise BundleError(
            f"the cases of {cohort.folder} are one voxel along {' and '.join(thin)}: lines, and networks here take "
            "slices and volumes; look whether the axes of the files are right"
        )
    for name, step, along in zip("XYZ", axis_divisors(divisor), zip(*shapes, strict=True), strict=True):
        if step > 1 and all(n == 1 for n in along):
            raise BundleError(
                f"the cases of {cohort.folder} are one slice, and this network needs a multiple of {step} voxels along "
                f"{name}; train one that takes single slices, such as the U-Net or Segformer"
            )


def preflight(parser: Any, *, dry: bool = False) -> None:  # noqa: ANN401 - MONAI's ConfigParser
    """Check a bundle's parsed train.json against its cohort and this machine before a training.

    The checks are of numbers, device, fold, labels and channels, window, memory and disk, and of labels and images of
    the fold that make success impossible; those that make it doubtful are logged as warnings.

    Args:
        parser: Parser of the bundle's train.json.
        dry: Whether nothing is trained, so that more labels and images of a large cohort are checked.

    Raises:
        VolsegError: The training cannot work; the message names the first reason and its cure.
    """

    def value(name: str) -> Any:  # noqa: ANN401
        try:
            return parser.get_parsed_content(name)
        except (RuntimeError, ValueError, KeyError, TypeError, OSError) as error:
            found = root_error(error)
            raise found if type(found) is not VolsegError else BundleError(f"{name}: {found}") from error

    if (pid := running_process(value("output_dir"))) not in (None, os.getpid()):
        raise UsageError(
            f"{value('output_dir')} is being written by a training that runs, process {pid} of this host; stop it, or "
            "name another --output_dir"
        )
    check_device(value("device"))  # first: other settings follow from it
    leasts = {"max_epochs": 1, "batch_size": 1, "crops_per_case": 1, "val_interval": 1, "loader_workers": 0}
    leasts |= {"accumulate": 1, "patience": 0, "keep": 1}
    leasts |= {"validation_handler#interval": 1, "progress_handler#interval": 1}
    for name, least in leasts.items():
        if parser.get(name, _ABSENT) is _ABSENT:
            continue
        number = value(name)
        if isinstance(number, bool) or not isinstance(number, int) or number < least:
            raise UsageError(f"--{name} must be a whole number of at least {least}, got {number!r}")
    if "max_minutes" in parser.get():
        check_minutes(value("max_minutes"))
    if "tracker" in parser.get():
        check_tracker(value("tracker"))
    rate = value("learning_rate")
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate < _RATE:
        raise UsageError(f"--learning_rate must be a number above 0 and below {_RATE}, such as 0.001, got {rate!r}")
    inferer = value("train#inferer")  # knows the precisions
    half = False
    if isinstance(inferer, MixedPrecision):
        inferer.check_training(torch.device(value("device")))
        half = inferer.bf16(torch.device(value("device")))
    if "clip_norm" in parser.get():
        GradientClipping(clip_norm=value("clip_norm"))  # knows what it takes
    if "ema_decay" in parser.get():
        Average(nn.Identity(), decay=value("ema_decay"))
    cohort: Cohort = value("cohort")
    fold = cohort.fold(value("fold"))
    if value("fold") == ALL:
        _check_all(cohort, fold, patience=value("patience") if "patience" in parser.get() else 0)
    elif not fold.training or not fold.validation:
        raise UsageError(f"fold {value('fold')} has an empty side; split again with `volseg split {cohort.folder}`")
    check_grid(value, parser.get())
    check_slices(cohort, divisor=value("roi_divisor"))
    roi = check_roi(value("roi_size"), divisor=value("roi_divisor"))
    parameter_bytes = _check_network(parser, value, cohort, roi)
    check_parts(value, parser.get(), value("network_def"))
    checkpoints = value("keep") if "keep" in parser.get() else 1
    channels = value("priors").cached_channels if "priors" in parser.get() else None
    inputs = len(_channel_names(parser, value, cohort))
    saved_bytes = parameter_bytes * (2 * _LAST + checkpoints + 1)
    needed, kept = _check_space(value, cohort, roi, saved_bytes, channels=channels, inputs=inputs)
    logger.info(
        "cohort %s: %d training and %d validation cases; regions %s; grid %s mm; window %s; "
        "preprocessed %.2f GiB (%s); device %s",
        *(cohort.folder, len(fold.training), len(fold.validation), ", ".join(cohort.labels.names)),
        *("x".join(f"{mm:g}" for mm in value("spacing_mm")), "x".join(map(str, roi)), needed / GIB, kept),
        f"{value('device')}{', bfloat16' if half else ''}",
    )
    if cohort.flat:
        _tell_coarser(cohort, value("spacing_mm"), roi)
    for warning in check_cases(
        cohort,
        fold=value("fold"),
        spacing_mm=value("spacing_mm"),
        batch_size=value("batch_size"),
        preprocessing=value("validate#preprocessing"),
        dry=dry,
    ):
        logger.warning("warning: %s", warning)


def _check_all(cohort: Cohort, fold: Fold, *, patience: int) -> None:
    """Check a training on every case, which validates nothing, and report the cases that it leaves out."""
    if not fold.training:
        raise UsageError(f"{cohort.folder} has no case to train on: each is suspect or kept for a test")
    if patience:
        raise UsageError(
            f"--patience counts validations, and --fold {ALL} has none; give --max_epochs or --max_minutes"
        )
    logger.info(
        "--fold %s trains on every case: no Dice is measured, and model.pt is the network of the last step", ALL
    )
    if left := sorted(cohort.labelled.difference(fold.training)):
        logger.warning(
            "warning: %d labelled cases are in no fold and are not trained on (%s)",
            *(len(left), ", ".join(left[:3]) + (", ..." if len(left) > 3 else "")),
        )


def _tell_coarser(cohort: Cohort, spacing_mm: Sequence[float], roi: Sequence[int]) -> None:
    """Report the axes along which the network works at less than the images' resolution."""
    native = fit_spacing(cohort, voxels=sys.maxsize)
    factor = max(to / mm for to, mm in zip(spacing_mm, native, strict=True))
    if factor > 1.01:
        logger.info(
            "images are worked on %.2f times coarser than they are, so that a window of %s shows more of them; "
            "predictions have their full size; --spacing_mm [%s] keeps the resolution",
            *(factor, "x".join(map(str, roi)), ",".join(f"{mm:g}" for mm in native)),
        )


def _check_network(parser: Any, value: Callable[[str], Any], cohort: Cohort, roi: Sequence[int]) -> int:  # noqa: ANN401
    """Build the network and try a window on it; returns the bytes of its parameters."""
    definition = parser["network_def"]
    arguments = definition if isinstance(definition, Mapping) else {}
    outputs = value("network_def#out_channels") if "out_channels" in arguments else cohort.labels.channels
    names = _channel_names(parser, value, cohort)
    inputs = value("network_def#in_channels") if "in_channels" in arguments else len(names)
    if outputs != cohort.labels.channels:
        raise BundleError(
            f"the network has {outputs} output channels, the cohort's labels need {cohort.labels.channels}: "
            f"{', '.join(cohort.labels.channel_names)}"
        )
    if inputs != len(names):
        raise BundleError(f"the network has {inputs} input channels, the cohort has {len(names)}: {tuple(names)}")
    network = value("network_def")
    if "started" in parser.get():
        start_from(network, value("weights"), labels=cohort.labels, channel_names=names, tell=False)
    found = try_window(network, channels=len(names), roi_size=roi)
    expected = (1, cohort.labels.channels, *roi)
    if found is not None and found.shape != expected:
        raise BundleError(f"the network gives logits of shape {found.shape} for a window, expected {expected}")
    return sum(parameter.nbytes for parameter in network.parameters())


def _channel_names(parser: Any, value: Callable[[str], Any], cohort: Cohort) -> Sequence[str]:  # noqa: ANN401
    """The channels that the network sees: those of the image, and those of a prior."""
    return value("input_channels") if "input_channels" in parser.get() else cohort.channel_names


def _check_space(
    value: Callable[[str], Any],
    cohort: Cohort,
    roi: Sequence[int],
    checkpoint_bytes: int,
    *,
    channels: int | None,
    inputs: int,
) -> tuple[int, str]:
    """Check memory and disk; returns the bytes of the preprocessed cases and where they are kept.

    `channels` are kept of a case, and `inputs` go with each window to the network.
    """
    grid = {"fold": value("fold"), "spacing_mm": list(value("spacing_mm")), "roi_size": roi, "channels": channels}
    kept = choose_cache(value("cache"), cohort, **grid, tell=False)
    needed = cache_bytes(cohort, **grid)
    if kept == "disk":
        folder = Path(value("cache_dir")).expanduser()
        there = size_bytes(folder)  # some of it may be of these very cases
        check_disk(folder, needed - there, what="keeping preprocessed cases", setting="--cache_dir")
    else:
        check_memory(needed * processes_here(), available_bytes())
    if value("loader_workers"):
        masks = len(cohort.labels.names) if cohort.labels.overlap else 1
        windows = value("batch_size") * value("crops_per_case")
        batch_bytes = windows * math.prod(roi) * 4 * (inputs + masks)
        ahead = _BATCHES_A_WORKER * value("loader_workers") + 1
        check_shared_memory(batch_bytes * ahead * processes_here())
    check_disk(value("output_dir"), checkpoint_bytes, what="saving checkpoints", setting="--output_dir")
    return needed, kept
