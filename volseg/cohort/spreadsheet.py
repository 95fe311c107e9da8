"""Tables that a person may have saved with a spreadsheet: a byte order mark, semicolons, decimal commas."""

from __future__ import annotations

import csv
import io
from pathlib import Path


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table with a head, by the names of its columns.

    Where decimals have a comma, spreadsheets separate by semicolons; some put a byte order mark first.

    Args:
        path: Path of the file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no text in UTF-8.
        csv.Error: It is no table.
    """
    text = path.read_bytes().decode("utf-8-sig")
    head = text.partition("\n")[0]
    return list(
        csv.DictReader(io.StringIO(text, newline=""), delimiter=";" if head.count(";") > head.count(",") else ",")
    )


def decimal(text: str) -> float:
    """A number with a point or a comma.

    Raises:
        ValueError: It is no number.

    >>> decimal("1.5"), decimal("1,5")
    (1.5, 1.5)
    """
    return float(text.replace(",", "."))
