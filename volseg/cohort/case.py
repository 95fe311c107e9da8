"""A case: what a source yields for one patient and session; and what every source answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from volseg.errors import GeometryError, SourceError
from volseg.labels import LabelTable
from volseg.volume import Volume, aligned

OF_FILES = ("the image: ", "channel ", "the label: ", "the map of objects: ")
"""How the warnings begin that concern the geometry of a case's files."""
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, eq=False)
class Case:
    """One image of one patient on one day, with its label map where there is one.

    All volumes are brought to the affine of the first channel, if they have its voxels: see `volseg.volume.aligned`.
    What is to be known of that, and of the headers of their files, is added to the warnings.

    Attributes:
        key: File-name-safe word that travels with the data everywhere, `case123_day20` for UW-Madison.
        patient: Patient, whose cases never stand on both sides of a split.
        session: Treatment day or visit; empty if there is none.
        channels: One volume per channel, all on one grid.
        label: Label map (uint8) on the same grid, or None.
        source: Origin of the case, for people.
        warnings: Warnings for readers; a case with the warning `suspect` or `test` stays out of folds.
        instances: Objects of the label map by number, 0 outside, on the same grid; None if they are not told apart.
        units: Units of the values as the files state them (HU, BQML, CNTS), empty where they state none; those of
            several channels are separated by commas.
        day: Day from the patient's first one, where the source states it apart from the session's name.
    """

    key: str
    patient: str
    session: str
    channels: tuple[Volume, ...]
    label: Volume | None
    source: str
    warnings: tuple[str, ...] = ()
    instances: Volume | None = None
    units: str = ""
    day: float | None = None

    def __post_init__(self) -> None:
        check_key(self.key)
        if not self.channels:
            raise SourceError("there is no image", case=self.key)
        notes = [f"the image: {note}" for channel in self.channels for note in channel.notes]
        first, *others = self.channels
        channels = [self._on_grid(f"channel {i}", volume, notes) for i, volume in enumerate(others, start=1)]
        object.__setattr__(self, "channels", (first, *channels))
        for name, attribute in (("the label", "label"), ("the map of objects", "instances")):
            volume = getattr(self, attribute)
            if volume is not None:
                object.__setattr__(self, attribute, self._on_grid(name, volume, notes))
        object.__setattr__(self, "warnings", tuple(dict.fromkeys((*self.warnings, *notes))))

    def _on_grid(self, name: str, volume: Volume, notes: list[str]) -> Volume:
        """A volume on the grid of the first channel; what is to be known of it is added to the notes."""
        first = self.channels[0]
        try:
            moved, note = aligned(volume, first.grid)
        except GeometryError as error:
            raise GeometryError(
                f"{name} is not on the image's grid: {error}; resample it to that (labels by the nearest voxel), or "
                "take the one of this image",
                case=self.key,
            ) from error
        told = (*volume.notes, note) if volume.notes != first.notes else (note,)
        notes += [f"{name}: {one}" for one in told if one]
        return moved


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
