"""Labels of a series from the RTSTRUCT and DICOM SEG objects that refer to it, and the table of all their names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from volseg.dicom.contours import (
    Image,
    Roi,
    by_slice,
    misplaced,
    of_region,
    rasterise_outlines,
    reaches_beyond,
    read_outlines,
    skipped_slices,
)
from volseg.dicom.drawing import APPROVED, Drawing
from volseg.dicom.file import Quiet, read_header
from volseg.dicom.image import Stack
from volseg.dicom.index import OUTLINES
from volseg.dicom.matches import Match
from volseg.dicom.names import Rules, clash, escaped, fold, region_of, spellings
from volseg.dicom.segments import FRACTIONS, FrameFilter, read_voxels
from volseg.errors import LabelError, SourceError, UsageError, first_names
from volseg.labels import LabelTable, RegionCanvas
from volseg.volume import Volume

# A label map of bytes keeps every overlap of this many regions, or 255 values that are known beforehand.
OVERLAPPING = 8
CURE = f"keep it with --overlaps, or choose up to {OVERLAPPING} with --labels"
# ManufacturerModelName of a program that takes PixelSpacing for columns before rows, seen in 1.2.7.
_RT_UTILS = "rt-utils"
_LEAST_SHIFT = 0.1  # of a pixel, at the far side of the image


def regions_of(drawing: Drawing, rules: Rules) -> set[str]:
    """The regions that a drawing holds, by the names that the rules give them."""
    return {name for name in (region_of(roi.name, rules) for roi in drawing.rois) if name}


def rules_of(drawings: Sequence[Drawing], rules: Rules) -> Rules:
    """The rules, or without any the one name of each region, however it is spelled."""
    if rules:
        return rules
    names = [roi.name for drawing in drawings for roi in drawing.rois]
    chosen = spellings(names)
    tidy = sorted(set(map(_tidy, names)), key=lambda name: (chosen[fold(name)].lower(), chosen[fold(name)], name))
    return [(escaped(name), chosen[fold(name)]) for name in tidy]


def _tidy(name: str) -> str:
    return " ".join(name.split())


def label_table(drawings: Sequence[Drawing], rules: Rules) -> LabelTable:
    """The table of the regions of all drawings: up to 8 may overlap; more have no value for an overlap yet.

    Order: that of the rules, else alphabetic. Colour and code are the first that a drawing states.

    Raises:
        UsageError: a rule that fits no region, or a region with a reserved name.
    """
    rois = [roi for drawing in drawings for roi in drawing.rois]
    held: dict[str, list[Roi]] = {}
    for roi in rois:
        name = region_of(roi.name, rules)
        if name:
            held.setdefault(name, []).append(roi)
    by_rule = list(dict.fromkeys(name for _, name in rules))
    names = by_rule or sorted(held, key=lambda name: (name.lower(), name))
    absent = [name for name in names if name not in held]
    if absent and rois:
        there = sorted({roi.name for roi in rois})
        raise UsageError(
            f"--labels asks for {', '.join(absent)}, and no region fits; there are: {', '.join(there[:20])}"
            + (f" and {len(there) - 20} more" if len(there) > 20 else "")
            + ("; a comma or an equals sign needs a backslash before it" if re.search("[,=]", "".join(there)) else "")
        )
    reserved = [name for name in names if name.lower() in ("background", "ignore")]
    if reserved:
        raise UsageError(f"a region is called {reserved[0]!r}, which has a meaning of its own; rename it with --labels")
    if len(names) > 255:
        raise UsageError(f"there are {len(names)} regions, a label map keeps 255; choose with --labels")
    names = names or ["structure"]  # nothing is drawn here; a cohort's table has one region at least
    table = LabelTable.overlapping(names) if len(names) <= OVERLAPPING else LabelTable.exclusive(names)
    regions = []
    for region in table.regions:
        colour = next((roi.colour for roi in held.get(region.name, []) if roi.colour), region.colour)
        code = next((roi.code for roi in held.get(region.name, []) if roi.code), region.code)
        regions.append(replace(region, colour=colour, code=code))
    return LabelTable(tuple(regions))


def of_several_codes(drawings: Sequence[Drawing], rules: Rules) -> list[str]:
    """What to say of segments of one name and several codes: `Segment_1` may be the liver here and the spleen there.

    Codes of different schemes may mean one structure, and so are not compared. Regions of structure sets are not looked
    at: their codes come from templates of the planning system.
    """
    codes: dict[tuple[str, str], set[str]] = {}
    for drawing in drawings:
        for roi in () if drawing.instance.sop_class in OUTLINES else drawing.rois:
            if roi.code is not None and not roi.code.general and region_of(roi.name, rules):
                codes.setdefault((fold(roi.name), roi.code.scheme), set()).add(roi.code.value)
    spelt = spellings(roi.name for drawing in drawings for roi in drawing.rois)
    told = sorted({f"{spelt[name]} ({len(values)} codes)" for (name, _), values in codes.items() if len(values) > 1})
    if not told:
        return []
    return [
        f"segments of one name bear different codes, and count as one region: {first_names(told)}; if they are several "
        "structures, give them different names in the objects"
    ]


def read_label(matches: Sequence[Match], stack: Stack, table: LabelTable, rules: Rules) -> tuple[Volume, list[str]]:
    """The label map of one series, and what a reader should know of it; of a case see `read_labels`.

    Raises:
        SourceError: A cause of `draw_labels`.
        LabelError: Regions overlap in a way that the table has no value for.
    """
    canvas, warnings = draw_labels(matches, stack, table.names, rules)
    return Volume(canvas.label_map(table, cure=CURE), stack.affine_ras), warnings


@Quiet()  # held open: to enter it anew for each value takes a good part of the time
def draw_labels(
    matches: Sequence[Match], stack: Stack, names: Sequence[str], rules: Rules
) -> tuple[RegionCanvas, list[str]]:
    """Draw the regions of a series, of which `names` is the order; and what a reader should know of them.

    Where two drawings hold one region, an approved one counts before one that is not, and a rejected one after it; of
    equal ones that which was drawn last.

    Raises:
        SourceError: a drawing that is damaged or lies on another grid, or two of one region and one date.
    """
    drawings = [item.drawing for item in matches]
    warnings = [item.note for item in matches if item.note]
    warnings += [note for drawing in drawings for note in drawing.notes]
    warnings += [f"the {drawing.kind} is a prediction of volseg" for drawing in drawings if drawing.maker == "volseg"]
    warnings += [f"the {drawing.kind} was rejected (ApprovalStatus)" for drawing in drawings if drawing.rejected]
    warnings += _of_writers(drawings, stack)
    owners: dict[str, list[Match]] = {}
    twins: list[tuple[str, Match]] = []
    for item in sorted(matches, key=lambda item: (item.drawing.rank, item.drawing.drawn)):
        for region in regions_of(item.drawing, rules):
            before = owners.get(region, [])
            if before and before[0].drawing is item.drawing:  # on two series of one grid
                before.append(item)
                continue
            if before and _alike(before[0].drawing, item.drawing):
                twins.append((region, item))
                continue
            if before:
                twins = [(name, twin) for name, twin in twins if name != region]
                why = _which(before[0].drawing, item.drawing)
                warnings.append(f"two objects hold {region}, and the {why} was taken")
            owners[region] = [item]
    canvas = RegionCanvas(stack.shape)
    places = {name: place for place, name in enumerate(names)}
    for item in {id(item): item for some in owners.values() for item in some}.values():
        wanted: dict[int, int] = {}
        for roi in item.drawing.rois:
            name = region_of(roi.name, rules)
            if name in places and any(owner is item for owner in owners[name]):
                wanted[roi.number] = places[name]
        for number, voxels in _voxels(item, wanted, stack, warnings):
            canvas.paint(voxels, wanted[number])
    for region, item in ((name, twin) for name, twin in twins if name in places):
        _check_twin(item, canvas.mask(places[region]), stack, region, rules)
        warnings.append(f"two objects hold {region} with the same voxels, and it was taken once")
    held = frozenset[int]().union(*canvas.combinations)
    empty = [name for name, place in places.items() if name in owners and place not in held]
    if empty:
        warnings.append(f"no voxel of {', '.join(empty)} lies in the image")
    return canvas, warnings


def _which(before: Drawing, after: Drawing) -> str:
    """Why the second of two drawings of a region counts."""
    if before.rank < after.rank:
        if after.approval == APPROVED:
            return "approved one"
        return "one that was not rejected" if before.rejected else "one that is no prediction of volseg"
    return "later one" if before.drawn.strip() else "one that states a date"


def _alike(before: Drawing, after: Drawing) -> bool:
    """Whether nothing but their voxels can tell which of two drawings of a region counts."""
    return before.rank == after.rank and before.drawn == after.drawn


def _check_twin(twin: Match, taken: NDArray[np.bool_], stack: Stack, region: str, rules: Rules) -> None:
    """Refuse a second drawing of a region and a date, but for a copy that holds the same voxels.

    Raises:
        SourceError: it holds others.
    """
    wanted = {roi.number: 0 for roi in twin.drawing.rois if region_of(roi.name, rules) == region}
    mask = np.zeros(stack.shape, dtype=bool)
    for _, voxels in _voxels(twin, wanted, stack, []):
        mask[voxels] = True
    if not np.array_equal(mask, taken):
        raise SourceError(f"two objects of one date hold {region!r} and differ; leave one out of the folder")


def _places(stack: Stack) -> dict[Image, int]:
    """The slice of each image that an outline or a frame may refer to."""
    places: dict[Image, int] = {}
    whole = len({item.sop_uid for item in stack.slices}) == len(stack.slices)
    for z, item in enumerate(stack.slices):
        places[item.sop_uid, item.frame + 1] = z
        if whole:
            places[item.sop_uid, 0] = z
    return places


def _voxels(
    match: Match, wanted: Mapping[int, int], stack: Stack, warnings: list[str]
) -> Iterator[tuple[int, tuple[NDArray[np.int64], ...]]]:
    """Piece after piece, the number of a region and the indices of its voxels."""
    drawing, parts, places = match.drawing, match.parts, _places(stack)
    names = {roi.number: roi.name for roi in drawing.rois}
    if drawing.instance.sop_class not in OUTLINES:
        taken = FrameFilter(parts.take, places)
        yield from read_voxels(drawing.instance.path, wanted, stack.shape, stack.affine_ras, frames_taken=taken)
        for number in wanted:
            left, odd = taken.elsewhere.get(number, 0), taken.misplaced.get(number, 0)
            warnings += _of_parts("frames", names[number], left=left, misplaced=0 if parts.carried else odd)
            if number in taken.fractions:
                warnings.append(f"{names[number]} {FRACTIONS}")
        if taken.undescribed:
            told = ", ".join(map(str, sorted(taken.undescribed)))
            warnings.append(f"the DICOM SEG holds the values {told}, which it does not name, and they were left out")
        return
    header = read_header(drawing.instance.path)
    for number in wanted:
        with of_region(names[number], cure="; --labels can leave the region out"):
            outlines = read_outlines(header, number, takes=partial(parts.take, number))
            polygons = by_slice(outlines.contours, stack.affine_ras)
        odd = 0 if parts.carried else misplaced(outlines, places, stack.affine_ras)
        warnings += _of_parts("outlines", names[number], left=outlines.elsewhere, misplaced=odd)
        outlined = list(polygons)
        if beyond := sum(any(reaches_beyond(points, stack.shape) for points in some) for some in polygons.values()):
            warnings.append(f"outlines of {names[number]} reach beyond the image on {beyond} slices and were cut off")
        if any(not 0 <= z < stack.shape[2] for z in outlined):
            warnings.append(f"outlines of {names[number]} lie beyond the slices of the image and were cut off")
        span = outlined[-1] - outlined[0] + 1 if outlined else 0
        if 3 * len(outlined) < 2 * span:
            warnings.append(f"{names[number]} is outlined on {len(outlined)} of {span} slices, and none was filled in")
        elif drawing.maker != "volseg" and (left := skipped_slices(polygons)):  # whose outlines are those of voxels
            warnings.append(
                f"{names[number]} is outlined above and below {left} slices and not on them, and none was filled in"
            )
        for kind, count in sorted(outlines.skipped.items()):
            warnings.append(
                f"{count} outlines of {names[number]} are of the kind {kind}, hold no voxel and were left out"
            )
        mask, doubtful = rasterise_outlines(outlines, stack.shape, stack.affine_ras)
        if doubtful:
            warnings.append(
                f"outlines of {names[number]} run twice through the same voxels on {doubtful} slices, in both "
                "directions; they were taken for a wall one voxel thick"
            )
        yield number, np.nonzero(mask)


def _of_writers(drawings: Sequence[Drawing], stack: Stack) -> Iterator[str]:
    """What to say of drawings whose program is known to write them displaced."""
    plane = stack.slices[0].plane
    rows_mm, columns_mm = plane.spacing_mm
    moved = abs(rows_mm - columns_mm) / min(rows_mm, columns_mm) * max(plane.rows, plane.columns)
    for drawing in drawings:
        if drawing.model.lower() == _RT_UTILS and moved > _LEAST_SHIFT:
            yield (
                "the RTSTRUCT was written by rt-utils, which takes the distance of rows for that of columns, and "
                f"pixels are {columns_mm:g} x {rows_mm:g} mm: its outlines were read where they lie, which may not be "
                "where they were drawn; compare them with the masks that they were made of"
            )


def _of_parts(what: str, name: str, *, left: int, misplaced: int) -> Iterator[str]:
    """What to say of outlines or frames of a region that refer to other images than those where they lie."""
    if left:
        yield (
            f"{left} {what} of {name} refer to no image of this series, and may be of another one; they were left out"
        )
    if misplaced:
        yield f"{misplaced} {what} of {name} refer to images of other slices, and were drawn where they lie themselves"


def spelled(drawings: Sequence[Drawing], rules: Rules) -> list[str]:
    """What to say of regions of a series whose names are spelled otherwise elsewhere; `rules` are those of `rules_of`.

    Raises:
        LabelError: one object has two regions whose names differ in case, spaces or underscores only.
    """
    told = []
    for drawing in drawings:
        names = sorted({_tidy(roi.name) for roi in drawing.rois})
        twice = clash(names)
        if twice:
            one, other = map(escaped, twice)
            raise LabelError(
                f"{twice[0]!r} and {twice[1]!r} are two regions of one object; name both, as in "
                f'--labels "{one}=a,{other}=b", or unite them with --labels "{one}=a,{other}=a"'
            )
        taken = {name: region_of(name, rules) for name in names}
        told += [
            f"{name!r} is taken for {region}, as others spell it" for name, region in taken.items() if name != region
        ]
    return told
