"""The sessions of a patient in the order of time, and which of them may serve another one as its prior."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from volseg.cohort.table import CaseRow
from volseg.errors import CohortError

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
# 20240131, 2024-01-31, 2024.1.31; 31.01.2024 and 31.01.24, since the day comes first where points are written.
_DATES = tuple(
    re.compile(rf"(?<!\d){form}(?!\d)")
    for form in (
        r"(?P<year>(?:19|20)\d\d)(?P<between>[-_./]?)(?P<month>\d\d)(?P=between)(?P<day>\d\d)",
        r"(?P<year>(?:19|20)\d\d)(?P<between>[-_./])(?P<month>\d\d?)(?P=between)(?P<day>\d\d?)",
        r"(?P<day>\d\d?)\.(?P<month>\d\d?)\.(?P<year>(?:19|20)\d\d)",
        r"(?P<day>\d\d)\.(?P<month>\d\d)\.(?P<year>\d\d)",
    )
)
# Of 1/2/2024 nobody knows which is the month.
_TWO_WAYS = re.compile(r"(?<!\d)\d\d?(?:/\d\d?/(?:\d\d)?|-\d\d?-(?:19|20)|\.\d\d?\.(?:19|20))\d\d(?!\d)")


@dataclass(frozen=True)
class Session:
    """One session of a patient: the scans of one day or visit.

    Attributes:
        patient: The patient.
        name: Name of the session; where the table states none, or one for several days, its day is the name or a part
            of it; empty if that is not known either.
        order: Value by which sessions of the patient are sorted, see `session_order`.
        keys: Keys of its cases, sorted; several if the patient was scanned more than once.
        day: Day from the first one, if the session tells it; for gaps in days.
    """

    patient: str
    name: str
    order: tuple[object, ...]
    keys: tuple[str, ...]
    day: float | None


def session_date(name: str) -> date | None:
    """The date in a session's name; None if there is none, or several.

    >>> session_date("ses-20240131") == session_date("2024-1-31") == session_date("MR 31.01.2024")
    True
    >>> session_date("1/2/2024") is None
    True
    """
    found = {on for form in _DATES for one in form.finditer(name) if (on := _date(one)) is not None}
    return found.pop() if len(found) == 1 else None


def _date(found: re.Match[str]) -> date | None:
    year = int(found["year"])
    try:
        return date(year + 2000 if year < 100 else year, int(found["month"]), int(found["day"]))
    except ValueError:  # no month or day
        return None


def _with_dates(name: str) -> str:
    """The name with each date as eight digits, which count up with time."""
    for form in _DATES:
        name = form.sub(lambda found: found[0] if (on := _date(found)) is None else f"{on:%Y%m%d}", name)
    return name


def session_order(row: CaseRow) -> tuple[object, ...]:
    """The value by which the sessions of one patient are sorted.

    The column `day` of `cases.csv` decides if it is there. Else the numbers in the session's name count as numbers, so
    that day10 follows day9, and words by the alphabet. UW-Madison days and DICOM study dates are such names: the dates
    are days from the patient's first study, and no date is kept. A date in a name (2024-01-31, 31.01.2024) counts as
    one.

    >>> rows = [CaseRow("k", "p", name, (1, 1, 1), (1, 1, 1), "RAS", "", ()) for name in ("day10", "day9", "ses-2")]
    >>> [row.session for row in sorted(rows, key=session_order)]
    ['day9', 'day10', 'ses-2']
    """
    if row.day is not None:
        return (0, "", row.day)
    parts: list[object] = []
    at, name = 0, _with_dates(row.session)
    for found in _NUMBER.finditer(name):
        parts += [1, name[at : found.start()].casefold(), float(found[0])]
        at = found.end()
    return (*parts, 1, name[at:].casefold(), -1.0)


def day_of_session(row: CaseRow) -> float | None:
    """The day that a row tells: its column `day`, or the number of a session called day, with or without words before.

    >>> day_of_session(CaseRow("k", "p", "day12", (1, 1, 1), (1, 1, 1), "RAS", "", ()))
    12.0
    """
    if row.day is not None:
        return row.day
    found = re.fullmatch(r"(?:.*[-_ ])?day[-_ ]?(\d+(?:\.\d+)?)", row.session, re.IGNORECASE)
    return float(found[1]) if found else None


def sessions_of(rows: Iterable[CaseRow]) -> dict[str, list[Session]]:
    """The sessions of each patient, the earliest first.

    Two scans with one session name, or on one day, are one session: none of them is ever the prior of the other.

    Args:
        rows: Rows of the cohort's table.

    Raises:
        CohortError: Some sessions of a patient have a `day` and others have none, so that no order is known.
    """
    by_patient: dict[str, list[CaseRow]] = {}
    for row in rows:
        by_patient.setdefault(row.patient, []).append(row)
    return {patient: _ordered(patient, found) for patient, found in sorted(by_patient.items())}


def _ordered(patient: str, rows: list[CaseRow]) -> list[Session]:
    stated = [row for row in rows if row.day is not None]
    if stated and len(stated) < len(rows):
        lacking = next(row.key for row in rows if row.day is None)
        raise CohortError(
            f"cases.csv states the day of {stated[0].key} and not of {lacking}, both of {patient}; state it for all of "
            "a patient, or for none"
        )
    groups: dict[tuple[object, ...], list[CaseRow]] = {}
    for row in rows:
        groups.setdefault(session_order(row), []).append(row)
    ordered = [sorted(groups[order], key=lambda row: row.key) for order in sorted(groups, key=_comparable)]
    times = Counter(cases[0].session for cases in ordered)
    return [
        Session(
            patient,
            _name(cases[0], alone=times[cases[0].session] == 1),
            session_order(cases[0]),
            tuple(row.key for row in cases),
            day_of_session(cases[0]),
        )
        for cases in ordered
    ]


def _name(row: CaseRow, *, alone: bool) -> str:
    """The name of a session by one of its cases; with the day where the name itself tells it from no other."""
    if row.day is None or (row.session and alone):
        return row.session
    day = f"day{repr(float(row.day)).removesuffix('.0')}"
    return f"{row.session}_{day}" if row.session else day


def _comparable(order: tuple[object, ...]) -> tuple[tuple[int, str, float], ...]:
    """Three entries at a time: the kind, the word, the number; so that any two orders can be compared."""
    triples = zip(order[::3], order[1::3], order[2::3], strict=True)
    return tuple((int(str(kind)), str(word), float(str(number))) for kind, word, number in triples)


def is_ordered(sessions: Sequence[Session]) -> bool:
    """Whether the order of a patient's sessions is one of time: what tells each from the one before it is a number.

    Names with a date that can be read in two ways, such as 1/2/2024, tell none.

    Args:
        sessions: Sessions of one patient as `sessions_of` sorts them.

    >>> def of(*names):
    ...     rows = [CaseRow(name, "p", name, (1, 1, 1), (1, 1, 1), "RAS", "", ()) for name in names]
    ...     return is_ordered(sessions_of(rows)["p"])
    >>> of("day9", "day10"), of("week1_day3", "week2_day0"), of("pre", "post"), of("pre1", "post2")
    (True, True, False, False)
    """
    if not all(one.day is not None or _tells_time(one.name) for one in sessions):
        return False
    return all(_by_number(one.order, other.order) for one, other in itertools.pairwise(sessions))


def _tells_time(name: str) -> bool:
    """Whether a name has a number, and no date that can be read in two ways."""
    return _NUMBER.search(name) is not None and _TWO_WAYS.search(_with_dates(name)) is None


def _by_number(order: tuple[object, ...], other: tuple[object, ...]) -> bool:
    """Whether two orders differ in a number first; of `day1a` and `day1b` the letters are an order too."""
    for one, two in zip(_comparable(order), _comparable(other), strict=False):
        if one[:2] != two[:2]:
            return len(one[1]) == len(two[1]) == 1 and one[1].isalpha() and two[1].isalpha() and one[2] == two[2]
        if one != two:
            return True
    return False


def earlier_sessions(sessions: Mapping[str, list[Session]], row: CaseRow) -> list[Session]:
    """The sessions of the case's patient that lie before its own, the last one first; none if no order is known."""
    own = sessions.get(row.patient, [])
    place = next((number for number, one in enumerate(own) if row.key in one.keys), 0)
    return own[:place][::-1] if is_ordered(own) else []


