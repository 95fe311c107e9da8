"""Tables that a person may have saved with a spreadsheet: a byte order mark, semicolons, decimal commas."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

_NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)?(?:[eE][+-]?\d+)?")


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table with a head, by the names of its columns; rows without any text are left out.

    Where decimals have a comma, spreadsheets separate by semicolons; some put a byte order mark first, and keep a row
    of separators where one was cleared.

    Args:
        path: Path of the file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no text in UTF-8; the message says how to save it so.
        csv.Error: It is no table.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise ValueError(f"line {line} is not in UTF-8; save the table as 'CSV UTF-8'") from error
    head = text.partition("\n")[0]
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=";" if head.count(";") > head.count(",") else ",")
    return [row for row in rows if any(isinstance(cell, str) and cell.strip() for cell in row.values())]


def decimal(text: str) -> float:
    """A number with a point or a comma.

    Raises:
        ValueError: It is no number.

    >>> decimal("1.5"), decimal("1,5")
    (1.5, 1.5)
    """
    return float(text.replace(",", "."))


def restored_keys(found: Iterable[str], known: Collection[str]) -> dict[str, str]:
    """The keys of cases that a spreadsheet took for numbers, by what it made of them: `001` is saved as `1`.

    Args:
        found: Keys of a table.
        known: Keys of the cases that there are.

    Returns:
        The case of each key that is none, where exactly one case that the table lacks is the same number.

    >>> restored_keys(["1", "2", "1.00E+05", "b"], ["001", "02", "2", "1e5", "a"])
    {'1': '001', '1.00E+05': '1e5'}
    """
    table = dict.fromkeys(found)
    strange = {key: number for key in table if key not in known and (number := _as_number(key))}
    if not strange:
        return {}
    cases: dict[str, list[str]] = {}
    for key in known:
        if key not in table and (number := _as_number(key)):
            for form in dict.fromkeys(number):
                cases.setdefault(form, []).append(key)
    alike = {
        key: cases.get(rounded if "e" in key.casefold() else exact, []) for key, (exact, rounded) in strange.items()
    }
    times = Counter(of_key[0] for of_key in alike.values() if of_key)
    return {key: of_key[0] for key, of_key in alike.items() if len(of_key) == 1 and times[of_key[0]] == 1}


def _as_number(text: str) -> tuple[str, str] | None:
    """The number that a spreadsheet sees in a text: as it is, and by six digits, of which some keep no more."""
    if not _NUMBER.fullmatch(text):
        return None
    number = decimal(text)
    return repr(number), f"{number:.5e}"
