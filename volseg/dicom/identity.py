"""What cases are called: words made from patient IDs and UIDs that cannot be read back, and days instead of dates.

A word is the start of a SHA-256. Who has a list of patient IDs can compute the words of all and compare; with a secret
(HMAC, RFC 2104) only who holds it can. The same ID, UID and secret give the same word in every cohort, so a patient is
known again, and a series keeps its key when others are added.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from volseg.cohort import check_key
from volseg.dicom.instance import Series
from volseg.dicom.persons import doubts, owner_of
from volseg.dicom.scans import day_of
from volseg.errors import UsageError

KEY = "{patient}_{series}"
STUDY_KEY = "{patient}_{study}"
"""Pattern of the keys of cases whose channels are several series of one study."""
_FIELDS = ("patient", "session", "study", "series", "modality", "number", "patient_id")


@dataclass(frozen=True)
class Identity:
    """What a case is called. `patient` groups folds; `session` counts days from the patient's first study."""

    key: str
    patient: str
    session: str
    warnings: tuple[str, ...]


def word(text: str, *, letter: str, length: int, secret: str = "") -> str:
    """A letter and `length` hexadecimal digits that stand for a text.

    >>> word("12345678", letter="p", length=10)
    'pef797c8118'
    >>> word("12345678", letter="p", length=10, secret="of the hospital")
    'pad76b00d60'
    """
    content = text.encode(errors="surrogateescape")  # names of files need not be UTF-8
    digest = hmac.digest(secret.encode(), content, "sha256") if secret else hashlib.sha256(content).digest()
    return letter + digest.hex()[:length]


def identify(
    series: Sequence[Series], *, among: Sequence[Series], key: str = KEY, secret: str = "", keep_ids: bool = False
) -> list[Identity]:
    """Name each series.

    Args:
        series: those to name.
        among: all series of the folder, whose dates count too.
        key: pattern of the case key. Fields: patient, session, study, series (words), modality, number (of the series),
            and with `keep_ids` patient_id.
        secret: Secret of the words.
        keep_ids: the real patient ID stands for the patient.

    Raises:
        UsageError: a pattern that cannot be filled in, or that gives two series one key.
    """
    firsts: dict[str, date] = {}
    for item in among:
        day = _day(item)
        if day:
            owner = owner_of(item)
            firsts[owner] = min(day, firsts.get(owner, day))
    doubted = doubts(among)
    named: dict[str, Identity] = {}
    for item in series:
        owner, day = owner_of(item), _day(item)
        warnings = () if item.first.patient else ("no patient ID, so the study counts as a patient",)
        part = f" {item.part}" if item.part else ""
        session = f"day{(day - firsts[owner]).days}" if day else ""
        patient = word(owner, letter="p", length=10, secret=secret)
        values = {
            "patient": patient,
            "session": session or "day",
            "study": word(f"{item.first.study_uid} {item.day}".strip(), letter="t", length=8, secret=secret),
            "series": word(f"{item.first.study_uid} {item.uid}{part}", letter="s", length=8, secret=secret),
            "modality": item.modality,
            "number": item.first.number,
            "patient_id": item.first.patient,
        }
        filled = check_key(_fill(key, values, keep_ids=keep_ids))
        if filled in named:
            raise UsageError(f"--key {key!r} gives several series the key {filled}; add {{series}} to it")
        shown = item.first.patient if keep_ids and item.first.patient else patient
        named[filled] = Identity(filled, shown, session, (*warnings, *doubted.get(owner, ())))
    return list(named.values())


def read_secret(path: Path | None) -> str:
    """The text of a secret file, without space around it; empty where there is none.

    Raises:
        UsageError: it cannot be read, or holds nothing.
    """
    if path is None:
        return ""
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise UsageError(f"the secret file {path} cannot be read; name a text file") from error
    if not secret:
        raise UsageError(f"the secret file {path} is empty; write a long random text into it")
    return secret


def _day(series: Series) -> date | None:
    """The day of a series: that of its study, unless it is known to be another."""
    return day_of(series.day or series.first.study_date)


def _fill(pattern: str, values: Mapping[str, str], *, keep_ids: bool) -> str:
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(pattern) if field is not None]
        unknown = [field for field in fields if field not in _FIELDS]
        if unknown:
            raise UsageError(f"--key {pattern!r} has the field {unknown[0]!r}; there are {', '.join(_FIELDS)}")
        if "patient_id" in fields and not keep_ids:
            raise UsageError("--key uses {patient_id}; add --keep-ids where file names may hold patient IDs")
        filled = pattern.format_map(values)
    except (ValueError, LookupError) as error:
        raise UsageError(f"--key {pattern!r} is no pattern ({error}); an example is {KEY}") from error
    return re.sub(r"[^A-Za-z0-9._-]+", "-", filled).strip("-._")
