"""A case: what a source yields for one patient and session; and what every source answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from volseg.errors import GeometryError, SourceError
from volseg.labels import LabelTable
from volseg.volume import Volume

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, eq=False)
class Case:
    """One image of one patient on one day, with its label map where there is one.

    Attributes:
        key: file-name-safe word that travels with the data everywhere, `case123_day20` for UW-Madison.
        patient: cases of one patient never stand on both sides of a split.
        session: the treatment day or visit, empty where there is none.
        channels: one volume a channel, all on one grid.
        label: uint8 label map on the same grid, or None.
        source: where it came from, for people.
        warnings: what a reader should know; a case with the warning `suspect` or `test` stays out of folds.
        instances: objects of the label map by number, 0 outside, on the same grid; None where they are not told apart.
    """

    key: str
    patient: str
    session: str
    channels: tuple[Volume, ...]
    label: Volume | None
    source: str
    warnings: tuple[str, ...] = ()
    instances: Volume | None = None

    def __post_init__(self) -> None:
        check_key(self.key)
        if not self.channels:
            raise SourceError("there is no image", case=self.key)
        first = self.channels[0]
        others = [(f"channel {i}", volume) for i, volume in enumerate(self.channels[1:], start=1)]
        if self.label is not None:
            others.append(("the label", self.label))
        if self.instances is not None:
            others.append(("the map of objects", self.instances))
        for name, volume in others:
            difference = first.grid.difference(volume.grid)
            if difference:
                raise GeometryError(f"{name} is not on the image's grid: {difference}", case=self.key)


class Source(Protocol):
    """One raw layout on disk. Listing is cheap; `load` reads one case and may run in several threads at once.

    A reader that once gave other cases for the same files has a `source_version` above 1, see `write_cohort`.
    """

    kind: str
    raw: Path
    channel_names: tuple[str, ...]
    labels: LabelTable

    def keys(self) -> Sequence[str]:
        """The keys of all cases, sorted, each once."""
        ...

    def labelled(self, key: str) -> bool:
        """Whether the case has a reference label."""
        ...

    def digest(self, key: str) -> str:
        """Changes whenever the raw data of the case changes."""
        ...

    def load(self, key: str) -> Case:
        """Read one case, or raise SourceError or VolumeError that says what is wrong with it."""
        ...


def check_key(key: str) -> str:
    """Return the key, or raise where it is no file-name-safe word.

    >>> check_key("case123_day20")
    'case123_day20'
    """
    if not _KEY.fullmatch(key):
        raise SourceError(f"the case key {key!r} is no file name; use letters, digits, '-', '_' and '.'")
    return key
