"""Labels of a series from the RTSTRUCT and DICOM SEG objects that refer to it, and the table of all their names."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from volseg.dicom.charset import declares_characters
from volseg.dicom.contours import (
    Roi,
    by_slice,
    rasterise_outlines,
    read_contours,
    read_outlines,
    read_rois,
    without_voxels,
)
from volseg.dicom.file import items, read_header, text
from volseg.dicom.image import Stack, read_stack
from volseg.dicom.index import OUTLINES, Index
from volseg.dicom.instance import Instance, Series
from volseg.dicom.names import Rules, clash, escaped, fold, region_of, spellings
from volseg.dicom.segments import read_segments, read_voxels
from volseg.errors import LabelError, SourceError, UsageError, VolsegError
from volseg.labels import LabelTable
from volseg.volume import Volume

logger = logging.getLogger(__name__)

# A label map of bytes keeps this many regions that may overlap, or 255 that do not.
OVERLAPPING = 8


@dataclass(frozen=True)
class Drawing:
    """An RTSTRUCT or DICOM SEG object: its regions, and what it refers to."""

    instance: Instance
    rois: tuple[Roi, ...]
    series_uids: frozenset[str]
    sop_uids: frozenset[str]
    frame_uids: frozenset[str]
    drawn: str
    maker: str
    notes: tuple[str, ...] = ()
    rejected: bool = False

    @property
    def kind(self) -> str:
        """What to call it."""
        return "RTSTRUCT" if self.instance.sop_class in OUTLINES else "DICOM SEG"


def read_drawing(instance: Instance) -> Drawing:
    """Read names and references of an object, not its voxels.

    Raises:
        SourceError: damaged.
    """
    header = read_header(instance.path)
    series, images, frames = set(), set(), {instance.frame_uid}
    for frame in items(header, "ReferencedFrameOfReferenceSequence"):
        frames.add(text(frame, "FrameOfReferenceUID"))
        for study in items(frame, "RTReferencedStudySequence"):
            for item in items(study, "RTReferencedSeriesSequence"):
                series.add(text(item, "SeriesInstanceUID"))
                images |= {text(image, "ReferencedSOPInstanceUID") for image in items(item, "ContourImageSequence")}
    for item in items(header, "ReferencedSeriesSequence"):
        series.add(text(item, "SeriesInstanceUID"))
        images |= {text(image, "ReferencedSOPInstanceUID") for image in items(item, "ReferencedInstanceSequence")}
    outlines = instance.sop_class in OUTLINES
    rois = read_rois(header) if outlines else read_segments(header)
    when = ("StructureSetDate", "StructureSetTime") if outlines else ("ContentDate", "ContentTime")
    drawn = " ".join(text(header, tag) for tag in when)
    uids = [frozenset(found - {""}) for found in (series, images, frames)]
    notes = (
        [f"{name} has no closed outline, so it has no voxels" for name in without_voxels(header)] if outlines else []
    )
    if rois and not declares_characters(header) and not all(roi.name.isascii() for roi in rois):
        notes.append("names of regions are in no stated character set, and may read wrongly")
    maker = text(header, "Manufacturer")
    rejected = text(header, "ApprovalStatus") == "REJECTED"
    return Drawing(instance, tuple(rois), uids[0], uids[1], uids[2], drawn, maker, tuple(notes), rejected=rejected)


def match(drawings: Iterable[Drawing], index: Index) -> dict[str, list[tuple[Drawing, str]]]:
    """The drawings of each series, by the name of its first instance, with what a reader should know of the match.

    A drawing belongs to the series of the images that it refers to, else to the series that it names. Where neither is
    there, to the one series on whose grid it lies, of the same frame of reference, or else the same study or patient.
    One that fits none or several is left out, with a warning in the log.
    """
    found: dict[str, list[tuple[Drawing, str]]] = {}
    by_uid: dict[str, list[Series]] = {}
    by_image: dict[str, list[Series]] = {}
    for series in index.series:
        for uid in {item.series_uid for item in series.instances}:
            by_uid.setdefault(uid, []).append(series)
        for uid in {item.sop_uid for item in series.instances}:
            by_image.setdefault(uid, []).append(series)
    for drawing in drawings:
        candidates, note = _candidates(drawing, index.series, by_uid, by_image)
        if candidates and not any(_same_frame(drawing, series) for series in candidates):
            logger.warning(
                "a %s states another frame of reference than the series it refers to or lies on, so it is no label of "
                "it, and was left out",
                drawing.kind,
            )
            continue
        candidates = [series for series in candidates if _same_frame(drawing, series)]
        if len(candidates) > 1:  # badly anonymised copies share UIDs
            candidates = [series for series in candidates if series.first.patient == drawing.instance.patient]
        if len(candidates) == 1:
            kept, elsewhere = _in_frame_of(candidates[0], drawing)
            told = [note, _without_frame(drawing, candidates[0]), elsewhere]
            found.setdefault(candidates[0].first.name, []).append((kept, "; ".join(filter(None, told))))
        else:
            fitting = f"fits {len(candidates)} series here" if candidates else "fits none of the series here"
            logger.warning("a %s %s and was left out", drawing.kind, fitting)
    return found


def _in_frame_of(series: Series, drawing: Drawing) -> tuple[Drawing, str]:
    """A drawing without the regions that state another frame of reference than the series, and which these are."""
    frame = series.first.frame_uid
    others = [roi for roi in drawing.rois if frame and roi.frame_uid not in ("", frame)]
    if not others:
        return drawing, ""
    names = ", ".join(roi.name for roi in others)
    left = replace(drawing, rois=tuple(roi for roi in drawing.rois if roi not in others))
    return left, f"{names} of the {drawing.kind} lies in another frame of reference and was left out"


def _without_frame(drawing: Drawing, series: Series) -> str:
    """What to say where it cannot be checked that a drawing lies in the frame of reference of its series."""
    if drawing.frame_uids and series.first.frame_uid:
        return ""
    which = "the image" if drawing.frame_uids else f"the {drawing.kind}"
    return f"{which} states no frame of reference, so it is not known that they lie in one"


def _same_frame(drawing: Drawing, series: Series) -> bool:
    """Whether a drawing may lie in the frame of reference of a series: both state the same one, or one states none."""
    frame = series.first.frame_uid
    return not frame or not drawing.frame_uids or frame in drawing.frame_uids


def _candidates(
    drawing: Drawing,
    there: Sequence[Series],
    by_uid: Mapping[str, Sequence[Series]],
    by_image: Mapping[str, Sequence[Series]],
) -> tuple[list[Series], str]:
    """The series that a drawing may belong to, and how that was found."""
    shown = {id(series): series for uid in drawing.sop_uids for series in by_image.get(uid, ())}
    named = {id(series): series for uid in drawing.series_uids for series in by_uid.get(uid, ())}
    if shown:
        return list(shown.values()), ""
    if named:
        absent = f"the {drawing.kind} refers to images that its series does not have, and was placed by position"
        return list(named.values()), absent if drawing.sop_uids else ""
    own = drawing.instance
    same_frame = [series for series in there if series.first.frame_uid in drawing.frame_uids]
    same_patient = [series for series in there if own.patient and series.first.patient == own.patient]
    same_study = [series for series in there if own.study_uid and series.first.study_uid == own.study_uid]
    how = "frame of reference and position" if same_frame else "position"
    fitting = [series for series in same_frame or same_study or same_patient if _fits(drawing, series)]
    return fitting, f"the {drawing.kind} refers to a series that is not there, and was matched by {how}"


def _fits(drawing: Drawing, series: Series) -> bool:
    """Whether a drawing lies on the grid of a series, all of it."""
    try:
        stack = read_stack(series)
        if drawing.instance.sop_class in OUTLINES:
            header = read_header(drawing.instance.path)
            for roi in drawing.rois:
                for z, polygons in by_slice(read_contours(header, roi.number), stack.affine_ras).items():
                    points = np.concatenate(polygons)
                    if not 0 <= z < stack.shape[2] or points.min() < -1 or (points > stack.shape[:2]).any():
                        return False
        else:
            for _ in read_voxels(drawing.instance.path, _numbers(drawing), stack.shape, stack.affine_ras):
                pass
    except VolsegError:
        return False
    return True


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
    """The table of the regions of all drawings: up to 8 may overlap, more may not.

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


