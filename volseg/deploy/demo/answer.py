"""The answers of the page as HTML: the slice, the table of regions, the links, an error. All text is escaped."""

from __future__ import annotations

import base64
import math
from collections.abc import Collection, Sequence
from html import escape

from volseg.deploy.demo.segmentation import VOLUMES, RegionResult, Segmentation
from volseg.deploy.demo.slices import png, slice_pixels
from volseg.evaluation import STANDARD
from volseg.metrics import TIME_SAVED_DEFINITION
from volseg.pictures import CaseView

NONE = "–"


def problem(message: str) -> str:
    """An error message in one sentence."""
    return f'<p class="problem" role="alert">{escape(message)}</p>'


def slice_picture(case_view: CaseView, place: int, *, parts: Collection[str]) -> str:
    """The slice as an image inside the page, with its number below."""
    data = base64.b64encode(png(slice_pixels(case_view, place, parts=parts))).decode()
    where = ""
    if case_view.slices > 1:
        where = f"{case_view.view.plane} slice {case_view.view.number(place, case_view.slices)} of {case_view.slices}"
    alt = f"{case_view.name}, {where}" if where else case_view.name
    return (
        f'<figure class="slice"><img src="data:image/png;base64,{data}" alt="{escape(alt)}">'
        f"<figcaption>{where.capitalize()}</figcaption></figure>"
    )


def legend(found: Segmentation) -> str:
    """The legend: colours, and the marks of prediction and reference."""
    regions = "".join(f"<span>{_swatch(region)}{escape(_spoken(region.name))}</span>" for region in found.regions)
    lines = "Line: prediction." + (" Area: reference." if found.reference is not None else "")
    return f'<p class="legend">{regions}<span class="how">{lines}</span></p>'


def headline(found: Segmentation) -> str:
    """A line with the case, its kind, and the time that the network took."""
    shape = " × ".join(map(str, found.prediction.shape))
    spacing = " × ".join(f"{mm:.3g}" for mm in found.prediction.spacing_mm)
    size = f"{shape} voxels of {spacing} mm" if found.measured else f"{shape} voxels, spacing unknown"
    return (
        f'<div class="headline"><h2>{escape(found.key)}</h2>'
        f"<p>{escape(found.what)} · {size} · segmented in {found.seconds:.1f} s</p></div>"
    )


def table(found: Segmentation) -> str:
    """One row per region: volumes, and against the reference Dice, surface Dice and the time saved."""
    scored = found.reference is not None
    points = any(region.score is not None and region.score.time_saved is not None for region in found.regions)
    heads = ["Region", "Volume (ml)" if found.measured else "Area (pixels)"]
    if scored:
        heads += ["Reference (ml)" if found.measured else "Reference (pixels)", "Dice", "Surface Dice", "By hand (min)"]
        heads += ["Saved (min)", *(["Points a slice"] if points else [])]
    else:
        heads.append("Expected Dice")
    lines = [_line(region, found, scored=scored, points=points) for region in found.regions]
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    note = _effort(found.regions, points=points) if scored else _EXPECTED
    return (
        f'<div class="wide"><table class="regions"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>{note}{_promised(found.regions)}"
    )


def _promised(regions: Sequence[RegionResult]) -> str:
    """One sentence with the bounds of a calibrated network; empty without a calibration."""
    given = [(_spoken(region.name), region.bounds) for region in regions if region.bounds is not None]
    if not given:
        return ""
    told = [
        f"{name} at least {math.floor(100 * one.dice_at_least) / 100:.2f}, with {100 * one.level:.0f} % probability"
        for name, one in given
        if one.dice_at_least is not None and one.level is not None
    ]
    told += [f"no bound for {name}, since {one.not_comparable}" for name, one in given if one.withheld]
    return f'<p class="note">Promised of the Dice: {escape("; ".join(told))}.</p>'


_EXPECTED = (
    '<p class="note">Expected Dice is what the network thinks of its own result, from its probabilities; there is no '
    "reference to compare with.</p>"
)


def _line(region: RegionResult, found: Segmentation, *, scored: bool, points: bool) -> str:
    cells = [_volume(region.predicted_ml, found)]
    row = region.score
    if scored:
        cells += [_volume(row.reference_ml if row else None, found), _number(row.dice if row else None, 3)]
        cells += [_number(row.surface_dice if row else None, 3), _number(region.by_hand_minutes, 1)]
        cells.append(_number(region.saved_minutes, 1))
        cells += [_number(row.time_saved if row else None, 2)] if points else []
    else:
        cells.append(_number(region.expected_dice, 3))
    inside = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr><th scope="row">{_swatch(region)}{escape(_spoken(region.name))}</th>{inside}</tr>'


def _effort(regions: Sequence[RegionResult], *, points: bool) -> str:
    by_hand = sum(region.by_hand_minutes or 0.0 for region in regions)
    saved = sum(region.saved_minutes or 0.0 for region in regions)
    share = f" ({100 * saved / by_hand:.0f} %)" if by_hand else ""
    more = f" {TIME_SAVED_DEFINITION}" if points else ""
    return (
        f'<p class="saved">Estimated time saved: <b>{saved:.1f} min</b> of {by_hand:.1f} min{share}</p>'
        f'<p class="note">An estimate, not a measurement: {STANDARD.minutes_per_metre:g} minutes a metre of contour, '
        "for all of the reference by hand, and for the part of it that the prediction's contour misses when it is "
        "corrected. "
        f"Surface Dice at {STANDARD.tolerance_mm:g} mm.{escape(more)}</p>"
    )


def downloads(found: Segmentation, token: str) -> str:
    """Links to the label map and to the segmentation for 3D Slicer."""
    label_map, slicer = (f"results/{token}/{name}" for name in found.files)
    return (
        f'<p class="downloads"><a href="{escape(label_map)}" download>Label map (.nii.gz)</a>'
        f'<a href="{escape(slicer)}" download>For 3D Slicer (.seg.nrrd)</a></p>'
    )


def viewer(found: Segmentation, token: str) -> str:
    """The element of the 3D view; empty for a single slice."""
    if found.flat:
        return '<p class="note">A single slice has no third dimension to show.</p>'
    source = f"results/{token}/{VOLUMES}"
    return f'<div class="viewer" data-key="{escape(found.key)}" data-volumes="1" data-file="{escape(source)}"></div>'


def _volume(ml: float | None, found: Segmentation) -> str:
    if ml is None or found.measured:
        return _number(ml, 2)
    return f"{ml * 1000:.0f}"  # a pixel of unknown size counts as 1 mm3


def _number(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:.{digits}f}"


def _swatch(region: RegionResult) -> str:
    return f'<span class="swatch" style="background:rgb{region.colour}"></span>'


def _spoken(name: str) -> str:
    return name.replace("_", " ")
