"""The DICOM series that a prediction belongs to, and the prediction on the slices of that series."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from pydicom import Dataset

from volseg.cohort import FILE_ENDING, check_key, read_translated
from volseg.dicom.charset import to_unicode
from volseg.dicom.file import Quiet, read_header, text
from volseg.dicom.identity import KEY, identify
from volseg.dicom.image import Stack, read_stack
from volseg.dicom.index import Index, scan
from volseg.dicom.instance import Series
from volseg.errors import GeometryError, LabelError, SourceError, UsageError, VolsegError
from volseg.files import atomic
from volseg.labels import LabelMap, LabelMatch, LabelTable, Region
from volseg.volume import Grid, Volume, aligned

# A key as volseg makes it by default: it names one series of one patient (see `volseg.dicom.identify`).
_MADE_BY_US = re.compile(r"p[0-9a-f]{10}_s[0-9a-f]{8}")
# Old and anonymised series lack some of these, which an object of a study must have, empty or not (type 2).
_AT_LEAST_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
    *("AccessionNumber", "ReferringPhysicianName"),
)
_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID", "SOPClassUID")


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
        headers = []
        for path in dict.fromkeys(item.path for item in self.stack.slices):
            header = read_header(path)
            absent = [name for name in _NEEDED if not text(header, name)]
            if absent:
                raise SourceError(
                    f"the series has no {' and no '.join(absent)}, so no object can refer to it; name the original one"
                )
            for name in _AT_LEAST_EMPTY:
                if name not in header:
                    setattr(header, name, "")
            to_unicode(header)
            headers.append(header)
        return headers

    def present(self, labels: LabelTable) -> list[Region]:
        """The regions that hold a voxel, in the order of the table.

        Raises:
            LabelError: none does, or a value that the table does not declare.
        """
        held = set(np.unique(labels.check(self.label_map)).tolist())
        found = [region for region in labels.regions if held & set(region.values)]
        if not found:
            raise LabelError("no voxel belongs to any region, so there is nothing to write")
        return found


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


def export_objects(
    predictions: Path,
    dicom: Path,
    output: Path,
    labels: LabelTable,
    write: Callable[[Path, Target, LabelTable], None],
    *,
    ending: str,
    match: LabelMatch | None = None,
    key: str = KEY,
    secret: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> list[tuple[str, str]]:
    """Write one object for each prediction, with `write(path, target, labels)`.

    A prediction belongs to the series whose case key it has, as `volseg convert dicom` and `volseg predict` make it. A
    single prediction of another name belongs to the one series on whose grid it lies.

    Args:
        predictions: a file `KEY.nii.gz`, or a folder of them.
        dicom: folder tree of the series.
        output: folder for `KEY` + `ending`; or a file, where it ends in `.dcm` and `predictions` is a file.
        labels: the regions.
        write: what writes the object.
        ending: of the file names.
        match: Match of the predictions' own table with `labels`; None if they are the same.
        key: pattern that the keys were made with.
        secret: that the keys were made with.
        progress: called with (done, total).

    Returns:
        (key, error) of each prediction that failed.

    Raises:
        UsageError: no prediction, or no such folder.
    """
    files = [predictions] if predictions.is_file() else sorted(predictions.glob(f"[!.]*{FILE_ENDING}"))
    if not files or not all(path.name.endswith(FILE_ENDING) for path in files):
        raise UsageError(
            f"{predictions} holds no prediction KEY{FILE_ENDING}; name the file or the folder of the predictions"
        )
    index = scan(dicom)
    names = identify(index.series, among=index.series, key=key, secret=secret)
    by_key = {name.key: series for name, series in zip(names, index.series, strict=True)}
    failures: list[tuple[str, str]] = []
    for done, path in enumerate(files, start=1):
        stem = path.name.removesuffix(FILE_ENDING)
        try:
            if stem not in by_key and _MADE_BY_US.fullmatch(stem):
                raise SourceError(
                    "the prediction is named after a series that is not in the folder, and may be another patient's or "
                    "another day's; name the folder of that series, and --secret-file as at the conversion"
                )
            target = _target(by_key.get(stem), read_translated(path, match), index, alone=predictions.is_file())
            named = output.suffix == ".dcm" and predictions.is_file()
            write(output if named else output / f"{check_key(stem)}{ending}", target, labels)
        except VolsegError as error:
            failures.append((stem, error.message))
        if progress is not None:
            progress(done, len(files))
    return failures


def _target(series: Series | None, label: Volume, index: Index, *, alone: bool) -> Target:
    """The prediction on the series with its key, or else on the only series that it fits."""
    if series is not None:
        return place(label, read_stack(series))
    if not alone:
        raise SourceError("no series has this key; name the folder, --key and --secret-file of the conversion")
    patients = {other.first.patient or other.first.study_uid for other in index.series}
    if len(patients) > 1:
        raise SourceError(
            f"the prediction does not say which of the {len(patients)} patients in the folder it belongs to; name the "
            "folder of the one series it was made from"
        )
    fitting: list[Target] = []
    reason = ""
    for other in index.series:
        try:
            fitting.append(place(label, read_stack(other)))
        except VolsegError as error:
            reason = error.message
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise SourceError(f"the prediction fits {len(fitting)} series; name the folder of the one it was made from")
    if len(index.series) == 1:
        raise GeometryError(reason)
    raise SourceError(f"the prediction lies on the voxels of none of the {len(index.series)} series in the folder")


def save(path: Path, dataset: Dataset) -> None:
    """Write an object, whole or not at all."""
    with atomic(path) as partial, Quiet():
        dataset.save_as(partial, enforce_file_format=True)


def check_names(regions: Sequence[Region], header: Dataset) -> None:
    """Refuse names that an object cannot keep: DICOM's LO has 64 characters and no backslash.

    Args:
        regions: to write.
        header: of the series, as `Target.headers` has it.

    Raises:
        LabelError: such a name.
    """
    for region in regions:
        if len(region.name) > 64 or "\\" in region.name or not region.name.isprintable():
            raise LabelError(
                f"region {region.name!r} has a name of {len(region.name)} characters; DICOM keeps 64 and no backslash. "
                "Change it in dataset.json"
            )
        if not region.name.isascii() and "SpecificCharacterSet" not in header:
            raise LabelError(
                f"region {region.name!r} is not in ASCII, and the series states no character set for the patient's "
                "texts, whose bytes must stay. State it in the series (dcmodify -i SpecificCharacterSet=...), or "
                "rename the region"
            )
