"""Set-ups of an archive, drawn at random: patients, days, series and the drawings on them; each says what is right."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pydicom
from dicom_series import grid, noise, save, series, square, structure_set
from hypothesis import strategies as st
from pydicom import Dataset

from volseg.dicom import place, read_stack, scan, write_dicom_seg
from volseg.labels import LabelTable
from volseg.volume import Volume

SHAPE = (6, 5, 2)
ROOT = "1.2.826.0.1.3680043.8.498.7"
EXPLICIT = frozenset({"images", "series", "parts"})


@dataclass(frozen=True)
class Place:
    """One series: whose it is, on which day, and which one of that day."""

    patient: int
    day: int
    number: int

    @property
    def name(self) -> str:
        return f"r{self.patient}{self.day}{self.number}"


@dataclass(frozen=True)
class Drawn:
    """One drawing on one series, or with a share on a second one.

    Attributes:
        target: Series that it was drawn on.
        kind: `RTSTRUCT` or `SEG`.
        ways: What it refers to: `images` and `series` as a whole, `parts` by each outline or frame, `frame`; or none.
        frame: The frame of reference that it states where it does: `right` or `wrong`.
        second: Series of the same study that a region of its own was drawn on, told by the parts.
        stray: Series that the outline or frame on the last slice was drawn on, told by the parts.
    """

    target: Place
    kind: str
    ways: frozenset[str]
    frame: str = "right"
    second: Place | None = None
    stray: Place | None = None

    def owner(self, region: Place, z: int) -> Place:
        """The series that a region was drawn on, on a slice."""
        return self.stray if self.stray is not None and z == SHAPE[2] - 1 else region

    @property
    def explicit(self) -> bool:
        return bool(self.ways & EXPLICIT)


@dataclass(frozen=True)
class SetUp:
    """An archive.

    Attributes:
        there: Series in the folder.
        drawn: Drawings in the folder.
        frames: Who shares a frame of reference: `series`, `study`, `patient`, `all`; or `absent`.
        ids: `own` patient IDs, one for all (`same`), or none (`absent`).
        one_study: Whether the days of a patient share one study UID.
        modalities: Whether the second series of a day is of another modality.
    """

    there: frozenset[Place]
    drawn: tuple[Drawn, ...]
    frames: str
    ids: str
    one_study: bool = False
    modalities: bool = False

    def frame_of(self, one: Place) -> str:
        keys = {
            "series": (one.patient, one.day, one.number),
            "study": (one.patient, one.day),
            "patient": (one.patient,),
            "all": (0,),
            "absent": (),
        }[self.frames]
        return f"{ROOT}.9.{'.'.join(map(str, keys))}" if keys else ""

    def study_of(self, one: Place) -> str:
        return f"{ROOT}.{one.patient}" if self.one_study else f"{ROOT}.{one.patient}.{one.day}"

    def modality_of(self, one: Place) -> str:
        return "PT" if self.modalities and one.number == 2 else "MR"

    def images_of(self, one: Place) -> list[Dataset]:
        """The images of a series, the same at each call but for nothing."""
        elements = {"PatientID": {"own": f"MRN{one.patient}", "same": "ANON", "absent": ""}[self.ids]}
        images = series(
            noise(SHAPE, seed=one.number),
            grid(SHAPE),
            self.modality_of(one),
            series=f"{one.day + 1}{one.number}",
            study=self.study_of(one),
            StudyDate=f"202401{one.day + 10}",
            FrameOfReferenceUID=self.frame_of(one),
            PatientName="" if self.ids == "absent" else f"Name^{one.patient}" if self.ids == "own" else "ANON",
            PatientBirthDate="",
            **elements,
        )
        for z, item in enumerate(images):
            item.SOPInstanceUID = item.file_meta.MediaStorageSOPInstanceUID = f"{item.SeriesInstanceUID}.{z + 1}"
        return images

    def may_label(self, drawing: Drawn, one: Place) -> bool:
        """Whether nothing that a drawing states tells its series from another one: the same day, frame and grid."""
        if drawing.explicit or (one.patient, one.day) != (drawing.target.patient, drawing.target.day):
            return False
        frames = {self.frame_of(one), self.frame_of(drawing.target)}
        known = "frame" in drawing.ways and drawing.frame == "right" and len(frames) > 1
        asked = self.modality_of(one) != self.modality_of(drawing.target)
        return (drawing.target not in self.there or asked) and not known

    def contradicted(self, drawing: Drawn) -> bool:
        """Whether a drawing states a frame of reference that is not that of its series, and this can be seen."""
        return "frame" in drawing.ways and drawing.frame == "wrong" and self.frames != "absent"

    def write(self, folder: Path) -> None:
        """Write all of it."""
        for one in sorted(self.there, key=lambda one: one.name):
            save(folder, self.images_of(one), f"{one.name}_{{}}.dcm".format)
        for count, drawing in enumerate(self.drawn):
            made = _structure_set(self, drawing) if drawing.kind == "RTSTRUCT" else _segmentation(self, drawing)
            made.SeriesInstanceUID = f"{ROOT}.8.{count}"
            made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = f"{ROOT}.8.{count}.1"
            save(folder, [made], f"drawing{count}_{{}}.dcm".format)


def _frame_stated(set_up: SetUp, drawing: Drawn) -> str:
    if "frame" not in drawing.ways:
        return ""
    return f"{ROOT}.99" if drawing.frame == "wrong" else set_up.frame_of(drawing.target)


def _structure_set(set_up: SetUp, drawing: Drawn) -> Dataset:
    images = set_up.images_of(drawing.target)
    names = {drawing.target.name: images}
    if drawing.second is not None:
        names[drawing.second.name] = set_up.images_of(drawing.second)
    outlines = {name: [square(grid(SHAPE), 0.6, 2.4, z) for z in range(SHAPE[2])] for name in names}
    made = structure_set(images, outlines)
    reference, frame = made.ReferencedFrameOfReferenceSequence[0], _frame_stated(set_up, drawing)
    referred = reference.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    made.FrameOfReferenceUID = reference.FrameOfReferenceUID = frame
    if drawing.second is not None:
        more = copy.deepcopy(referred)
        more.SeriesInstanceUID = names[drawing.second.name][0].SeriesInstanceUID
        for item, source in zip(more.ContourImageSequence, names[drawing.second.name], strict=True):
            item.ReferencedSOPInstanceUID = source.SOPInstanceUID
        reference.RTReferencedStudySequence[0].RTReferencedSeriesSequence.append(more)
    for item in reference.RTReferencedStudySequence[0].RTReferencedSeriesSequence:
        if "images" not in drawing.ways:
            item.ContourImageSequence = []
        if "series" not in drawing.ways:
            item.SeriesInstanceUID = ""
    if not drawing.ways & {"images", "series"}:
        reference.RTReferencedStudySequence = []
    for roi, outline in zip(made.StructureSetROISequence, made.ROIContourSequence, strict=True):
        roi.ReferencedFrameOfReferenceUID = frame
        if "parts" in drawing.ways:
            for contour, source in zip(outline.ContourSequence, names[roi.ROIName], strict=True):
                contour.ContourImageSequence = [_image(source)]
            if drawing.stray is not None:
                outline.ContourSequence[-1].ContourImageSequence = [_image(set_up.images_of(drawing.stray)[-1])]
    return made


def _segmentation(set_up: SetUp, drawing: Drawn) -> Dataset:
    images = set_up.images_of(drawing.target)
    made = copy.deepcopy(_template())
    for name in ("PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "StudyDate"):
        setattr(made, name, getattr(images[0], name))
    made.FrameOfReferenceUID = _frame_stated(set_up, drawing)
    made.SegmentSequence[0].SegmentLabel = drawing.target.name
    reference = made.ReferencedSeriesSequence[0]
    reference.SeriesInstanceUID = images[0].SeriesInstanceUID if "series" in drawing.ways else ""
    reference.ReferencedInstanceSequence = [_image(item) for item in images] if "images" in drawing.ways else []
    if not drawing.ways & {"images", "series"}:
        made.ReferencedSeriesSequence = []
    for frame in made.PerFrameFunctionalGroupsSequence:
        place = frame.PlanePositionSequence[0].ImagePositionPatient
        z = next(z for z, item in enumerate(images) if item.ImagePositionPatient == place)
        derived = frame.DerivationImageSequence[0]
        shown = images if drawing.stray is None or z < SHAPE[2] - 1 else set_up.images_of(drawing.stray)
        derived.SourceImageSequence = [_image(shown[z])] if "parts" in drawing.ways else []
    return made


def _image(source: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    return item


@lru_cache(maxsize=1)
def _template() -> Dataset:
    """A SEG of one segment on all slices, as highdicom writes it."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        save(folder, series(noise(SHAPE), grid(SHAPE), "MR"))
        stack = read_stack(scan(folder).series[0])
        label = np.zeros(SHAPE, np.uint8)
        label[1:3, 1:3] = 1
        write_dicom_seg(
            folder / "seg.dcm", place(Volume(label, stack.affine_ras), stack), LabelTable.exclusive(["region"])
        )
        made = pydicom.dcmread(folder / "seg.dcm")
        made.PixelData  # noqa: B018 - read before the folder goes
        return made


