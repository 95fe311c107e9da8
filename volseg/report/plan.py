"""A plan for readers: all of it as text, its decisive lines, and the rows of its tables."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from volseg.cohort import AXIS_NAMES
from volseg.plan import Decision, Plan, shown

_WIDTH = 110
_TITLES = {
    "bundle": "Network",
    "spacing_mm": "Grid, mm",
    "normalisation": "Intensities",
    "flip_axes": "Mirrored axes",
    "background_share": "Windows outside regions",
    "folds": "Folds",
    "overlap": "Overlap at prediction",
    "skip_empty": "Leave out empty windows",
    "roi_voxels": "Voxels of a window",
    "roi_size": "Window",
    "network": "Depth and kernels",
    "batch_size": "Cases per step",
    "crops_per_case": "Windows per case",
    "max_minutes": "Minutes",
    "epochs": "Epochs",
    "val_interval": "Epochs between validations",
}
_SHARES = ("background_share", "overlap")


def plan_as_lines(decisions: Iterable[Decision]) -> list[str]:
    """A line per decision: what and why.

    >>> plan_as_lines([Decision("spacing_mm", [1.5, 1.5, 3.0], "the median", "other cases")])
    ['Grid, mm: 1.5 x 1.5 x 3 (the median)']
    """
    return [f"{title_of(one)}: {value_of(one)} ({one.reason})" for one in decisions]


def plan_as_text(plan: Plan, *, bundle: str | None = None) -> str:
    """The whole plan for a terminal.

    Args:
        plan: Plan.
        bundle: Bundle whose decisions are told; the advised one by default.
    """
    name = bundle or plan.advised
    lines = [*_heading(plan), ""]
    for row in fingerprint_rows(plan.fingerprint):
        lines += _wrapped(f"{row[0]:<20}{row[1]}", indent=20)
    regions = region_rows(plan.fingerprint)
    if regions:
        lines += ["", *_columns(REGION_HEAD, regions)]
    lines += ["", "Decisions for all networks", *_decision_lines(plan.decisions)]
    if name is not None and name in plan.bundles:
        one = plan.bundles[name]
        lines += ["", f"Decisions for {name}"]
        lines += _wrapped(f"  cannot take the cohort: {one.refusal}", indent=4) if one.refusal else []
        lines += _decision_lines(one.decisions)
    others = bundle_rows(plan)
    if len(others) > 1:
        lines += ["", *_columns(BUNDLE_HEAD, others)]
    for warning in plan.warnings:
        lines += ["", *_wrapped(f"warning: {warning}", indent=2)]
    return "\n".join(lines)


def title_of(decision: Decision) -> str:
    """What a decision is about, for people."""
    return _TITLES.get(decision.name, decision.name)


def value_of(decision: Decision) -> str:
    """The value of a decision, for people.

    >>> value_of(Decision("background_share", 1 / 3, "", "")), value_of(Decision("flip_axes", [0], "", ""))
    ('33 %', 'right-left')
    """
    value = decision.value
    if decision.name in _SHARES:
        return f"{100 * value:.0f} %"
    if decision.name == "flip_axes":
        return ", ".join(AXIS_NAMES[axis] for axis in value) or "none"
    if decision.name == "normalisation":
        return ", ".join(one["scheme"] for one in value)
    if decision.name == "roi_voxels":
        return f"{value:,}"
    if decision.name == "max_minutes" and not value:
        return "no limit"
    if decision.name == "network" and "strides" in value:
        last = [1, 1, 1]
        for stride in value["strides"]:
            last = [a * b for a, b in zip(last, stride, strict=True)]
        return f"{len(value['strides'])} stages, {' x '.join(map(str, last))} times coarser at the bottom"
    return shown(value)


def name_of(plan: Plan) -> str:
    """The name of the folder of the cohort."""
    return Path(str(plan.cohort.get("folder", ""))).name or "cohort"


def _heading(plan: Plan) -> list[str]:
    return [f"Plan for {plan.cohort.get('folder')}", *(f"  {name}: {text}" for name, text in details(plan)[1:])]


def details(plan: Plan) -> list[tuple[str, str]]:
    """Facts of cohort, machine and time by name, for the head of a page."""
    machine = plan.machine
    minutes = f"{machine['minutes']:g} minutes" if machine.get("minutes") else "by epochs"
    memory = f"{machine['memory_gib']:g} GiB for a step" if machine.get("memory_gib") is not None else "unknown"
    found = [
        ("Cohort", str(plan.cohort.get("folder"))),
        ("Device", f"{machine['device']} ({machine['name']}), {machine['cores']} cores, {memory}"),
        ("Time", minutes),
    ]
    if machine.get("busy"):
        found.append(("Load", str(machine["busy"])))
    return found


def _wrapped(text: str, *, indent: int) -> list[str]:
    return textwrap.wrap(text, _WIDTH, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


def _decision_lines(decisions: Iterable[Decision]) -> list[str]:
    lines = []
    for one in decisions:
        lines += _wrapped(f"  {title_of(one)}: {value_of(one)}", indent=4)
        lines += _wrapped(f"      because {one.reason}", indent=6)
        lines += _wrapped(f"      changed by {one.change}", indent=6)
    return lines


def _columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    ]


def fingerprint_rows(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Facts of the whole cohort by name."""
    spread = [
        f"{'XYZ'[axis]} {low:g} to {high:g}"
        for axis, (low, _, _, high) in enumerate(facts["spacing_range_mm"])
        if low != high
    ]
    sizes = [f"{'XYZ'[axis]} {low} to {high}" for axis, (low, high) in enumerate(facts["shape_range"]) if low != high]
    rows = [
        (
            "Cases",
            f"{facts['cases']} of {facts['patients']} patients; read: {facts['looked_at']} labels, "
            f"the images of {facts['images_read']}",
        ),
        ("Median shape", _by(facts["shape"]) + (f" ({', '.join(sizes)})" if sizes else "")),
        ("Median spacing", _by(facts["spacing_mm"]) + " mm" + (f" ({', '.join(spread)})" if spread else "")),
        ("Anisotropy", f"{facts['anisotropy']:.2f}, the coarsest spacing over the finest"),
        ("Channels", ", ".join(facts["channel_names"])),
    ]
    if facts["folds"]:
        rows.append(("Folds", ", ".join(f"{train}/{check}" for train, check in facts["folds"])))
    for number, name in enumerate(facts["channel_names"]):
        for what, found in (("inside regions", facts["foreground"]), ("outside", facts["background"])):
            if found and found[number]:
                one = found[number]
                low, _, median, _, high = one["quantiles"]
                rows.append(
                    (
                        f"{name} {what}",
                        f"median {median:.4g}, mean {one['mean']:.4g}, deviation {one['std']:.4g}, "
                        f"0.5 to 99.5 %: {low:.4g} to {high:.4g}",
                    )
                )
    return rows