def check_order(patient: str, sessions: Sequence[Session]) -> None:
    """Refuse sessions whose names tell no order of time, such as `post` and `pre`, so that none is known to be earlier.

    Raises:
        CohortError: They are such.
    """
    if len(sessions) > 1 and not is_ordered(sessions):
        names = ", ".join(one.name or "one without a name" for one in sessions)
        raise CohortError(
            f"the sessions of {patient}, {names}, tell no order of time, so none is known to be earlier; state the "
            "column day in cases.csv, or number them in the keys, as in PATIENT_day3"
        )


def other_sessions(sessions: Mapping[str, list[Session]], row: CaseRow) -> list[Session]:
    """All sessions of the case's patient but its own, in the order of time: for training, in both directions."""
    return [one for one in sessions.get(row.patient, []) if row.key not in one.keys]


def sessions_note(rows: Iterable[CaseRow]) -> str:
    """One line for people: how many patients have how many sessions; empty if each has one.

    >>> rows = [CaseRow(f"{p}_{d}", p, d, (1, 1, 1), (1, 1, 1), "RAS", "", ()) for p, d in
    ...         (("a", "day0"), ("a", "day3"), ("b", "day0"))]
    >>> sessions_note(rows)
    'sessions: 1 patient with 1, 1 patient with 2'
    """
    found = sessions_of(rows)
    counts = Counter(len(one) for one in found.values())
    if set(counts) <= {1}:
        return ""
    parts = [f"{number} patient{'s' * (number > 1)} with {count}" for count, number in sorted(counts.items())]
    several = sum(len(one.keys) > 1 for sessions in found.values() for one in sessions)
    more = f"; {several} session{'s' * (several > 1)} of several scans" if several else ""
    return f"sessions: {', '.join(parts)}{more}"


def order_note(rows: Iterable[CaseRow]) -> str | None:
    """A warning if the sessions of some patients have no order of time."""
    doubted = [patient for patient, found in sessions_of(rows).items() if len(found) > 1 and not is_ordered(found)]
    if not doubted:
        return None
    return (
        f"the sessions of {len(doubted)} patients ({', '.join(doubted[:3])}{', ...' * (len(doubted) > 3)}) have names "
        "that tell no order of time by a number, so that none counts as earlier; add a column day to cases.csv"
    )
