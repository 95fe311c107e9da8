"""Checks of a user's overrides of a bundle's settings, which MONAI would ignore or refuse in sixty lines."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from pydoc import ErrorDuringImport, locate
from typing import Any

from monai.bundle import ComponentLocator

from volseg.bundle import children, lay_overrides, nearest_word
from volseg.errors import UsageError

_MONAIS_OWN = {"_target_", "_requires_", "_disabled_", "_desc_", "_mode_"}


def check_overrides(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    """Refuse unknown ids of a config, a `_target_` that does not exist, and arguments that it does not take.

    Below a part with a `_target_`, each argument of the target's signature may be given, even if the JSON leaves it
    at its default or the target itself is overridden.

    Args:
        config: Content of train.json.
        overrides: Values by id, with `#` or `::` between levels.

    Raises:
        UsageError: An override is wrong; the message names the nearest valid word.

    >>> check_overrides({"max_epochs": 1}, {"max_epoch": 2})
    Traceback (most recent call last):
    volseg.errors.UsageError: --max_epoch is no setting of this bundle; did you mean --max_epochs?
    >>> bundle = {"optimizer": {"_target_": "torch.optim.AdamW", "params": "$@network.parameters()"}}
    >>> check_overrides(bundle, {"optimizer#_target_": "torch.optim.SGD", "optimizer#momentum": 0.9})
    >>> check_overrides(bundle, {"optimizer#beta": [0.9, 0.99]})
    Traceback (most recent call last):
    volseg.errors.UsageError: --optimizer#beta is no argument of torch.optim.AdamW; did you mean --optimizer#betas?
    """
    given = {name.replace("::", "#"): value for name, value in overrides.items()}
    laid = lay_overrides(config, given)
    locator = ComponentLocator()
    for name, part in _parts(laid):
        target = part["_target_"]
        if isinstance(target, str) and not target.startswith(("$", "@", "%")) and not part.get("_disabled_"):
            _check_part(name, part, _find(name, target, locator), given)


def _check_part(name: str, part: Mapping[str, Any], target: Callable[..., object], given: Mapping[str, Any]) -> None:
    """Refuse arguments that the target does not take, and the lack of one that it needs."""
    path, arguments = part["_target_"], [key for key in part if key not in _MONAIS_OWN]
    taken, needed, anything = _signature(target)
    for argument in arguments:
        if argument in taken or anything:
            continue
        if f"{name}#{argument}" in given:
            near = nearest_word(argument, taken, before=f"--{name}#")
            others = f"it takes {', '.join(taken)}" if taken else "it takes none"
            raise UsageError(f"--{name}#{argument} is no argument of {path}; {near or others}")
        raise UsageError(
            f"{path} takes no {argument!r}, which stands in {name!r} of train.json; give the whole part: "
            f"--{name} \"{{'_target_': '{path}', ...}}\""
        )
    missing = [argument for argument in needed if argument not in arguments]
    if missing and part.get("_mode_", "default") == "default":
        raise UsageError(f"{path} needs {missing[0]!r}; give --{name}#{missing[0]}")


def _signature(target: Callable[..., object]) -> tuple[list[str], list[str], bool]:
    """The names of a callable's arguments, those without a default, and whether it takes further ones.

    The `**kwargs` of a class are looked up in its base class.
    """
    taken: dict[str, None] = {}
    needed: list[str] | None = None
    for level in _levels(target):
        try:
            found = list(inspect.signature(level).parameters.values())
        except (TypeError, ValueError):  # not written in Python
            break
        named = [p for p in found if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        named = named[1:] if inspect.isclass(target) else named  # self
        taken |= dict.fromkeys(p.name for p in named)
        if needed is None:
            needed = [p.name for p in named if p.default is p.empty]
        if not any(p.kind is p.VAR_KEYWORD for p in found):
            return list(taken), needed, False
    return list(taken), needed or [], True


def _levels(target: Callable[..., object]) -> list[Callable[..., object]]:
    """A function, or each `__init__` of a class and the classes above it."""
    if not inspect.isclass(target):
        return [target]
    return [vars(level)["__init__"] for level in target.__mro__ if "__init__" in vars(level)]


def _find(name: str, path: str, locator: ComponentLocator) -> Callable[..., object]:
    """The object that a `_target_` names, found as MONAI does."""
    module = locator.get_component_module_name(path)
    module = module[0] if isinstance(module, list) else module
    try:
        found = locate(f"{module}.{path}" if module else path)
    except ErrorDuringImport as error:
        raise UsageError(f"--{name}#_target_ {path} cannot be imported: {error.value}") from error
    if found is None:
        raise UsageError(f"--{name}#_target_ {path} is not there; {_nearest_target(path)}")
    if not callable(found):
        raise UsageError(f"--{name}#_target_ {path} is a {type(found).__name__}, expected a class or function")
    return found


def _nearest_target(path: str) -> str:
    words = path.split(".")
    if len(words) == 1:
        modules = [module for name, module in list(sys.modules.items()) if name.startswith("monai.")]
        known = {name for module in modules for name in vars(module)}
        return nearest_word(path, known) or "MONAI has no such name; others need their module, as torch.optim.SGD"
    for count in range(len(words) - 1, 0, -1):
        parent = ".".join(words[:count])
        found = locate(parent)
        if found is not None:
            return nearest_word(words[count], dir(found), before=f"{parent}.") or f"{parent} has no {words[count]}"
    return f"there is no module {words[0]}"


def _parts(node: object, name: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every part with a `_target_`, and its id."""
    if isinstance(node, Mapping) and "_target_" in node:
        yield name, node
    for key, value in children(node):
        yield from _parts(value, f"{name}#{key}" if name else key)
