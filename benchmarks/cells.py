"""Cells of the tables of docs/BENCHMARKS.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def line(cells: Iterable[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def number(value: float | None, digits: int) -> str:
    """With so many decimals; a dash for none."""
    return "–" if value is None else f"{value:,.{digits}f}"


def ratio(found: Mapping[str, float] | None) -> str:
    """The median, bold, with the range."""
    if not found:
        return ""
    digits = 2 if found["median"] < 10 else 1
    return f"**{found['median']:.{digits}f}** [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"


def fact(value: str | float | None) -> str:
    """A text or a number; nothing for none."""
    return "" if value is None else value if isinstance(value, str) else f"{value:g}"
