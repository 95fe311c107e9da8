"""Predictions as objects for the archive: each for the series that it was made from, and for no other."""

from __future__ import annotations

import logging
import re
import string
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

from volseg.cohort import FILE_ENDING, Prepare, read_translated
from volseg.dicom.choice import EVERYTHING, Choice
from volseg.dicom.identity import KEY, identify
from volseg.dicom.image import Stack, read_image, read_stack
from volseg.dicom.index import scan
from volseg.dicom.instance import Series
from volseg.dicom.record import Record, apart, read_record, record_of, volume_key
from volseg.dicom.target import Target, place
from volseg.errors import GeometryError, SourceError, UsageError, VolsegError, first_names, telling_memory
from volseg.files import FULL
from volseg.labels import LabelMatch, LabelTable
from volseg.volume import Grid, Volume, aligned, provenance_of

logger = logging.getLogger(__name__)

# A key as volseg makes it by default: it names one series of one patient (see `volseg.dicom.identify`).
_MADE_BY_US = re.compile(r"p[0-9a-f]{10}_s[0-9a-f]{8}")


def export_objects(
    predictions: Path,
    dicom: Path,
    output: Path,
    labels: LabelTable,
    write: Callable[[Path, Target, LabelTable], None],
    *,
    ending: str,
    match: LabelMatch | None = None,
    prepare: Prepare | None = None,
    key: str = KEY,
    secret: str = "",
    for_series: str | None = None,
    choice: Choice = EVERYTHING,
    progress: Callable[[int, int], None] | None = None,
) -> list[tuple[str, str]]:
    """Write one object for each prediction, with `write(path, target, labels)`.

    A prediction belongs to the series whose record it carries, see `volseg.dicom.record_of`: same patient, study,
    series, images and frame of reference. One without a record (of another program, or of an earlier volseg) belongs
    to the series whose case key it has, if the pattern of the keys names patient and series. Any other is refused,
    unless `for_series` says for which series it is; its voxels must be those of the series in any case.

    Args:
        predictions: a file `KEY.nii.gz`, or a folder of them.
        dicom: folder tree of the series.
        output: folder for `KEY` + `ending`; or a file, where it ends in `.dcm` and `predictions` is a file.
        labels: the regions.
        write: what writes the object.
        ending: Ending of the file names.
        match: Match of the predictions' own table with `labels`; None if they are the same.
        prepare: Function of the file's stem, the label map and the regions, which adds to both: bounds, margins.
        key: pattern that the keys were made with.
        secret: that the keys were made with.
        for_series: the series of a single prediction, whatever that says: SeriesInstanceUID or key.
        choice: Volume that is meant where a series holds several; a prediction whose record names another is refused.
        progress: called with (done, total).

    Returns:
        (key, error) of each prediction that failed.

    Raises:
        UsageError: no prediction, no such folder, no series in it, none of `for_series`, or several predictions for it.
        OSError: the disk is full.
    """
    files = [predictions] if predictions.is_file() else sorted(predictions.glob(f"[!.]*{FILE_ENDING}"))
    if not files or not all(path.name.endswith(FILE_ENDING) for path in files):
        raise UsageError(
            f"{predictions} holds no prediction KEY{FILE_ENDING}; name the file or the folder of the predictions"
        )
    found = scan(dicom, choices=[choice])
    if not found.series and not found.unreadable:
        raise UsageError(
            f"{dicom} holds no DICOM series; name the folder of the series that the predictions were made from"
        )
    there = _Archive(found.series, key=key, secret=secret, choice=choice)
    if for_series is not None and len(files) > 1:
        raise UsageError(f"--for-series names one series, and {predictions} holds {len(files)} predictions; name one")
    asked = there.find(for_series) if for_series is not None else None
    failures: list[tuple[str, str]] = []
    for done, path in enumerate(files, start=1):
        stem = path.name.removesuffix(FILE_ENDING)
        try:
            label = read_translated(path, match, target="a DICOM object")
            label = Volume(labels.check(label.voxels), label.affine_ras)
            labels.check_seen(label.voxels, target="a DICOM object")
            series = there.series_of(stem, label) if asked is None else asked
            table, stack = labels, there.stack(series, label, asked=asked is not None)
            if prepare is not None:
                label, table = prepare(stem, label, labels)
            target = place(label, stack)
            if asked is not None and (stated := there.stated_otherwise(asked, label)):
                logger.warning("%s was written for %s as asked, and its record names %s", stem, for_series, stated)
            named = output.suffix.lower() == ".dcm" and predictions.is_file() and not output.is_dir()
            with telling_memory():
                write(output if named else output / f"{stem}{ending}", target, table)
        except VolsegError as error:
            failures.append((stem, error.message))
        except OSError as error:
            if error.errno in FULL:  # the next one would fail likewise
                raise
            failures.append((stem, f"{error.filename or output} cannot be read or written ({error.strerror})"))
        if progress is not None:
            progress(done, len(files))
    return failures


