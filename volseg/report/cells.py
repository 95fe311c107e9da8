"""Cells of tables: numbers and texts in Markdown, and values rounded for files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from volseg.files import atomic

NONE = "–"

_DIGITS = 6  # decimals in files; the last bits of a sum may differ between machines
_SMALL, _NOTHING = 1e-3, 1e-12  # between them as many digits: a cell has some 1e-9 ml


def grid(header: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table.

    >>> grid(["Case", "Dice"], [["a", "0.9"]])
    ['| Case | Dice |', '| --- | --- |', '| a | 0.9 |']
    """
    return ["| " + " | ".join(map(plain, line)) + " |" for line in (header, ["---"] * len(header), *lines)]


def number(value: float | None, form: str) -> str:
    """A number in a format, or the dash for an undefined one; one that it would show as 0 has two digits.

    >>> number(0.5, ".2f"), number(None, ".2f"), number(0.0, "+.2f"), number(5.236e-10, "+.2f")
    ('0.50', '–', '+0.00', '+5.2e-10')
    """
    if value is None:
        return NONE
    text = f"{value:{form}}"
    if abs(value) > _NOTHING and not float(text):  # the volume of a cell in ml, a distance on a slide in mm
        return f"{value:{'+' * form.startswith('+')}.2g}"
    return text


def plain(text: str) -> str:
    """A text that cannot break a line or a cell of Markdown."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def rounded(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """A JSON value with its numbers rounded to six decimals, and those below 0.001 to six digits.

    >>> rounded([2 / 3, 5.23598775e-10, -1e-17])
    [0.666667, 5.23599e-10, 0.0]
    """
    if isinstance(value, float):
        if _NOTHING < abs(value) < _SMALL:
            return float(f"{value:.{_DIGITS}g}")
        return round(value, _DIGITS) + 0.0  # no negative zero
    if isinstance(value, Mapping):
        return {name: rounded(entry) for name, entry in value.items()}
    return [rounded(entry) for entry in value] if isinstance(value, list) else value


def write_files(folder: str | Path, contents: Mapping[str, str]) -> list[Path]:
    """Write texts by name into a folder, which is created if absent; returns their paths in the same order.

    >>> import tempfile
    >>> [path.name for path in write_files(tempfile.mkdtemp(), {"a.csv": "1", "b.md": "2"})]
    ['a.csv', 'b.md']
    """
    paths = []
    for name, text in contents.items():
        path = Path(folder) / name
        with atomic(path) as partial:
            partial.write_bytes(text.encode())
        paths.append(path)
    return paths
