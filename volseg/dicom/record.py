"""The record of a series: the words by which an image, and whatever is made of it, says which series it comes from."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace

import numpy as np

from volseg.dicom.identity import word
from volseg.dicom.image import Stack
from volseg.dicom.instance import Instance, Series
from volseg.dicom.persons import owner_of
from volseg.volume import PROVENANCE, Volume

_WORDS = re.compile(
    rf"{PROVENANCE}(?P<keyed>keyed )?(?P<patient>p[0-9a-f]{{10}}) (?P<study>t[0-9a-f]{{8}}) "
    r"(?P<series>s[0-9a-f]{8}) (?P<frame>f[0-9a-f]{8}|f-) (?P<images>i[0-9a-f]{8})(?: (?P<volume>[vx][0-9a-f]{6}))?"
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
        volume: Word for the values of the voxels, `x`, which tells a series that was sent again with other pixels, and
            the volumes of a series that holds several; see `of_values`. Earlier versions wrote `v` for the images that
            were chosen of several volumes, see `of_images`, else nothing.
    """

    patient: str
    study: str
    series: str
    frame: str
    images: str
    keyed: bool = False
    volume: str = ""

    def __str__(self) -> str:
        """The record as NIfTI files carry it, see `volseg.volume.provenance_of`."""
        words = [self.patient, self.study, self.series, self.frame, self.images, *filter(None, [self.volume])]
        return PROVENANCE + ("keyed " if self.keyed else "") + " ".join(words)

    @property
    def name(self) -> str:
        """Patient and series in the form of a case's default key."""
        return f"{self.patient}_{self.series}"

    @property
    def of_series(self) -> Record:
        """The record without its volume, as `record_of` makes it."""
        return replace(self, volume="")

    def of_values(self, volume: Volume, *, key: str = "") -> Record:
        """The record with a word for the values of the voxels.

        It is the same however the values are compressed, and however many bits the file has for whole numbers.

        Args:
            volume: Volume of the series, as `read_image` gives it.
            key: What `volume_key` gives for the secret of the words.
        """
        return replace(self, volume=word(_values(volume), letter="x", length=6, secret=key))

    def of_images(self, stack: Stack, *, key: str = "") -> Record:
        """The record with a word for the images of one volume of the series, whose order does not matter.

        Args:
            stack: Slices of the volume.
            key: What `volume_key` gives for the secret of the words.
        """
        images = sorted({f"{item.sop_uid or item.path.name} {item.frame}" for item in stack.slices})
        return replace(self, volume=word("\n".join(images), letter="v", length=6, secret=key))

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

    own = next((item for item in apart(series) if item.uid == series.uid), series).instances
    images = sorted({instance.sop_uid or instance.name for instance in own})
    days = sorted({day for item in own for day in (item.study_date, item.acquired[:8])})
    return Record(
        word(owner_of(series), letter="p", length=10, secret=secret),
        short(first.study_uid, "t"),
        short(f"{first.study_uid} {series.uid}{part}", "s"),
        short(first.frame_uid, "f") if first.frame_uid else "f-",
        short("\n".join([*days, *images]), "i"),
        keyed=bool(secret),
    )


def _values(volume: Volume) -> str:
    """The shape of a volume and a checksum of its values, in words."""
    from isal import isal_zlib

    voxels = volume.voxels
    if voxels.dtype.kind != "f":  # of the smallest type that a converted file may have
        low, high = np.iinfo(np.int16).min, np.iinfo(np.int16).max
        fits = low <= voxels.min() and voxels.max() <= high
        voxels = voxels.astype(np.int16 if fits else np.int32, copy=False)
    content = np.ascontiguousarray(voxels.T)  # without a copy where X is the first axis in memory
    return f"{volume.voxels.shape} {content.dtype.kind} {isal_zlib.crc32(content.data.cast('B'))}"


def volume_key(secret: str) -> str:
    """What keys the words of volumes: made from the secret, which cannot be read back; empty if there is none."""
    return word("volumes", letter="k", length=32, secret=secret) if secret else ""


def apart(series: Series) -> list[Series]:
    """A series, and by themselves the copies under other UIDs that were added to it, see `copies.without_copies`."""
    found: dict[str, list[Instance]] = {}
    for instance in series.instances:
        own = (instance.concatenation or instance.sop_uid) if instance.whole else instance.series_uid
        found.setdefault(own, []).append(instance)
    if len(found) < 2:
        return [series]
    return [replace(series, uid=uid or series.uid, instances=tuple(items)) for uid, items in found.items()]


def read_record(text: str) -> Record | None:
    """The record that a file carries; None if the text is none.

    >>> read_record("volseg-series p0123456789 t01234567 s01234567 f- i01234567").name
    'p0123456789_s01234567'
    """
    found = _WORDS.fullmatch(text)
    if found is None:
        return None
    words = {name: value or "" for name, value in found.groupdict().items() if name != "keyed"}
    return Record(**words, keyed=found["keyed"] is not None)
