"""Checks of the words that name an engine, a precision and a device, without PyTorch."""

from __future__ import annotations

import re

from volseg.errors import UsageError
from volseg.inference.arrays.predictor import gpu_may_be_there
from volseg.inference.engines import ENGINES, check_precision, installed

_ON_CPU = ("compiled", "openvino")


def check_words(*, engine: str = "auto", precision: str = "auto", device: str | None = None) -> None:
    """Refuse an engine, precision or device that cannot be, as far as words and files of the system tell.

    Raises:
        UsageError: There is no such engine or device, or they do not go together.
        VolsegError: There is no such precision.

    >>> check_words(engine="torch", precision="bf16", device="cpu")
    """
    if engine not in ENGINES:
        raise UsageError(f"--engine must be one of {', '.join(ENGINES)}, got {engine}")
    check_precision(precision)
    if engine == "openvino" and not installed():
        raise UsageError("--engine openvino needs the package: pip install 'volseg[openvino]', or use --engine torch")
    if device is None:
        return
    if not re.fullmatch(r"[a-z]+(:\d+)?", device):
        raise UsageError(f"--device {device} is no device; use cpu, cuda or cuda:1")
    if device.startswith("cuda") and not gpu_may_be_there():
        raise UsageError(f"--device {device} was asked for and PyTorch finds 0 CUDA devices; use --device cpu")
    if engine in _ON_CPU and not device.startswith("cpu"):
        raise UsageError(f"--engine {engine} runs on the CPU, not on {device}; add --device cpu")