@st.composite
def set_ups(draw: st.DrawFn) -> SetUp:
    """Up to two patients, two days and two series of one grid, some of them in the folder, and up to three drawings."""
    patients, days, numbers = (draw(st.integers(1, 2)) for _ in range(3))
    every = [Place(p, d, n + 1) for p in range(patients) for d in range(days) for n in range(numbers)]
    places = draw(st.lists(st.sampled_from(every), min_size=(len(every) + 1) // 2, max_size=len(every), unique=True))
    there = draw(st.sets(st.sampled_from(places), min_size=1))
    drawn: list[Drawn] = []
    for drawing in draw(st.lists(_drawings(places), min_size=1, max_size=3)):
        taken = {one for other in drawn for one in (other.target, other.second)}
        if not taken & {drawing.target, drawing.second} - {None}:
            drawn.append(drawing)
    return SetUp(
        frozenset(there),
        tuple(drawn),
        draw(st.sampled_from(["series", "study", "patient", "all", "absent"])),
        draw(st.sampled_from(["own", "same", "absent"])),
        draw(st.booleans()),
        draw(st.booleans()),
    )


@st.composite
def _drawings(draw: st.DrawFn, places: list[Place]) -> Drawn:
    target = draw(st.sampled_from(places))
    kind = draw(st.sampled_from(["RTSTRUCT", "SEG"]))
    ways = draw(st.sets(st.sampled_from(["images", "series", "parts", "frame"])))
    others = [one for one in places if one != target]
    same_day = [one for one in others if (one.patient, one.day) == (target.patient, target.day)]
    second = stray = None
    what = draw(st.sampled_from(["one", "one", "second", "stray"]))
    if what == "second" and same_day and kind == "RTSTRUCT":
        ways, second = (ways | {"parts"}) - {"frame"}, same_day[0]
    if what == "stray" and others:
        ways, stray = ways | {"parts"}, draw(st.sampled_from(others))
    return Drawn(target, kind, frozenset(ways), draw(st.sampled_from(["right", "right", "wrong"])), second, stray)
