"""A user's overrides laid over a bundle's config, without MONAI: the ids there, and the nearest to a wrong one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from volseg.errors import UsageError

_HANDLERS = "volseg.training.Handlers"  # which has no arguments of its own to lay over


def lay_overrides(
    config: Mapping[str, Any], overrides: Mapping[str, Any], *, options: Iterable[str] = ()
) -> dict[str, Any]:
    """A copy of a config with a user's values.

    Args:
        config: Content of train.json.
        overrides: Values by id, with `#` or `::` between levels.
        options: Further words that a user may have meant, as the options of a command.

    Raises:
        UsageError: There is no such id; the message names the nearest one, or the nearest option.

    >>> lay_overrides({"loss": {"weight": 1}}, {"loss#weight": 2})
    {'loss': {'weight': 2}}
    """
    laid: dict[str, Any] = _copy(config)
    for name, value in overrides.items():
        _lay(laid, name.replace("::", "#"), _copy(value), options)
    return laid


def _lay(config: dict[str, Any], name: str, value: object, options: Iterable[str]) -> None:
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
        hint = _handler_hint(name, config) or nearest_word(name, [*options, *_ids(config)], before="--")
        hint = hint or "the names are in its train.json"
        raise UsageError(f"--{name} is no setting of this bundle; {hint}")


def _handler_hint(name: str, config: Mapping[str, Any]) -> str:
    """What replaces the place of a handler in version 0.1, which was a number in a list; empty for other names."""
    of_list = name.startswith(("train#handlers#", "validate#handlers#", "validate#checkpoints", "train#stopwatch"))
    ids = [one for one in config if one.endswith("_handler")]
    return f"each handler is an id now: {', '.join(ids)}" if of_list and ids else ""


def nearest_word(word: str, known: Iterable[str], *, before: str = "") -> str:
    """A sentence that suggests the known word nearest to a wrong one; empty if none is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"did you mean {before}{near[0]}?" if near else ""


def _in_list(word: str, node: object) -> bool:
    return isinstance(node, list) and word.isdigit() and int(word) < len(node)


def _copy(node: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(node, Mapping):
        return {str(key): _copy(value) for key, value in node.items()}
    return [_copy(value) for value in node] if isinstance(node, list) else node


def children(node: object) -> Iterator[tuple[str, Any]]:
    """The entries of a part of a config, with their names or numbers."""
    if isinstance(node, Mapping):
        yield from ((str(key), value) for key, value in node.items())
    elif isinstance(node, list):
        yield from ((str(number), value) for number, value in enumerate(node))


def _ids(node: object, prefix: str = "") -> Iterator[str]:
    """Every id of a config, `#` between levels."""
    for name, value in children(node):
        yield prefix + name
        yield from _ids(value, f"{prefix}{name}#")
