"""Which series a drawing was made on: by the images, series, study and frame of reference that it states."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace

from volseg.dicom.contours import by_slice, reaches_beyond, read_contours
from volseg.dicom.drawing import Drawing
from volseg.dicom.file import read_header
from volseg.dicom.image import read_stack
from volseg.dicom.index import OUTLINES, Index
from volseg.dicom.instance import Series
from volseg.dicom.matches import Match, Matches, Parts
from volseg.dicom.persons import doubts, owner_of
from volseg.dicom.polygons import Points
from volseg.dicom.segments import read_voxels
from volseg.errors import VolsegError
from volseg.volume import Grid

logger = logging.getLogger(__name__)


def match(
    drawings: Iterable[Drawing],
    index: Index,
    *,
    chosen: Sequence[Series] | None = None,
    together: Sequence[Sequence[Series]] = (),
    carry_over: bool = False,
) -> Matches:
    """Find the series that each drawing was made on.

    A drawing belongs to the series of the images that it refers to, else to the series that it names. One that refers
    to neither belongs to the one series of its patient and study on whose grid it lies, of its frame of reference if it
    states one. Whatever states another patient, another frame of reference, or images that are not there, is left out.
    Single outlines and frames go by the images that they refer to themselves. What is left out is told in the log, and
    in the warnings of the series that it concerns.

    Args:
        drawings: Drawings of the folder.
        index: The folder.
        chosen: Series that labels are wanted for, all by default; they decide where a drawing may belong to several.
        together: Series that are channels of one case; of a drawing that may belong to any of them the first takes it.
        carry_over: Whether a drawing of another series of the patient, on another day perhaps, is taken for a series
            that has none and on whose grid it lies.
    """
    asked = index.series if chosen is None else chosen
    return _Matching(drawings, index, asked, together).run(carry_over=carry_over)


class _Matching:
    """The search of `match`; series are known by the name of their first image."""

    def __init__(
        self,
        drawings: Iterable[Drawing],
        index: Index,
        chosen: Sequence[Series],
        together: Sequence[Sequence[Series]],
    ) -> None:
        self._drawings = [drawing for drawing in drawings if drawing.rois]
        self._there, self._chosen = index.series, chosen
        self._asked = {_name(series) for series in chosen}
        self._place = {_name(item): (case, n) for case, some in enumerate(together) for n, item in enumerate(some)}
        self._by_uid: dict[str, list[Series]] = {}
        self._by_image: dict[str, list[Series]] = {}
        for series in self._there:
            for uid in {item.series_uid for item in series.instances}:
                self._by_uid.setdefault(uid, []).append(series)
            for uid in {item.sop_uid for item in series.instances}:
                self._by_image.setdefault(uid, []).append(series)
        self._owners = {uid: tuple(map(_name, found)) for uid, found in self._by_image.items() if uid}
        self._known_fits: dict[tuple[int, str], bool] = {}
        self._grids: dict[str, Grid | None] = {}
        self._last: tuple[int, list[Points]] = (0, [])
        self._absent: list[tuple[Drawing, str, list[Series]]] = []
        self._result = Matches()

    def run(self, *, carry_over: bool) -> Matches:
        for drawing in self._drawings:
            self._match(drawing)
        if carry_over:
            doubtful = [owner for owner, told in doubts(self._there).items() if told]  # IDs of several people
            bare = [item for item in self._chosen if not self._result.of(item) and owner_of(item) not in doubtful]
            for drawing in self._drawings:
                self._carry(drawing, bare)
        for drawing, reason, fitting in self._absent:
            taken = [series for series in fitting if any(item.drawing is drawing for item in self._result.of(series))]
            bare = [series for series in fitting if not self._result.of(series)]
            cure = "; --carry-over takes it for the patient's series on whose grid it lies"
            cure = cure if bare and not carry_over else ""
            if not taken:
                self._leave(drawing, reason + cure, bare)
        return self._result

    def _match(self, drawing: Drawing) -> None:
        candidates, note, unknown = self._referred(drawing)
        if not candidates and (drawing.series_uids or drawing.sop_uids or note):
            self._tell_absent(drawing)
            return
        if not candidates:
            candidates, note = self._by_position(drawing)
        kept = [series for series in candidates if not self._refused(drawing, series, unknown=unknown)]
        for reason in dict.fromkeys(self._refused(drawing, series, unknown=unknown) for series in candidates):
            if reason and not kept:
                refused = [s for s in candidates if self._refused(drawing, s, unknown=unknown) == reason]
                self._leave(drawing, reason, refused)
        asked = [series for series in kept if _name(series) in self._asked]
        for series, part in self._share(drawing, asked, unknown=unknown):
            notes = [note, part.note, _without_frame(drawing, series), _of_another_date(drawing, series)]
            if len(kept) > 1 and len(asked) == 1:
                notes.append(f"the {drawing.kind} may belong to several series, of which this one was asked for")
            told = "; ".join(filter(None, notes))
            self._result.found.setdefault(_name(series), []).append(replace(part, note=told))

    def _referred(self, drawing: Drawing) -> tuple[list[Series], str, bool]:
        """The series that a drawing refers to; what to say of that; and whether it refers to images that are absent.

        The note alone, without a series, says that its parts refer to images that are not there.
        """
        images = set(drawing.sop_uids)
        if not images and not drawing.series_uids:
            images = {uid for _, shown in drawing.parts for uid in shown}
        shown = _each(series for uid in images for series in self._by_image.get(uid, ()))
        if shown:
            return shown, "", False
        named = _each(series for uid in drawing.series_uids for series in self._by_uid.get(uid, ()))
        absent = f"the {drawing.kind} refers to images that its series does not have, and was placed by position"
        return named, absent if images else "", bool(images)

    def _refused(self, drawing: Drawing, series: Series, *, unknown: bool) -> str:
        """Why a drawing is no label of a series that it seems to belong to; empty if it may be one."""
        if drawing.of_other_patient(series):
            return "is of another patient than the series that it refers to or lies on (PatientID)"
        if not _in_frame_of(series, drawing).rois:
            return (
                "states another frame of reference than the series that it refers to or lies on, so it is no label of "
                "it"
            )
        if unknown and drawing.of_other_day(series):
            return "is of another study or day than the series of its UID, and refers to images that it does not have"
        return ""

    def _near(self, drawing: Drawing) -> list[Series]:
        """The series that may be of the patient of a drawing, since they share patient, study or frame of reference."""
        return [
            series
            for series in self._there
            if not drawing.of_other_patient(series)
            and (
                drawing.instance.patient == series.first.patient != ""
                or series.first.study_uid in drawing.study_uids
                or series.first.frame_uid in drawing.frame_uids
            )
        ]

    def _tell_absent(self, drawing: Drawing) -> None:
        """Leave out a drawing of a series that is not there, at the end: others may have labels by then."""
        fitting = [series for series in self._near(drawing) if self._fits(drawing, series)]
        self._absent.append((drawing, "refers to a series that is not here", fitting))

    def _by_position(self, drawing: Drawing) -> tuple[list[Series], str]:
        """The series on whose grid a drawing lies that refers to none, and how that was found."""
        fitting = [series for series in self._near(drawing) if self._fits(drawing, series)]
        same_day = [series for series in fitting if self._linked(drawing, series) and not drawing.of_other_day(series)]
        if not same_day:
            reason = "fits none of the series here"
            if fitting:
                reason = "refers to no series, and is not of the study or day of those on whose grid it lies"
            self._absent.append((drawing, reason, fitting))
            return [], ""
        same_frame = [series for series in same_day if series.first.frame_uid in drawing.frame_uids]
        how = "frame of reference and position" if same_frame else "position"
        return same_frame or same_day, f"the {drawing.kind} refers to no series, and was matched by {how}"

    def _linked(self, drawing: Drawing, series: Series) -> bool:
        """Whether study or frame of reference of a drawing are those of a series, or neither states a study."""
        first = series.first
        same_study = first.study_uid in drawing.study_uids or not (first.study_uid or drawing.study_uids)
        return same_study or first.frame_uid in drawing.frame_uids

    def _share(self, drawing: Drawing, candidates: Sequence[Series], *, unknown: bool) -> list[tuple[Series, Match]]:
        """What of a drawing belongs to each of some series; to several only what refers to images or has a frame."""
        framed = {_name(series): _in_frame_of(series, drawing) for series in candidates}
        shares = []
        for series in candidates:
            kept = framed[_name(series)]
            others = {name: other for name, other in framed.items() if self._rival(name, _name(series))}
            rivals = {
                roi.number: frozenset(name for name, other in others.items() if roi in other.rois) for roi in kept.rois
            }
            vague = frozenset(roi.number for roi in kept.rois if len(drawing.frames_of(roi)) > 1)
            parts = Parts(_name(series), self._owners, unknown, rivals, vague)
            held = {number for number, shown in drawing.parts if parts.take(number, shown)}
            own = replace(kept, rois=tuple(roi for roi in kept.rois if roi.number in held))
            notes = [_left_by_frame(drawing, kept), _left_by_images(kept, own) if len(candidates) == 1 else ""]
            shares.append((series, Match(own, parts, "; ".join(filter(None, notes)))))
        shared = [(series, item) for series, item in shares if item.drawing.rois]
        if candidates and not shared:
            reason = "refers to other images than those of the series that it names"
            if len(candidates) > 1:
                reason = f"fits {len(candidates)} series here; --modality or --series chooses one"
            self._leave(drawing, reason, candidates)
        return shared

    def _rival(self, name: str, own: str) -> bool:
        """Whether another series may claim what a series may; of the channels of one case an earlier one does."""
        if name == own:
            return False
        (case, channel), (own_case, own_channel) = (self._place.get(one, (-1, 0)) for one in (name, own))
        return case < 0 or case != own_case or channel < own_channel

    def _carry(self, drawing: Drawing, bare: Sequence[Series]) -> None:
        """Take a drawing of other series of the patient for those that have none."""
        known = drawing.patients or {drawing.instance.patient} - {""}
        for series in bare:
            if series.first.patient not in known or not self._fits(drawing, series):
                continue
            own, _, _ = self._referred(drawing)
            foreign = not _in_frame_of(series, drawing).rois
            if foreign and own and all(other.modality != series.modality for other in own):
                continue
            note = f"the {drawing.kind} was drawn on another series of the patient, and was carried over"
            note += "; it states another frame of reference, and nothing was registered" if foreign else ""
            parts = Parts(_name(series), self._owners, carried=True)
            self._result.found.setdefault(_name(series), []).append(Match(drawing, parts, note))

    def _fits(self, drawing: Drawing, series: Series) -> bool:
        """Whether a drawing lies on the grid of a series, all of it; remembered."""
        place = id(drawing), _name(series)
        if place not in self._known_fits:
            try:
                grid = self._grid_of(series)
                self._known_fits[place] = grid is not None and self._lies_on(drawing, grid)
            except VolsegError:
                self._known_fits[place] = False
        return self._known_fits[place]

    def _grid_of(self, series: Series) -> Grid | None:
        """The grid of a series, None of one that is refused; remembered, since many drawings may be none of its."""
        name = _name(series)
        if name not in self._grids:
            try:
                stack = read_stack(series)
                self._grids[name] = Grid(stack.shape, stack.affine_ras)
            except VolsegError:
                self._grids[name] = None
        return self._grids[name]

    def _lies_on(self, drawing: Drawing, grid: Grid) -> bool:
        """Whether all outlines or frames of a drawing lie on a grid.

        Raises:
            SourceError: Some lie between its slices or voxels, or cannot be read.
        """
        if drawing.instance.sop_class not in OUTLINES:
            for _ in read_voxels(drawing.instance.path, _numbers(drawing), grid.shape, grid.affine_ras):
                pass
            return True
        for z, polygons in by_slice(self._contours_of(drawing), grid.affine_ras).items():
            beyond = any(reaches_beyond(points, grid.shape) for points in polygons)
            if beyond or not 0 <= z < grid.shape[2]:
                return False
        return True

    def _contours_of(self, drawing: Drawing) -> list[Points]:
        """The outlines of a drawing; those of the last one are kept, since it is compared with many series."""
        if self._last[0] != id(drawing):
            header = read_header(drawing.instance.path)
            found = [points for roi in drawing.rois for points in read_contours(header, roi.number)]
            self._last = id(drawing), found
        return self._last[1]

    def _leave(self, drawing: Drawing, reason: str, series: Iterable[Series]) -> None:
        """Tell that a drawing was left out, in the log and to the readers of series."""
        told = f"{'an' if drawing.kind == 'RTSTRUCT' else 'a'} {drawing.kind} {reason}; it was left out"
        logger.warning("%s", told)
        names = [_name(item) for item in series if _name(item) in self._asked]
        for name in names:
            self._result.left.setdefault(name, []).append(told)
        if not names:
            self._result.lost.append(told)


def _name(series: Series) -> str:
    return series.first.name


def _each(series: Iterable[Series]) -> list[Series]:
    """The series, each once."""
    return list({_name(item): item for item in series}.values())


def _numbers(drawing: Drawing) -> set[int]:
    return {roi.number for roi in drawing.rois}


def _in_frame_of(series: Series, drawing: Drawing) -> Drawing:
    """A drawing without the regions that state another frame of reference than a series."""
    frame = series.first.frame_uid
    kept = tuple(roi for roi in drawing.rois if drawing.may_lie_in(roi, frame))
    return drawing if len(kept) == len(drawing.rois) else replace(drawing, rois=kept)


def _left_by_frame(drawing: Drawing, kept: Drawing) -> str:
    """Which regions were left out since they state another frame of reference."""
    names = ", ".join(roi.name for roi in drawing.rois if roi not in kept.rois)
    return f"{names} of the {drawing.kind} lies in another frame of reference and was left out" if names else ""


def _left_by_images(drawing: Drawing, own: Drawing) -> str:
    """Which regions were left out since all their parts refer to images of other series."""
    names = ", ".join(roi.name for roi in drawing.rois if roi not in own.rois)
    return f"{names} of the {drawing.kind} refers to images of another series and was left out" if names else ""


def _without_frame(drawing: Drawing, series: Series) -> str:
    """What to say where it cannot be checked that a drawing lies in the frame of reference of its series."""
    stated = all(drawing.frames_of(roi) for roi in drawing.rois)
    if (stated and series.first.frame_uid) or series.first.projection:
        return ""
    which = "the image" if stated else f"the {drawing.kind}"
    return f"{which} states no frame of reference, so it is not known that they lie in one"


def _of_another_date(drawing: Drawing, series: Series) -> str:
    """What to say of a drawing whose study has the UID of the series' study and another date."""
    own, first = drawing.instance, series.first
    if own.study_uid != first.study_uid or not own.study_date or own.study_date == first.study_date:
        return ""
    return f"the {drawing.kind} and the image state different dates of one study" if first.study_date else ""
