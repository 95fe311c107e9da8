"""Cells of the tables of docs/benchmarks/index.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


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


def as_markdown(content: Mapping[str, Any]) -> str:
    """What stands between the markers of a benchmark: where it was measured, the tables, the notes."""
    lines = [_provenance(content), ""]
    for table in content["tables"]:
        lines += [f"**{table['title']}**", "", *_grid(table), ""]
        reasons = dict.fromkeys(table["left_out"].values())
        for reason in reasons:
            names = [name for name, why in table["left_out"].items() if why == reason]
            lines += [f"Left out: {', '.join(names)} ({reason}).\n"]
    lines += [f"- {note}" for note in content["notes"]]
    return "\n".join(lines).rstrip("\n") + "\n"


def _provenance(content: Mapping[str, Any]) -> str:
    machine, commit = content["machine"], content["commit"]
    able = f" ({', '.join(machine['instructions'])})" if machine["instructions"] else ""
    gpu = machine["gpu"] or "no GPU"
    at = "" if commit is None else f" at commit {commit['id']}{' with changes' if commit['changed'] else ''}"
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    processor = f"{machine['cores']} cores of {machine['processor']}{able}"
    memory = f"{machine['memory_gib']:.0f} GiB, {gpu}, load {machine['load']:g} before"
    return f"`{content['command']}`, {content['measured'][:10]}{at}: {processor}, {memory}; {versions}."


def _grid(table: Mapping[str, Any]) -> list[str]:
    """A median a measure; the ratio to the reference, with the range of the rounds; the facts."""
    measures = [one for one in table["measures"] if any(one["name"] in row["median"] for row in table["rows"])]
    compared = [one for one in measures if any(row["ratio"].get(one["name"]) for row in table["rows"])]
    facts = list(dict.fromkeys(name for row in table["rows"] for name in row["facts"]))
    references = {row["reference"] for row in table["rows"]} - {None}
    against = f"{references.pop()}'s" if len(references) == 1 else "volseg's"
    header = [table["way"]]
    header += [f"{one['title']} ({one['unit']})" if one["unit"] else one["title"] for one in measures]
    header += [f"{one['title']}, times {against}" for one in compared]
    lines = [line([*header, *facts]), line(["---"] * (len(header) + len(facts)))]
    for row in table["rows"]:
        words = [row["name"]]
        words += [number(row["median"].get(one["name"]), one["digits"]) for one in measures]
        words += [ratio(row["ratio"].get(one["name"])) for one in compared]
        words += [fact(row["facts"].get(name)) for name in facts]
        lines.append(line(words))
    if compared and table["rounds"] > 1:
        lines += ["", f"Median of {table['rounds']} rounds; in brackets the lowest and the highest ratio of a round."]
    return lines