class _Archive:
    """The series of a folder, found by what a prediction says of the one that it was made from.

    Args:
        series: Series of the folder.
        key: pattern of the case keys.
        secret: Secret of the words.
        choice: Volume that is meant where a series holds several.
    """

    def __init__(self, series: Sequence[Series], *, key: str, secret: str, choice: Choice = EVERYTHING) -> None:
        # An object refers to the images of one series: copies under other UIDs are series of their own here.
        self._series = series = [one for item in series for one in apart(item)]
        self._key, self._secret, self._choice = key, secret, choice
        self._records = [record_of(item, secret=secret) for item in series]
        # Who predicts from DICOM files directly has no secret, whatever the cohort has.
        self._plain = [record_of(item) for item in series] if secret else self._records

    @cached_property
    def _by_key(self) -> dict[str, Series]:
        names = identify(self._series, among=self._series, key=self._key, secret=self._secret, keep_ids=True)
        return {name.key: series for name, series in zip(names, self._series, strict=True)}

    def find(self, name: str) -> Series:
        """The series of a SeriesInstanceUID or a key.

        Raises:
            UsageError: there is none, or several have the UID.
        """
        found = [item for item in self._series if name in {item.uid, *(one.series_uid for one in item.instances)}]
        if not found:
            named = zip(self._series, self._records, self._plain, strict=True)
            found = [item for item, record, plain in named if name in (record.name, plain.name)]
        if not found and name in self._by_key:
            found = [self._by_key[name]]
        if len(found) == 1:
            return found[0]
        if found:
            pairs = zip(self._series, self._records, strict=True)
            known = first_names(record.name for item, record in pairs if item in found)
            raise UsageError(f"--for-series {name} is the UID of {len(found)} series; name one of {known}")
        known = first_names(record.name for record in self._records) or "none"
        raise UsageError(f"--for-series {name} is no series of the folder; there are {known}")

    def series_of(self, stem: str, label: Volume) -> Series:
        """The series that a prediction was made from.

        Args:
            stem: name of its file.
            label: its label map.

        Raises:
            SourceError: it is not in the folder, or nothing says which it is; the message names both.
        """
        text = provenance_of(label.affine_ras)
        if not text:
            return self._by_name(stem, label)
        record = read_record(text)
        if record is None:
            raise SourceError(
                f"the record of its series in the prediction's header is damaged ({len(text)} letters); name the "
                f"series with --for-series{self._suggestion(label)}"
            )
        if _MADE_BY_US.fullmatch(stem) and stem != record.name:
            raise SourceError(
                f"the prediction is named after the series {stem}, and was made from {record.name}; give the file its "
                "right name, or name the series with --for-series"
            )
        for found, plain, series in zip(self._records, self._plain, self._series, strict=True):
            if record.of_series in (found, plain):
                return series
        raise SourceError(self._refusal(record, label))

    def stack(self, series: Series, label: Volume, *, asked: bool = False) -> Stack:
        """The slices of a series, of the volume that is meant where it holds several.

        Args:
            series: The series.
            label: Label map of the prediction.
            asked: Whether the user has named the series, so that other pixels are warned about alone.

        Raises:
            SourceError: It holds several and none is chosen, the prediction was made from another than the chosen, or
                its pixels are others now.
            GeometryError: No even, square grid.
        """
        stack = read_stack(series, choice=self._choice)
        record = read_record(provenance_of(label.affine_ras))
        if record is None or not record.volume:
            return stack
        if record.of_series not in (self._record(series), record_of(series)) or self._made_from(record, stack):
            return stack
        if self._choice or record.volume.startswith("v"):
            chosen = f", {self._choice.told}" if self._choice else ""
            raise SourceError(
                f"the prediction was made from another volume of the series than this{chosen}; choose the volume as at "
                "the conversion or the prediction, with --echo, --phase, --b-value, --image-type or --where, and "
                "predict again if the series was sent again with other pixels"
            )
        told = "the prediction was made from other pixels than the series has now, under the same UIDs"
        if not asked:
            raise SourceError(
                f"{told}; the series was sent again, so convert and predict again, or ask for it all the same with "
                f"--for-series {self._record(series).name}"
            )
        logger.warning("%s; it was written as asked", told)
        return stack

    def _made_from(self, record: Record, stack: Stack) -> bool:
        """Whether the word of a record for its volume is that of a stack."""
        keys = {"", volume_key(self._secret)}
        if record.volume.startswith("v"):
            return record in [record.of_images(stack, key=key) for key in keys]
        volume = read_image(stack)
        return record in [record.of_values(volume, key=key) for key in keys]

    def _record(self, series: Series) -> Record:
        return record_of(series, secret=self._secret)

    def stated_otherwise(self, series: Series, label: Volume) -> str:
        """The series that a prediction names, where it is another one; else empty."""
        text = provenance_of(label.affine_ras)
        record = read_record(text)
        if not text or (record is not None and record.of_series in (self._record(series), record_of(series))):
            return ""
        return record.name if record is not None else "nothing that can be read"

    def _by_name(self, stem: str, label: Volume) -> Series:
        """The series whose key a prediction without a record has."""
        fields = {field for _, field, _, _ in string.Formatter().parse(self._key) if field}
        if stem in self._by_key:
            if "series" in fields and fields & {"patient", "patient_id"}:
                return self._by_key[stem]
            raise SourceError(
                f"the prediction carries no record of its series, and --key {self._key!r} does not tell patients and "
                f"series apart; name the series with --for-series{self._suggestion(label)}"
            )
        if _MADE_BY_US.fullmatch(stem):
            raise SourceError(
                "the prediction is named after a series that is not in the folder, and may be another patient's or "
                "another day's; name the folder of that series, and --secret-file as at the conversion"
            )
        raise SourceError(
            "the prediction carries no record of its series, and no series has this key; give --key and --secret-file "
            f"of the conversion, or name the series with --for-series{self._suggestion(label)}"
        )

    def _refusal(self, record: Record, label: Volume) -> str:
        """What to say of a prediction of a series that is not in the folder."""
        if record.keyed and not self._secret:
            return (
                f"the prediction names its series, {record.name}, by words that were made with a secret; name it with "
                "--secret-file, as at the conversion"
            )
        made = f"the prediction was made from {record.name}"
        others = self._plain if not record.keyed else self._records
        near = [other for other in others if (other.study, other.series) == (record.study, record.series)]
        near = near or list(self._fitting(label, others))
        cure = "name the folder of its own series"
        if not near:
            return f"{made}, which is not in the folder, and lies on the voxels of none of the series there; {cure}"
        more = f" (and {len(near) - 1} more)" if len(near) > 1 else ""
        return (
            f"{made}, which is not in the folder; {near[0].name}{more} there is {record.difference(near[0])}; {cure}, "
            f"or ask for this one with --for-series {near[0].name}"
        )

    def _suggestion(self, label: Volume) -> str:
        """The key of the one series on whose voxels a prediction lies, for the user to judge; else what there is."""
        fitting = list(self._fitting(label, self._records))
        if len(fitting) == 1:
            return f" {fitting[0].name}, if it was made from that one, whose voxels it has"
        return f" (it lies on the voxels of {len(fitting)} of {len(self._series)} there)"

    @cached_property
    def _grids(self) -> list[Grid | None]:
        """The grid of each series, None of one that is refused; read once, however many predictions are refused."""
        found: list[Grid | None] = []
        for series in self._series:
            try:
                stack = read_stack(series, choice=self._choice)
                found.append(Grid(stack.shape, stack.affine_ras))
            except VolsegError:
                found.append(None)
        return found

    def _fitting(self, label: Volume, records: Sequence[Record]) -> Iterator[Record]:
        """The records of the series on whose voxels a prediction lies."""
        for grid, record in zip(self._grids, records, strict=True):
            if grid is None or sorted(grid.shape) != sorted(label.shape):
                continue
            try:
                aligned(label, grid)
            except GeometryError:
                continue
            yield record