def read_label(
    drawings: Sequence[tuple[Drawing, str]], stack: Stack, table: LabelTable, rules: Rules
) -> tuple[Volume, list[str]]:
    """The label map of a series, and what a reader should know of it.

    Where two drawings hold one region, that which was drawn last counts.

    Raises:
        SourceError: a drawing that is damaged or lies on another grid, or two of one region and one date.
        LabelError: regions that overlap where the table does not allow it.
    """
    warnings = [note for _, note in drawings if note]
    warnings += [note for drawing, _ in drawings for note in drawing.notes]
    warnings += [
        f"the {drawing.kind} is a prediction of volseg" for drawing, _ in drawings if drawing.maker == "volseg"
    ]
    warnings += [f"the {drawing.kind} was rejected (ApprovalStatus)" for drawing, _ in drawings if drawing.rejected]
    owners: dict[str, Drawing] = {}
    for drawing, _ in sorted(drawings, key=lambda pair: (not pair[0].rejected, pair[0].drawn)):
        for region in regions_of(drawing, rules):
            before = owners.get(region)
            if before is not None and before.rejected and not drawing.rejected:
                warnings.append(f"two objects hold {region}, and the one that was not rejected was taken")
                owners[region] = drawing
                continue
            if before is not None:
                if before.drawn == drawing.drawn:
                    raise SourceError(f"two objects of one date hold {region!r}; leave one out of the folder")
                warnings.append(f"two objects hold {region}, and the later one was taken")
            owners[region] = drawing
    label_map = np.zeros(stack.shape, dtype=np.uint8)
    places = {name: place for place, name in enumerate(table.names)}
    for drawing in dict.fromkeys(owners.values()):
        wanted: dict[int, int] = {}
        for roi in drawing.rois:
            name = region_of(roi.name, rules)
            if name in places and owners[name] is drawing:
                wanted[roi.number] = places[name]
        for number, voxels in _voxels(drawing, wanted, stack, warnings):
            _paint(label_map, voxels, wanted[number], table)
    held = set(np.unique(label_map).tolist())
    empty = [region.name for region in table.regions if region.name in owners and not held & set(region.values)]
    if empty:
        warnings.append(f"no voxel of {', '.join(empty)} lies in the image")
    return Volume(label_map, stack.affine_ras), warnings


