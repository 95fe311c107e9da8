"""The networks for OpenVINO in a package: which of them computes, in which precision, and by whose digests."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from volseg import bundle as bundles
from volseg.errors import UsageError
from volseg.inference.arrays.network import PackedWindows, packed_network, sha256, weights_of
from volseg.inference.arrays.settings import ArraySettings
from volseg.inference.cores import instructions
from volseg.inference.engines import EXPORTED, EXPORTED_INT8, installed

logger = logging.getLogger(__name__)

AUTO_PRECISION = "auto_precision"
"""Entry of `volseg` in a package's metadata: what `compared_precision` found."""

_ROUNDS = 3  # windows by which two precisions are compared on a processor of another kind


def packed_windows(settings: ArraySettings, *, window: Sequence[int]) -> PackedWindows | None:
    """The packed network of exactly these weights, compiled in the precision of the settings; None if there is none.

    With the precision `auto`, INT8 is taken where the package holds it and this processor computes it faster than
    bfloat16: by the seconds that `volseg pack` measured on a processor of the same instructions, else by a short trial.

    Args:
        settings: Settings of the bundle.
        window: Shape (C, X, Y, Z) of a window.

    Raises:
        UsageError: INT8 is asked for, and the package does not hold it.
    """
    packed = packed_network(settings)
    if settings.precision == "int8":
        made = PackedWindows(need_int8(settings), window=window, precision="int8")
        return _told(made, "as asked")
    if packed is None:
        return None
    quantised = int8_network(settings) if settings.precision == "auto" else None
    if quantised is None:
        precision = settings.precision
        if precision == "auto":  # as the packing found on such a processor; on another one it is found out here
            compared = _of_volseg(settings).get(AUTO_PRECISION, {})
            precision = compared["precision"] if _is_like_this(compared) else "auto"
        return _told(PackedWindows(packed, window=window, precision=precision), "as packed")
    if _is_like_this(int8_facts(settings)):  # it would not have been packed if it were not the faster one
        return _told(PackedWindows(quantised, window=window, precision="int8"), "as packed for such a processor")
    ways = [
        PackedWindows(packed, window=window, precision="auto"),
        PackedWindows(quantised, window=window, precision="int8"),
    ]
    seconds = [_seconds(way, window) for way in ways]
    faster = ways[1] if seconds[1] < seconds[0] else ways[0]
    told = " and ".join(f"{way.precision} {one * 1000:.0f} ms" for way, one in zip(ways, seconds, strict=True))
    return _told(faster, f"the faster one in a trial on this processor: {told} per window")


def int8_network(settings: ArraySettings) -> Path | None:
    """The packed network in INT8 of exactly these weights, by its digests; None if there is none."""
    path = settings.folder / EXPORTED_INT8
    if not settings.own or not path.is_file() or not installed():
        return None
    stated: Mapping[str, str] = _of_volseg(settings).get("digests", {})
    files = {
        "models/model.pt": settings.checkpoint,
        f"models/{EXPORTED_INT8.name}": path,
        f"models/{weights_of(EXPORTED_INT8).name}": weights_of(path),
    }
    for name, file in files.items():
        if not file.is_file() or stated.get(name) != sha256(file):
            logger.warning("%s is not that of this package's list, so its INT8 network is not used", name)
            return None
    return path


def need_int8(settings: ArraySettings) -> Path:
    """The packed network in INT8.

    Raises:
        UsageError: There is none of these weights.
    """
    found = int8_network(settings)
    if found is not None:
        return found
    if not settings.own:
        raise UsageError(
            f"--precision int8 is that of a package's own network, got --checkpoint {settings.checkpoint}; pack that "
            "one with `volseg pack --int8`, or use --precision bf16"
        )
    raise UsageError(
        f"--precision int8 needs a package that holds INT8 of its weights, and {settings.folder} does not; make one "
        "with `volseg pack --int8`, or use --precision bf16"
    )


def int8_facts(settings: ArraySettings) -> Mapping[str, Any]:
    """What `volseg pack --int8` measured: calibration, layers, Dice and seconds; empty if the package holds no INT8."""
    found: Mapping[str, Any] = _of_volseg(settings).get("int8", {})
    return found


def compared_precision(folder: Path, *, window: Sequence[int]) -> dict[str, Any]:
    """Find out what the precision `auto` means on this processor, for a package with an OpenVINO network.

    Args:
        folder: Folder of the package.
        window: Shape (C, X, Y, Z) of a window.

    Returns:
        `precision`, which is bf16 if the processor has it and the logits stay close to those in fp32, and the
        `instructions` of the processor.
    """
    made = PackedWindows(folder / EXPORTED, window=window, precision="auto")
    return {"precision": made.precision, "instructions": list(instructions())}


def _is_like_this(facts: Mapping[str, Any]) -> bool:
    """Whether they are of a processor with the instructions of this one."""
    stated = facts.get("instructions")
    return bool(stated) and tuple(stated or ()) == instructions()


def _of_volseg(settings: ArraySettings) -> Mapping[str, Any]:
    metadata = bundles.read_config(settings.folder, "metadata.json")
    found: Mapping[str, Any] = metadata.get("volseg", {})
    return found


def _seconds(windows: PackedWindows, window: Sequence[int]) -> float:
    """Seconds of processor time per window: the shortest of several, after a warm-up."""
    drawn = np.random.default_rng(0).standard_normal((1, *window), np.float32)
    windows(drawn)
    found = []
    for _ in range(_ROUNDS):
        start = time.process_time()
        windows(drawn)
        found.append(time.process_time() - start)
    return min(found)


def _told(windows: PackedWindows, why: str) -> PackedWindows:
    logger.info("engine: openvino %s, %s", windows.precision, why)
    return windows
