"""Channels: several series of one study as one case, such as T1, T2 and a b-value of diffusion."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from volseg.dicom.choice import EVERYTHING, Choice, glob
from volseg.dicom.instance import Series
from volseg.dicom.persons import owner_of
from volseg.errors import UsageError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.+-]*")
_QUALIFIERS = ("echo", "phase", "b-value", "image-type", "modality")
_EXAMPLE = '"T1=*t1*,T2=*t2*,DWI=*dwi*@b-value=800"'


@dataclass(frozen=True)
class Channel:
    """One channel: which series it is, and which of the volumes of that series.

    Attributes:
        name: what `dataset.json` calls it.
        pattern: Pattern of the description or the protocol of the series.
        modality: only series of it; empty for any.
        choice: which volume, where the series holds several.
    """

    name: str
    pattern: str
    modality: str = ""
    choice: Choice = EVERYTHING

    def fits(self, series: Series) -> bool:
        """Whether a series may be the channel."""
        if self.modality and series.modality.upper() != self.modality.upper():
            return False
        pattern = glob(self.pattern)
        return any(pattern.fullmatch(text.strip()) for text in (series.first.description, series.first.protocol))


@dataclass(frozen=True)
class Combined:
    """The series of one study and day that are the channels of one case.

    Attributes:
        parts: One series per channel, None where it is absent.
        problem: why they make no case, empty where they do.
    """

    parts: tuple[Series | None, ...]
    problem: str = ""

    @property
    def first(self) -> Series:
        """The first series that is there, which names the case."""
        return next(part for part in self.parts if part is not None)


def parse_channels(texts: Sequence[str]) -> list[Channel]:
    r"""The channels of `--channels`: `NAME=PATTERN`, separated by commas, each with `@b-value=800` and the like.

    In patterns `*` is any text, `?` one character, and `|` separates patterns; case does not count. A backslash takes a
    comma or an at-sign of a description as it is.

    Raises:
        UsageError: something else.

    >>> [channel.name for channel in parse_channels(["T1=*t1*, b800=*dwi*@b-value=800"])]
    ['T1', 'b800']
    """
    found: list[Channel] = []
    for part in (part.strip() for text in texts for part in _split(text, ",")):
        name, equals, rest = (word.strip() for word in part.partition("="))
        pattern, *qualifiers = (_plain(word.strip()) for word in _split(rest, "@"))
        if not equals or not _NAME.fullmatch(name) or not rest:
            raise UsageError(f"--channels must be NAME=PATTERN, separated by commas, as {_EXAMPLE}; got {part!r}")
        if any(channel.name.casefold() == name.casefold() for channel in found):
            raise UsageError(f"--channels names {name} twice; give each channel a name")
        stated: dict[str, str] = {}
        for qualifier in qualifiers:
            kind, equals, value = (word.strip() for word in qualifier.partition("="))
            if kind not in _QUALIFIERS or not value:
                raise UsageError(
                    f"--channels has {qualifier!r} behind @; there are {', '.join(_QUALIFIERS)}, as {_EXAMPLE}"
                )
            stated[kind] = value
        choice = Choice.of(
            echo=stated.get("echo"),
            phase=stated.get("phase"),
            b_value=stated.get("b-value"),
            image_type=stated.get("image-type"),
        )
        found.append(Channel(name, pattern or "*", stated.get("modality", ""), choice))
    return found


def combine(series: Sequence[Series], channels: Sequence[Channel], *, keep_ids: bool = False) -> list[Combined]:
    """The series of each study and day that are channels. Studies without any of the channels are left out.

    Args:
        series: to choose from.
        channels: what each case has.
        keep_ids: descriptions of series may stand in messages.

    Raises:
        UsageError: no series is any of the channels.
    """
    studies: dict[tuple[str, str, str], list[Series]] = {}
    for item in series:
        day = item.day or item.first.study_date
        studies.setdefault((owner_of(item), item.first.study_uid, day), []).append(item)
    found = []
    for items in studies.values():
        fitting = [[item for item in items if channel.fits(item)] for channel in channels]
        if not any(fitting):
            continue
        parts = tuple(some[0] if some else None for some in fitting)
        found.append(Combined(parts, _problem(channels, fitting, keep_ids=keep_ids)))
    if not found and series:
        raise UsageError(
            f"--channels matches none of the {len(series)} series; patterns are for the whole SeriesDescription or "
            f"ProtocolName, as {_EXAMPLE}"
        )
    return found


def _problem(channels: Sequence[Channel], fitting: Sequence[Sequence[Series]], *, keep_ids: bool) -> str:
    absent = [channel.name for channel, some in zip(channels, fitting, strict=True) if not some]
    if absent:
        there = [channel.name for channel, some in zip(channels, fitting, strict=True) if some]
        return f"the study has no series for {', '.join(absent)} (--channels); it has {', '.join(there)}"
    for channel, some in zip(channels, fitting, strict=True):
        if len(some) > 1:
            told = ", ".join(_told(item, keep_ids=keep_ids) for item in some)
            return f"{len(some)} series of the study match {channel.name} (--channels): {told}; narrow the pattern"
    for place, channel in enumerate(channels):
        for other, some in zip(channels[:place], fitting, strict=False):
            if some[0] is fitting[place][0] and other.choice == channel.choice:
                return f"one series is both {other.name} and {channel.name} (--channels); narrow the patterns"
    return ""


def _told(series: Series, *, keep_ids: bool) -> str:
    """A series in words: its number, and only if asked for its description, in which a name may stand."""
    number = f"number {series.first.number}" if series.first.number else "one without a number"
    described = f" {series.first.description!r}" if keep_ids and series.first.description else ""
    return f"{number}{described} of {len(series.instances)} files"


def _split(text: str, at: str) -> list[str]:
    return re.split(rf"(?<!\\){re.escape(at)}", text)


def _plain(text: str) -> str:
    return re.sub(r"\\([,@])", r"\1", text)
