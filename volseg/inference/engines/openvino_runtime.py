"""OpenVINO in this process, without PyTorch: whether it is there, and its one `Core`."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

ENGINES = ("auto", "torch", "compiled", "openvino")
EXPORTED = Path("models", "model.xml")  # the network for OpenVINO, in a packed bundle
EXPORTED_INT8 = Path("models", "model_int8.xml")  # the same with 8-bit layers
_TOOLS = "openvino.tools.ovc"
PRECISIONS = ("auto", "fp32", "bf16", "int8")


@functools.cache
def openvino_core() -> Any:  # noqa: ANN401 - openvino.Core
    """OpenVINO's `Core`, one for the life of the process.

    Its CPU plugin gives the thread an alternate signal stack and frees that when the last `Core` ends. With a second
    `Core` made in between, the thread is left with a stack that is gone, and the next signal whose handler wants one
    (SIGCHLD after a DataLoader with workers) ends the process with a segmentation fault.
    """
    return _openvino().Core()


def _openvino() -> Any:  # noqa: ANN401 - the module
    """The package, imported without its conversion tools, which take a third of that time and are not used here.

    `openvino.convert_model` imports them when it is called. Nothing is done in a process that has loaded the package.
    """
    modules: dict[str, Any] = sys.modules
    if "openvino" in modules or _TOOLS in modules:
        return importlib.import_module("openvino")
    modules[_TOOLS] = None  # an import of it fails now, as where the tools are not installed
    try:
        package = importlib.import_module("openvino")
    finally:
        del modules[_TOOLS]

    def convert_model(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever they take and give
        """Convert a model by OpenVINO's tools."""
        return importlib.import_module(_TOOLS).convert_model(*args, **kwargs)

    if not hasattr(package, "convert_model"):
        package.convert_model = convert_model  # type: ignore[attr-defined]  # as the package would have it
    return package


def installed() -> bool:
    """Whether OpenVINO can be imported."""
    return importlib.util.find_spec("openvino") is not None
