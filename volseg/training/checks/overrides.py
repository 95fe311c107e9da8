"""Checks of a user's overrides of a bundle's settings, which MONAI would ignore or refuse in sixty lines."""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pydoc import ErrorDuringImport, locate
from typing import Any

from monai.bundle import ComponentLocator

from volseg.errors import UsageError

_HANDLERS = "volseg.training.Handlers"  # which has no arguments of its own to lay over
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
    laid = _copy(config)
    for name, value in given.items():
        _lay(laid, name, _copy(value))
    locator = ComponentLocator()
    for name, part in _parts(laid):
        target = part["_target_"]
        if isinstance(target, str) and not target.startswith(("$", "@", "%")) and not part.get("_disabled_"):
            _check_part(name, part, _find(name, target, locator), given)


def _lay(config: dict[str, Any], name: str, value: object) -> None:
    """Set an id in place; it may be new below a part with a `_target_`."""
    node: Any = config
    *levels, last = [name] if name in config else name.split("#")
    for level in levels:
        node = node.get(level) if isinstance(node, dict) else node[int(level)] if _in_list(level, node) else None
    if isinstance(node, dict) and (last in node or node.get("_target_", _HANDLERS) != _HANDLERS):
        node[last] = value
    elif _in_list(last, node):
        node[int(last)] = value
    else:
        hint = _handler_hint(name, config) or _nearest(name, _ids(config), before="--")
        hint = hint or "the names are in its train.json"
        raise UsageError(f"--{name} is no setting of this bundle; {hint}")


def _handler_hint(name: str, config: Mapping[str, Any]) -> str:
    """What replaces the place of a handler in version 0.1, which was a number in a list; empty for other names."""
    of_list = name.startswith(("train#handlers#", "validate#handlers#", "validate#checkpoints", "train#stopwatch"))
    ids = [one for one in config if one.endswith("_handler")]
    return f"each handler is an id now: {', '.join(ids)}" if of_list and ids else ""


def _check_part(name: str, part: Mapping[str, Any], target: Callable[..., object], given: Mapping[str, Any]) -> None:
    """Refuse arguments that the target does not take, and the lack of one that it needs."""
    path, arguments = part["_target_"], [key for key in part if key not in _MONAIS_OWN]
    taken, needed, anything = _signature(target)
    for argument in arguments:
        if argument in taken or anything:
            continue
        if f"{name}#{argument}" in given:
            near = _nearest(argument, taken, before=f"--{name}#")
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
        return _nearest(path, known) or "MONAI has no such name; others need their module, as torch.optim.SGD"
    for count in range(len(words) - 1, 0, -1):
        parent = ".".join(words[:count])
        found = locate(parent)
        if found is not None:
            return _nearest(words[count], dir(found), before=f"{parent}.") or f"{parent} has no {words[count]}"
    return f"there is no module {words[0]}"


def _nearest(word: str, known: Iterable[str], *, before: str = "") -> str:
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"did you mean {before}{near[0]}?" if near else ""


def _in_list(word: str, node: object) -> bool:
    return isinstance(node, list) and word.isdigit() and int(word) < len(node)


def _copy(node: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(node, Mapping):
        return {str(key): _copy(value) for key, value in node.items()}
    return [_copy(value) for value in node] if isinstance(node, list) else node


def _children(node: object) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        yield from ((str(key), value) for key, value in node.items())
    elif isinstance(node, list):
        yield from ((str(number), value) for number, value in enumerate(node))


def _ids(node: object, prefix: str = "") -> Iterator[str]:
    """Every id of a config, `#` between levels."""
    for name, value in _children(node):
        yield prefix + name
        yield from _ids(value, f"{prefix}{name}#")


def _parts(node: object, name: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every part with a `_target_`, and its id."""
    if isinstance(node, Mapping) and "_target_" in node:
        yield name, node
    for key, value in _children(node):
        yield from _parts(value, f"{name}#{key}" if name else key)
