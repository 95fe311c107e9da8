"""Checks of the words that name an engine, a precision and a device, without PyTorch."""

from __future__ import annotations

import re

from volseg.errors import UsageError
from volseg.inference.arrays.choice import gpu_may_be_there
from volseg.inference.engines import ENGINES, PRECISIONS, installed

_ON_CPU = ("compiled", "openvino")


def check_words(*, engine: str = "auto", precision: str = "auto", device: str | None = None) -> None:
    """Refuse an engine, precision or device that cannot be, as far as words and files of the system tell.

    Raises:
        UsageError: There is no such engine, precision or device, or they do not go together.

    >>> check_words(engine="torch", precision="bf16", device="cpu")
    """
    if engine not in ENGINES:
        raise UsageError(f"--engine must be one of {', '.join(ENGINES)}, got {engine}")
    if precision not in PRECISIONS:
        raise UsageError(f"--precision must be {', '.join(PRECISIONS[:-1])} or int8, got {precision}")
    if precision == "int8" and engine in ("torch", "compiled"):
        raise UsageError(
            f"--precision int8 is that of a package with OpenVINO, not of --engine {engine}; use --engine openvino, or "
            "--precision bf16"
        )
    if precision == "int8" and device is not None and not device.startswith("cpu"):
        raise UsageError(f"--precision int8 runs on the CPU, not on {device}; add --device cpu, or use bf16")
    if (engine == "openvino" or precision == "int8") and not installed():
        named = "--engine openvino" if engine == "openvino" else "--precision int8"
        raise UsageError(f"{named} needs the package: pip install 'volseg[openvino]', or use --engine torch")
    if device is None:
        return
    if not re.fullmatch(r"[a-z]+(:\d+)?", device):
        raise UsageError(f"--device {device} is no device; use cpu, cuda or cuda:1")
    if device.startswith("cuda") and not gpu_may_be_there():
        raise UsageError(f"--device {device} was asked for and PyTorch finds 0 CUDA devices; use --device cpu")
    if engine in _ON_CPU and not device.startswith("cpu"):
        raise UsageError(f"--engine {engine} runs on the CPU, not on {device}; add --device cpu")
