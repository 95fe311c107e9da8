"""Whether a series is whole: a damaged file beside it may be its first or last slice, which no gap would show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from volseg.dicom.file import known_name, read_header, text, whole
from volseg.dicom.instance import Instance, Series, known_modality, name_shape
from volseg.errors import SourceError, first_names

# The UIDs of a file stand near its beginning.
_BEGINNING_BYTES = 2**20
# How far the gap between the halves of a stack may be from the distance of its slices, as a share of that.
_STEP_TOLERANCE = 0.1


@dataclass(frozen=True)
class _Lost:
    """A file that may have been a slice: its number in the series, where it is known, and why it is none."""

    number: int | None
    reason: str
    certain: bool


def told(series: Sequence[Series], aside: Iterable[Instance], unreadable: Mapping[Path, str]) -> list[Series]:
    """The same series, those that lack a slice with the reason (`damage`), those that may lack one with a warning.

    A file that cannot be read belongs to the series whose UID stands in its bytes; else to the only series of its
    folder, where it is named as the images are, or where their numbers show a gap; else it may belong to any of them.
    An image that was left aside belongs to the series beside it whose numbers it continues, where UID, place or kind of
    it alone are damaged. Slices that are absent without a trace of a file cannot be known, except where the headers
    state how many there are.

    Args:
        series: all of a folder tree.
        aside: images that are no slice of a series.
        unreadable: damaged files, and why.
    """
    in_folder: dict[Path, set[int]] = {}
    for place, item in enumerate(series):
        for folder in {instance.path.parent for instance in item.instances}:
            in_folder.setdefault(folder, set()).add(place)
    lost: dict[int, list[_Lost]] = {}
    for instance in aside:
        for place in in_folder.get(instance.path.parent, ()):
            if _continues(instance, series[place]):
                reason = "an image beside it has a damaged UID, date, place or kind"
                lost.setdefault(place, []).append(_Lost(instance.order, reason, certain=True))
    for path, reason in unreadable.items():
        for place, found in _claims(path, reason, series, sorted(in_folder.get(path.parent, ()))):
            lost.setdefault(place, []).append(found)
    severed = _severed(series)
    judged = [_judged(item, lost.get(place, [])) for place, item in enumerate(series)]
    judged = [
        replace(item, damage=severed[n]) if n in severed and not item.damage else item for n, item in enumerate(judged)
    ]
    continued = _continued(judged)
    return [replace(item, warnings=(*item.warnings, *continued.get(n, ()))) for n, item in enumerate(judged)]


def of_all_parts(series: Series) -> Series:
    """The same series, refused (`damage`) where it is a multi-frame object in parts, and one of them is absent."""
    stated = [item for item in series.instances if item.concatenation or item.part_number or item.parts > 1]
    if not stated:
        return series
    numbers = {item.part_number for item in stated}
    total = max(*(item.parts for item in stated), *numbers)
    absent = sorted(set(range(1, total + 1)) - numbers)
    if 0 in numbers or len(stated) < len(series.instances):
        reason = "a part of its concatenation does not state its number (InConcatenationNumber); join the parts first"
        return replace(series, damage=reason)
    if absent:
        reason = (
            f"part {first_names(map(str, absent))} of {total} of its concatenation is absent; copy the series again"
        )
        return replace(series, damage=reason)
    if not max(item.parts for item in stated):
        told = f"it is a concatenation that does not state how many parts it has, and {total} are there"
        return replace(series, warnings=(*series.warnings, told))
    return series


def leaves_out(series: Series, distance_mm: float, thickness_mm: float) -> str:
    """What to say of thin slices far from each other whose numbers go up in larger steps, as where parts are absent."""
    numbers = sorted(item.order for item in series.instances if item.order is not None)
    steps = set(np.diff(numbers).tolist()) if len(numbers) == len(series.instances) > 1 else set()
    if len(steps) != 1 or steps <= {0, 1} or not 0 < 1.5 * thickness_mm < distance_mm:
        return ""
    return (
        f"its image numbers go up in steps of {steps.pop()}, and slices of {thickness_mm:g} mm lie {distance_mm:g} mm "
        "apart; images between them may be absent"
    )


def _severed(series: Sequence[Series]) -> dict[int, str]:
    """The series that continue another one of their UID, which states another patient or study: halves of one stack."""
    by_uid: dict[str, list[int]] = {}
    for place, item in enumerate(series):
        if item.first.series_uid and not item.first.enhanced:
            by_uid.setdefault(item.first.series_uid, []).append(place)
    found: dict[int, str] = {}
    for places in by_uid.values():
        for one in places:
            for other in places:
                a, b = series[one].first, series[other].first
                what = "patient" if a.patient != b.patient else "study" if a.study_uid != b.study_uid else ""
                if what and _continue_each_other(series[one], series[other]):
                    found[one] = (
                        f"the stack is not whole: {len(series[other].instances)} more images of its series continue it "
                        f"and state another {what}; give all of them the right one, or export the series again"
                    )
    return found


def _continued(series: Sequence[Series]) -> dict[int, list[str]]:
    """What to say of series that continue another one of their study, number and description under another UID."""
    alike: dict[tuple[str, ...], list[int]] = {}
    for place, item in enumerate(series):
        first = item.first
        if first.series_uid and not first.enhanced:
            facts = first.patient, first.study_uid, first.frame_uid, first.number, first.description, item.modality
            alike.setdefault(facts, []).append(place)
    found: dict[int, list[str]] = {}
    for places in alike.values():
        for one in places:
            for other in places:
                a, b = series[one], series[other]
                if a.first.series_uid != b.first.series_uid and _continue_each_other(a, b):
                    told = f"{len(b.instances)} images of its study continue its places and numbers as another series"
                    found.setdefault(one, []).append(f"{told}; it may be a part of one stack")
    return found


def _continue_each_other(one: Series, other: Series) -> bool:
    """Whether two stacks are one that was cut: one line of positions, one step between them, other numbers."""
    numbers = [{item.order for item in series.instances} for series in (one, other)]
    if numbers[0] & numbers[1] or (one.first.rows, one.first.columns) != (other.first.rows, other.first.columns):
        return False
    ends = [_in_line(series) for series in (one, other)]
    if any(len(places) < 2 for places in ends):
        return False
    step = ends[0][1] - ends[0][0]
    lower, upper = sorted(ends, key=lambda places: float(places[0] @ step))
    gap = upper[0] - lower[-1]
    return bool(np.linalg.norm(gap - step) <= _STEP_TOLERANCE * np.linalg.norm(step))


def _in_line(series: Series) -> NDArray[np.float64]:
    """Positions (n, 3) of a stack from one end to the other, in the direction of the largest coordinate."""
    places = np.array([item.position_lps for item in series.instances if len(item.position_lps) == 3])
    if len(places) < 2:
        return places
    axis = int(np.argmax(np.ptp(places, axis=0)))
    ordered: NDArray[np.float64] = places[np.argsort(places[:, axis])]
    return ordered


def _judged(series: Series, lost: Sequence[_Lost]) -> Series:
    count = len({instance.sop_uid or instance.name for instance in series.instances})
    stated = {instance.stated for instance in series.instances}
    expected = stated.pop() if len(stated) == 1 else 0
    certain = [item for item in lost if item.certain]
    if certain and not series.first.enhanced:
        reason = certain[0].reason.rstrip(".").removesuffix("; copy it again")
        where = _where(series, [item.number for item in certain])
        return replace(series, damage=f"the stack is not whole: {where} ({reason}); copy the series again")
    if lost and expected != count:
        return replace(series, warnings=("a damaged file lies in its folder, and may be its first or last slice",))
    if expected > count and not series.first.enhanced:
        return replace(series, warnings=(f"its headers state {expected} images, and {count} are there",))
    return series


def _continues(instance: Instance, series: Series) -> bool:
    """Whether an image that was left aside is a slice of a series, but for one damaged element."""
    first = series.first
    if first.enhanced or (instance.rows, instance.columns) != (first.rows, first.columns):
        return False
    if "LOCALIZER" in instance.image_type:
        return False
    if not instance.placed and instance.sop_class != first.sop_class and known_name(instance.sop_class):
        return False  # a secondary capture: no single fault changes the kind into another one and takes the place away
    if (
        instance.samples * instance.frames > 1
    ):  # colour and several frames are what they are, where the file can hold them
        try:
            if instance.path.stat().st_size > instance.rows * instance.columns * instance.samples * instance.frames:
                return False
        except OSError:
            return False
    if not instance.series_uid and not instance.placed:  # a block of it is gone; every image has a UID of its series
        named = any(name_shape(other.path) == name_shape(instance.path) for other in series.instances)
        return bool(first.series_uid) and named and instance.sop_class == first.sop_class
    alike = (instance.number, instance.description) == (first.number, first.description)
    owner = instance.patient == first.patient or instance.study_uid == first.study_uid
    if instance.series_uid != first.series_uid and not (alike and owner):
        return False
    numbers = [other.order for other in series.instances if other.order is not None]
    if instance.order is None or not numbers:
        return instance.series_uid == first.series_uid
    return instance.order not in numbers and min(numbers) - 1 <= instance.order <= max(numbers) + 1


def _claims(path: Path, reason: str, series: Sequence[Series], beside: Sequence[int]) -> list[tuple[int, _Lost]]:
    """The series that a damaged file may belong to."""
    try:
        with path.open("rb") as file:
            content = file.read(_BEGINNING_BYTES)
    except OSError:
        content = b""
    number, sop_class, modality = _remains(path)
    if sop_class and "Image Storage" not in sop_class:
        return []
    owners = [n for n, item in enumerate(series) if item.first.series_uid and _holds(content, item.first.series_uid)]
    if owners:
        return [(place, _Lost(number, reason, certain=True)) for place in owners]
    fitting = [place for place in beside if not modality or modality == series[place].modality]
    if len(fitting) > 1:
        showing = [place for place in fitting if _shows_gap(series[place], number)]
        if len(showing) == 1:
            return [(showing[0], _Lost(number, reason, certain=True))]
    certain = (
        len(fitting) == 1
        and not _complete(only := series[fitting[0]])
        and (_shows_gap(only, number) or any(name_shape(item.path) == name_shape(path) for item in only.instances))
    )
    return [(place, _Lost(number, reason, certain=certain)) for place in fitting]


def _holds(content: bytes, uid: str) -> bool:
    """Whether a UID stands in the bytes of a file, and not as the beginning of a longer one."""
    at = content.find(uid.encode())
    while at >= 0:
        if content[at + len(uid) : at + len(uid) + 1] not in (*(b"%d" % digit for digit in range(10)), b"."):
            return True
        at = content.find(uid.encode(), at + 1)
    return False


def _remains(path: Path) -> tuple[int | None, str, str]:
    """What can still be read of a damaged file: number of the image, kind of object and modality."""
    try:
        header = read_header(path, tags=["SOPClassUID", "Modality", "InstanceNumber"])
    except SourceError:
        return None, "", ""
    try:
        number = whole(header, "InstanceNumber", default=-1)
    except SourceError:
        number = -1
    return (
        None if number < 0 else number,
        known_name(text(header, "SOPClassUID")),
        known_modality(text(header, "Modality")),
    )


def _numbers(series: Series) -> list[int]:
    """The numbers of the images, sorted; empty where they are absent or not one an image."""
    found = sorted(instance.order for instance in series.instances if instance.order is not None)
    return found if len(set(found)) == len(series.instances) else []


def _shows_gap(series: Series, number: int | None) -> bool:
    numbers = _numbers(series)
    if not numbers:
        return False
    absent = set(range(min(1, numbers[0]), numbers[-1] + 1)) - set(numbers)
    return number in (numbers[0] - 1, numbers[-1] + 1) if number is not None else len(absent - {0}) == 1


def _complete(series: Series) -> bool:
    """Whether the headers state as many images as there are."""
    stated = {instance.stated for instance in series.instances}
    return stated == {len({instance.sop_uid for instance in series.instances})}


def _where(series: Series, lost: Sequence[int | None]) -> str:
    """Which image is absent, and where its slice would lie."""
    numbers = _numbers(series)
    if not numbers:
        before, after = _ends(series)
        return f"a slice is absent, perhaps the one before the first, {before}, or after the last, {after}"
    known = sorted({number for number in lost if number is not None and number not in numbers})
    gaps = [number for number in range(min(1, numbers[0]), numbers[-1]) if number not in numbers and number != 0]
    absent = known or gaps[: len(lost)]
    there = f"images {numbers[0]} to {numbers[-1]} are there"
    if not absent:
        return f"{there}, and image {numbers[-1] + 1} may be absent, {_position(series, numbers[-1] + 1)}"
    return f"image {absent[0]} is absent, {_position(series, absent[0])}, while {there}"


def _position(series: Series, number: int) -> str:
    """Where the image of a number lies, by the images next to it."""
    placed = sorted(
        (instance.order, instance.position_lps)
        for instance in series.instances
        if instance.order is not None and len(instance.position_lps) == 3
    )
    if len(placed) < 2:
        return "at an unknown position"
    near = sorted(placed, key=lambda pair: abs(pair[0] - number))[:2]
    (a, start), (b, end) = near
    return millimetres(np.array(start) + (number - a) / (b - a) * (np.array(end) - np.array(start)))


def _ends(series: Series) -> tuple[str, str]:
    """Where the slices before the first and after the last would lie."""
    places = np.array([instance.position_lps for instance in series.instances if len(instance.position_lps) == 3])
    if len(places) < 2:
        return "at an unknown position", "at an unknown position"
    far = places[np.argmax(np.linalg.norm(places - places[0], axis=1))] - places[0]
    places = places[np.argsort(places @ far)]
    return millimetres(2 * places[0] - places[1]), millimetres(2 * places[-1] - places[-2])


def millimetres(position: Iterable[float]) -> str:
    """A position in a message.

    >>> millimetres([-31.5, 12.25, -100])
    'at -31.5, 12.25, -100 mm (LPS)'
    """
    return "at " + ", ".join(f"{value:.6g}" for value in position) + " mm (LPS)"
