"""One DICOM file: told from other files, and its header read with care, since anything may have happened to it."""

from __future__ import annotations

import logging
import math
import struct
import threading
import warnings
import zlib
from collections.abc import Sequence
from contextlib import ContextDecorator, ExitStack
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.config import IGNORE, disable_value_validation
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.multival import MultiValue
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pydicom.values import convert_value

from volseg.dicom.deflated import inflating
from volseg.errors import SourceError

# What pydicom raises at a damaged file, or at a value of it when that is first looked at.
DAMAGE = (
    *(InvalidDicomError, BytesLengthException, OSError, EOFError, ValueError, TypeError, KeyError, IndexError),
    *(
        AttributeError,
        RuntimeError,
        ArithmeticError,
        MemoryError,
        LookupError,
        AssertionError,
        struct.error,
        zlib.error,
    ),
)
# Without a preamble, a file starts with an element of one of these groups.
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00")
# Within so many the UID of the kind of object stands.
_BEGINNING_BYTES = 1024
# What macOS keeps beside a file on a disk of another system (RFC 1740).
_APPLE_DOUBLE = bytes.fromhex("00051607")
# Tag, VR and length of an element, which is what pydicom asks for first.
_HEADER_BYTES = 8


class Quiet(ContextDecorator):
    """While any thread is inside, pydicom and highdicom neither warn nor log: their texts quote values of patients.

    What matters in a file is checked here and told without the value. The settings come back when the last thread
    leaves. Also a decorator, for functions that are quiet as a whole.

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
        head = file.read(_BEGINNING_BYTES)
    if head[128:132] == b"DICM":
        return True
    # An element of group 2 or 8 whose number is one of the first: dates and UIDs are below 0x70. The kind of object
    # follows the words of ImageType, which may be many.
    return len(head) >= 132 and head[:2] in _FIRST_GROUPS and head[2] < 0x70 and head[3] == 0 and b"1.2.840.100" in head


def is_apple_double(path: Path) -> bool:
    """Whether a file holds what macOS notes of another one, whose name it has behind `._`: it is no image.

    Raises:
        OSError: the file cannot be opened.
    """
    if not path.name.startswith("._"):
        return False
    with path.open("rb") as file:
        return file.read(4) == _APPLE_DOUBLE


class Watched:
    """A file that notes whether it ended where something was still to come.

    pydicom takes the end of a file for the end of its elements, wherever that is, and says nothing that one may tell.

    >>> import io
    >>> file = Watched(io.BytesIO(b"1234"))
    >>> file.read(3), file.cut, file.read(3), file.cut
    (b'123', False, b'4', True)
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._empty = 0
        self._short = False
        self.seek, self.tell = file.seek, file.tell

    @property
    def cut(self) -> bool:
        """Whether a value or a header of one was shorter than asked for; the end itself is looked at once."""
        return self._short or self._empty > 1

    def read(self, size: int = -1) -> bytes:
        """As a file's."""
        content = self._file.read(size)
        if len(content) < size:
            if content or size != _HEADER_BYTES:
                self._short = True
            else:
                self._empty += 1
        return content


def read_header(path: Path, *, tags: Sequence[str | int] | None = None) -> Dataset:
    """The elements before the pixels, all or those named by `tags` (keywords).

    Raises:
        SourceError: no DICOM, damaged, or inflating to too much; the message does not name the file, whose name may be
            a patient's, and holds no value of it.
    """
    return read_parts(path, tags=tags)[0]


def read_parts(path: Path, *, tags: Sequence[str | int] | None = None) -> tuple[Dataset, bool, bool]:
    """As `read_header`; also whether pixels follow, and whether the file ends within an element."""
    return _read(path, stop_before_pixels=True, specific_tags=list(tags) if tags is not None else None)


def read_whole(path: Path) -> Dataset:
    """All elements, the pixels too (not decoded). Errors as in `read_header`."""
    return _read(path, stop_before_pixels=False)[0]


def syntax_of(path: Path) -> str:
    """The transfer syntax that a file states, where it is one of DICOM's or of a maker; empty where it is not read."""
    return _of_meta(path, "TransferSyntaxUID")


def writer_of(path: Path) -> str:
    """The program that wrote a file, as it names itself in the meta header (ImplementationVersionName), or empty."""
    return _of_meta(path, "ImplementationVersionName")


def _of_meta(path: Path, keyword: str) -> str:
    """An element of the meta header; nothing else is read, since the header of an object of many frames takes long."""
    try:
        with Quiet():
            return str(read_file_meta_info(path).get(keyword, ""))
    except DAMAGE:
        return ""


