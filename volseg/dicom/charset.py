"""Character sets: whether a file says what its bytes stand for, and texts that reach another object as they were."""

from __future__ import annotations

from collections.abc import Mapping

import pydicom.charset
from pydicom import DataElement, Dataset
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.valuerep import PN_DELIMS, TEXT_VR_DELIMS, PersonName

from volseg.dicom.file import DAMAGE, Quiet
from volseg.errors import SourceError

_TEXTS = frozenset({"PN", "LO", "SH", "ST", "LT", "UT", "UC"})
# Components and values of texts; each begins in the first character set again (PS3.5 6.1.2.5.3).
_BETWEEN = {ord("="), ord("\\")}
_ESCAPE = b"\x1b"
_UTF_8 = "ISO_IR 192"
_PATIENT = 0x0010
_STUDY = ("StudyID", "AccessionNumber", "StudyDescription", "ReferringPhysicianName", "NameOfPhysiciansReadingStudy")


def declares_characters(dataset: Dataset) -> bool:
    """Whether a file states a character set, other than the plain one of ASCII."""
    return any(term not in ("", "ISO_IR 6", "ISO 2022 IR 6") for term in _terms(dataset))


def to_unicode(dataset: Dataset) -> None:
    """State the texts of a header in UTF-8, or leave their bytes as they are where nothing says what they stand for.

    Without a stated character set, bytes beyond ASCII may be GBK, Shift JIS, Latin-1 or UTF-8. Each byte is then read
    as one character of Latin-1 and written back as the same byte, and the object states no character set either.

    Args:
        dataset: a header as it was read; it is changed.

    Raises:
        SourceError: a stated character set that is none, or that the texts are not in.
    """
    raw = {keyword: _bytes(dataset, keyword) for keyword in _carried(dataset)}
    foreign = {keyword: value for keyword, value in raw.items() if not value.isascii() or _ESCAPE in value}
    if foreign and not declares_characters(dataset):
        for keyword, value in foreign.items():
            _set(dataset, keyword, value.decode("latin-1"), "iso8859")
        dataset.pop("SpecificCharacterSet", None)
        return
    texts = _decoded(foreign, _terms(dataset)) if foreign else {}
    if texts is None:
        raise SourceError(
            f"the texts of the series ({', '.join(sorted(foreign))}) are not in the character set that it states; "
            "state the right one (dcmodify -m SpecificCharacterSet=...) and export again"
        )
    try:
        with Quiet():
            dataset.decode()
    except DAMAGE as error:
        raise SourceError("the series states its texts in a character set that is none") from error
    dataset.SpecificCharacterSet = _UTF_8  # which holds what any other holds
    for keyword, decoded in texts.items():
        _set(dataset, keyword, decoded, "utf8")


def _set(dataset: Dataset, keyword: str, text: str, encoding: str) -> None:
    """Replace a text by one value, though bytes that nobody explains may look like the sign between two values."""
    vr = dictionary_VR(keyword)
    value = PersonName(text, encodings=[encoding]) if vr == "PN" else text
    dataset[keyword] = DataElement(Tag(keyword), vr, value, already_converted=True)


def _terms(dataset: Dataset) -> list[str]:
    """The character sets that a file states, the first one empty where it states an extension only."""
    with Quiet():
        stated = dataset.get("SpecificCharacterSet")
    terms = [stated] if isinstance(stated, str) else list(stated or [])
    terms = [str(term).strip().replace("ISO-IR", "ISO_IR") for term in terms]
    return ["", *terms] if len(terms) == 1 and terms[0].startswith("ISO 2022") else terms


def _decoded(raw: Mapping[str, bytes], terms: list[str]) -> dict[str, str] | None:
    """Texts from bytes, None where any byte has no meaning in the character sets."""
    if not all(term in pydicom.charset.python_encoding for term in terms):
        return None
    found = {}
    with Quiet():
        encodings = pydicom.charset.convert_encodings(terms)
        for keyword, value in raw.items():
            delimiters = PN_DELIMS if dictionary_VR(keyword) == "PN" else TEXT_VR_DELIMS
            found[keyword] = pydicom.charset.decode_bytes(value, encodings, set(delimiters) | _BETWEEN).rstrip("\0 ")
    return None if any("\N{REPLACEMENT CHARACTER}" in text or "\x1b" in text for text in found.values()) else found


def _carried(dataset: Dataset) -> list[str]:
    """The texts of patient and study that a header has, which objects made for it carry."""
    patient = [keyword_for_tag(tag) for tag in dataset.keys() if tag.group == _PATIENT]  # noqa: SIM118 - no dict
    return [keyword for keyword in (*patient, *_STUDY) if keyword and keyword in dataset]


def _bytes(dataset: Dataset, keyword: str) -> bytes:
    """The bytes of a text as they stand in the file, empty for what is no text."""
    if dictionary_VR(keyword) not in _TEXTS:
        return b""
    with Quiet():
        element = dataset.get_item(keyword)
    value = element.value if isinstance(element, RawDataElement) else getattr(element.value, "original_string", None)
    if value is None and not isinstance(element, RawDataElement):
        value = str(element.value).encode()
    return value if isinstance(value, bytes) else str(value or "").encode()
