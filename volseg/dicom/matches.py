"""What was found for the series of a folder: the drawings on each, and which of their parts were drawn on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from volseg.dicom.drawing import Drawing
from volseg.dicom.instance import Series


@dataclass(frozen=True)
class Parts:
    """Which outlines or frames of a drawing were drawn on one series, by the images that they refer to.

    Attributes:
        series: Name of the series, see `Instance.name` of its first image.
        owners: Names of the series of the folder by the SOPInstanceUID of their images.
        unknown: Whether parts count that refer to images which are not in the folder.
        rivals: Names of the other series that each region may belong to, of those that were asked for.
        vague: Regions of which only the parts count that refer to an image of the series.
        carried: Whether all parts count, whatever they refer to.
    """

    series: str
    owners: Mapping[str, tuple[str, ...]]
    unknown: bool = False
    rivals: Mapping[int, frozenset[str]] = field(default_factory=dict)
    vague: frozenset[int] = frozenset()
    carried: bool = False

    def take(self, number: int, images: frozenset[str]) -> bool:
        """Whether a part of a region that refers to some images was drawn on the series."""
        if self.carried:
            return True
        rivals = self.rivals.get(number, frozenset())
        shown = {name for uid in images for name in self.owners.get(uid, ())}
        if shown:
            return self.series in shown and not rivals & shown
        return not rivals and number not in self.vague and (self.unknown or not images)


@dataclass(frozen=True)
class Match:
    """A drawing on a series: its regions that may lie there, which of their parts do, and what to know of it."""

    drawing: Drawing
    parts: Parts
    note: str = ""


@dataclass
class Matches:
    """What was found for the series of a folder, by the name of their first image.

    Attributes:
        found: Drawings of each series.
        left: What a reader of a series should know of drawings that were left out.
        lost: What to know of drawings that were left out and concern none of the series that were asked for.
    """

    found: dict[str, list[Match]] = field(default_factory=dict)
    left: dict[str, list[str]] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)

    def of(self, series: Series) -> list[Match]:
        """The drawings of a series."""
        return self.found.get(series.first.name, [])

    def left_of(self, series: Series) -> list[str]:
        """What was left out of a series."""
        return self.left.get(series.first.name, [])