def _read(path: Path, **options: Any) -> tuple[Dataset, bool, bool]:  # noqa: ANN401 - pydicom's own
    try:
        with Quiet(), path.open("rb") as file:
            deflated = inflating(file)
            content: IO[bytes] = file if deflated is None else cast(IO[bytes], deflated)
            watched = Watched(content)
            dataset = pydicom.dcmread(watched, force=True, **options)
            if "TransferSyntaxUID" not in dataset.file_meta:  # a file without a meta header
                implicit, little = dataset.original_encoding
                plain = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
                dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else plain
            if deflated is not None:
                dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
            dataset.buffer = None  # which is closed from here on
            at = content.tell()
            content.seek(max(0, at - 1))
            last = content.read(2)
            return dataset, len(last) == 2, watched.cut or not last
    except DAMAGE as error:
        raise SourceError(f"the file is damaged or cut short ({type(error).__name__}); copy it again") from error


def known_name(uid: str) -> str:
    """The name of a UID of the standard, empty for any other: what a damaged file holds there may be anything.

    >>> known_name("1.2.840.10008.5.1.4.1.1.2"), known_name("Lovelace^Ada")
    ('CT Image Storage', '')
    """
    name = UID(uid, IGNORE).name  # unchecked: a warning would quote it
    return "" if name == uid else name


def _value(dataset: Dataset, keyword: str) -> Any:  # noqa: ANN401 - as the element has it
    """The value of an element; of one whose VR is UN, in the VR that the standard gives it.

    An element of more than 65,534 bytes has no room for its length in Explicit VR, so its VR is written as UN (PS3.5
    6.2.2). So do archives with elements that they do not know. A sequence in UN is encoded with Implicit VR.
    """
    value = dataset.get(keyword)
    if not isinstance(value, bytes):
        return value
    element = dataset[keyword]
    vr = dictionary_VR(element.tag) if element.VR == "UN" else "UN"
    if vr in ("UN", "OB", "OW", "OB or OW"):
        return value
    vr = "US" if vr == "US or SS" else vr
    raw = RawDataElement(element.tag, vr, len(value), value, 0, is_implicit_VR=True, is_little_endian=True)
    return convert_value(vr, raw, dataset.original_character_set or None)


def text(dataset: Dataset, keyword: str) -> str:
    r"""An element as text, empty where it is absent, empty or unreadable; several values with `\` between, as stored.

    >>> text(Dataset(), "Modality")
    ''
    """
    try:
        with Quiet():
            value = _value(dataset, keyword)
            if isinstance(value, (list, MultiValue)):
                value = "\\".join(f"{one:g}" if isinstance(one, float) else str(one) for one in value)
        return "" if value is None else str(value).strip("\0 ")
    except DAMAGE:
        return ""


def plain(dataset: Dataset, keyword: str | int) -> str:
    r"""An element of ASCII text, such as a date, a code or a UID, as it stands in the file; several values with `\`.

    Many times faster than `text`, which converts by the kind of the element. Empty where it is absent, or beyond ASCII.

    >>> plain(Dataset(), "StudyDate")
    ''
    """
    tag = tag_for_keyword(keyword) if isinstance(keyword, str) else keyword
    if tag is None or tag not in dataset:
        return ""
    element: object = dataset.get_item(tag)
    if isinstance(element, RawDataElement) and isinstance(element.value, bytes) and element.value.isascii():
        return element.value.decode("ascii").strip("\0 ")
    value = getattr(element, "value", None)
    if isinstance(value, (bytes, type(None))):
        return ""
    return "\\".join(map(str, value)) if isinstance(value, (list, MultiValue)) else str(value).strip("\0 ")


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
            value = _value(dataset, keyword)
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


def series_of_numbers(dataset: Dataset, keyword: str) -> NDArray[np.float64]:
    """An element of any count of numbers written as text (DS), (n,), empty where it is absent.

    Raises:
        SourceError: something else than numbers.
    """
    try:
        with Quiet():
            element: object = dataset.get_item(keyword)
            if isinstance(element, RawDataElement) and isinstance(element.value, bytes):  # text, as DS has it
                return np.array([float(part) for part in element.value.strip(b"\0 ").split(b"\\") if element.length])
            value = _value(dataset, keyword)
            if value is None or value == "":
                return np.empty(0)
            return np.atleast_1d(np.array(value, dtype=np.float64)).ravel()
    except DAMAGE as error:
        raise SourceError(f"{keyword} holds what is no number; the file is damaged") from error


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
            value = _value(dataset, keyword)
            found = [] if value is None else list(value)
    except DAMAGE as error:
        raise SourceError(f"{keyword} cannot be read; the file is damaged") from error
    if not all(isinstance(item, Dataset) for item in found):
        raise SourceError(f"{keyword} is no sequence; the file is damaged")
    return found
