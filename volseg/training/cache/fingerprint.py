"""Digests of all that a cached case depends on: its files, and the steps of its preprocessing."""

from __future__ import annotations

import enum
import hashlib
import inspect
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

import monai
import numpy as np
import torch

import volseg
from volseg.errors import UsageError

_RANDOM_STATES = (np.random.RandomState, np.random.Generator, torch.Generator)


def describe_steps(steps: Iterable[Callable[..., Any]]) -> dict[str, Any]:
    """Describe transforms as JSON: classes and attributes, the text of modules that are not MONAI's, and versions.

    Args:
        steps: Transforms without randomness.

    Raises:
        UsageError: The content of an attribute cannot be described.

    >>> from monai.transforms import ScaleIntensityd
    >>> describe_steps([ScaleIntensityd("image")])["steps"][0][1]["keys"]
    ['image']
    """
    steps = list(steps)
    modules = {inspect.getmodule(type(step)) for step in steps} - {None}
    own = sorted(
        (module.__name__, _sha(inspect.getsource(module).encode()))
        for module in modules
        if module is not None and not module.__name__.startswith("monai.")
    )
    versions = {"volseg": volseg.__version__, "monai": monai.__version__}
    return {"versions": versions, "modules": own, "steps": [_describe(step, ()) for step in steps]}


def describe_files(item: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the sources of a case: path, size and time of change of each file, and every other value as it is.

    Args:
        item: Item of a datalist: `key`, `image` (paths), `label` (a path).
    """
    return {name: _file(value) for name, value in sorted(item.items())}


def digest(description: Mapping[str, Any]) -> str:
    """Compute a hexadecimal word of 16 letters that changes with the description.

    >>> digest({"a": 1}) == digest({"a": 1.0}), len(digest({}))
    (False, 16)
    """
    return _sha(json.dumps(description, sort_keys=True).encode())[:16]


def _file(value: object) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, (list, tuple)):
        return [_file(one) for one in value]
    if isinstance(value, (str, Path)) and Path(value).is_file():
        status = Path(value).stat()
        return [os.path.abspath(value), status.st_size, status.st_mtime_ns]  # noqa: PTH100 - keeps links, no `..`
    return _describe(value, ())


def _describe(value: object, above: tuple[int, ...]) -> Any:  # noqa: ANN401 - JSON
    """A value as JSON; `above` are the ids of the objects that contain it."""
    if id(value) in above:
        return "itself"
    inner = (*above, id(value))
    if value is None or (isinstance(value, (bool, int, str)) and not isinstance(value, enum.Enum)):
        return value
    if isinstance(value, (float, torch.dtype, torch.device, Path, np.generic, complex, bytes, range, slice)):
        return repr(value)
    if isinstance(value, _RANDOM_STATES):
        return "random state"
    if isinstance(value, enum.Enum):
        return [_name(type(value)), value.name]
    if isinstance(value, type):
        return _name(value)
    if isinstance(value, (np.ndarray, torch.Tensor)):
        array = np.ascontiguousarray(value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value)
        return [str(array.dtype), list(array.shape), _sha(array.tobytes())]
    if isinstance(value, Mapping):
        return {str(key): _describe(one, inner) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_describe(one, inner) for one in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_describe(one, inner) for one in value), key=repr)
    if isinstance(value, FunctionType):
        code = value.__code__
        held = [cell.cell_contents for cell in value.__closure__ or ()]
        return [_name(value), _sha(code.co_code), repr(code.co_names), *(_describe(v, inner) for v in held)]
    if is_dataclass(value):  # its fields only: a cached property stands beside them once it was read
        return [_name(type(value)), {one.name: _describe(getattr(value, one.name), inner) for one in fields(value)}]
    if callable(value) and hasattr(value, "__qualname__"):  # a function written in C
        return _name(value)
    if hasattr(value, "__dict__"):
        return [_name(type(value)), {name: _describe(one, inner) for name, one in sorted(vars(value).items())}]
    raise UsageError(
        f"the preprocessing holds a {_name(type(value))}, and whether it changes cannot be told; use --cache memory"
    )


def _name(value: Any) -> str:  # noqa: ANN401 - a class or a function
    return f"{value.__module__}.{value.__qualname__}"


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
