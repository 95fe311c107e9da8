"""Which of several volumes of one series is meant: its echo, phase, b-value, kind of image, or any other attribute."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword

from volseg.dicom.attributes import (
    B_VALUE,
    ECHO,
    MOST_TOLD,
    PHASES,
    TIMES,
    Attribute,
    Value,
    in_order,
    kinds,
    may_be_told,
    of_keyword,
    told_value,
)
from volseg.errors import SourceError, UsageError

_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|%|s)?", re.IGNORECASE)
# Echo times are written with more digits than people type. b-values of one shell differ by a few s/mm2.
_SAME_TIME_MS = 0.1
_SAME_B_VALUE = 10.0


@dataclass(frozen=True)
class Choice:
    """What the volume that is meant has; empty fields choose nothing.

    Attributes:
        echo: number of the echo from 1, or its time, as in `4.6ms`.
        phase: number of the phase from 1, in the order of time, or its time or share of the cycle: `300ms`, `40%`.
        b_value: in s/mm2.
        image_type: a word of ImageType or FrameType, such as `IN_PHASE`, `WATER` or `M`; `*` and `?` are patterns.
        where: keyword and value of other attributes.

    >>> Choice.of(echo="2", b_value="1000").told
    'echo 2, b-value 1000'
    """

    echo: str = ""
    phase: str = ""
    b_value: str = ""
    image_type: str = ""
    where: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(
        cls,
        *,
        echo: str | None = None,
        phase: str | None = None,
        b_value: str | None = None,
        image_type: str | None = None,
        where: Sequence[str] = (),
    ) -> Choice:
        """A choice from options.

        Raises:
            UsageError: a value that makes no sense.
        """
        for option, value, example in (("--echo", echo, "2 or 4.6ms"), ("--phase", phase, "3, 300ms or 40%")):
            if value is None:
                continue
            found = _NUMBER.fullmatch(value.strip())
            if found is None or (not found[2] and (not value.strip().isdigit() or int(value) < 1)):
                kind = (
                    "; kinds of images, such as IN_PHASE, are chosen with --image-type" if option == "--phase" else ""
                )
                raise UsageError(f"{option} must be a number from 1 or a time, as {example}, got {value!r}{kind}")
        if b_value is not None and not re.fullmatch(r"\d+(\.\d+)?", b_value.strip()):
            raise UsageError(f"--b-value must be a number in s/mm2, as 1000, got {b_value!r}")
        pairs = []
        for text in where:
            keyword, equals, value = text.partition("=")
            if not equals or not value.strip() or tag_for_keyword(keyword.strip()) is None:
                raise UsageError(
                    f"--where must be KEYWORD=VALUE with a keyword of DICOM, as InversionTime=900, got {text!r}"
                )
            pairs.append((keyword.strip(), value.strip()))
        words = [(value or "").strip() for value in (echo, phase, b_value, image_type)]
        return cls(words[0], words[1], words[2], words[3], tuple(pairs))

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) for field in fields(self))

    @property
    def told(self) -> str:
        """The choice in words, as it was asked for."""
        words = [("echo", self.echo), ("phase", self.phase), ("b-value", self.b_value), ("image type", self.image_type)]
        return ", ".join(f"{name} {value}" for name, value in (*words, *self.where) if value)

    def to_json(self) -> dict[str, object]:
        """As plain values, which `from_json` reads."""
        return {
            **{name: getattr(self, name) for name in ("echo", "phase", "b_value", "image_type")},
            "where": self.where,
        }

    @classmethod
    def from_json(cls, told: Mapping[str, object]) -> Choice:
        """The inverse of `to_json`."""
        where = told.get("where") or []
        pairs = tuple((str(pair[0]), str(pair[1])) for pair in where) if isinstance(where, (list, tuple)) else ()
        words = [str(told.get(name) or "") for name in ("echo", "phase", "b_value", "image_type")]
        return cls(words[0], words[1], words[2], words[3], pairs)

    def chosen(self, frames: Sequence[Dataset], places: Sequence[Sequence[int]]) -> list[int]:
        """The images that have what is asked for.

        Args:
            frames: what each image says of itself, see `frame_attributes`.
            places: the images of each place in space, by number.

        Raises:
            SourceError: the series does not state it, or has no such value.
        """
        left = set(range(len(frames)))
        if self.image_type:
            left = self._of_kind(frames, left)
        for keyword, value in self.where:
            left = _by_value(Attribute(keyword, "", of_keyword(keyword)), frames, left, _matches(value), value)
        if self.b_value:
            wanted = float(self.b_value)
            known = {found for number in left if isinstance(found := B_VALUE.read(frames[number]), float)}
            away = min((abs(found - wanted) for found in known), default=0.0)  # 0 and 5 are two shells
            near = min(away, _SAME_B_VALUE) + 0.5
            left = _by_value(B_VALUE, frames, left, lambda found: abs(float(found) - wanted) <= near, self.b_value)
        if self.echo:
            left = self._of_echo(frames, left)
        if self.phase:
            left = self._of_phase(frames, [[number for number in place if number in left] for place in places])
        return sorted(left)

    def _of_kind(self, frames: Sequence[Dataset], left: set[int]) -> set[int]:
        pattern = glob(self.image_type)
        found = {number for number in left if any(map(pattern.fullmatch, kinds(frames[number])))}
        if not found:
            there = Counter(word for number in left for word in kinds(frames[number]))
            told = ", ".join(
                sorted(word for word, count in there.items() if may_be_told(word) and count > 1)[:MOST_TOLD]
            )
            raise SourceError(
                f"no image is of the kind {self.image_type!r} (--image-type); there are: {told or 'none'}"
            )
        return found

    def _of_echo(self, frames: Sequence[Dataset], left: set[int]) -> set[int]:
        found = _NUMBER.fullmatch(self.echo)
        times = {number: ECHO.read(frames[number]) for number in left}
        if found is not None and found[2]:
            wanted = float(found[1]) * (1000 if found[2].lower() == "s" else 1)
            return _by_value(ECHO, frames, left, lambda time: abs(float(time) - wanted) <= _SAME_TIME_MS, self.echo)
        stated = {number: of_keyword("EchoNumbers")(frames[number]) for number in left}
        numbered = {value for value in stated.values() if isinstance(value, float)}
        distinct = sorted({time for time in times.values() if isinstance(time, float)})
        wanted_number = int(self.echo)
        if numbered and (len(numbered) > 1 or len(distinct) <= 1):
            chosen = {number for number, value in stated.items() if value == wanted_number}
            there = sorted(f"{value:g}" for value in numbered)
        else:
            steps = _merged(distinct)
            there = [str(place) for place in range(1, len(steps) + 1)]
            low, high = steps[wanted_number - 1] if wanted_number <= len(steps) else (0.0, -1.0)
            chosen = {number for number, time in times.items() if isinstance(time, float) and low <= time <= high}
        if not chosen:
            raise SourceError(f"there is no echo {self.echo} (--echo); {_there(there, 'echo')}")
        return chosen

    def _of_phase(self, frames: Sequence[Dataset], places: Sequence[Sequence[int]]) -> set[int]:
        found = _NUMBER.fullmatch(self.phase)
        unit = (found[2] or "").lower() if found else ""
        differing = [
            attribute
            for attribute in (*PHASES, *TIMES)
            if any(len({attribute.read(frames[number]) for number in place} - {None}) > 1 for place in places)
        ]
        if unit:
            scale = {"ms": {"ms": 1.0, "s": 1e-3}, "s": {"ms": 1000.0, "s": 1.0}, "%": {"%": 1.0}}[unit]
            timed = next((attribute for attribute in differing if attribute.unit in scale), None)
            if timed is None or found is None:
                raise SourceError(
                    f"phases of the series have no {'share of a cycle' if unit == '%' else 'time'} (--phase)"
                )
            return _nearest(timed, float(found[1]) * scale[timed.unit], frames, places, self.phase)
        if not differing:
            if int(self.phase) > 1:
                raise SourceError(f"there is no phase {self.phase} (--phase); the series has one")
            return {number for place in places for number in place}
        attribute, wanted = differing[0], int(self.phase)
        ranked = [sorted({in_order(attribute.read(frames[number])) for number in place}) for place in places]
        if attribute is PHASES[0]:
            everything = sorted({value for values in ranked for value in values})
            ranked = [everything] * len(places)
        counts = {len(values) for values in ranked if values}
        if len(counts) > 1:
            raise SourceError(
                f"{attribute.name} has {min(counts)} to {max(counts)} values at one place, so phases have no number"
            )
        if not counts or wanted > max(counts):
            raise SourceError(f"there is no phase {self.phase} (--phase); the series has {max(counts, default=0)}")
        return {
            number
            for place, values in zip(places, ranked, strict=True)
            for number in place
            if in_order(attribute.read(frames[number])) == values[wanted - 1]
        }


EVERYTHING = Choice()
"""No choice: a series holds one volume, or is refused."""


def glob(pattern: str) -> re.Pattern[str]:
    """A pattern for the whole of a text: `*` is any text, `?` one character, `|` separates patterns. Case is ignored.

    >>> bool(glob("*t1*|mprage").fullmatch("AX T1 FSE")), bool(glob("t1").fullmatch("AX T1 FSE"))
    (True, False)
    """
    parts = (re.escape(part.strip()).replace(r"\*", ".*").replace(r"\?", ".") for part in pattern.split("|"))
    return re.compile("|".join(f"(?:{part})" for part in parts), re.IGNORECASE | re.DOTALL)


def _by_value(
    attribute: Attribute, frames: Sequence[Dataset], left: set[int], fits: Callable[[Value], bool], wanted: str
) -> set[int]:
    values = {number: value for number in left if (value := attribute.read(frames[number])) is not None}
    option = attribute.option or "--where"
    if not values:
        raise SourceError(f"the series states no {attribute.name}, so {option} {wanted} chooses nothing in it")
    chosen = {number for number, value in values.items() if fits(value)}
    if not chosen:
        counts = Counter(values.values())
        there = sorted((value for value, count in counts.items() if count > 1), key=in_order)
        told = [word for value in there if (word := told_value(attribute.name, value))]
        raise SourceError(f"no image has the {attribute.name} {wanted} ({option}); {_there(told, 'value')}")
    return chosen


def _nearest(
    attribute: Attribute, wanted: float, frames: Sequence[Dataset], places: Sequence[Sequence[int]], asked: str
) -> set[int]:
    """Of each place the image of the nearest time, where it lies nearer than half a step."""
    chosen: set[int] = set()
    for place in places:
        known = {number: value for number in place if isinstance(value := attribute.read(frames[number]), float)}
        if not known:
            continue
        distinct = sorted(set(known.values()))
        best = min(distinct, key=lambda value: abs(value - wanted))
        step = min((after - before for before, after in pairwise(distinct)), default=0.0)
        if abs(best - wanted) > step / 2:
            raise SourceError(
                f"no image is of the phase {asked} (--phase); {attribute.name} runs from {distinct[0]:g} to "
                f"{distinct[-1]:g} {attribute.unit} in steps of {step:g}"
            )
        chosen |= {number for number, value in known.items() if value == best}
    return chosen


def _matches(wanted: str) -> Callable[[Value], bool]:
    """Whether a value is what was asked for: the number, or text by a pattern."""
    try:
        target = float(wanted)
    except ValueError:
        pattern = glob(wanted)
        return lambda found: bool(pattern.fullmatch(str(found)))
    return lambda found: isinstance(found, float) and abs(found - target) <= 1e-3 * max(1.0, abs(target))


def _merged(times: Sequence[float]) -> list[tuple[float, float]]:
    """From where to where each echo reaches: echo times that differ by rounding are one."""
    spans: list[tuple[float, float]] = []
    for time in times:
        if spans and time - spans[-1][1] <= _SAME_TIME_MS:
            spans[-1] = (spans[-1][0], time)
        else:
            spans.append((time, time))
    return spans


def _there(values: Sequence[str], what: str) -> str:
    if not values:
        return "others are there"
    shown = ", ".join(values[:MOST_TOLD])
    plural = "es" if what.endswith("o") else "s"
    return f"there {'is' if len(values) == 1 else 'are'} the {what}{plural * (len(values) > 1)} {shown}"
