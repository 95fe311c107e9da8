"""The record of a series: the words by which an image, and whatever is made of it, says which series it comes from."""

from __future__ import annotations

import re
from dataclasses import astuple, dataclass, fields

from volseg.dicom.identity import word
from volseg.dicom.instance import Series
from volseg.dicom.persons import owner_of
from volseg.volume import PROVENANCE

_WORDS = re.compile(
    rf"{PROVENANCE}(?P<keyed>keyed )?(?P<patient>p[0-9a-f]{{10}}) (?P<study>t[0-9a-f]{{8}}) "
    r"(?P<series>s[0-9a-f]{8}) (?P<frame>f[0-9a-f]{8}|f-) (?P<images>i[0-9a-f]{8})"
)


@dataclass(frozen=True)
class Record:
    """Which series an image was made from, in words that stand for its UIDs and cannot be read back.

    Attributes:
        patient: Word for the patient, as in `cases.csv`.
        study: Word for the study.
        series: Word for the series, as in a case's key.
        frame: Word for the frame of reference; `f-` if the series states none.
        images: Word for all its images and the dates of study and acquisition, which tells the days of a series whose
            UIDs were used twice.
        keyed: Whether the words were made with a secret.
    """

    patient: str
    study: str
    series: str
    frame: str
    images: str
    keyed: bool = False

    def __str__(self) -> str:
        """The record as NIfTI files carry it, see `volseg.volume.provenance_of`."""
        *words, _ = astuple(self)
        return PROVENANCE + ("keyed " if self.keyed else "") + " ".join(words)

    @property
    def name(self) -> str:
        """Patient and series in the form of a case's default key."""
        return f"{self.patient}_{self.series}"

    def difference(self, other: Record) -> str:
        """What tells another record from this one, in words for people; empty if they are equal."""
        if self.keyed != other.keyed:
            return "with words of another secret"
        told = {
            "patient": "of another patient",
            "study": "of another study of this patient, on another day perhaps",
            "series": "another series of this study",
            "images": "of other images, or of another day, under the same UIDs",
            "frame": "of another frame of reference",
        }
        differing = {field.name for field in fields(self) if getattr(self, field.name) != getattr(other, field.name)}
        return next((words for name, words in told.items() if name in differing), "")


def record_of(series: Series, *, secret: str = "") -> Record:
    """The record of a series.

    Args:
        series: The series.
        secret: Secret of the words, as at `volseg.dicom.identify`.
    """
    first = series.first
    part = f" {series.part}" if series.part else ""

    def short(text: str, letter: str) -> str:
        return word(text, letter=letter, length=8, secret=secret)

    images = sorted({instance.sop_uid or instance.name for instance in series.instances})
    days = sorted({day for item in series.instances for day in (item.study_date, item.acquired[:8])})
    return Record(
        word(owner_of(series), letter="p", length=10, secret=secret),
        short(first.study_uid, "t"),
        short(f"{first.study_uid} {series.uid}{part}", "s"),
        short(first.frame_uid, "f") if first.frame_uid else "f-",
        short("\n".join([*days, *images]), "i"),
        keyed=bool(secret),
    )


def read_record(text: str) -> Record | None:
    """The record that a file carries; None if the text is none.

    >>> read_record("volseg-series p0123456789 t01234567 s01234567 f- i01234567").name
    'p0123456789_s01234567'
    """
    found = _WORDS.fullmatch(text)
    if found is None:
        return None
    words = {name: value for name, value in found.groupdict().items() if name != "keyed"}
    return Record(**words, keyed=found["keyed"] is not None)
