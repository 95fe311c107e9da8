"""OpenVINO in this process, without PyTorch: whether it is there, and its one `Core`."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any

ENGINES = ("auto", "torch", "compiled", "openvino")
EXPORTED = Path("models", "model.xml")  # the network for OpenVINO, in a packed bundle
EXPORTED_INT8 = Path("models", "model_int8.xml")  # the same with 8-bit layers
PRECISIONS = ("auto", "fp32", "bf16", "int8")


@functools.cache
def openvino_core() -> Any:  # noqa: ANN401 - openvino.Core
    """OpenVINO's `Core`, one for the life of the process.

    Its CPU plugin gives the thread an alternate signal stack and frees that when the last `Core` ends. With a second
    `Core` made in between, the thread is left with a stack that is gone, and the next signal whose handler wants one
    (SIGCHLD after a DataLoader with workers) ends the process with a segmentation fault.
    """
    import openvino

    return openvino.Core()


def installed() -> bool:
    """Whether OpenVINO can be imported."""
    return importlib.util.find_spec("openvino") is not None
