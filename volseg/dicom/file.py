"""One DICOM file: told from other files, and its header read with care, since anything may have happened to it."""

from __future__ import annotations

import logging
import math
import struct
import threading
import warnings
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pydicom
from pydicom import Dataset
from pydicom.config import disable_value_validation
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from volseg.errors import SourceError

# What pydicom raises at a damaged file, or at a value of it when that is first looked at.
DAMAGE = (
    *(InvalidDicomError, BytesLengthException, OSError, EOFError, ValueError, TypeError, KeyError, IndexError),
    *(AttributeError, RuntimeError, OverflowError, MemoryError, struct.error, zlib.error),
)
# Without a preamble, a file starts with an element of one of these groups.
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00")


class Quiet:
    """While any thread is inside, pydicom and highdicom neither warn nor log: their texts quote values of patients.

    What matters in a file is checked here and told without the value. The settings come back when the last thread
    leaves.

    >>> with Quiet():
    ...     logging.getLogger("pydicom").isEnabledFor(logging.ERROR)
    False
    """

    _lock = threading.Lock()
    _inside = 0
    _undo = ExitStack()

    def __enter__(self) -> None:
        with Quiet._lock:
            Quiet._inside += 1
            if Quiet._inside == 1:
                Quiet._undo.enter_context(disable_value_validation())
                Quiet._undo.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
                for name in ("pydicom", "highdicom"):
                    logger = logging.getLogger(name)
                    Quiet._undo.callback(logger.setLevel, logger.level)
                    logger.setLevel(logging.CRITICAL + 1)

    def __exit__(self, *_: object) -> None:
        with Quiet._lock:
            Quiet._inside -= 1
            if not Quiet._inside:
                Quiet._undo.close()


def is_dicom(path: Path) -> bool:
    """Whether the first bytes are those of a DICOM file, whatever its name; old files have no preamble.

    Raises:
        OSError: the file cannot be opened.
    """
    with path.open("rb") as file:
        head = file.read(132)
    if head[128:] == b"DICM":
        return True
    # An element of group 2 or 8 whose number is one of the first: dates and UIDs are below 0x70.
    return len(head) == 132 and head[:2] in _FIRST_GROUPS and head[2] < 0x70 and head[3] == 0 and b"1.2.840.100" in head


def read_header(path: Path, *, tags: Sequence[str] | None = None) -> Dataset:
    """The elements before the pixels, all or those named by `tags` (keywords).

    Raises:
        SourceError: no DICOM, damaged, or deflated as a whole; the message does not name the file, whose name may be
            a patient's.
    """
    return _read(path, stop_before_pixels=True, specific_tags=list(tags) if tags is not None else None)


def read_whole(path: Path) -> Dataset:
    """All elements, the pixels too (not decoded). Errors as in `read_header`."""
    return _read(path, stop_before_pixels=False)


def _read(path: Path, **options: Any) -> Dataset:  # noqa: ANN401 - pydicom's own
    try:
        with Quiet():
            # Inflating has no bound, so a small file could fill the memory.
            with path.open("rb") as file:
                file.seek(128)
                meta = read_file_meta_info(path) if file.read(4) == b"DICM" else Dataset()
            if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
                raise SourceError("the file is deflated as a whole, which is not read; expand it with dcmconv first")
            dataset = pydicom.dcmread(path, force=True, **options)
            if "TransferSyntaxUID" not in dataset.file_meta:  # a file without a meta header
                implicit, little = dataset.original_encoding
                plain = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
                dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else plain
            return dataset
    except DAMAGE as error:
        raise SourceError(f"the file is damaged or cut short ({type(error).__name__}); copy it again") from error


def text(dataset: Dataset, keyword: str) -> str:
    """An element as text, empty where it is absent, empty or unreadable.

    >>> text(Dataset(), "Modality")
    ''
    """
    try:
        with Quiet():
            value = dataset.get(keyword)
        return "" if value is None else str(value).strip("\0 ")
    except DAMAGE:
        return ""


def numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """An element of `count` finite numbers, or None where it is absent or empty.

    Raises:
        SourceError: anything else.

    >>> plane = Dataset()
    >>> plane.PixelSpacing = [0.5, 0.5]
    >>> numbers(plane, "PixelSpacing", 2)
    (0.5, 0.5)
    """
    try:
        with Quiet():
            value = dataset.get(keyword)
        if value is None or value == "":
            return None
        values = tuple(map(float, [value] if isinstance(value, (str, int, float)) else value))
    except DAMAGE as error:
        raise SourceError(f"{keyword} is no number; the file is damaged") from error
    if not values:
        return None
    if len(values) != count or not all(map(math.isfinite, values)):
        raise SourceError(f"{keyword} holds {len(values)} values, expected {count} finite numbers; the file is damaged")
    return values


def number(dataset: Dataset, keyword: str) -> float | None:
    """An element of one finite number, or None. Errors as in `numbers`."""
    values = numbers(dataset, keyword, 1)
    return None if values is None else values[0]


def whole(dataset: Dataset, keyword: str, *, default: int = 0) -> int:
    """An element of one whole number, `default` where it is absent. Errors as in `numbers`."""
    value = number(dataset, keyword)
    if value is not None and not value.is_integer():
        raise SourceError(f"{keyword} is no whole number; the file is damaged")
    return default if value is None else int(value)


def items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence, empty where it is absent.

    Raises:
        SourceError: a damaged sequence.
    """
    try:
        with Quiet():
            value = dataset.get(keyword)
            found = [] if value is None else list(value)
    except DAMAGE as error:
        raise SourceError(f"{keyword} cannot be read; the file is damaged") from error
    if not all(isinstance(item, Dataset) for item in found):
        raise SourceError(f"{keyword} is no sequence; the file is damaged")
    return found
