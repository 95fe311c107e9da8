"""The parts of the HTML report that show cases: figures, volumes over sessions, one section per case."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape

from volseg.cohort import CaseRow, Cohort, session_date, sessions_of
from volseg.evaluation import METRICS, RegionScores
from volseg.pictures import CasePicture
from volseg.report.cells import NONE
from volseg.report.figures import Point, Session, curve_figure, spoken, strip_figure
from volseg.report.html_tables import swatch

_PLOTTED = ("dice", "hd95_mm")
_MOST_POINTS = 10_000  # of a figure
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_SIDES = {"R": "right", "L": "left", "A": "anterior", "P": "posterior", "S": "superior", "I": "inferior"}


def figures(rows: Sequence[RegionScores], cohort: Cohort, links: Mapping[str, str]) -> str:
    """One strip of all cases per region, for Dice and for HD95."""
    drawn = []
    crowded = len(rows) > _MOST_POINTS
    by_region: dict[str, list[RegionScores]] = {}
    for row in rows:
        by_region.setdefault(row.region, []).append(row)
    for metric in METRICS:
        if metric.name not in _PLOTTED or all(getattr(row, metric.name) is None for row in rows):
            continue
        lanes = [
            (
                region,
                [
                    Point(row.key, getattr(row, metric.name), row.outcome or "", _anchor(links, row.key))
                    for row in by_region.get(region.name, ())
                ],
            )
            for region in cohort.labels.regions
        ]
        lanes = [lane for lane in lanes if lane[1]]
        drawn.append(
            "<figure>"
            + strip_figure(
                lanes,
                title=metric.title,
                unit=metric.unit,
                digits=metric.digits,
                ratio=not metric.unit,
                outside_only=crowded,
            )
            + "</figure>"
        )
    if not drawn:
        return ""
    note = (
        f"A point is a case{' beyond the whiskers' * crowded}: point at it for its name, click for its picture. Box: "
        "quartiles and median; whiskers: the farthest case within 1.5 box lengths. × missed, + invented."
    )
    return (
        f'<section id="spread"><h2>Spread over cases</h2><div class="pair">{"".join(drawn)}</div>'
        f'<p class="note">{note}</p></section>'
    )


def _anchor(links: Mapping[str, str], key: str) -> str:
    return f"#{links[key]}" if key in links else ""


def curves(rows: Sequence[RegionScores], cohort: Cohort) -> str:
    """Volumes over the sessions of each patient that has two or more; empty if none has."""
    by_patient: dict[str, list[RegionScores]] = {}
    for row in rows:
        if row.key in cohort.rows and row.reference_ml is not None and row.predicted_ml is not None:
            by_patient.setdefault(row.patient, []).append(row)
    blocks = []
    for patient, of_patient in sorted(by_patient.items()):
        keys = list(dict.fromkeys(row.key for row in of_patient))
        if len(keys) < 2:
            continue
        times, axis = session_times({key: cohort.rows[key] for key in keys})
        drawn = []
        for region in cohort.labels.regions:
            sessions = [
                Session(times[row.key][1], times[row.key][0], row.reference_ml or 0.0, row.predicted_ml or 0.0)
                for row in of_patient
                if row.region == region.name
            ]
            if any(session.reference_ml or session.predicted_ml for session in sessions):
                drawn.append(curve_figure(region, sorted(sessions, key=lambda session: session.at), axis=axis))
        if drawn:
            blocks.append(
                f'<div class="patient"><h3>{escape(patient)}</h3><div class="curves">{"".join(drawn)}</div></div>'
            )
    if not blocks:
        return ""
    key = "".join(
        f'<span class="key"><svg viewBox="0 0 34 10" aria-hidden="true"><path class="curve {kind}" d="M1 5H33" '
        f'stroke="currentColor"/><circle class="{mark}" cx="17" cy="5" r="4" fill="{fill}" stroke="currentColor"/>'
        f"</svg>{text}</span>"
        for kind, mark, fill, text in (
            ("reference", "dot", "currentColor", "reference"),
            ("predicted", "ring", "none", "prediction"),
        )
    )
    return f'<section id="sessions"><h2>Volume over sessions</h2><p class="note">{key}</p>{"".join(blocks)}</section>'


def session_times(rows: Mapping[str, CaseRow]) -> tuple[dict[str, tuple[float, str]], str]:
    """The position of each case on the axis of time, its label there, and the name of the axis.

    The column `day` of `cases.csv` is the position, or the days from the first date in the sessions' names, or else the
    number in them, if each session has a different one; else they are evenly spaced in the order of
    `volseg.cohort.sessions_of`. A hyphen before a number is no sign: `ses-2` follows `ses-1`.

    Args:
        rows: Rows of one patient by the case's key.

    >>> def row(session, day=None):
    ...     return CaseRow("k", "p", session, (1, 1, 1), (1, 1, 1), "RAS", "", (), day=day)
    >>> session_times({"a": row("ses-12"), "b": row("ses-3")})
    ({'a': (12.0, '12'), 'b': (3.0, '3')}, 'ses')
    >>> session_times({"a": row("pre", 0.0), "b": row("post", 30.0)})
    ({'a': (0.0, '0'), 'b': (30.0, '30')}, 'day')
    >>> session_times({"a": row("ses-20240131"), "b": row("ses-20240201")})  # a day apart, not 70
    ({'a': (0.0, '0'), 'b': (1.0, '1')}, 'day')
    >>> session_times({"a": row("pre"), "b": row("post")})
    ({'b': (0.0, 'post'), 'a': (1.0, 'pre')}, 'session')
    """
    days = {key: row.day for key, row in rows.items() if row.day is not None}
    if len(days) == len(set(days.values())) == len(rows):
        return {key: (day, f"{day:g}") for key, day in days.items()}, "day"
    if len(days) < len(rows):  # some state none, which tells no order
        rows = {key: replace(row, day=None) for key, row in rows.items()}
        dates = {key: on for key, row in rows.items() if (on := session_date(row.session)) is not None}
        if len(dates) == len(set(dates.values())) == len(rows):
            first = min(dates.values())
            return {key: (float((on - first).days), str((on - first).days)) for key, on in dates.items()}, "day"
        found = {key: _NUMBER.findall(row.session) for key, row in rows.items()}
        if all(len(numbers) == 1 for numbers in found.values()) and len({n[0] for n in found.values()}) == len(found):
            words = {_NUMBER.sub("", row.session).strip(" _-") for row in rows.values()}
            axis = words.pop() if len(words) == 1 else ""
            return {key: (float(numbers[0]), numbers[0]) for key, numbers in found.items()}, axis or "session"
    by_time = sessions_of(replace(row, key=key) for key, row in rows.items()).values()
    ordered = [key for sessions in by_time for session in sessions for key in session.keys]
    return {key: (float(number), rows[key].session or key) for number, key in enumerate(ordered)}, "session"


def case_section(
    rows: Sequence[RegionScores],
    cohort: Cohort,
    *,
    identity: str,
    picture: CasePicture | None,
    source: str,
    problem: str,
    viewer: str,
    opened: bool,
) -> str:
    """The section of one case: its scores, its picture, and the element of the viewer.

    Args:
        rows: Rows of this case, one per region.
        cohort: Cohort, which gives sessions and colours.
        identity: Id to which the tables link.
        picture: Picture with its facts; None if there is none.
        source: Source of the `<img>`: a data URI or a path beside the page.
        problem: Reason why there is no picture.
        viewer: Element of the viewer, or empty.
        opened: Whether the section is open without a click.
    """
    first = rows[0]
    known = cohort.rows.get(first.key)
    patient = f"patient {first.patient}" if first.patient != first.key else ""
    who = " · ".join(text for text in (patient, known.session if known else "") if text)
    scores = "".join(
        f"<span>{swatch(row.region, cohort.labels)}{escape(spoken(row.region))} {_score(row)}</span>" for row in rows
    )
    body = f"<p>No picture: {escape(problem)}</p>" if picture is None else _figure(first.key, picture, source)
    return (
        f'<details class="case" id="{escape(identity)}"{" open" if opened else ""}><summary><b>{escape(first.key)}</b>'
        f'<span class="who">{escape(who)}</span><span class="scores">{scores}</span></summary>{body}{viewer}</details>'
    )


def _score(row: RegionScores) -> str:
    if row.outcome in ("missed", "invented"):
        return f'<span class="outcome {row.outcome}">{row.outcome}</span>'
    if row.dice is None:
        return escape(row.outcome or NONE)
    return f"<b>{row.dice:.3f}</b>"


def _figure(key: str, picture: CasePicture, source: str) -> str:
    width, height = picture.size
    said, caption, edges = f"{key}: image, reference and prediction", "The whole image.", ""
    if picture.slices > 1:  # the affine of a single image does not give the patient's sides
        left, above = picture.edges
        place = f"{picture.plane} slice {picture.slice} of {picture.slices}"
        said += f" of {place}"
        caption = (
            f"{place.capitalize()}, the one with most labelled voxels; the patient's {_SIDES[left]} is at the left."
        )
        edges = (
            f'<span class="edge left" aria-hidden="true">{left}</span>'
            f'<span class="edge above" aria-hidden="true">{above}</span>'
        )
    # Small pictures are not enlarged beyond the resolution of their voxels.
    most = max(width, 3 * 230)
    return (
        f'<figure style="--most:{most}px"><div class="panels"><span>Image</span><span>Reference</span>'
        f'<span>Prediction</span></div><div class="frame"><img src="{escape(source)}" width="{width}" '
        f'height="{height}" loading="lazy" decoding="async" alt="{escape(said)}">'
        f"{edges}</div><figcaption>{caption}</figcaption></figure>"
    )
