"""Results as the tables of docs/benchmarks/*.md, each between its markers; the prose around them stays as it is.

    PYTHONPATH=benchmarks python -m harness.rendering

Results in data/benchmarks, other than those of --quick, are copied to docs/benchmarks with the records of the accuracy
benchmark, and the pages are rendered from there: every published figure stands with its machine, versions, commit and
rounds in the repository. README.md shows the Dice after equal times.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness import cells, glance, measurement

PUBLISHED = measurement.ROOT / "docs" / "benchmarks"
README = measurement.ROOT / "README.md"
GLANCE = "glance"
EQUAL_TIME = "equal time"


def rendered(page: str, contents: Iterable[Mapping[str, Any]]) -> str:
    r"""A page with the part between the markers of each result that it shows written anew.

    Raises:
        ValueError: The markers of a result are not one pair, in order.

    >>> page = "a\n<!-- x table -->\nold\n<!-- end of x table -->\nb\n"
    >>> marked(page, "x")
    'old\n'
    """
    contents = list(contents)
    texts = {content["name"]: cells.as_markdown(content) for content in contents}
    texts[GLANCE] = glance.as_markdown(contents)
    for name, text in texts.items():
        if _markers(name)[0] in page:
            page = _replaced(page, name, text)
    return page


def readme(page: str, contents: Iterable[Mapping[str, Any]]) -> str:
    """README.md with the Dice after equal times."""
    for content in contents:
        if content["name"] == "accuracy":
            page = _replaced(page, EQUAL_TIME, glance.of_accuracy(content))
    return page


def _replaced(page: str, name: str, text: str) -> str:
    """A page with another text between a pair of markers."""
    marked(page, name)
    start, end = _markers(name)
    head, _, rest = page.partition(start)
    return head + start + text + end + rest.partition(end)[2]


def marked(page: str, name: str) -> str:
    """What stands between the markers of a benchmark.

    Raises:
        ValueError: there is not exactly one pair, in order.
    """
    start, end = _markers(name)
    if page.count(start) != 1 or page.count(end) != 1 or page.index(start) > page.index(end):
        raise ValueError(f"expected one line {start.strip()} and after it one line {end.strip()}; add them to the page")
    return page.partition(start)[2].partition(end)[0]


def _markers(name: str) -> tuple[str, str]:
    return f"<!-- {name} table -->\n", f"<!-- end of {name} table -->\n"


def pages() -> dict[Path, str]:
    """Text of each page about benchmarks."""
    return {path: path.read_text(encoding="utf-8") for path in sorted(PUBLISHED.glob("*.md"))}


def published() -> list[dict[str, Any]]:
    """The results that the page shows."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(PUBLISHED.glob("*.json"))]


def take(results: Path) -> list[str]:
    """Copy results to those that are published, and give the reasons for what was not."""
    kept = []
    PUBLISHED.mkdir(exist_ok=True)
    for path in sorted(results.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get("schema") != measurement.SCHEMA:
            continue
        if content["quick"]:
            kept.append(f"{path.name} is of --quick and was not taken")
        else:
            (PUBLISHED / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    for path in sorted(results.glob("accuracy/*_minutes/*.json")):
        target = PUBLISHED / path.relative_to(results)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    return kept


def main() -> None:
    """Take the results and render the page, and the figures that a result has."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--results", type=Path, default=measurement.RESULTS, help="folder of NAME.json")
    for line in take(parser.parse_args().results):
        measurement.tell(line)
    contents = published()
    shown = pages()
    for path, page in shown.items():
        path.write_text(rendered(page, contents), encoding="utf-8")
    README.write_text(readme(README.read_text(encoding="utf-8"), contents), encoding="utf-8")
    for content in contents:
        if content["name"] == "growth":
            from harness.growth_figure import growth_figure

            (measurement.ROOT / "docs" / "images" / "growth.svg").write_text(growth_figure(content), encoding="utf-8")
    names = ", ".join(content["name"] for content in contents) or "nothing"
    measurement.tell(f"rendered {names} into {PUBLISHED.relative_to(measurement.ROOT)}/*.md")
    known = {GLANCE, *(content["name"] for content in contents)}
    unused = set(re.findall(r"^<!-- (\w+) table -->$", "".join(shown.values()), re.M)) - known
    if unused:
        measurement.tell(f"without a published result: {', '.join(sorted(unused))}")


if __name__ == "__main__":
    main()
