"""Two measured steps of training, with a small window and a large one: what a step costs on this machine."""

from __future__ import annotations

import ctypes
import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from volseg.errors import root_error
from volseg.plan import StepCost
from volseg.training.losses import DeepSupervision
from volseg.transforms import noise_case

logger = logging.getLogger("volseg.training")


def measure_step(parser_of: Callable[..., Any], *, roi_sizes: tuple[Sequence[int], Sequence[int]]) -> StepCost:
    """Make one step of training with each of two windows, after one that is not counted, on images of noise.

    Network, loss, optimizer, precision and augmentation are those of the bundle; no image of the cohort is read. The
    memory is what a step adds to that of the process, or of PyTorch on a GPU.

    Args:
        parser_of: Function from settings to a parser of the bundle's train.json with them.
        roi_sizes: Window sizes in voxels, the smaller first.

    Raises:
        VolsegError: The network cannot be built or run with a window.
    """
    seconds, taken, voxels = [], [], []
    windows, forward_s = 1, 0.0
    for roi_size in roi_sizes:
        parser = parser_of(roi_size=list(roi_size))
        try:
            windows, step_s, step_bytes, forward_s = _trial(parser, roi_size)
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise root_error(error) from error
        seconds.append(step_s)
        taken.append(step_bytes)
        voxels.append(math.prod(roi_size))
    known = [one for one in taken if one is not None]
    step = (known[0], max(known)) if len(known) == len(taken) else None
    return StepCost((voxels[0], voxels[1]), windows, (seconds[0], seconds[1]), step, forward_s)


def _trial(parser: Any, roi_size: Sequence[int]) -> tuple[int, float, int | None, float]:  # noqa: ANN401 - MONAI's ConfigParser
    """Windows of a step, its seconds and bytes, and the seconds of one window through the network."""
    value = parser.get_parsed_content
    device = torch.device(value("device"))
    cohort, batch = value("cohort"), value("batch_size")
    crops = value("crops_per_case")
    network = value("network").train()
    inferer, loss = value("train#inferer"), DeepSupervision(value("loss"))
    optimizer = value("optimizer")
    shape = [round(1.2 * n) + 1 if n > 1 else 1 for n in roi_size]
    item = noise_case(value("labels"), channels=cohort.channels, shape=shape, generator=np.random.default_rng(0))
    augment = value("train#augmentation")

    def make_step() -> None:
        drawn = [one for _ in range(batch) for one in augment(dict(item))]
        image, label = (
            torch.stack([torch.as_tensor(one[key]) for one in drawn]).to(device) for key in ("image", "label")
        )
        optimizer.zero_grad(set_to_none=True)
        found: Tensor = loss(inferer(image, network), label)
        found.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    meter = _MemoryMeter(device)
    make_step()
    began = time.perf_counter()
    make_step()
    step_s = time.perf_counter() - began
    taken = meter.taken()
    network.eval()
    window = torch.zeros(1, cohort.channels, *roi_size, device=device)
    with torch.no_grad():
        began = time.perf_counter()
        inferer(window, network)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return batch * crops, step_s, taken, time.perf_counter() - began


class _MemoryMeter:
    """Peak memory since it was made: of PyTorch on a GPU, else of the process, as Linux counts it."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self.before = torch.cuda.memory_allocated(device)
            return
        _trim()
        self.known = _reset_peak()
        self.before = _status("VmRSS:") or 0

    def taken(self) -> int | None:
        """The bytes; None if the system does not say."""
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.device)) - self.before
        peak = _status("VmHWM:")
        return max(0, peak - self.before) if self.known and peak is not None else None


def _trim() -> None:
    """Give freed memory back to the system, where glibc holds some: what was freed before must not hide a peak."""
    try:
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    except (OSError, TypeError):  # Windows has no library of the process itself
        return
    if trim is not None:
        trim(0)


def _reset_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _status(name: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), None)
