"""Tables that a person may have saved with a spreadsheet: a byte order mark, semicolons, decimal commas."""

from __future__ import annotations

import csv
import io
from pathlib import Path


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
