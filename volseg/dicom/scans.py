"""Scans under one UID: images of two days, or of two people, that share their UIDs are taken apart again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta

import numpy as np

from volseg.dicom.instance import Instance, Series

# The slices of one volume are acquired within minutes. A dynamic series has pauses, a night's scan passes midnight.
_PAUSE = timedelta(hours=1)
_NIGHT = timedelta(hours=6)
# More groups than this are dates that an anonymiser has drawn anew for each file, not days.
_MOST_SCANS = 16
_SAME_PLACE_MM = 1e-3


def day_of(text: str) -> date | None:
    """The day at the beginning of a DICOM date or time.

    Dates of before 1993 have dots.

    >>> day_of("20240103101500.5"), day_of("1991.12.24"), day_of("unknown")
    (datetime.date(2024, 1, 3), datetime.date(1991, 12, 24), None)
    """
    try:
        return datetime.strptime(text[:10].replace(".", "")[:8], "%Y%m%d").date()
    except ValueError:
        return None


def scans(instances: Sequence[Instance], uid: str, *, least: int = 2) -> list[Series]:
    """The volumes of images of one series: mostly one; several where other scans use the same UIDs.

    Images of several study dates are of several scans. So are images whose dates of acquisition, or whose times of one
    day, lie apart, and images of several names or birth dates, if they lie among each other in space. Where they lie
    one above the other, or the dates are as many as the images, they stay together, with a warning.

    Args:
        instances: the slices.
        uid: UID of the series.
        least: images that a scan has at least: one where each is a volume.
    """
    found, warnings = [("", list(instances))], []
    for how, key in (
        ("date of the study", _study_day),
        ("begin of the series", _begin),
        ("person", _person),
        ("time of acquisition", None),
    ):
        split: list[tuple[str, list[Instance]]] = []
        for part, group in found:
            groups = _grouped(group, key) if key else _by_time(group)
            if len(groups) > 1 and _are_scans(groups, certain=how == "date of the study", least=least):
                split += [(f"{part} {name}".strip(), members) for name, members in groups]
            else:
                split.append((part, group))
                if len(groups) > 1 and how == "time of acquisition":
                    warnings.append(_apart(groups))
        found = split
    if len(found) == 1:
        return [Series(uid, tuple(instances), damage=_numbered_twice(instances), warnings=tuple(warnings))]
    told = f"{len(found)} scans use the UIDs of this series, and were told apart by date, time or name"
    return [
        Series(uid, tuple(members), warnings=(told, *warnings), part=part, day=_first_day(members))
        for part, members in found
    ]


def with_days(series: Sequence[Series]) -> list[Series]:
    """The same series, with the day of each within studies whose series are of several days.

    A series belongs to the day of the one before it where less than a night lies between them. Where no acquisition is
    of the day of the study, which has then been changed alone, days count from the first acquisition.
    """
    studies: dict[tuple[str, str], list[int]] = {}
    for number, item in enumerate(series):
        studies.setdefault((item.first.patient, item.first.study_uid), []).append(number)
    found = list(series)
    for numbers in studies.values():
        starts = sorted((start, number) for number in numbers if (start := _start(series[number])) is not None)
        stated = {day_of(series[number].first.study_date) for number in numbers}
        if len({start.date() for start, _ in starts}) < 2 or len(stated) != 1 or None in stated:
            continue
        study_day = min(day for day in stated if day)
        days: dict[int, date] = {}
        for place, (start, number) in enumerate(starts):
            before, other = starts[place - 1] if place else (start, number)
            same = place > 0 and start - before < _NIGHT
            days[number] = days[other] if same else start.date()
        shift = timedelta(0) if study_day in days.values() else study_day - min(days.values())
        if len(set(days.values())) > 1:
            for number, day in days.items():
                found[number] = replace(series[number], day=(day + shift).strftime("%Y%m%d"))
    return found


def _study_day(instance: Instance) -> tuple[str, ...]:
    return (instance.study_date,)


def _begin(instance: Instance) -> tuple[str, ...]:
    return (instance.begun,)


def _person(instance: Instance) -> tuple[str, ...]:
    return instance.person


def _grouped(
    instances: Iterable[Instance], key: Callable[[Instance], tuple[str, ...]]
) -> list[tuple[str, list[Instance]]]:
    """Images by what they state; those that state nothing are with the most."""
    groups: dict[tuple[str, ...], list[Instance]] = {}
    for instance in instances:
        groups.setdefault(key(instance), []).append(instance)
    unknown = [item for name in list(groups) if not any(name) for item in groups.pop(name)]
    if not groups:
        return [("", unknown)]
    largest = max(groups.values(), key=len)
    largest += unknown
    return [(_word(repr(name)), members) for name, members in sorted(groups.items(), key=lambda pair: repr(pair[0]))]


def _by_time(instances: Sequence[Instance]) -> list[tuple[str, list[Instance]]]:
    """Images by the time of acquisition, apart where a pause lies between them."""
    stated = [item.acquired for item in instances if item.acquired]
    whole = all(len(text) >= 14 and text[8:14] != "000000" for text in stated)
    texts = [item.acquired if whole else item.acquired[:8] for item in instances]
    timed = sorted((when, number) for number, text in enumerate(texts) if (when := _moment(text)) is not None)
    if not timed:
        return [("", list(instances))]
    groups: list[list[int]] = [[]]
    for place, (when, number) in enumerate(timed):
        if place and when - timed[place - 1][0] > _PAUSE:
            groups.append([])
        groups[-1].append(number)
    known = {number for _, number in timed}
    max(groups, key=len).extend(number for number in range(len(instances)) if number not in known)
    moments = {number: when for when, number in timed}
    named = []
    for group in groups:
        start = min(moments[number] for number in group if number in moments)
        named.append((_word(start.isoformat()), [instances[number] for number in sorted(group)]))
    return named


def _are_scans(groups: Sequence[tuple[str, Sequence[Instance]]], *, certain: bool, least: int) -> bool:
    """Whether groups of images are scans of their own, each with several slices, among each other in space."""
    members = [group for _, group in groups]
    if len(members) > _MOST_SCANS or min(map(len, members)) < least:
        return certain and len(members) <= _MOST_SCANS and max(map(len, members)) > 1
    if certain or all(item.enhanced for group in members for item in group):
        return True
    spans = _spans(members)
    return any(
        start < other_end and other_start < end
        for place, (start, end) in enumerate(spans)
        for other_start, other_end in spans[place + 1 :]
    )


def _spans(groups: Sequence[Sequence[Instance]]) -> list[tuple[float, float]]:
    """From where to where each group reaches, along the line on which all of them lie."""
    places = [np.array([item.position_lps for item in group if len(item.position_lps) == 3]) for group in groups]
    placed = [group for group in places if len(group)]
    if not placed:
        return []
    everything = np.concatenate(placed)
    away = everything - everything[0]
    far = away[np.argmax(np.linalg.norm(away, axis=1))]
    length = float(np.linalg.norm(far))
    if length == 0:
        return [(0.0, 1.0)] * len(placed)  # all at one place, such as mosaics
    return [(float((group @ far).min() / length), float((group @ far).max() / length)) for group in placed]


def _numbered_twice(instances: Sequence[Instance]) -> str:
    """The reason to refuse slices whose numbers all stand twice, each at two places, with nothing to tell two scans."""
    if any(item.acquired for item in instances) or any(item.enhanced or item.mosaic for item in instances):
        return ""
    by_number: dict[int, list[Instance]] = {}
    for item in instances:
        if item.order is None or len(item.position_lps) != 3:
            return ""
        by_number.setdefault(item.order, []).append(item)
    times = {len(group) for group in by_number.values()}
    if len(by_number) < 3 or len(times) != 1 or times == {1}:
        return ""
    for group in by_number.values():
        places = np.array([item.position_lps for item in group])
        if np.linalg.norm(np.diff(places, axis=0), axis=1).min() < _SAME_PLACE_MM:
            return ""
    ordered = [sorted(group, key=lambda item: item.position_lps) for group in by_number.values()]
    sets = [("", [group[place] for group in ordered]) for place in range(times.pop())]
    if not _are_scans(sets, certain=False, least=2):
        return ""
    return (
        f"its image numbers stand {len(sets)} times each, among each other in space, and nothing says when they were "
        "acquired; scans of two days may share its UIDs, keep the files of one"
    )


def _apart(groups: Sequence[tuple[str, Sequence[Instance]]]) -> str:
    moments = [when for _, group in groups for item in group if (when := _moment(item.acquired)) is not None]
    apart = max(moments) - min(moments)
    told = f"{apart.days} days" if apart.days > 1 else f"{apart.total_seconds() / 3600:.1f} hours"
    return f"its images were acquired up to {told} apart"


def _first_day(instances: Iterable[Instance]) -> str:
    """The first day on which images were acquired, by the study's date where nothing else is stated."""
    found = {(item.acquired or item.study_date)[:8] for item in instances}
    return min((text for text in found if day_of(text)), default="")


def _start(series: Series) -> datetime | None:
    return min((when for item in series.instances if (when := _moment(item.acquired)) is not None), default=None)


def _moment(text: str) -> datetime | None:
    """Day and time; of a day alone its noon."""
    day = day_of(text)
    if day is None:
        return None
    digits = text[8:14]
    if not digits.isdigit():
        return datetime(day.year, day.month, day.day, 12)
    digits = digits.ljust(6, "0")
    hour, minute, second = int(digits[:2]), int(digits[2:4]), int(digits[4:6])
    if hour > 23 or minute > 59 or second > 60:
        return datetime(day.year, day.month, day.day, 12)
    return datetime(day.year, day.month, day.day, hour, minute, min(second, 59))


def _word(text: str) -> str:
    """A word for what tells a scan from others, which holds no date and no name."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
