"""What the author of a package tells of its network and its data: a JSON file, checked before anything is written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from volseg.errors import UsageError

_TEXTS = ("title", "description", "task", "weights_licence", "training", "limits")
_DATA = ("name", "url", "licence", "licence_url", "citation", "changes")


def read_card(path: str | Path) -> dict[str, Any]:
    """Read the card of a network: texts, and `data`, the source and licence of what it was trained on.

    The texts are `title`, `description`, `task`, `weights_licence`, `training` and `limits`; `data` holds `name`,
    `url`, `licence`, `licence_url`, `citation` and `changes`. Each may be absent.

    Raises:
        UsageError: The file is absent, is no JSON object of texts, or has another entry.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}; correct --card") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not JSON ({error}); see the page on packages") from error
    _check(content, (*_TEXTS, "data"), path)
    _check(content.get("data", {}), _DATA, path)
    for name, value in (*content.items(), *content.get("data", {}).items()):
        if name != "data" and not isinstance(value, str):
            raise UsageError(f"{name} of {path} must be a text, got {value!r}")
    card: dict[str, Any] = content
    return card


def licence_text(card: Mapping[str, Any]) -> str:
    """The text of `docs/data_license.txt`: source, licence and citation of the data; empty if the card states none."""
    data = card.get("data", {})
    if not data:
        return ""
    lines = [f"{name.replace('_', ' ')}: {data[name]}" for name in _DATA if name in data]
    if "weights_licence" in card:
        lines.append(f"licence of the weights: {card['weights_licence']}")
    return "\n".join(lines) + "\n"


def _check(content: object, names: tuple[str, ...], path: str | Path) -> None:
    if not isinstance(content, dict):
        raise UsageError(f"{path} must hold an object of texts, got {type(content).__name__}")
    if unknown := [name for name in content if name not in names]:
        raise UsageError(f"{path} has the entry {unknown[0]!r}, expected {', '.join(names)}")
