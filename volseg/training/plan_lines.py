"""The plan of a training as it starts: its five decisive lines, and before none the whole of it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from volseg.bundle import asked_schemes
from volseg.plan import Decision, Plan, Planned, fit_roi, sided_names
from volseg.report import plan_as_lines, plan_as_text
from volseg.training.planning import make_plan

logger = logging.getLogger("volseg.training")


def tell_plan(value: Callable[[str], Any], given: Mapping[str, Any], *, dry: bool = False) -> None:
    """Log what was decided on the grid, the window, the step, the time and mirroring, and why.

    Args:
        value: Function from an id of the bundle's train.json to its value.
        given: Settings that the user gave, which are told as such.
        dry: Whether nothing is trained, so that the whole plan is told.
    """
    planned = value("planned")
    if not isinstance(planned, Planned):
        return
    lines = [
        _grid(value, planned, given),
        _window(value, planned, given),
        _step(value, planned, given),
        _time(value, given),
    ]
    lines.append(_of_user("flip_axes", value("flip_axes"), given) or planned.decided("flip_axes"))
    for line in plan_as_lines(lines):
        logger.info("plan  %s", line)
    if 0 in value("flip_axes") and (sided := sided_names(planned.cohort.labels.names)):
        logger.warning(
            "warning: windows are mirrored right to left (flip_axes), and %s names a side of the body, which a "
            "mirrored image does not show; train with --flip_axes '[]' unless that is meant",
            sided[0],
        )
    if dry:
        plan = planned.plan
        if plan is None:
            made = make_plan(
                planned.cohort,
                [Path(value("bundle_root"))],
                minutes=float(value("max_minutes")),
                device=str(value("device")),
                fold=value("fold") if isinstance(value("fold"), int) else 0,
                measure=False,
                fingerprint=planned.fingerprint,
            )
            plan = _with_own_schemes(made, planned, given)
        logger.info("the whole plan, with the bundle's own settings\n%s", plan_as_text(plan, bundle=planned.bundle))
        return
    if planned.plan is not None:
        for warning in planned.plan.warnings:
            logger.warning("warning: %s", warning)


def _with_own_schemes(plan: Plan, planned: Planned, given: Mapping[str, Any]) -> Plan:
    """The plan with the schemes of intensities that a training without a plan takes, where they are others."""
    asked = given.get("normalisation", "auto")
    taken = [one.to_json() for one in asked_schemes(asked, planned.cohort.channel_names)]
    why = "given with --normalisation" if "normalisation" in given else "by the channels' names alone, without a plan"
    own = Decision("normalisation", taken, why, "a --plan_file, whose schemes are checked against the values")

    def differs(decision: Decision) -> bool:
        schemes = [one["scheme"] for one in taken]
        return decision.name == "normalisation" and [one["scheme"] for one in decision.value] != schemes

    return replace(plan, decisions=tuple(own if differs(one) else one for one in plan.decisions))


def _of_user(name: str, value: Any, given: Mapping[str, Any]) -> Decision | None:  # noqa: ANN401 - any setting
    return Decision(name, value, f"given with --{name}", "") if name in given else None


def _grid(value: Callable[[str], Any], planned: Planned, given: Mapping[str, Any]) -> Decision:
    spacing = [float(mm) for mm in value("spacing_mm")]
    own = _of_user("spacing_mm", spacing, given)
    if own is not None:
        return own
    decision = planned.decided("spacing_mm")
    if [float(mm) for mm in decision.value] == spacing:
        return decision
    median = " x ".join(f"{mm:g}" for mm in decision.value)
    return Decision(
        "spacing_mm", spacing, f"images of {median} mm are worked on coarser, so that a window shows more", ""
    )


def _window(value: Callable[[str], Any], planned: Planned, given: Mapping[str, Any]) -> Decision:
    roi = [int(n) for n in value("roi_size")]
    shape = planned.cohort.median_shape(value("spacing_mm"))
    part = 100 * math.prod(min(a, b) for a, b in zip(roi, shape, strict=True)) / math.prod(shape)
    seen = f"{part:.3g} % of the median image, {' x '.join(map(str, shape))}"
    if "roi_size" in given:
        return Decision("roi_size", roi, f"given with --roi_size; {seen}", "")
    whole = fit_roi(shape, divisor=value("roi_divisor"), voxels=2**62, spacing_mm=value("spacing_mm"))
    limit = f"at most {value('roi_voxels'):,} voxels"
    if math.prod(whole) == math.prod(roi):
        rounded = any(a < b for a, b in zip(roi, shape, strict=True))
        limit = "as large as the image, to the nearest multiple" if rounded else "as large as the image"
    return Decision("roi_size", roi, f"{limit}; {seen}", "")


def _step(value: Callable[[str], Any], planned: Planned, given: Mapping[str, Any]) -> Decision:
    batch, crops = value("batch_size"), value("crops_per_case")
    share = value("background_share")
    how = "as given" if {"batch_size", "crops_per_case"} & set(given) else "as planned" if planned.plan else "the usual"
    return Decision(
        "batch_size", batch, f"{crops} windows of each, {how}; {100 * share:.0f} % of them outside all regions", ""
    )


def _time(value: Callable[[str], Any], given: Mapping[str, Any]) -> Decision:
    minutes, interval = value("max_minutes"), value("val_interval")
    every = f"a validation every {interval} epochs" if interval > 1 else "a validation after each epoch"
    if minutes:
        return Decision("max_minutes", minutes, f"the learning rate ends with them; {every}", "")
    said = "as given" if "max_epochs" in given else "the usual number"
    return Decision("epochs", value("max_epochs"), f"{said}; {every}", "")
