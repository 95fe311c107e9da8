"""What a checkpoint file holds beside its tensors, read without PyTorch: in milliseconds, and running no code."""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

_REBUILT = {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"}


class _UnknownError(Exception):
    """The file names something that only PyTorch knows."""


class _WithoutTensors(pickle.Unpickler):
    """Reads plain values, and None for each tensor; nothing that the file names is imported or called."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - as pickle has it
        """A stand-in for what PyTorch stores tensors with."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module == "torch._utils" and name in _REBUILT) or (module == "torch" and name.endswith("Storage")):
            return _nothing
        raise _UnknownError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> None:  # noqa: ANN401 - as pickle has it
        """None for the bytes of a tensor."""


def _nothing(*_: object) -> None:
    """None in the place of a tensor."""


def read_without_tensors(path: Path) -> Any | None:  # noqa: ANN401 - what the file holds
    """The content of a file of `torch.save` with None for each tensor; None if only PyTorch can tell.

    Args:
        path: File that exists.

    Raises:
        zipfile.BadZipFile: The file was cut short.
    """
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            return None  # a format of before, or something else
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith("/data.pkl") and name.count("/") == 1]
            if len(names) != 1:
                return None
            with archive.open(names[0]) as stream:
                return _WithoutTensors(stream).load()
    except zipfile.BadZipFile:
        raise
    except Exception:  # noqa: BLE001 - whatever it is, PyTorch's own reader tells it
        return None
