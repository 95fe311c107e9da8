"""The submission of the UW-Madison GI tract competition: one run-length string a slice and class, written and checked.

Run lengths are row-major over the slice's own rows and columns, 1-based, as in train.csv (see `rle`). Rows are
those of the competition's test.csv or sample_submission.csv, in their order. What is written is read back and compared
with the predictions, pixel by pixel, before the file gets its name.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from volseg.cohort import FILE_ENDING, Cohort, Predictions
from volseg.errors import RleError, SourceError, UsageError, VolsegError
from volseg.files import atomic
from volseg.formats import rle
from volseg.formats.slice_grid import native_grid, on_grid
from volseg.formats.train_csv import read_texts, split_id
from volseg.labels import LabelTable, Masks
from volseg.volume import read_volume

HEADER = ("id", "class", "predicted")
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Wanted:
    """The rows of a submission, in the order of the test CSV.

    Attributes:
        rows: (id, class).
        cases: Places of the rows by key.
        slices: Slice of each row, from 1.
    """

    rows: tuple[tuple[str, str], ...]
    cases: Mapping[str, Sequence[int]]
    slices: tuple[int, ...]


@dataclass(frozen=True)
class Submission:
    """What was written or checked: rows, cases, cases left empty, and cases resampled to their slices."""

    rows: int
    cases: int
    empty: tuple[str, ...]
    resampled: tuple[str, ...]


def read_wanted(path: str | Path, labels: LabelTable) -> Wanted:
    """The ids and classes that a submission must have.

    Args:
        path: File test.csv or sample_submission.csv; columns other than id and class are not looked at.
        labels: Regions; each class is the name of one.

    Raises:
        UsageError: The file is absent, or has no row or not the columns.
        SourceError: An id names no slice, a class is unknown, or an id and class stand there twice.
    """
    path = Path(path)
    columns, lines = _read(path)
    if not {"id", "class"} <= set(columns):
        raise UsageError(f"{path} has the columns {', '.join(columns)}; expected id and class, as test.csv has them")
    rows = tuple((line[columns.index("id")], line[columns.index("class")]) for line in lines)
    if not rows:
        raise UsageError(f"{path} holds no id; name the test.csv or sample_submission.csv with the ids to predict")
    cases: dict[str, list[int]] = {}
    slices = []
    for place, (id_, name) in enumerate(rows):
        found = split_id(id_)
        if found is None:
            raise SourceError(f"{path} has the id {id_!r}, expected case1_day2_slice_0001 or so; correct it")
        if name not in labels.names:
            raise SourceError(f"{path} has the class {name!r} at {id_}, the predictions hold {', '.join(labels.names)}")
        cases.setdefault(found[0], []).append(place)
        slices.append(found[1])
    _once(rows, path)
    return Wanted(rows, cases, tuple(slices))


def write_submission(
    path: str | Path,
    predictions: Path,
    cohort: Cohort,
    test_csv: Path,
    *,
    labels: LabelTable,
    empty_missing: bool = False,
    progress: Progress | None = None,
) -> Submission:
    """Write `id,class,predicted` for every row of the test CSV, checked, whole or not at all.

    Args:
        path: File to write or replace.
        predictions: Folder of `KEY.nii.gz`, on the grid of the cohort's images or any that covers them.
        cohort: Cohort that was converted from the test slices; it knows their grid.
        test_csv: Rows to fill.
        labels: Labels of the predictions; overlapping regions are kept, each in its own row.
        empty_missing: Whether to leave the rows of a case without prediction empty, instead of refusing.
        progress: Function that is called with (cases done, cases in all); each case counts twice, once for the check.

    Raises:
        UsageError, SourceError: The errors of `read_wanted`; a case has no prediction, or the scan not such a slice.
        VolsegError: A prediction cannot be read or brought to the slices.
    """
    wanted = read_wanted(test_csv, labels)
    answers = _Answers(predictions, cohort, labels)
    empty = answers.absent(wanted, test_csv, allowed=empty_missing)
    texts = [""] * len(wanted.rows)
    total = len(wanted.cases)
    for done, (key, places) in enumerate(wanted.cases.items(), start=1):
        if key not in empty:
            masks = answers.masks(key)
            for place in places:
                texts[place] = rle.encode(answers.mask(masks, wanted, place))
        if progress:
            progress(done, 2 * total)
    with atomic(path) as partial:
        with partial.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(HEADER)
            table.writerows((*row, text) for row, text in zip(wanted.rows, texts, strict=True))
        return check_submission(
            partial,
            *(predictions, cohort, test_csv),
            labels=labels,
            empty_missing=empty_missing,
            progress=progress and (lambda done, _: progress(total + done, 2 * total)),
        )


def check_submission(
    path: str | Path,
    predictions: Path,
    cohort: Cohort,
    test_csv: Path,
    *,
    labels: LabelTable,
    empty_missing: bool = False,
    progress: Progress | None = None,
) -> Submission:
    """Read a submission and compare it with the predictions. Arguments as in `write_submission`.

    Raises:
        SourceError: Other columns; an id and class absent, unknown, twice or in another order; pixels that are not
            those of the prediction.
        RleError: A string describes no mask of its slice. Each message names the id.
    """
    path = Path(path)
    wanted = read_wanted(test_csv, labels)
    texts = _texts(path, wanted)
    answers = _Answers(predictions, cohort, labels)
    empty = answers.absent(wanted, test_csv, allowed=empty_missing)
    for done, (key, places) in enumerate(wanted.cases.items(), start=1):
        masks = None if key in empty else answers.masks(key)
        for place in places:
            if masks is not None:
                _compare(texts[place], answers.mask(masks, wanted, place), wanted.rows[place])
            elif texts[place].strip():
                raise SourceError(f"{_name(wanted.rows[place])}: there are pixels, and no prediction of the case")
        if progress:
            progress(done, len(wanted.cases))
    return Submission(len(wanted.rows), len(wanted.cases), tuple(sorted(empty)), tuple(answers.resampled))


class _Answers:
    """The predictions on the slices of their cases."""

    def __init__(self, predictions: Path, cohort: Cohort, labels: LabelTable) -> None:
        self.predictions, self.cohort, self.labels = predictions, cohort, labels
        self.resampled: list[str] = []

    def absent(self, wanted: Wanted, test_csv: Path, *, allowed: bool) -> set[str]:
        """The cases without prediction.

        Raises:
            UsageError: There are some, and that is not allowed.
        """
        found = {key for key in wanted.cases if not Predictions(self.predictions).path(key).is_file()}
        if found == set(wanted.cases):
            raise UsageError(f"{self.predictions} holds no prediction KEY{FILE_ENDING} of any case of {test_csv}")
        if found and not allowed:
            told = ", ".join(f"{key} ({len(wanted.cases[key])} rows)" for key in sorted(found))
            raise UsageError(
                f"{len(found)} of {len(wanted.cases)} cases of {test_csv} have no prediction: {told}; predict them, or "
                "leave them empty with --empty-missing"
            )
        return found

    def masks(self, key: str) -> Masks:
        """(R, slices, rows, columns)."""
        try:
            shape, affine = native_grid(self.cohort, key)
            label = read_volume(Predictions(self.predictions).path(key))
            voxels, resampled = on_grid(label, shape, affine)
            self.labels.check_seen(checked := self.labels.check(voxels), target="a submission")
            masks = self.labels.masks(checked.T)  # [column, row, slice] to [slice, row, column]
        except VolsegError as error:
            raise error.of_case(key) from error
        if resampled:
            self.resampled.append(key)
        return masks

    def mask(self, masks: Masks, wanted: Wanted, place: int) -> Masks:
        """(rows, columns) of one row of the submission.

        Raises:
            SourceError: The scan has no such slice.
        """
        id_, name = wanted.rows[place]
        number = wanted.slices[place]
        if not 1 <= number <= masks.shape[1]:
            raise SourceError(
                f"{id_}: the scan has the slices 1 to {masks.shape[1]}; convert the scan that the ids mean"
            )
        mask: Masks = masks[self.labels.names.index(name), number - 1]
        return mask


def _compare(text: str, mask: Masks, row: tuple[str, str]) -> None:
    """Raise unless the string describes the mask (rows, columns)."""
    rows, columns = mask.shape
    try:
        got = rle.decode(text, (rows, columns))
    except RleError as error:
        raise RleError(f"{_name(row)}: {error.message}") from error
    if np.array_equal(got, mask):
        return
    if np.array_equal(rle.decode(text, (columns, rows)).T, mask):
        reason = "the run lengths go down the columns; the competition's go along the rows"
    else:
        reason = f"{got.sum()} pixels, of which {(got & mask).sum()} are among the {mask.sum()} of the prediction"
    raise SourceError(f"{_name(row)}: {reason}; write the file with `volseg export kaggle`")


def _texts(path: Path, wanted: Wanted) -> list[str]:
    """The run-length strings of a submission whose ids and classes are those wanted, in their order."""
    if not path.is_file():
        raise UsageError(f"there is no submission {path} to check; write it without --check, or correct -o")
    columns, lines = _read(path, exact=True)
    if tuple(columns) != HEADER:
        raise SourceError(f"{path} has the columns {', '.join(columns)}; expected {', '.join(HEADER)}")
    rows = [(id_, name) for id_, name, _ in lines]
    _once(rows, path)
    for what, extra in (
        ("is missing", set(wanted.rows) - set(rows)),
        ("was not asked for", set(rows) - set(wanted.rows)),
    ):
        if extra:
            more = f" ({len(extra)} rows in all)" if len(extra) > 1 else ""
            raise SourceError(f"{path}: {_name(min(extra))} {what}{more}; write the file with `volseg export kaggle`")
    for got, expected in zip(rows, wanted.rows, strict=True):
        if got != expected:
            raise SourceError(f"{path}: {_name(got)} stands where {_name(expected)} is expected; sort as test.csv is")
    return [text for _, _, text in lines]


def _once(rows: Sequence[tuple[str, str]], path: Path) -> None:
    seen: set[tuple[str, str]] = set()
    for row in rows:
        if row in seen:
            raise SourceError(f"{path}: {_name(row)} stands there twice; keep one row an id and class")
        seen.add(row)


def _read(path: Path, *, exact: bool = False) -> tuple[list[str], list[list[str]]]:
    """Head and lines of a CSV, each line as long as the head; `exact` takes no other spelling than Kaggle does."""
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str, na_filter=False) if exact else read_texts(path)
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}; name test.csv or sample_submission.csv") from None
    except (OSError, ValueError) as error:  # the parser's errors are ValueErrors
        raise SourceError(f"{path} cannot be read as CSV ({error}); name a CSV file") from error
    if not isinstance(table.index, pd.RangeIndex):
        raise SourceError(f"{path} has lines with more cells than its head; copy it again")
    return [str(name) for name in table.columns], table.to_numpy(dtype=object).tolist()


def _name(row: tuple[str, str]) -> str:
    return f"{row[0]}, {row[1]}"
