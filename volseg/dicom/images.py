"""The image of a case: one series, or several series of a study as channels on one grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from volseg.dicom.choice import Choice
from volseg.dicom.image import Stack, read_image, read_stack
from volseg.dicom.instance import Series
from volseg.dicom.labels import CURE, draw_labels, regions_of
from volseg.dicom.matches import Match
from volseg.dicom.names import Rules
from volseg.errors import GeometryError, SourceError, VolsegError
from volseg.labels import LabelTable, RegionCanvas
from volseg.volume import Grid, Volume, aligned, covered, nearest_voxels, resampled

_LEAST_SHARE = 0.05  # of the voxels of the first channel
_WHOLE = 0.9995


@dataclass(frozen=True)
class Part:
    """One channel of a case: its name, empty where there is a single one; its series; which volume of that is meant."""

    name: str
    series: Series
    choice: Choice


@dataclass(frozen=True)
class Images:
    """The channels of a case on the grid of the first.

    Attributes:
        volumes: One volume per channel.
        stacks: the slices of each channel, as they were scanned.
        moved: whether each channel was resampled.
        warnings: what a reader should know.
    """

    volumes: tuple[Volume, ...]
    stacks: tuple[Stack, ...]
    moved: tuple[bool, ...]
    warnings: tuple[str, ...]

    @property
    def units(self) -> str:
        """The units of the channels, empty where none states any."""
        units = [stack.units for stack in self.stacks]
        return ",".join(units) if any(units) else ""


def read_images(parts: Sequence[Part], *, resample: bool = False) -> Images:
    """Read the channels of a case.

    Args:
        parts: the channels.
        resample: bring channels that lie on other grids onto that of the first.

    Raises:
        SourceError: a series is refused, or lies in another frame of reference than the first.
        GeometryError: a channel lies on another grid, and is not to be resampled; or it hardly overlaps the first.
    """
    volumes: list[Volume] = []
    stacks: list[Stack] = []
    moved: list[bool] = []
    warnings: list[str] = []
    for part in parts:
        try:
            stack = read_stack(part.series, choice=part.choice)
            told = list(stack.warnings)
            share = None
            if stacks:
                told += check_frame(parts[0], part)
                volume, share = on_grid(parts[0].name, part.name, stack, stacks[0], resample=resample)
            else:
                volume = read_image(stack)
        except VolsegError as error:
            if not part.name or error.message.startswith(f"{part.name} "):
                raise
            raise type(error)(f"{part.name}: {error.message}") from error
        told += outside(parts[0].name, share)
        volumes.append(volume)
        stacks.append(stack)
        moved.append(share is not None)
        warnings += [f"{part.name}: {warning}" if part.name else warning for warning in told]
    return Images(tuple(volumes), tuple(stacks), tuple(moved), tuple(warnings))


def check_frame(first: Part, other: Part) -> list[str]:
    """Refuse series whose positions cannot be compared; a warning where one does not say whether they can.

    Raises:
        SourceError: they state different frames of reference.
    """
    frames = first.series.first.frame_uid, other.series.first.frame_uid
    if all(frames) and frames[0] != frames[1]:
        raise SourceError(
            f"{other.name} lies in another frame of reference than {first.name}, so their positions are not of one "
            "space; register them first and convert the NIfTI files"
        )
    return [] if all(frames) else [f"no frame of reference tells that it lies where {first.name} does"]


def outside(first: str, share: float | None) -> list[str]:
    """What to say of a channel that was resampled and covers a share of the first one; nothing if it covers it."""
    if share is None or share >= _WHOLE:
        return []
    return [f"{1 - share:.0%} of the voxels of {first} lie outside and have its least value"]


def on_grid(first: str, name: str, stack: Stack, reference: Stack, *, resample: bool) -> tuple[Volume, float | None]:
    """The image of a channel on the grid of the first one; if it was resampled, the share of that grid it covers.

    Raises:
        GeometryError: it lies on other voxels and is not to be resampled, or it hardly overlaps the first.
    """
    grid, own = Grid(reference.shape, reference.affine_ras), Grid(stack.shape, stack.affine_ras)
    if grid.difference(own) is None:
        return Volume(read_image(stack).voxels, reference.affine_ras), None
    volume = read_image(stack)
    try:
        return aligned(volume, grid)[0], None  # whose axes run otherwise
    except GeometryError as error:
        if not resample:
            raise GeometryError(
                f"{name} does not lie on the voxels of {first}: {error.message}; --resample-channels brings it there"
            ) from error
    found, share = resampled(volume, grid)
    if share < _LEAST_SHARE:
        raise GeometryError(f"{name} covers {share:.0%} of {first}; they do not show the same part of the body")
    return found, share


def read_labels(
    matches: Sequence[Sequence[Match]], images: Images, table: LabelTable, rules: Rules
) -> tuple[Volume, list[str]]:
    """The label map of a case, from what is drawn on any of its channels, on the grid of the first.

    Args:
        matches: what is drawn on each channel.
        images: the channels.
        table: the regions.
        rules: what regions are called.

    Raises:
        SourceError: A cause of `draw_case`.
        LabelError: Regions overlap in a way that the table has no value for.
    """
    canvas, warnings = draw_case(matches, images.stacks, images.moved, table.names, rules)
    return Volume(canvas.label_map(table, cure=CURE), images.stacks[0].affine_ras), warnings


def draw_case(
    matches: Sequence[Sequence[Match]],
    stacks: Sequence[Stack],
    moved: Sequence[bool],
    names: Sequence[str],
    rules: Rules,
) -> tuple[RegionCanvas, list[str]]:
    """Draw the regions of a case on the grid of its first channel; and what a reader should know of them.

    What is drawn on a channel that was resampled takes the nearest voxels.

    Args:
        matches: what is drawn on each channel.
        stacks: slices of each channel.
        moved: whether each channel was resampled.
        names: regions, in the order of their places.
        rules: what regions are called.

    Raises:
        SourceError: A region is drawn on two channels of different grids; or a cause of `draw_labels`.
    """
    first = stacks[0]
    there = [item for some, was in zip(matches, moved, strict=True) if not was for item in some]
    together = list({id(item): item for item in there}.values())  # two channels may be of one series
    canvas, warnings = draw_labels(together, first, names, rules)
    held = {region for item in together for region in regions_of(item.drawing, rules)}
    for some, stack, was in zip(matches, stacks, moved, strict=True):
        if not was or not some:
            continue
        own = {region for item in some for region in regions_of(item.drawing, rules)}
        if twice := sorted(held & own):
            raise SourceError(f"{twice[0]!r} is drawn on two channels of different grids; leave one out of the folder")
        held |= own
        drawn, told = draw_labels(some, stack, names, rules)
        beyond = ~covered(Grid(stack.shape, stack.affine_ras), Grid(first.shape, first.affine_ras))
        for place, name in enumerate(names):
            if name in own:
                mask = drawn.mask(place).astype(np.uint8)
                here = nearest_voxels(mask, stack.affine_ras, first.shape, first.affine_ras).astype(bool)
                canvas.paint(here & ~beyond, place)
        warnings += [*told, "a label was drawn on a channel of another grid, and took the nearest voxels"]
    return canvas, list(dict.fromkeys(warnings))
