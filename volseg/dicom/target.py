"""A DICOM series with a prediction on its slices, from which an object is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from pydicom import Dataset

from volseg.dicom.charset import to_unicode
from volseg.dicom.file import Quiet, read_header, text
from volseg.dicom.image import Stack
from volseg.errors import GeometryError, LabelError, SourceError
from volseg.files import atomic
from volseg.labels import LabelMap, LabelTable, Region
from volseg.volume import Grid, Volume, aligned

# Old and anonymised series lack some of these, which an object of a study must have, empty or not (type 2).
_AT_LEAST_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
    *("AccessionNumber", "ReferringPhysicianName"),
)
_LONGEST_MEANING = 64  # letters that the VR LO holds
_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID", "SOPClassUID")
_FRAME = "FrameOfReferenceUID"  # which an X-ray image has no place in


@dataclass(frozen=True, eq=False)
class Target:
    """A series, its slices in order, and a label map on them.

    Attributes:
        stack: the slices.
        label_map: (X, Y, Z), column, row and slice of the stack.
    """

    stack: Stack
    label_map: LabelMap

    @cached_property
    def headers(self) -> list[Dataset]:
        """The objects of the series without their pixels, in the order of the slices: one, where it is multi-frame.

        Raises:
            SourceError: an object that others cannot refer to, since it has no UID.
        """
        if any(item.tile is not None for item in self.stack.slices):
            raise SourceError(
                "the series is a Siemens mosaic, whose slices are no images of their own; no object can refer to them"
            )
        headers = []
        for path in dict.fromkeys(item.path for item in self.stack.slices):
            header = read_header(path)
            absent = [name for name in _NEEDED if not text(header, name) and not (name == _FRAME and self.stack.flat)]
            if absent:
                raise SourceError(
                    f"the series has no {' and no '.join(absent)}, so no object can refer to it; name the original one"
                )
            for name in _AT_LEAST_EMPTY:
                if name not in header:
                    setattr(header, name, "")
            to_unicode(header)
            headers.append(header)
        frames = len({text(header, "FrameOfReferenceUID") for header in headers})
        if frames > 1:
            raise SourceError(
                f"the slices of the series state {frames} frames of reference, so no object can refer to them; correct "
                "the series, or choose its slices with --where FrameOfReferenceUID=VALUE"
            )
        return headers

    def checked(self, labels: LabelTable) -> Target:
        """The same with the label map in whole numbers of the table, as programs that save floats meant them.

        Raises:
            LabelError: A value that the table does not declare, or a fraction.
        """
        return replace(self, label_map=labels.check(self.label_map))

    def present(self, labels: LabelTable) -> list[Region]:
        """The regions that hold a voxel, in the order of the table; the meanings of their codes as DICOM holds them.

        Raises:
            LabelError: none does, or a value that the table does not declare.
        """
        held = set(np.unique(labels.check(self.label_map)).tolist())
        found = [region for region in labels.regions if held & set(region.values)]
        if not found:
            raise LabelError("no voxel belongs to any region, so there is nothing to write")
        # What a code means, its scheme and value say: the words may be cut.
        codes = [replace(region.code, meaning=region.code.meaning[:_LONGEST_MEANING]) for region in found]
        return [replace(region, code=code) for region, code in zip(found, codes, strict=True)]


def place(label: Volume, stack: Stack) -> Target:
    """A label map on the slices of a series, by turning its axes alone; nothing is resampled.

    Raises:
        GeometryError: its voxels are not those of the series.
    """
    try:
        turned, _ = aligned(label, Grid(stack.shape, stack.affine_ras))
    except GeometryError as error:
        raise GeometryError(
            f"the prediction does not lie on the voxels of the series: {error}; name the series it was made from"
        ) from error
    return Target(stack, turned.voxels)


def save(path: Path, dataset: Dataset) -> None:
    """Write an object, whole or not at all."""
    with atomic(path) as partial, Quiet():
        dataset.save_as(partial, enforce_file_format=True)


def check_names(regions: Sequence[Region], header: Dataset) -> None:
    """Refuse names that an object cannot keep: DICOM's LO has 64 characters and no backslash.

    Args:
        regions: to write.
        header: Header of the series, as `Target.headers` has it.

    Raises:
        LabelError: such a name.
    """
    for region in regions:
        if len(region.name) > 64 or "\\" in region.name or not region.name.isprintable():
            raise LabelError(
                f"region {region.name!r} has a name of {len(region.name)} characters; DICOM keeps 64 and no backslash. "
                "Change it in dataset.json"
            )
        told = (region.name, region.code.meaning)
        if not all(text.isascii() for text in told) and "SpecificCharacterSet" not in header:
            raise LabelError(
                f"region {region.name!r} ({region.code.meaning}) is not in ASCII, and the series states no character "
                "set for the patient's texts, whose bytes must stay. State it in the series (dcmodify -i "
                "SpecificCharacterSet=...), or rename the region"
            )
