"""The label table: how channels, label values, region names, colours and codes relate. The only place that knows.

If organs overlap, a label map stores one value per combination (for three organs: 1, 2, 3 = 1 and 2, 4, ...), and
each region names the values that belong to it: nnU-Net's region form. Networks then predict one sigmoid channel per
region; if regions exclude each other, they predict a softmax over the background and the regions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from volseg.errors import LabelError
from volseg.labels.encoding import LabelMap, RegionEncoding
from volseg.labels.regions import declared_labels, declared_regions
from volseg.labels.values import held_values, whole_numbers


@dataclass(frozen=True)
class LabelTable(RegionEncoding):
    """The regions of a cohort, in the order of the network's channels.

    Attributes:
        regions: Regions; `RegionEncoding`, of which this is a kind, has what concerns their masks and label maps.
        image_channels: Names of the image channels of the network that a checkpoint's table is of, see
            `volseg.bundle.Recipe`; empty in other tables.
        ignore: Value of voxels that nobody looked at, nnU-Net's label `ignore`: they belong to no region and not to the
            background, and no loss and no metric counts them. None if the label maps hold no such voxel.

    >>> table = LabelTable.overlapping(["large_bowel", "small_bowel", "stomach"])
    >>> [region.values for region in table.regions]
    [(1, 3, 5, 7), (2, 3, 6, 7), (4, 5, 6, 7)]
    >>> table.channel_names
    ('large_bowel', 'small_bowel', 'stomach')
    >>> LabelTable.exclusive(["anterior", "posterior"]).channel_names
    ('background', 'anterior', 'posterior')
    """

    image_channels: tuple[str, ...] = field(default=(), compare=False, repr=False)
    ignore: int | None = field(default=None, compare=False, repr=False)

    IGNORE: ClassVar[str] = "ignore"

    def __post_init__(self) -> None:
        if not self.regions:
            raise LabelError("the label table has no region; declare at least one besides background")
        if len(set(self.names)) < len(self.regions):
            raise LabelError(f"the regions {list(self.names)} repeat a name; each needs its own")
        for region in self.regions:
            if not region.values or not all(1 <= value <= 255 for value in region.values):
                raise LabelError(
                    f"region {region.name!r} has the values {list(region.values)}, expected whole numbers from 1 to 255"
                )
        if self.ignore is not None and not self.values[-1] < self.ignore <= 255:
            raise LabelError(
                f"the label 'ignore' has the value {self.ignore!r}, expected a whole number above "
                f"{self.values[-1]}, the largest value of the regions, and at most 255, as nnU-Net demands"
            )

    @classmethod
    def of(cls, values: Mapping[str, int | Sequence[int]], details: Mapping[str, Any] | None = None) -> LabelTable:
        """Build the table from names and values, with colours and codes from `details` or the known ones.

        Args:
            values: Value or values by name of the region; a `background` entry (0) is left out.
            details: Dictionary {"colours": {name: [r, g, b]}, "codes": {name: [scheme, value, meaning]}}, both
                optional.

        Raises:
            LabelError: A value is no whole number from 1 to 255, or there is no region.

        >>> LabelTable.of({"background": 0, "tumour": [1, 2], "core": 2}).activation
        'sigmoid'
        """
        if cls.IGNORE in values:
            raise LabelError(
                f"a region is called {cls.IGNORE!r}, nnU-Net's word for voxels that nobody looked at; rename it"
            )
        return cls(declared_regions(values, details))

    @classmethod
    def overlapping(cls, names: Sequence[str]) -> LabelTable:
        """A table that keeps every overlap: name i owns each value whose bit i is set (at most 8 names).

        >>> LabelTable.overlapping(["a", "b"]).regions[1].values
        (2, 3)
        """
        if not 1 <= len(names) <= 8:
            raise LabelError(f"{len(names)} overlapping regions were asked for; a uint8 label map keeps 1 to 8")
        count = 2 ** len(names)
        return cls.of({name: [v for v in range(1, count) if v >> i & 1] for i, name in enumerate(names)})

    @classmethod
    def exclusive(cls, names: Sequence[str]) -> LabelTable:
        """A table of regions that never overlap, with the values 1, 2, 3, ..."""
        return cls.of({name: i for i, name in enumerate(names, start=1)})

    def with_overlaps(self, overlaps: Iterable[Iterable[int]]) -> LabelTable:
        """The table of regions that exclude each other, with a further value for each way in which they overlap.

        Args:
            overlaps: Places of the regions of each combination that occurs, such as `RegionCanvas.overlaps`.

        Raises:
            LabelError: There are more than 255 values, or the regions overlap already.

        >>> table = LabelTable.exclusive(["body", "heart", "tumour"]).with_overlaps([(0, 1), (0, 2)])
        >>> [region.values for region in table.regions]
        [(1, 4, 5), (2, 4), (3, 5)]
        """
        if any(len(region.values) > 1 for region in self.regions) or self.ignore is not None:
            raise LabelError("the regions of the table must have one value each before overlaps get theirs")
        several = {frozenset(places) for places in overlaps}
        ordered = sorted((len(places), sorted(places)) for places in several if len(places) > 1)
        first = self.values[-1] + 1
        if first + len(ordered) > 256:
            raise LabelError(
                f"{len(self.regions)} regions overlap in {len(ordered)} ways, and a label map has 255 values in all; "
                "choose fewer regions"
            )
        values: dict[int, list[int]] = {place: list(region.values) for place, region in enumerate(self.regions)}
        for value, (_, places) in enumerate(ordered, start=first):
            for place in places:
                values[place].append(value)
        regions = (replace(region, values=tuple(values[place])) for place, region in enumerate(self.regions))
        return replace(self, regions=tuple(regions))

    @classmethod
    def from_dataset_json(cls, dataset: Mapping[str, Any]) -> LabelTable:
        """The table that an nnU-Net v2 or decathlon `dataset.json` declares (the decathlon writes value to name).

        >>> LabelTable.from_dataset_json({"labels": {"0": "background", "1": "Anterior"}}).names
        ('Anterior',)

        Raises:
            LabelError: There are no labels, or labels that make no table.
        """
        labels = declared_labels(dataset)
        table = cls.of({name: value for name, value in labels.items() if name != cls.IGNORE}, dataset.get("volseg"))
        if cls.IGNORE not in labels:
            return table
        value = labels[cls.IGNORE]
        if isinstance(value, bool) or not isinstance(value, int):
            raise LabelError(f"the label 'ignore' has the value {value!r}, expected one whole number")
        return replace(table, ignore=value)

    def to_dataset_json(self) -> dict[str, Any]:
        """The entries `labels`, `regions_class_order` (if regions overlap) and `volseg` of a `dataset.json`."""
        labels: dict[str, int | list[int]] = {"background": 0}
        for region in self.regions:
            labels[region.name] = list(region.values) if len(region.values) > 1 else region.values[0]
        if self.ignore is not None:
            labels[self.IGNORE] = self.ignore
        entries: dict[str, Any] = {"labels": labels}
        if any(len(region.values) > 1 for region in self.regions):
            entries["regions_class_order"] = list(self._paint)
        entries["volseg"] = {
            "colours": {region.name: list(region.colour) for region in self.regions},
            "codes": {r.name: [r.code.scheme, r.code.value, r.code.meaning] for r in self.regions},
        }
        return entries

    @property
    def background_logits(self) -> tuple[float, ...]:
        """One logit per channel for certain background: the probability of a region is 2e-9.

        >>> LabelTable.exclusive(["anterior", "posterior"]).background_logits
        (20.0, 0.0, 0.0)
        """
        return (-20.0,) * self.channels if self.overlap else (20.0, *(0.0 for _ in self.names))

    @property
    def background_probabilities(self) -> tuple[float, ...]:
        """One probability per channel for a voxel that certainly belongs to no region."""
        return (0.0,) * self.channels if self.overlap else (1.0, *(0.0 for _ in self.names))

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that differ between tables: of names and values, not colours."""
        facts = json.dumps([[region.name, list(region.values)] for region in self.regions])
        return hashlib.sha256(facts.encode()).hexdigest()[:12]

    def check(self, label_map: NDArray[Any], *, case: str | None = None) -> LabelMap:
        """Return the label map as uint8, or raise if it holds a value that the table does not declare.

        Numbers within `volseg.labels.values.ROUNDING` of a whole number are rounded to it: programs that resample
        save 0.99999994 for 1. So are whole numbers that a writer of floats stored in steps of 8 or 16 bits.

        Raises:
            LabelError: A value is not declared, a fraction, or NaN.
        """
        label_map = whole_numbers(label_map, case=case)
        declared = self.values if self.ignore is None else (*self.values, self.ignore)
        unknown = [value for value in held_values(label_map).tolist() if value not in declared]
        if unknown:
            shown = ", ".join(f"{value:g}" for value in unknown[:5]) + (", ..." if len(unknown) > 5 else "")
            raise LabelError(
                f"the label map holds {shown}; dataset.json declares {list(declared)}. "
                f"{'Correct' if min(unknown) < 0 else 'Add the value to `labels` or correct'} the label file",
                case=case,
            )
        return label_map.astype(np.uint8, copy=False)

    @property
    def of_predictions(self) -> LabelTable:
        """The table of a network's label maps: a network looks at every voxel, so there is no value to ignore."""
        return self if self.ignore is None else replace(self, ignore=None)

    def ignored(self, label_map: LabelMap) -> NDArray[np.bool_] | None:
        """Where a label map (...) says that nobody looked; None if it does not.

        >>> table = LabelTable.from_dataset_json({"labels": {"background": 0, "liver": 1, "ignore": 2}})
        >>> table.ignored(np.array([0, 1, 2], np.uint8)).tolist(), table.masks(np.array([0, 1, 2])).tolist()
        ([False, False, True], [[False, True, False]])
        """
        if self.ignore is None:
            return None
        found: NDArray[np.bool_] = label_map == self.ignore
        return found if found.any() else None

    def check_seen(self, label_map: LabelMap, *, target: str, cure: str = "") -> None:
        """Refuse a label map that says that nobody looked at some voxels, for a format that cannot say so.

        Args:
            label_map: Label map (...) of the table's values.
            target: The format, for the message.
            cure: What else may be done.

        Raises:
            LabelError: There is such a voxel.
        """
        if (ignored := self.ignored(label_map)) is not None:
            raise LabelError(
                f"{int(ignored.sum())} voxels have the label 'ignore': nobody looked at them, and {target} cannot say "
                f"so, they would count as free of every region; finish the label first{cure}"
            )

    def with_ignored_region(self) -> LabelTable:
        """The table in which the voxels that nobody looked at are a last region named `ignore`.

        >>> table = LabelTable.from_dataset_json({"labels": {"background": 0, "liver": 1, "ignore": 2}})
        >>> table.with_ignored_region().names
        ('liver', 'ignore')
        """
        if self.ignore is None:
            return self
        own = declared_regions({self.IGNORE: self.ignore}, {"colours": {self.IGNORE: [128, 128, 128]}})
        return replace(self, regions=(*self.regions, *own), ignore=None)
