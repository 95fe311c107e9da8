"""The table train.csv of the UW-Madison layout: masks by case, slice and class; read once, painted a case at a time."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from volseg.errors import RleError, SourceError
from volseg.formats import rle
from volseg.labels import LabelMap, LabelTable

if TYPE_CHECKING:
    import pandas as pd

_KEY = r"(?P<patient>[A-Za-z0-9][A-Za-z0-9._-]*)_(?P<session>day[0-9]+)"
# Words for an empty cell, as tables of pandas have them once they were texts.
_NOTHING = ("nan", "NaN", "None", "null", "<NA>")
_WHOLE_KEY = re.compile(_KEY)
_KEY_AHEAD = re.compile(rf"{_KEY}(?![A-Za-z0-9])")
_ID = re.compile(rf"(?P<key>{_KEY})_slice_(?P<slice>[0-9]{{4,9}})")


def split_key(key: str) -> tuple[str, str] | None:
    """Patient and session of a key of this layout, None where the key is of another form.

    >>> split_key("case123_day20"), split_key("case123")
    (('case123', 'day20'), None)
    """
    match = _WHOLE_KEY.fullmatch(key)
    return (match["patient"], match["session"]) if match else None


def slice_id(key: str, number: int) -> str:
    """The id of a slice in train.csv; slices count from 1.

    >>> slice_id("case123_day20", 1)
    'case123_day20_slice_0001'
    """
    return f"{key}_slice_{number:04d}"


def split_id(text: str) -> tuple[str, int] | None:
    """Key and slice of an id, the inverse of `slice_id`; None where it is of another form.

    >>> split_id("case123_day20_slice_0001"), split_id("case123_day20")
    (('case123_day20', 1), None)
    """
    match = _ID.fullmatch(text)
    return (match["key"], int(match["slice"])) if match else None


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of one case, in the order of the file.

    Attributes:
        slices: (rows,), counted from 1; 0 where the id is malformed.
        classes: One name per row.
        texts: One run-length string per row.
        malformed: First id that names the case but no slice, or None.
    """

    slices: NDArray[np.int64]
    classes: list[str]
    texts: list[str]
    malformed: str | None = None


def read_table(path: str | Path) -> dict[str, Rows]:
    """Read train.csv once; the rows of each case by its key, unchecked beyond the form of their ids.

    Raises:
        SourceError: The file is absent or unreadable, has other columns, or an id names no case.
    """
    import pandas as pd

    path = Path(path)
    try:
        table = read_texts(path)
    except FileNotFoundError:
        raise SourceError(
            f"{path} is not there; it belongs beside `train` (scans without labels belong into `test`)"
        ) from None
    except UnicodeError as error:
        raise SourceError(f"{path} is no text in UTF-8 ({error}); save it as that, or copy it again") from error
    except (OSError, ValueError) as error:  # the parser's errors are ValueErrors
        raise SourceError(f"{path} cannot be read ({error}); copy it again") from error
    needed = ["id", "class", "segmentation"]
    whole = isinstance(table.index, pd.RangeIndex)
    if not whole or not {*needed} <= {*table.columns} or table.columns[table.columns.isin(needed)].duplicated().any():
        raise SourceError(
            f"{path} has the columns {', '.join(table.columns)}; expected id, class, segmentation, so take the "
            "train.csv of the competition"
        )
    nothing = table["segmentation"].isin(_NOTHING)
    if nothing.any():
        table["segmentation"] = table["segmentation"].mask(nothing, "")
    codes, ids = pd.factorize(table["id"])  # three rows share an id
    keys: list[str] = []
    slices = np.zeros(len(ids), dtype=np.int64)
    malformed: dict[str, str] = {}
    for i, text in enumerate(ids):
        match = _ID.fullmatch(text)
        if match:
            keys.append(match["key"])
            slices[i] = int(match["slice"])
            continue
        match = _KEY_AHEAD.match(text)
        if match is None:
            raise SourceError(f"{path} has the id {text!r}, which names no case; expected case1_day2_slice_0001 or so")
        keys.append(match[0])
        malformed.setdefault(match[0], text)
    slice_of_row = slices[codes]
    classes, texts = (table[name].to_numpy(dtype=object) for name in ("class", "segmentation"))
    groups = pd.Series(codes).groupby(np.array(keys, dtype=object)[codes]).indices
    return {
        str(key): Rows(slice_of_row[at], classes[at].tolist(), texts[at].tolist(), malformed.get(str(key)))
        for key, at in groups.items()
    }


