"""The regions of one RTSTRUCT or DICOM SEG object on the grid of an image, without the series that it was drawn on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from volseg.dicom.contours import by_slice, of_region, rasterise_outlines, reaches_beyond, read_outlines
from volseg.dicom.drawing import Drawing, read_drawing
from volseg.dicom.file import read_header
from volseg.dicom.identity import word
from volseg.dicom.index import OUTLINES, index_files
from volseg.dicom.record import Record, read_record
from volseg.dicom.segments import FRACTIONS, FrameFilter, read_voxels
from volseg.errors import SourceError
from volseg.labels import Code
from volseg.volume import Grid, provenance_of


@dataclass(frozen=True, eq=False)
class ObjectMasks:
    """The regions of one object on the grid of an image.

    Attributes:
        masks: Mask (X, Y, Z) by name.
        codes: Code by name, where the object states one.
        notes: What a reader must know.
    """

    masks: Mapping[str, NDArray[np.bool_]]
    codes: Mapping[str, Code]
    notes: tuple[str, ...]


def read_object_masks(path: Path, grid: Grid, *, secret: str = "") -> ObjectMasks:
    """Read the regions of an object by the positions that it states.

    Args:
        path: RTSTRUCT or DICOM SEG.
        grid: Grid of the image. If its affine remembers the series that the image was made from, the object must be of
            the same study.
        secret: Secret of the words of that record, as at the conversion.

    Raises:
        SourceError: The object is damaged, of another study, on another grid, or it has two regions of one name.
    """
    drawing = _drawing(path)
    record = read_record(provenance_of(grid.affine_ras))
    if record is not None and drawing.study_uids and (secret or not record.keyed):
        words = {word(uid, letter="t", length=len(record.study) - 1, secret=secret) for uid in drawing.study_uids}
        if record.study not in words:
            raise SourceError(
                f"the {drawing.kind} is of another study than the image; it was drawn on another patient or day"
            )
    names = [roi.name.strip() for roi in drawing.rois]
    if not names:
        raise SourceError(f"the {drawing.kind} holds no region with voxels")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SourceError(
            f"the {drawing.kind} has {names.count(twice[0])} regions named {twice[0]!r}; rename all but one"
        )
    if drawing.rejected:
        raise SourceError(f"the {drawing.kind} was rejected (ApprovalStatus); approve it, or leave it out")
    masks = {name: np.zeros(grid.shape, dtype=np.bool_) for name in names}
    notes = list(drawing.notes)
    by_number = {roi.number: roi.name.strip() for roi in drawing.rois}
    if drawing.instance.sop_class not in OUTLINES:
        frames = FrameFilter(lambda *_: True, {})
        for number, voxels in read_voxels(path, by_number, grid.shape, grid.affine_ras, frames_taken=frames):
            masks[by_number[number]][voxels] = True
        notes += [f"{by_number[number]} {FRACTIONS}" for number in sorted(frames.fractions & by_number.keys())]
        if frames.undescribed:
            told = ", ".join(map(str, sorted(frames.undescribed)))
            notes.append(f"the DICOM SEG holds the values {told}, which it does not name, and they were left out")
    else:
        header = read_header(path)
        for number, name in by_number.items():
            with of_region(name):
                outlines = read_outlines(header, number)
                polygons = by_slice(outlines.contours, grid.affine_ras)
            if any(reaches_beyond(points, grid.shape) for some in polygons.values() for points in some):
                notes.append(f"outlines of {name} reach beyond the image and were cut off")
            if any(not 0 <= z < grid.shape[2] for z in polygons):
                notes.append(f"outlines of {name} lie beyond the slices of the image and were cut off")
            masks[name], doubtful = rasterise_outlines(outlines, grid.shape, grid.affine_ras)
            if doubtful:
                notes.append(f"outlines of {name} run twice through the same voxels on {doubtful} slices")
    codes = {roi.name.strip(): roi.code for roi in drawing.rois if roi.code}
    return ObjectMasks(masks, codes, tuple(notes))


def record_fits(path: Path, record: Record, *, secret: str = "") -> bool:
    """Whether an object states a series whose record this is; a series of which one part is a case fits too."""
    return bool(fitting_records(path, {"": record}, secret=secret))


def fitting_records(path: Path, records: Mapping[str, Record], *, secret: str = "") -> list[str]:
    """The keys of the records of whose series an object states, see `record_fits`; the object is read once.

    Args:
        path: RTSTRUCT or DICOM SEG.
        records: Record of each case.
        secret: Secret of the words of the records, as at the conversion.

    Raises:
        SourceError: The object is damaged or something else.
    """
    if not records:
        return []
    drawing = _drawing(path)
    return [key for key, record in records.items() if _states(drawing, record, secret)]


def _states(drawing: Drawing, record: Record, secret: str) -> bool:
    if record.keyed and not secret:
        return False
    studies = drawing.study_uids
    if record.study not in {word(uid, letter="t", length=len(record.study) - 1, secret=secret) for uid in studies}:
        return False
    length = len(record.series) - 1
    series = {
        word(f"{study} {uid}", letter="s", length=length, secret=secret)
        for study in studies
        for uid in drawing.series_uids
    }
    return not series or record.series in series


def _drawing(path: Path) -> Drawing:
    index = index_files([path], root=path.parent)
    if index.unreadable:
        raise SourceError(next(iter(index.unreadable.values())))
    found = [*index.outlines, *index.segmentations]
    if len(found) != 1:
        raise SourceError(f"{path.name} is no RTSTRUCT and no DICOM SEG; name one of these")
    return read_drawing(found[0])
