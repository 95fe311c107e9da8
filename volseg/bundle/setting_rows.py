"""The settings of a bundle's train.json with type, default and sentence, for `volseg train BUNDLE --help`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from volseg.bundle.config_text import is_path_setting
from volseg.bundle.folder import read_config

_ROW = re.compile(r"^\| `(\w+)` \| (.*?) \| (.*?) \| (.*?) \|$", re.MULTILINE)
_WHOLE = re.compile(r"-?\d+( \* \d+)*")
_NUMBER = re.compile(r"-?\d*\.\d+")
# Ids of train.json that are parts of the training, not settings; those above `recipe` are settings.
_FIRST_PART = "recipe"


@dataclass(frozen=True)
class Setting:
    """A setting of train.json.

    Attributes:
        name: Name, which is given as `--name`.
        kind: Type of its values: `number`, `whole number`, `true or false`, `list`, `path` or `text`.
        default: Default on a CPU.
        default_gpu: Default on a GPU.
        meaning: Sentence of the bundle's page; empty if the page has none.
    """

    name: str
    kind: str
    default: str
    default_gpu: str
    meaning: str = ""


def settings_table(bundle: Path) -> list[Setting]:
    """The settings of a bundle in the order of its page; of a bundle without such a page the plain ids of train.json.

    Args:
        bundle: Folder of the bundle.

    Raises:
        BundleError: The bundle has no train.json, or it is not JSON.
    """
    values = read_config(bundle, "train.json")
    page = next((path for path in (bundle / "docs" / "README.md", bundle / "README.md") if path.is_file()), None)
    rows = _ROW.findall(page.read_text(encoding="utf-8")) if page is not None else []
    found = [
        Setting(name, _kind(name, values[name], cpu), _plain(cpu), _plain(cpu if gpu == "the same" else gpu), meaning)
        for name, meaning, cpu, gpu in rows
        if name in values
    ]
    if found:
        return found
    ids = list(values)
    above = ids[: ids.index(_FIRST_PART)] if _FIRST_PART in ids else ids
    plain = [name for name in above if isinstance(values[name], (int, float, str, bool, list)) and name != "imports"]
    return [Setting(name, _kind(name, values[name], ""), *[_shown(values[name])] * 2) for name in plain]


def _kind(name: str, value: object, cell: str) -> str:
    """The type of a setting by its value in train.json; where that is an expression, by its default in the page."""
    if is_path_setting(name):
        return "path"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int) or _WHOLE.fullmatch(cell):
        return "whole number"
    if isinstance(value, float) or _NUMBER.fullmatch(cell):
        return "number"
    if isinstance(value, list) or cell.startswith("[") or name in ("roi_size", "spacing_mm", "flip_axes"):
        return "list"
    return "text"


def _plain(cell: str) -> str:
    return cell.replace("`", "")


def _shown(value: object) -> str:
    computed = isinstance(value, str) and value.startswith(("$", "@", "%"))
    return "computed" if computed else json.dumps(value)
