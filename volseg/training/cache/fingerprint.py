"""Digests of all that a cached case depends on: its files, and the steps of its preprocessing."""

from __future__ import annotations

import enum
import functools
import hashlib
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import monai
import numpy as np
import torch

import volseg
from volseg.errors import UsageError

_RANDOM_STATES = (np.random.RandomState, np.random.Generator, torch.Generator)


def describe_steps(steps: Iterable[Callable[..., Any]]) -> dict[str, Any]:
    """Describe transforms as JSON: classes and attributes, the text of modules that are not MONAI's, and versions.

    The modules are those of the classes and, of the same package, those whose functions and classes these refer to.

    Args:
        steps: Transforms without randomness.

    Raises:
        UsageError: The content of an attribute cannot be described.

    >>> from monai.transforms import ScaleIntensityd
    >>> describe_steps([ScaleIntensityd("image")])["steps"][0][1]["keys"]
    ['image']
    """
    steps = list(steps)
    modules = {module for module in (inspect.getmodule(type(step)) for step in steps) if module is not None}
    own = sorted(
        (module.__name__, _text(module))
        for module in _with_referred(modules)
        if not module.__name__.startswith("monai.")
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
    if isinstance(value, functools.partial):
        return [_name(type(value)), *(_describe(part, inner) for part in (value.func, value.args, value.keywords))]
    if isinstance(value, MethodType):
        return [_describe(value.__func__, inner), _describe(value.__self__, inner)]
    if isinstance(value, FunctionType):
        return [_name(value), *_function(value, inner)]
    if is_dataclass(value):  # its fields only: a cached property stands beside them once it was read
        return [_name(type(value)), {one.name: _describe(getattr(value, one.name), inner) for one in fields(value)}]
    if callable(value) and hasattr(value, "__qualname__"):  # a function written in C
        return _name(value)
    if hasattr(value, "__dict__"):
        return [_name(type(value)), {name: _describe(one, inner) for name, one in sorted(vars(value).items())}]
    raise UsageError(
        f"the preprocessing holds a {_name(type(value))}, and whether it changes cannot be told; use --cache memory"
    )


def _with_referred(modules: Iterable[ModuleType]) -> set[ModuleType]:
    """Modules of one's own with those, of the same package, whose functions and classes they refer to by name."""
    found: set[ModuleType] = set()
    coming = list(modules)
    while coming:
        module = coming.pop()
        if module in found:
            continue
        found.add(module)
        package = module.__name__.partition(".")[0]
        if package == "monai":
            continue
        names = {str(getattr(value, "__module__", "")) for value in list(vars(module).values()) if _is_code(value)}
        coming += [sys.modules[name] for name in names if name.partition(".")[0] == package and name in sys.modules]
    return found


def _is_code(value: object) -> bool:
    return isinstance(value, (FunctionType, type))


def _function(value: FunctionType, inner: tuple[int, ...]) -> list[Any]:
    """What a function does: its instructions, what they hold or refer to, and the text of its module."""
    codes = list(_codes(value.__code__))
    held = [cell.cell_contents for cell in value.__closure__ or ()]
    module = inspect.getmodule(value)
    return [
        *([_sha(one.co_code), repr(one.co_names), [_constant(part) for part in one.co_consts]] for one in codes),
        *(_describe(part, inner) for part in (value.__defaults__, value.__kwdefaults__, *held)),
        _describe(_referred(value, codes), inner),
        None if module is None or module.__name__.startswith("monai.") else _text(module),
    ]


def _codes(code: CodeType) -> Iterator[CodeType]:
    """The code of a function, and of the functions within it."""
    yield code
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from _codes(part)


def _constant(value: object) -> str:
    """A constant in the code of a function; a set has another order in each process."""
    if isinstance(value, CodeType):
        return "code"
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)


def _referred(value: FunctionType, codes: Iterable[CodeType]) -> dict[str, Any]:
    """The numbers and words that a function finds under global names.

    In a config the reference `@id` of an expression is such a name: that of a dictionary of all ids.
    """
    found: dict[str, Any] = {}
    for code in codes:
        words = [part for part in code.co_consts if isinstance(part, str)]
        for name in code.co_names:
            there = value.__globals__.get(name)
            parts = (
                {word: there[word] for word in words if word in there} if isinstance(there, Mapping) else {"": there}
            )
            found |= {f"{name} {word}": part for word, part in parts.items() if _is_plain(part)}
    return found


def _is_plain(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return isinstance(value, (bool, int, float, str, np.ndarray, torch.Tensor))


def _text(module: ModuleType) -> str | None:
    """The digest of a module's text; None if it has none."""
    try:
        return _sha(inspect.getsource(module).encode())
    except (OSError, TypeError):
        return None


def _name(value: Any) -> str:  # noqa: ANN401 - a class or a function
    return f"{value.__module__}.{value.__qualname__}"


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
