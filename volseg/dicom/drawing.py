"""One RTSTRUCT or DICOM SEG object: its regions, and what it says of the images that it was drawn on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pydicom import Dataset

from volseg.dicom.charset import declares_characters
from volseg.dicom.contours import Roi, images_of_outlines, nameless, read_rois, without_voxels
from volseg.dicom.file import Quiet, items, read_header, text
from volseg.dicom.index import OUTLINES
from volseg.dicom.instance import Instance, Series
from volseg.dicom.segments import images_of_frames, read_segments, undescribed

APPROVED, REJECTED = "APPROVED", "REJECTED"


@dataclass(frozen=True)
class Drawing:
    """An RTSTRUCT or DICOM SEG object: its regions, and what it refers to.

    Attributes:
        instance: The object.
        rois: Its regions.
        series_uids: Series that it refers to as a whole.
        sop_uids: Images that it refers to as a whole; single outlines and frames refer to images by themselves.
        frame_uids: Frames of reference that it states: those that it refers to, else its own.
        study_uids: Studies that it refers to, else its own.
        patients: What may stand for its patient, see `Instance.patient`; empty if it states no patient ID.
        model: ManufacturerModelName.
        parts: Number of the region and the images referred to, of closed outlines and of frames; equal ones once.
        drawn: Date and time.
        maker: Manufacturer.
        notes: What a reader should know of it.
        approval: ApprovalStatus; empty if it states none.
    """

    instance: Instance
    rois: tuple[Roi, ...]
    series_uids: frozenset[str]
    sop_uids: frozenset[str]
    frame_uids: frozenset[str]
    drawn: str
    maker: str
    notes: tuple[str, ...] = ()
    approval: str = ""
    study_uids: frozenset[str] = frozenset()
    patients: frozenset[str] = frozenset()
    parts: frozenset[tuple[int, frozenset[str]]] = frozenset()
    model: str = ""

    @property
    def kind(self) -> str:
        """What to call it."""
        return "RTSTRUCT" if self.instance.sop_class in OUTLINES else "DICOM SEG"

    @property
    def rejected(self) -> bool:
        """Whether its ApprovalStatus is REJECTED."""
        return self.approval == REJECTED

    @property
    def rank(self) -> int:
        """Which of two drawings of one region counts: an approved one before others, a rejected one after them.

        A prediction that lies beside a drawing comes after that, if nobody has approved it.
        """
        return {APPROVED: 3, REJECTED: 0}.get(self.approval, 1 if self.maker == "volseg" else 2)

    def frames_of(self, roi: Roi) -> frozenset[str]:
        """The frames of reference that a region may lie in: its own, else those of the object; empty if unknown."""
        return frozenset({roi.frame_uid}) if roi.frame_uid else self.frame_uids

    def may_lie_in(self, roi: Roi, frame_uid: str) -> bool:
        """Whether neither the object nor the region says that a region lies in another frame of reference."""
        stated = (self.frame_uids, self.frames_of(roi))
        return not frame_uid or all(not frames or frame_uid in frames for frames in stated)

    def of_other_patient(self, series: Series) -> bool:
        """Whether the object and a series state different patients."""
        there = series.first.patient
        return bool(self.patients and there and there not in self.patients)

    def of_other_day(self, series: Series) -> bool:
        """Whether the object is of another study than a series, or of another date under the same study UID."""
        own, first = self.instance, series.first
        if self.study_uids and first.study_uid and first.study_uid not in self.study_uids:
            return True
        return bool(own.study_date and first.study_date) and (
            own.study_uid == first.study_uid and own.study_date != first.study_date
        )


@Quiet()  # held open: to enter it anew for each value takes a good part of the time
def read_drawing(instance: Instance) -> Drawing:
    """Read names and references of an object, not its voxels.

    Raises:
        SourceError: damaged.
    """
    header = read_header(instance.path)
    series, images, frames, studies = set(), set(), set(), set()
    for frame in items(header, "ReferencedFrameOfReferenceSequence"):
        frames.add(text(frame, "FrameOfReferenceUID"))
        for study in items(frame, "RTReferencedStudySequence"):
            studies.add(text(study, "ReferencedSOPInstanceUID"))
            for item in items(study, "RTReferencedSeriesSequence"):
                series.add(text(item, "SeriesInstanceUID"))
                images |= _images(item, "ContourImageSequence")
    for item in items(header, "ReferencedSeriesSequence"):
        series.add(text(item, "SeriesInstanceUID"))
        images |= _images(item, "ReferencedInstanceSequence")
    outlines = instance.sop_class in OUTLINES
    rois = read_rois(header) if outlines else read_segments(header)
    when = ("StructureSetDate", "StructureSetTime") if outlines else ("ContentDate", "ContentTime")
    frames -= {""}
    patient_id = text(header, "PatientID")
    named = "".join(text(header, tag) for tag in ("PatientName", "PatientBirthDate"))
    return Drawing(
        instance,
        tuple(rois),
        frozenset(series - {""}),
        frozenset(images - {""}),
        frozenset(frames or {instance.frame_uid} - {""}),
        " ".join(text(header, tag) for tag in when),
        text(header, "Manufacturer"),
        tuple(_notes(header, rois, outlines=outlines, own_frame=instance.frame_uid, frames=frames)),
        text(header, "ApprovalStatus"),
        frozenset((studies - {""}) or {instance.study_uid} - {""}),
        frozenset({patient_id, named} - {""}) if patient_id else frozenset(),
        frozenset(images_of_outlines(header) if outlines else _of_frames(header, rois)),
        text(header, "ManufacturerModelName"),
    )


def _of_frames(header: Dataset, rois: Iterable[Roi]) -> Iterator[tuple[int, frozenset[str]]]:
    """The number of a segment and the images referred to, for each frame; for each segment where a frame holds all."""
    for number, images in images_of_frames(header):
        for held in [roi.number for roi in rois] if number is None else [number]:
            yield held, frozenset(uid for uid, _ in images)


def _images(dataset: Dataset, keyword: str) -> set[str]:
    return {text(image, "ReferencedSOPInstanceUID") for image in items(dataset, keyword)}


def _notes(header: Dataset, rois: Sequence[Roi], *, outlines: bool, own_frame: str, frames: set[str]) -> Iterator[str]:
    """What a reader should know of an object, whatever series it belongs to."""
    for name in without_voxels(header) if outlines else ():
        yield f"{name} has no closed outline, so it has no voxels"
    lost = nameless(header) if outlines else undescribed(header, rois)
    if lost:
        told = ("outlines", "RTSTRUCT", "region") if outlines else ("frames", "DICOM SEG", "segment")
        yield f"{lost} {told[0]} of the {told[1]} are of a {told[2]} that it does not name, and were left out"
    counts = Counter(roi.name for roi in rois)
    for name, count in counts.items():
        if count > 1:
            yield f"{count} regions of one object are called {name}, and count as one"
    if rois and not declares_characters(header) and not all(roi.name.isascii() for roi in rois):
        yield "names of regions are in no stated character set, and may read wrongly"
    if own_frame and frames and own_frame not in frames:
        yield "the RTSTRUCT states a frame of reference of its own beside that of its images, which counts"
