"""Margins as regions of their own: what contains the whole organ with the stated probability, and is no organ."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace

from volseg.cohort.bounds import Bounds, bounds_as_text
from volseg.errors import GeometryError, LabelError
from volseg.labels import TISSUE, LabelMatch, LabelTable, Region, RegionCanvas
from volseg.metrics import grown
from volseg.volume import MAX_SKEW, Volume, skew

logger = logging.getLogger(__name__)

_LONGEST_NAME = 64  # letters that DICOM keeps of a name
_MOST_VALUES = 255
Prepare = Callable[[str, Volume, LabelTable], tuple[Volume, LabelTable]]
"""A label map and its regions with further ones, from the key of a case, its label map and its regions."""


def margin_name(region: str, level: float) -> str:
    """The name of a margin, which nobody takes for the organ; 64 letters at most.

    >>> margin_name("stomach", 0.9)
    'MARGIN 90% of stomach (not the organ)'
    """
    before, after = f"MARGIN {100 * level:.0f}% of ", " (not the organ)"
    return f"{before}{region[: _LONGEST_NAME - len(before) - len(after)]}{after}"


def with_descriptions(labels: LabelTable, bounds: Bounds) -> LabelTable:
    """The same regions with their bounds as descriptions.

    Args:
        labels: Regions.
        bounds: Bounds of one case by region.
    """
    regions = [
        Region(one.name, one.values, one.colour, one.code, bounds_as_text(bounds[one.name]))
        if one.name in bounds
        else one
        for one in labels.regions
    ]
    return replace(labels, regions=tuple(regions))


def with_margins(label: Volume, labels: LabelTable, bounds: Bounds) -> tuple[Volume, LabelTable]:
    """A label map with a further region per margin: the prediction grown by it in mm, on the same grid.

    The organs keep their voxels; a margin contains its organ. A region without a margin gets none.

    Args:
        label: Label map (X, Y, Z).
        labels: Regions.
        bounds: Bounds of one case by region.

    Returns:
        The label map with a value for each combination, and the regions, the margins last.

    Raises:
        LabelError: There are more combinations than a label map of bytes holds.
        GeometryError: The axes of the grid lean, as with a tilted gantry, so that mm along them are none in space.
    """
    if skew(label.affine_ras) > MAX_SKEW and any(one.margin_mm is not None for one in bounds.values()):
        raise GeometryError("the grid's axes must be at right angles for margins in mm; resample to a straight grid")
    label_map = labels.check(label.voxels)
    margins: dict[str, tuple[str, float, float]] = {}
    canvas = RegionCanvas(label_map.shape)
    for place, mask in enumerate(labels.each_mask(label_map)):
        canvas.paint(mask, place)
    for region, mask in zip(labels.regions, labels.each_mask(label_map), strict=True):
        given = bounds.get(region.name)
        if given is None or given.margin_mm is None or given.level is None or not mask.any():
            continue
        own = name = margin_name(region.name, given.level)
        for number in itertools.count(2):  # long names of regions may be alike as far as a margin holds them
            if name not in margins:
                break
            name = f"{own[: _LONGEST_NAME - len(f' {number}')]} {number}"
        canvas.paint(grown(mask, given.margin_mm, label.spacing_mm), len(labels.regions) + len(margins))
        margins[name] = (region.name, given.margin_mm, given.level)
    if not margins:
        return label, with_descriptions(labels, bounds)
    held = sorted(canvas.combinations, key=lambda places: (len(places), sorted(places)))
    if len(held) > _MOST_VALUES:
        raise LabelError(f"the margins overlap in {len(held)} ways, a label map holds {_MOST_VALUES}; export fewer")
    names = [*labels.names, *margins]
    members = {value: {names[place] for place in places} for value, places in enumerate(held, start=1)}
    table = _table(labels, margins, members, bounds)
    return Volume(canvas.label_map(table), label.affine_ras), table


def preparing(bounds: Mapping[str, Bounds], *, match: LabelMatch | None, margin: bool) -> Prepare:
    """A function that adds the bounds of a case to its regions, and margins if they are asked for.

    Args:
        bounds: Bounds by key and region.
        match: Match of the regions' names in the predictions with those that are written; None if they are the same.
        margin: Whether margins are added; a case whose grid leans gets none, which is told.
    """
    names = {} if match is None else {other: name for name, other in match.pairs.items()}

    def prepare(key: str, label: Volume, labels: LabelTable) -> tuple[Volume, LabelTable]:
        own = {names.get(name, name): one for name, one in bounds.get(key, {}).items()}
        try:
            return with_margins(label, labels, own) if margin else (label, with_descriptions(labels, own))
        except GeometryError as error:
            logger.warning("%s: written without margins: %s", key, error)
            return label, with_descriptions(labels, own)

    return prepare


def _table(
    labels: LabelTable, margins: dict[str, tuple[str, float, float]], members: dict[int, set[str]], bounds: Bounds
) -> LabelTable:
    free = iter(value for value in range(255, 0, -1) if value not in members)

    def values(name: str) -> tuple[int, ...]:
        own = tuple(sorted(value for value, names in members.items() if name in names))
        return own or (next(free),)  # a region without a voxel has a value that does not occur

    regions = [Region(one.name, values(one.name), one.colour, one.code) for one in labels.regions]
    known = {one.name: one for one in labels.regions}
    for name, (region, margin_mm, level) in margins.items():
        r, g, b = ((channel + 255) // 2 for channel in known[region].colour)
        text = (
            f"Not an organ: the prediction of {region} grown by {margin_mm:.1f} mm, which contains the whole {region} "
            f"with a probability of {100 * level:.0f} %"
        )
        regions.append(Region(name, values(name), (r, g, b), TISSUE, text))
    return with_descriptions(LabelTable(tuple(regions)), bounds)