def _voxels(
    drawing: Drawing, wanted: Mapping[int, int], stack: Stack, warnings: list[str]
) -> Iterator[tuple[int, tuple[NDArray[np.int64], ...]]]:
    """Piece after piece, the number of a region and the indices of its voxels."""
    if drawing.instance.sop_class not in OUTLINES:
        yield from read_voxels(drawing.instance.path, wanted, stack.shape, stack.affine_ras)
        return
    header = read_header(drawing.instance.path)
    names = {roi.number: roi.name for roi in drawing.rois}
    for number in wanted:
        outlines = read_outlines(header, number)
        outlined = list(by_slice(outlines.contours, stack.affine_ras))
        if any(not 0 <= z < stack.shape[2] for z in outlined):
            warnings.append(f"outlines of {names[number]} lie beyond the slices of the image and were cut off")
        span = outlined[-1] - outlined[0] + 1 if outlined else 0
        if 3 * len(outlined) < 2 * span:
            warnings.append(f"{names[number]} is outlined on {len(outlined)} of {span} slices, and none was filled in")
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


def spelled(drawings: Sequence[tuple[Drawing, str]], rules: Rules) -> list[str]:
    """What to say of regions of a series whose names are spelled otherwise elsewhere; `rules` are those of `rules_of`.

    Raises:
        LabelError: one object has two regions whose names differ in case, spaces or underscores only.
    """
    told = []
    for drawing, _ in drawings:
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


def _paint(label_map: NDArray[np.uint8], voxels: tuple[NDArray[np.int64], ...], place: int, table: LabelTable) -> None:
    """Add voxels to the region at a place of the table, in the numbers that `label_table` chose."""
    if len(table.regions) <= OVERLAPPING:
        label_map[voxels] |= np.uint8(1 << place)
        return
    before = label_map[voxels]
    if ((before != 0) & (before != place + 1)).any():
        other = table.names[int(before[(before != 0) & (before != place + 1)][0]) - 1]
        raise LabelError(
            f"{table.names[place]} and {other} overlap, and a table of {len(table.regions)} regions keeps no overlap; "
            f"choose up to {OVERLAPPING} with --labels"
        )
    label_map[voxels] = place + 1


def _numbers(drawing: Drawing) -> set[int]:
    return {roi.number for roi in drawing.rois}