REGION_HEAD = (
    "region",
    "cases",
    "voxels",
    "ml",
    "% of image",
    "fewest slices",
    "mm",
    "parts",
    "by fold, training/validation",
)


def region_rows(facts: Mapping[str, Any]) -> list[list[str]]:
    """A row per region."""
    rows = []
    for one in facts["regions"]:
        folds = facts["region_cases"].get(one["name"], [])
        by_fold = ", ".join(f"{train}/{check}" for train, check in folds)
        if not one["cases"]:
            rows.append([one["name"], "0", *["–"] * 6, by_fold])
            continue
        parts = "–" if one["parts"] is None else f"{one['parts']:g}"
        rows.append(
            [
                one["name"],
                str(one["cases"]),
                f"{one['voxels']:,.0f}",
                f"{one['volume_mm3'] / 1000:.3g}",
                f"{100 * one['share']:.3g}",
                _by(one["extent"]),
                " x ".join(f"{mm:.3g}" for mm in one["extent_mm"]),
                parts,
                by_fold,
            ]
        )
    return rows


BUNDLE_HEAD = ("network", "window", "windows per step", "s per step", "GiB", "steps", "note")


def bundle_rows(plan: Plan) -> list[list[str]]:
    """A row per bundle, in the order of `BUNDLE_HEAD`."""
    rows = []
    for name, one in plan.bundles.items():
        found = {decision.name: decision.value for decision in one.decisions}
        trial = one.trial or {}
        note = one.refusal or ("advised" if name == plan.advised else "")
        rows.append(
            [
                name,
                _by(found["roi_size"]) if "roi_size" in found else "–",
                str(found["batch_size"] * found["crops_per_case"]) if "batch_size" in found else "–",
                f"{trial['step_s']:.3g}" if trial else "–",
                f"{trial['step_gib']:.2g}" if trial.get("step_gib") is not None else "–",
                f"{trial['steps']:,}" if trial.get("steps") else "–",
                note,
            ]
        )
    return rows


def _by(sizes: Sequence[float]) -> str:
    return " x ".join(f"{one:g}" for one in sizes)
