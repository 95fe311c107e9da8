"""The list of a quality control: whom to look at first and why, as CSV and Markdown."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from volseg.quality import DEFINITIONS, Quality
from volseg.report.cells import NONE, grid, number, plain, rounded
from volseg.report.files import write_files

FIRST = 20  # cases on the page


def write_quality(ranked: Sequence[Quality], folder: Path, *, title: str, details: Mapping[str, str]) -> list[Path]:
    """Write `quality.csv` and `quality.md`, each whole or not at all.

    Args:
        ranked: the one to look at first at the top.
        folder: made where absent; files of these names are replaced.
        title: heading of the page.
        details: what the reader must know, in order.

    Returns:
        The paths of the two files.
    """
    contents = {
        "quality.csv": quality_as_csv(ranked),
        "quality.md": quality_as_markdown(ranked, title=title, details=details),
    }
    return write_files(folder, contents)


def quality_as_csv(ranked: Sequence[Quality]) -> str:
    """One line a case in the order of the list, with every value that was measured.

    >>> print(quality_as_csv([Quality("a", 0.5, values={("volume", "x"): 1.0})]), end="")
    rank,key,score,reasons,disagreement,volume x,error
    1,a,0.5,,,1.0,
    """
    names = list(dict.fromkeys(name for quality in ranked for name in quality.values or {}))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["rank", "key", "score", "reasons", "disagreement", *(" ".join(n).strip() for n in names), "error"])
    for place, quality in enumerate(ranked, start=1):
        values = [rounded((quality.values or {}).get(name)) for name in names]
        score = rounded(quality.score) if math.isfinite(quality.score) else None
        reasons = "; ".join(finding.reason for finding in quality.findings)
        writer.writerow([place, quality.key, score, reasons, rounded(quality.disagreement), *values, quality.error])
    return text.getvalue()


def quality_as_markdown(ranked: Sequence[Quality], *, title: str, details: Mapping[str, str]) -> str:
    """The page a person reads: look at these first."""
    lines = [f"# {plain(title)}", ""]
    lines += [f"- {plain(name)}: {plain(value)}" for name, value in details.items()]
    unusual = sum(bool(quality.findings) or quality.error is not None for quality in ranked)
    lines += [f"- Cases: {len(ranked)}, {unusual} of them with something unusual", "", "## Look at these first", ""]
    table = [
        [str(place), quality.key, number(quality.score, ".2f") if quality.error is None else NONE, _why(quality)]
        for place, quality in enumerate(ranked[:FIRST], start=1)
    ]
    lines += grid(["Rank", "Case", "Score", "Why"], table)
    if len(ranked) > FIRST:
        lines += ["", f"The other {len(ranked) - FIRST} are in quality.csv."]
    lines += ["", "## Definitions", "", *(f"- {definition}" for definition in DEFINITIONS)]
    return "\n".join(lines) + "\n"


def short_list(ranked: Sequence[Quality], *, first: int = 10) -> str:
    """The top of the list as text, for a terminal."""
    width = max((len(quality.key) for quality in ranked[:first]), default=0)
    return "\n".join(
        f"{place:3d}  {quality.key.ljust(width)}  {quality.score:7.2f}  {_why(quality)}"
        for place, quality in enumerate(ranked[:first], start=1)
    )


def _why(quality: Quality) -> str:
    if quality.error is not None:
        return f"cannot be read: {quality.error}"
    return "; ".join(finding.reason for finding in quality.findings) or "nothing unusual"