def read_texts(path: Path) -> pd.DataFrame:
    """A table of texts as it is, or as a spreadsheet saved it: in UTF-16, with semicolons or tabs, names in capitals.

    Raises:
        OSError, ValueError: It cannot be read; errors of the parser are ValueErrors.
    """
    import pandas as pd  # the csv module's cells end at 128 kB, which the runs of a noisy mask pass

    with path.open("rb") as file:
        begin = file.readline(4096)
    encoding = "utf-16" if begin[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8"
    line = begin.replace(b"\0", b"")
    separator = next((mark for mark in (",", ";", "\t") if mark.encode() in line), ",")
    table = pd.read_csv(path, dtype=str, na_filter=False, encoding=encoding, sep=separator, skipinitialspace=True)
    return table.rename(columns=lambda name: str(name).strip().lower())


def check_rows(rows: Rows, key: str, *, count: int, names: Sequence[str]) -> None:
    """Raise unless each row is of a known class and one of the `count` slices of the case, and none is there twice.

    Raises:
        SourceError: An id is malformed, a class unknown, a slice not there, or an id and class are repeated.
    """
    if rows.malformed is not None:
        raise SourceError(f"train.csv has the id {rows.malformed!r}, expected {slice_id(key, 1)} or so; correct it")
    unknown = next((i for i, name in enumerate(rows.classes) if name not in names), None)
    if unknown is not None:
        raise SourceError(
            f"train.csv has the class {rows.classes[unknown]!r} at slice {rows.slices[unknown]:04d}, expected "
            f"{', '.join(names)}; correct it, or open the source with a label table of its classes"
        )
    outside = rows.slices[(rows.slices < 1) | (rows.slices > count)]
    if outside.size:
        raise SourceError(
            f"train.csv has rows of slice {outside[0]:04d}, the folder holds the slices 0001 to {count:04d}; "
            "the PNG is missing, copy the scan again"
        )
    found, times = np.unique(rows.slices * len(names) + _channels(rows, names), return_counts=True)
    if (times > 1).any():
        number, channel = divmod(int(found[times > 1][0]), len(names))
        raise SourceError(
            f"train.csv has slice {number:04d} with class {names[channel]!r} more than once; keep the right row"
        )


def label_map(rows: Rows, shape: tuple[int, int, int], labels: LabelTable) -> LabelMap:
    """The label map of a case's checked rows; overlaps are kept.

    Args:
        rows: Rows as `check_rows` passed them.
        shape: (slices, rows, columns).
        labels: Names and values of the classes.

    Returns:
        (slices, rows, columns), uint8.

    Raises:
        RleError: A string describes no mask of its slice; the message names slice and class.

    >>> table = LabelTable.overlapping(["a", "b"])
    >>> rows = Rows(np.array([1, 1, 2]), ["a", "b", "a"], ["1 2", "2 2", ""])
    >>> label_map(rows, (2, 1, 4), table).tolist()
    [[[1, 3, 2, 0]], [[0, 0, 0, 0]]]
    """
    if len(labels.names) > 8:
        return _by_slice(rows, shape, labels)
    depth, height, width = shape
    size = height * width
    words = [text.split() for text in rows.texts]
    counts = np.array([len(row) for row in words], dtype=np.int64)
    try:
        numbers = np.array(list(chain.from_iterable(words)), dtype=np.int64)
    except (ValueError, OverflowError):
        return _by_slice(rows, shape, labels)  # which names the row
    if (counts % 2).any():
        return _by_slice(rows, shape, labels)
    starts, lengths = numbers[::2] - 1, numbers[1::2]
    row = np.repeat(np.arange(len(words)), counts // 2)  # of each run
    wrong = (starts < 0) | (starts >= size) | (lengths < 1) | (lengths > size - starts)
    # Row after row in one line of pixels, runs must ascend; the last run of a row ends before the next row begins.
    first = row * size + starts
    wrong[1:] |= first[1:] < (first + lengths)[:-1]
    if wrong.any():
        return _by_slice(rows, shape, labels)

    first = (rows.slices[row] - 1) * size + starts  # in the cube
    channel = _channels(rows, labels.names)[row]
    code = np.zeros(depth * size, dtype=np.uint8)  # bit i: inside region i
    for i in range(len(labels.names)):
        begin, length = first[channel == i], lengths[channel == i]
        # Pixels of all runs in a row: 0, 1, 2, ... shifted, run by run, to where the run begins.
        shift = np.repeat(begin - (np.cumsum(length) - length), length)
        code[shift + np.arange(len(shift))] |= np.uint8(1 << i)
    return labels.from_bits(code).reshape(shape)


def _by_slice(rows: Rows, shape: tuple[int, int, int], labels: LabelTable) -> LabelMap:
    """What `label_map` gives, slowly: for any number of regions, and to say which row is wrong."""
    channels = _channels(rows, labels.names).tolist()
    masks: dict[int, NDArray[np.bool_]] = {}  # slice from 0 to (R, rows, columns)
    for number, channel, text in zip(rows.slices.tolist(), channels, rows.texts, strict=True):
        try:
            mask = rle.decode(text, shape[1:])
        except RleError as error:
            raise RleError(
                f"slice {number:04d}, {labels.names[channel]}: {error.message}; correct the row in train.csv"
            ) from error
        if mask.any():
            masks.setdefault(number - 1, np.zeros((len(labels.names), *shape[1:]), dtype=bool))[channel] = mask
    result = np.zeros(shape, dtype=np.uint8)
    for z, of_slice in masks.items():
        result[z] = labels.encode(of_slice)
    return result


def _channels(rows: Rows, names: Sequence[str]) -> NDArray[np.int64]:
    number = {name: i for i, name in enumerate(names)}
    return np.array([number[name] for name in rows.classes], dtype=np.int64)
