"""MONAI whose packages open at first use: a program that needs ten of its modules does not load all four hundred.

`import monai` loads each of its modules, and with them transformers, ignite, pandas, tensorboard and more: three
quarters of the time from a command to its first window. `open_at_first_use` replaces the faces of MONAI's packages (the
`__init__.py`, which only list names) by ones that load the module of a name when the name is asked for. The modules
themselves are MONAI's own, unchanged. The faces are read, not run, so no list of names is kept here.

A program that has imported MONAI already, or one that uses volseg as a library, keeps MONAI as it is.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

_MONAI = "monai"
# ignite, with which MONAI's enumerations begin, loads all of torch.distributed with its handlers.
_PACKAGES = (_MONAI, "ignite")
# A call of the face of `monai` that loads everything.
_LOADS_ALL = "load_submodules"
# Modules that MONAI's own face of `monai` passes over.
_REFUSED = ("monai.handlers", "monai.bundle", "monai.fl")


class _Finder(MetaPathFinder):
    """Finds the packages of MONAI and ignite, and leaves their modules to Python."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The spec of a package with the lazy face; None for anything else."""
        if name.partition(".")[0] not in _PACKAGES:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.origin is None or Path(spec.origin).name != "__init__.py":
            return spec
        spec.loader = _Face(Path(spec.origin))
        return spec


class _Face(Loader):
    """The face of one package: names by the module that defines them, and the statements that are no import."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def exec_module(self, module: ModuleType) -> None:
        """Run what the face does beside listing names, and let `module` load names when they are asked for."""
        package = module.__name__
        names, rest = _read(self._file, package)

        def load(name: str) -> Any:  # noqa: ANN401 - any name of the package
            if name in names:
                found = getattr(importlib.import_module(names[name][0]), names[name][1])
                setattr(module, name, found)
                return found
            if not name.startswith("__") and importlib.util.find_spec(f"{package}.{name}") is not None:
                return importlib.import_module(f"{package}.{name}")
            raise AttributeError(f"module {package!r} has no attribute {name!r}")

        module.__getattr__ = load  # type: ignore[method-assign]  # PEP 562
        module.__dict__.setdefault("__all__", list(names))
        exec(compile(rest, str(self._file), "exec"), module.__dict__)


@cache
def _read(file: Path, package: str) -> tuple[dict[str, tuple[str, str]], ast.Module]:
    """The names that a face imports from modules of its package, with module and name there; and its other statements.

    Imports whose names these statements use themselves stay with them.
    """
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names: dict[str, tuple[str, str]] = {}
    rest: list[ast.stmt] = []
    listing: list[ast.ImportFrom] = []
    for statement in tree.body:
        if isinstance(statement, ast.ImportFrom) and (module := _own_module(statement, package)):
            names |= {alias.asname or alias.name: (module, alias.name) for alias in statement.names}
            listing.append(statement)
        elif not _loads_all(statement) and not _loads_submodules(statement, package):
            rest.append(statement)
    used = {node.id for statement in rest for node in ast.walk(statement) if isinstance(node, ast.Name)}
    needed = [one for one in listing if any((alias.asname or alias.name) in used for alias in one.names)]
    return names, ast.Module(sorted([*rest, *needed], key=lambda statement: statement.lineno), type_ignores=[])


def _own_module(statement: ast.ImportFrom, package: str) -> str | None:
    """The full name of the module below a package from which a face imports; None if it is of elsewhere."""
    if statement.level == 1 and statement.module:
        return f"{package}.{statement.module}"
    own = statement.level == 0 and statement.module and statement.module.startswith(f"{package}.")
    return statement.module if own else None


def _loads_submodules(statement: ast.stmt, package: str) -> bool:
    """Whether a statement only imports modules of the package, as `import ignite.metrics` does."""
    if not isinstance(statement, ast.Import):
        return False
    return all(alias.asname is None and alias.name.startswith(f"{package}.") for alias in statement.names)


def _loads_all(statement: ast.stmt) -> bool:
    call = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == _LOADS_ALL


def open_at_first_use() -> bool:
    """Open MONAI's packages at first use in this process from here on; whether that is so.

    It is not so if MONAI has been imported, or is not there.
    """
    if is_open_at_first_use():
        return True
    if any(name in sys.modules for name in _PACKAGES) or importlib.util.find_spec(_MONAI) is None:
        return False
    sys.meta_path.insert(0, _Finder())
    return True


def is_open_at_first_use() -> bool:
    """Whether `open_at_first_use` was called in this process, and found MONAI not yet imported."""
    return any(isinstance(finder, _Finder) for finder in sys.meta_path)


def name_modules(config: Mapping[str, Any]) -> dict[str, Any]:
    """A bundle's config in which each `_target_` without a module, as `DynUNet`, names MONAI's own module.

    MONAI looks such names up in the modules that are loaded, which are few once its packages open at first use.

    Args:
        config: Config, or a part of one.
    """

    def named(value: Any) -> Any:  # noqa: ANN401 - any JSON
        if isinstance(value, Mapping):
            return {key: _module_of(one) if key == "_target_" else named(one) for key, one in value.items()}
        return [named(one) for one in value] if isinstance(value, list) else value

    changed: dict[str, Any] = named(config)
    if is_open_at_first_use() and any(_is_short(target) for target in _targets_of(changed)):
        _load_all()
    return changed


def _module_of(target: Any) -> Any:  # noqa: ANN401 - any JSON
    return _targets().get(target, target) if _is_short(target) else target


def _is_short(target: Any) -> bool:  # noqa: ANN401 - any JSON
    return isinstance(target, str) and "." not in target and not target.startswith(("$", "@", "%"))


def _targets_of(value: Any) -> Iterator[Any]:  # noqa: ANN401 - any JSON
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from [one] if key == "_target_" else _targets_of(one)
    elif isinstance(value, list):
        for one in value:
            yield from _targets_of(one)


def _load_all() -> None:
    """Load all that `import monai` loads by itself."""
    from monai.utils.module import load_submodules

    passed_over = "|".join([*(f"(^({name}))" for name in _REFUSED), r"(.*(__main__)$)", r"(.*(nnunet).*$)", "(video)"])
    load_submodules(sys.modules[_MONAI], load_all=True, exclude_pattern=passed_over)


@cache
def _targets() -> dict[str, str]:
    """The full name of each name that one of MONAI's faces lists; ambiguous ones are left to MONAI."""
    spec = importlib.util.find_spec(_MONAI)
    found: dict[str, set[str]] = {}
    for folder in map(Path, (spec.submodule_search_locations or ()) if spec else ()):
        for file in folder.rglob("__init__.py"):
            package = ".".join([_MONAI, *file.parent.relative_to(folder).parts])
            for name, (module, own) in _read(file, package)[0].items():
                found.setdefault(name, set()).add(f"{module}.{own}")
    return {name: places.pop() for name, places in found.items() if len(places) == 1}
