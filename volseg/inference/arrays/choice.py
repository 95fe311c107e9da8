"""Whether the networks that a user named can be predicted by arrays: one of volseg's own bundles, on a CPU."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from volseg.bundle import Member, check_settings
from volseg.errors import UsageError
from volseg.inference.arrays.crop_first import CropFirst, calibrated_margin_mm
from volseg.inference.arrays.packed import need_int8
from volseg.inference.arrays.predictor import ArrayPredictor
from volseg.inference.arrays.settings import own_settings
from volseg.inference.engines import PRECISIONS
from volseg.labels import Cleanup

_MANY = 8  # as volseg.transforms: channels of a softmax above which they are decided one by one


def array_predictor(
    members: Sequence[Member],
    *,
    device: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    memory: int | None = None,
    crop_first: bool = False,
) -> ArrayPredictor | None:
    """The predictor of one network of volseg's own bundles on a CPU; None if MONAI's steps or a GPU are needed.

    Args:
        members: Networks.
        device: Device that was asked for; None for the best.
        overrides: Settings of the bundle and their values.
        memory: Bytes that the process may take; None for what is free.
        crop_first: Whether a coarse pass tells where to look.

    Raises:
        BundleError: There is no such bundle.
        CheckpointError: The checkpoint is absent, damaged, or of another network.
        UsageError: A setting is wrong.
    """
    if len(members) != 1 or not (device == "cpu" or (device is None and not gpu_may_be_there())):
        return None
    bundle, checkpoint = members[0]
    settings = own_settings(bundle, checkpoint=checkpoint, overrides=overrides)
    if settings is None:
        return None
    recipe = settings.recipe
    check_settings(settings.folder, recipe, checkpoint=settings.checkpoint)
    Cleanup(**settings.cleanup).check(recipe.labels)
    if (
        recipe.labels.activation == "softmax"
        and recipe.labels.channels > _MANY
        and (settings.cleanup or settings.decision != "threshold")
        and not settings.save_probabilities
    ):
        return None  # they are decided channel by channel there
    if settings.precision not in PRECISIONS:
        raise UsageError(f"precision must be {', '.join(PRECISIONS[:-1])} or int8, got {settings.precision!r}")
    if settings.precision == "int8":
        need_int8(settings)
    if not crop_first:
        return ArrayPredictor(settings, memory)
    found = CropFirst(recipe, calibrated_margin_mm(settings.checkpoint), settings.overlap, settings.skip_empty)
    return ArrayPredictor(settings, memory, crop_first=found)


def gpu_may_be_there() -> bool:
    """Whether PyTorch may find a GPU, without asking it."""
    if "torch" in sys.modules:
        return bool(sys.modules["torch"].cuda.is_available())
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        return False
    return any(Path(name).exists() for name in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")) or sys.platform == "win32"
