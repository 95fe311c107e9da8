"""The page of a plan, `plan.html`: it opens from disk and loads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from volseg import __version__
from volseg.files import atomic
from volseg.plan import BundlePlan, Decision, Plan
from volseg.report.plan import (
    BUNDLE_HEAD,
    REGION_HEAD,
    bundle_rows,
    details,
    fingerprint_rows,
    name_of,
    region_rows,
    title_of,
    value_of,
)

PAGE = "plan.html"


def write_plan_page(plan: Plan, folder: str | Path) -> Path:
    """Write `plan.html`, whole or not at all: one page that opens from disk and loads nothing.

    Args:
        plan: Plan.
        folder: Folder, which is created if absent.

    Returns:
        The path of the page.
    """
    path = Path(folder) / PAGE
    with atomic(path) as partial:
        partial.write_text(plan_as_html(plan), encoding="utf-8")
    return path


def plan_as_html(plan: Plan) -> str:
    """The page."""
    pages = files("volseg.report") / "page"
    css = "".join(pages.joinpath(name).read_text("utf-8") for name in ("report.css", "plan.css"))
    facts = plan.fingerprint
    counts = "".join(
        f"<li><b>{escape(str(number))}</b>{name}</li>"
        for name, number in (
            ("cases", facts["cases"]),
            ("patients", facts["patients"]),
            ("labels read", facts["looked_at"]),
            ("networks planned" if len(plan.bundles) != 1 else "network planned", len(plan.bundles)),
        )
    )
    bad = f'<li class="bad"><b>{len(plan.warnings)}</b>warning{"s" * (len(plan.warnings) != 1)}</li>'
    warnings = "".join(f"<li>{escape(one)}</li>" for one in plan.warnings)
    sections = [
        f'<section id="warnings" class="failed"><h2>Warnings</h2><ul>{warnings}</ul></section>' if warnings else "",
        _section("advice", "Advice", _decisions(plan.decisions[:1]) + _bundle_table(plan)),
        _section("decisions", "Decisions for all networks", _decisions(plan.decisions[1:])),
        *(_section(f"bundle-{name}", name, _bundle(name, one)) for name, one in plan.bundles.items()),
        _section("fingerprint", "Fingerprint", _fingerprint(facts)),
    ]
    links = [("advice", "Advice"), ("decisions", "Decisions"), *((f"bundle-{name}", name) for name in plan.bundles)]
    nav = "".join(
        f'<a href="#{target}">{escape(text)}</a>' for target, text in [*links, ("fingerprint", "Fingerprint")]
    )
    head = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in details(plan))
    policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="generator" content="volseg {__version__}">\n<title>Plan: {escape(name_of(plan))}</title>\n'
        f"<style>\n{css}</style>\n</head>\n<body>\n"
        f'<a class="skip" href="#advice">Skip to the advice</a>\n<header class="top"><div class="inner">'
        f'<h1>Plan: {escape(name_of(plan))}</h1><ul class="facts">{counts}{bad if warnings else ""}</ul>'
        f'<dl class="details">{head}</dl></div></header>\n'
        f'<nav class="bar" aria-label="Sections"><div class="inner">{nav}</div></nav>\n'
        f"<main>{''.join(sections)}</main>\n"
        f'<footer><div class="inner"><p>Written by volseg {__version__}. The page loads nothing from any network.</p>'
        "</div></footer>\n</body>\n</html>\n"
    )


def _section(identity: str, title: str, content: str) -> str:
    return f'<section id="{escape(identity)}"><h2>{escape(title)}</h2>{content}</section>'


def _decisions(decisions: Sequence[Decision]) -> str:
    rows = "".join(
        f"<tr><th>{escape(title_of(one))}</th><td>{escape(value_of(one))}</td>"
        f"<td>{escape(one.reason)}</td><td>{escape(one.change)}</td></tr>"
        for one in decisions
    )
    head = "<tr><th>Decision</th><th>Value</th><th>Why</th><th>What would change it</th></tr>"
    return f'<div class="wide"><table class="decisions"><thead>{head}</thead><tbody>{rows}</tbody></table></div>'


def _bundle(name: str, one: BundlePlan) -> str:
    if one.refusal:
        return f'<p class="note">{escape(f"It cannot take the cohort: {one.refusal}.")}</p>'
    command = f"volseg train {name} --dataset_dir COHORT --plan_file plan.json"
    return f'{_decisions(one.decisions)}<p class="note">To train by it: <code>{escape(command)}</code></p>'


def _bundle_table(plan: Plan) -> str:
    names = list(plan.bundles)
    return _table(
        BUNDLE_HEAD,
        bundle_rows(plan),
        kind="bundles",
        advised=names.index(plan.advised) if plan.advised in names else None,
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, kind: str, advised: int | None = None) -> str:
    def line(number: int, row: Sequence[str]) -> str:
        mark = ' class="advised"' if number == advised else ""
        note = "" if number == advised and row[-1] == "advised" else row[-1]
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in [*row[1:-1], note])
        return f"<tr{mark}><th>{escape(row[0])}</th>{cells}</tr>"

    titles = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(line(number, row) for number, row in enumerate(rows))
    return (
        f'<div class="wide"><table class="{kind}"><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _fingerprint(facts: Mapping[str, Any]) -> str:
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in fingerprint_rows(facts))
    regions = _table(REGION_HEAD, region_rows(facts), kind="regions")
    note = (
        '<p class="note">Sizes are medians over the cases that hold a region; the fewest slices are those of its '
        "bounding box in any case that was read.</p>"
    )
    return f'<dl class="details">{rows}</dl>{regions}{note}'
