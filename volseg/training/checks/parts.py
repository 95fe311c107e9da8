"""The parts of a training that cost nothing to build, built before any case is read: a wrong setting of one shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from volseg.errors import BundleError, UsageError, VolsegError, root_error
from volseg.training.handlers import check_resume
from volseg.training.sampling import check_seed

_WITH_DATA = ("train", "validate")  # ids whose parts preprocess all cases
_ITERATIONS = 1000  # of the trial of a schedule; the true number is known once there is a data set


def check_grid(value: Callable[[str], Any], config: Mapping[str, Any]) -> None:
    """Refuse a spacing that is no three sizes, and a budget of voxels that is no number.

    Args:
        value: Function from the id of a setting to its value.
        config: Content of train.json.

    Raises:
        UsageError: It is one of these.
    """
    spacing_mm = value("spacing_mm")
    if not isinstance(spacing_mm, (list, tuple)) or len(spacing_mm) != 3 or not all(map(_is_size, spacing_mm)):
        raise UsageError(f"--spacing_mm must be three sizes in mm above 0, such as [1.5,1.5,3], got {spacing_mm!r}")
    if "roi_voxels" in config and not _is_size(voxels := value("roi_voxels")):
        raise UsageError(f"--roi_voxels must be a number of voxels above 0, such as 131072, got {voxels!r}")


def check_parts(value: Callable[[str], Any], config: Mapping[str, Any], network: nn.Module) -> None:
    """Check seed and resume, and build loss, augmentation, optimizer and schedule once.

    Args:
        value: Function from the id of a part to what is built of it.
        config: Content of train.json.
        network: Network whose parameters the optimizer takes; it is not changed.

    Raises:
        VolsegError: A part refuses its settings.
    """
    from monai.bundle import ConfigParser

    for name, check in (("seed", check_seed), ("resume", check_resume)):
        if name in config:
            check(value(name))
    if "loss" in config:
        value("loss")
    if "augmentation" in config.get("train", {}):
        value("train#augmentation")
    given = {"network": network, "iterations": _ITERATIONS, "learning_rate": value("learning_rate")}
    trial = ConfigParser({name: part for name, part in {**config, **given}.items() if name not in _WITH_DATA})
    for name in ("optimizer", "lr_scheduler"):
        if name not in config:
            continue
        try:
            trial.get_parsed_content(name)
        except (RuntimeError, ValueError, KeyError, TypeError, ArithmeticError) as error:
            if _asks_for_data(error):
                continue
            found = root_error(error)
            raise found if type(found) is not VolsegError else BundleError(f"{name}: {found}") from error


def _asks_for_data(error: BaseException | None) -> bool:
    """Whether a part refers to what is left out of the trial, such as the number of batches of the data loader."""
    while error is not None:
        if any(f"`@{name}" in str(error) for name in _WITH_DATA):
            return True
        error = error.__cause__ or error.__context__
    return False


def _is_size(number: object) -> bool:
    return isinstance(number, (int, float)) and not isinstance(number, bool) and 0 < number < math.inf
