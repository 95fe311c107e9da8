"""Which cases are of one patient, as their keys tell: by forms of the field, or by a pattern that the user gives."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from volseg.cohort.case import Case, Source
from volseg.cohort.table import CaseRow
from volseg.errors import SourceError, UsageError
from volseg.labels import LabelTable

_SESSION = (
    r"(?:frame|day|ses|session|visit|tp|time|timepoint|week|wk|month|fraction|fx|slice)[-_]?\d+(?:-\d+)?|"
    r"baseline|follow-?up[-_]?\d*|pre-?op|post-?op|pre|post"
)


@functools.cache
def _forms() -> tuple[re.Pattern[str], ...]:
    """The forms; compiled at the first key, since most commands ask for none."""
    # BIDS, whose subject is followed by anything; BraTS from 2021 on; other public data, whose names are a patient and
    # a study; or a patient, then a word for a visit.
    return (
        re.compile(r"(?P<patient>sub-[a-z0-9]+)(?:_(?P<session>ses-[a-z0-9]+))?(?:_.+)?", re.IGNORECASE),
        re.compile(r"(?P<patient>BraTS-[a-z]+-\d{5})-(?P<session>\d{3})", re.IGNORECASE),
        re.compile(r"(?P<patient>\d{5})_(?P<session>\d{7})"),  # PI-CAI
        re.compile(r"(?P<patient>UPENN-GBM-\d{5})_(?P<session>\d{2})"),
        re.compile(r"(?P<patient>OAS[12]_\d{4})_(?P<session>MR\d+)"),  # OASIS-1 and OASIS-2
        re.compile(r"(?P<patient>OAS3\d{4})_(?:[A-Z]+_)?(?P<session>d\d{4})(?:_.+)?"),  # OASIS-3
        re.compile(r"(?P<patient>(?:PETCT|fdg|psma)_[0-9a-f]{10,16})_(?P<session>.+)"),  # autoPET
        re.compile(rf"(?P<patient>.*[a-z0-9])[_-](?P<session>{_SESSION})", re.IGNORECASE),
    )


# What may stand for a visit or a side of one patient, or for patients that share the rest: a warning alone.
_MAYBE = r"(?i)(.*[a-z0-9])[_-](?:(?:19|20)\d\d-?[01]\d-?[0-3]\d|l|r|left|right)"
_NUMBERED = r"(.*?)(\d\d)"
_MOST_VISITS = 20
# A name whose last part has a number, and a word behind it.
_LAST_WORD = r"((?:.*[_-])?[^_-]*\d[^_-]*)[_-]([^_-]+)"


def patient_of(key: str, *, pattern: str | None = None) -> tuple[str, str]:
    r"""The patient and the session that a key tells; a key of no known form is a patient of its own.

    Args:
        key: Case key.
        pattern: Regular expression that matches at the start of every key. Its group `patient`, else its first group,
            else what it matches, is the patient; its group `session`, if it has one, the session.

    Raises:
        UsageError: The pattern is no regular expression.
        SourceError: The pattern does not match the key.

    >>> patient_of("patient001_frame12"), patient_of("sub-01_ses-02_T1w"), patient_of("hippocampus_001")
    (('patient001', 'frame12'), ('sub-01', 'ses-02'), ('hippocampus_001', ''))
    >>> patient_of("genius_0801", pattern=r"genius_(\d\d)")
    ('08', '')
    """
    if pattern is None:
        for form in _forms():
            if found := form.fullmatch(key):
                patient, session = found["patient"], found["session"] or ""
                while within := _forms()[-1].fullmatch(patient):  # a frame of a visit
                    patient, session = within["patient"], f"{within['session']}_{session}"
                return patient, session
        return key, ""
    try:
        told = re.match(pattern, key)
    except re.error as error:
        raise UsageError(f"--patient-pattern {pattern!r} must be a regular expression ({error})") from error
    if told is None:
        raise SourceError(f"--patient-pattern {pattern!r} does not match the key; write one that matches all", case=key)
    groups = told.groupdict()
    patient = groups.get("patient") or (told[1] if told.groups() and "patient" not in groups else None) or told[0]
    return patient, groups.get("session") or ""


class PatientsByPattern:
    """A source whose patients and sessions are told by a pattern of the keys.

    Args:
        source: Yields the cases.
        pattern: Pattern of the keys, see `patient_of`.
    """

    def __init__(self, source: Source, pattern: str) -> None:
        self._source = source
        self.pattern = pattern
        self.kind: str = source.kind
        self.raw = source.raw
        self.channel_names: tuple[str, ...] = source.channel_names
        self.labels: LabelTable = source.labels
        self.source_version = int(getattr(source, "source_version", 1))
        self.warnings: tuple[str, ...] = tuple(getattr(source, "warnings", ()))
        self.original_values: Mapping[str, int] = getattr(source, "original_values", {})
        for key in source.keys():  # noqa: SIM118 - a source is no dict
            patient_of(key, pattern=pattern)

    def keys(self) -> Sequence[str]:
        """The keys of all cases, sorted."""
        return self._source.keys()

    def labelled(self, key: str) -> bool:
        """Whether the case has a reference label."""
        return self._source.labelled(key)

    def digest(self, key: str) -> str:
        """Changes with the raw data of the case, and with what the pattern makes of its key."""
        return f"{self._source.digest(key)} {' '.join(patient_of(key, pattern=self.pattern))}".strip()

    def load(self, key: str) -> Case:
        """Read one case."""
        patient, session = patient_of(key, pattern=self.pattern)
        case = self._source.load(key)
        return replace(case, patient=patient, session=session or case.session)


def patients_note(rows: Iterable[CaseRow]) -> str | None:
    """A warning if keys look like visits of one patient and the table takes each for a patient of its own.

    Args:
        rows: Rows of the cohort's table by key.
    """
    rows = list(rows)
    alone = [row.key for row in rows if row.patient == row.key]
    groups: dict[str, list[str]] = {}
    for key in alone:
        groups.setdefault(patient_of(key)[0], []).append(key)
    several = {patient: keys for patient, keys in groups.items() if len(keys) > 1}
    several = several or _visits_or_sides(alone) or _visits_by_number(alone) or _visits_by_last_word(alone)
    several = several or _beside_patients(alone, rows)
    if not several:
        return None
    patient, keys = next(iter(several.items()))
    return (
        f"{sum(map(len, several.values()))} cases look like visits or sides of {len(several)} patients "
        f"({', '.join(keys[:3])} of {patient!r}), and each counts as a patient of its own, so that a fold may have one "
        "patient on both sides; say which belong together with `volseg split --patient-pattern`"
    )


def _beside_patients(keys: Sequence[str], rows: Iterable[CaseRow]) -> dict[str, list[str]]:
    """Keys that are as long as those of a patient's cases and have his name at the same place.

    With genius_0801 of the patient 08, genius_0805 came after a pattern had told the patients, and nobody told its own.
    """
    starts: dict[tuple[int, str], str] = {}
    for row in rows:
        at = row.key.find(row.patient)
        if row.patient and row.patient != row.key and at >= 0:
            starts[len(row.key), row.key[: at + len(row.patient)]] = row.patient
    lengths = sorted({(size, len(start)) for size, start in starts})
    found: dict[str, list[str]] = {}
    for key in keys:
        for size, length in lengths:
            patient = starts.get((len(key), key[:length])) if size == len(key) else None
            if patient is not None:
                found.setdefault(patient, []).append(key)
                break
    return found


def _visits_or_sides(keys: Sequence[str]) -> dict[str, list[str]]:
    """Keys that differ in a date or a side at their end only, if that is so of most keys, for two patients at least."""
    groups: dict[str, list[str]] = {}
    for key in keys:
        found = re.fullmatch(_MAYBE, key)
        groups.setdefault(found[1] if found else key, []).append(key)
    several = {start: found for start, found in groups.items() if len(found) > 1}
    return several if len(several) > 1 and sum(map(len, several.values())) > len(keys) / 2 else {}


def _visits_by_last_word(keys: Sequence[str]) -> dict[str, list[str]]:
    """Keys that differ in their last word only, if few words come back behind many numbered names: p1_ED, p1_ES, p2_ED.

    Names of centres have more words behind them than there are centres.
    """
    groups: dict[str, dict[str, str]] = {}
    for key in keys:
        found = re.fullmatch(_LAST_WORD, key)
        if found is None:
            return {}
        groups.setdefault(found[1], {})[found[2].casefold()] = key
    several = {start: list(found.values()) for start, found in groups.items() if len(found) > 1}
    words = {word for found in groups.values() for word in found}
    return several if len(several) > 1 and len(words) <= len(groups) else {}


def _visits_by_number(keys: Sequence[str]) -> dict[str, list[str]]:
    """Keys that differ in their last two digits only, if these count up from 0 or 1 for every patient anew."""
    groups: dict[str, list[str]] = {}
    for key in keys:
        found = re.fullmatch(_NUMBERED, key)
        if found is None or not found[1][-2:].isdigit():
            return {}
        groups.setdefault(found[1], []).append(key)
    several = {start: sorted(found) for start, found in groups.items() if len(found) > 1}
    if len(groups) < 3 or len(several) < len(groups) / 2:
        return {}
    for visits in groups.values():
        numbers = sorted(int(key[-2:]) for key in visits)
        if numbers[0] > 1 or len(visits) > _MOST_VISITS or numbers != list(range(numbers[0], numbers[0] + len(visits))):
            return {}
    return several
