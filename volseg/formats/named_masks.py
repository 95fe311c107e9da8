"""The masks of a file that another program saved, by the names that it gives them, and their place on an image."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.errors import GeometryError, LabelError, first_names
from volseg.formats.segmentation_file import SEGMENTATION_SUFFIX, Segment, Segmentation, read_segmentation, segment_id
from volseg.formats.value_names import header_names
from volseg.labels import Code, LabelTable, fold_name, held_values, whole_numbers
from volseg.volume import Affine, Grid, nearest_voxels, read_image_file, slice_axis

# How far the corner of a voxel may be off, as a share of a voxel.
_OFF_GRID_SHARE = 0.02


class MadeMasks(Mapping[str, NDArray[np.bool_]]):
    """Masks by name that are made each time they are asked for, so that memory does not grow with their number.

    Args:
        make: What makes each mask, by name.

    >>> label = np.array([0, 1, 2])
    >>> MadeMasks({"liver": lambda: label == 2})["liver"].tolist()
    [False, False, True]
    """

    def __init__(self, make: Mapping[str, Callable[[], NDArray[np.bool_]]]) -> None:
        self._make = dict(make)

    def __getitem__(self, name: str) -> NDArray[np.bool_]:
        return self._make[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._make)

    def __len__(self) -> int:
        return len(self._make)


@dataclass(frozen=True, eq=False)
class NamedMasks:
    """The masks of a file by name, on the file's own grid.

    Attributes:
        masks: Mask (X, Y, Z) by name, in the order of the file; maybe made anew each time, see `MadeMasks`.
        codes: Code by name, where the file states one.
        affine_ras: Affine (4, 4) of the masks, RAS mm.
        notes: What a reader must know of the file.
        layered: Whether the form of the file can hold a voxel that belongs to two names.
        ids: What the file knows each name by, where it has such a word.
        images: Digest of the image that a segment was written out for, by name, where the file states one.
    """

    masks: Mapping[str, NDArray[np.bool_]]
    codes: Mapping[str, Code]
    affine_ras: Affine
    notes: tuple[str, ...] = ()
    layered: bool = True
    ids: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)

    @property
    def grid(self) -> Grid:
        """The grid of the masks."""
        return Grid(next(iter(self.masks.values())).shape, self.affine_ras)

    def named(self, name: str) -> NDArray[np.bool_] | None:
        """The mask of a name, or of one that is spelt alike; None if there is none."""
        if name in self.masks:
            return self.masks[name]
        alike = [own for own in self.masks if fold_name(own) == fold_name(name)]
        return self.masks[alike[0]] if alike else None


def read_named_masks(
    path: Path,
    values: Mapping[int, str] | None = None,
    *,
    table: LabelTable | None = None,
    regions: Sequence[str] = (),
) -> NamedMasks:
    """Read a segmentation or a label map with its names.

    Args:
        path: A `.seg.nrrd` file, whose segments bear names; or a label map (NIfTI, NRRD, MetaImage, MGH).
        values: Name by value for a label map whose header has none.
        table: Table of the values of a label map, instead of names; a value may then be a combination of regions.
        regions: Regions of the cohort, which tell a name that holds a plus sign from a combination; without them the
            segments of a `.seg.nrrd` file keep their names.

    Raises:
        LabelError: A label map without names, a value that is no whole number or that no table names, or names that
            contradict each other.
        VolumeError: A file that cannot be read.
    """
    if path.name.endswith(SEGMENTATION_SUFFIX):
        file = read_segmentation(path)
        codes = {segment.name: segment.code for segment in file.segments if segment.code}
        masks = _of_segments(file, regions)
        ids = {segment.name: segment.own_id for segment in file.segments}
        images = {segment.name: segment.image for segment in file.segments if segment.image}
        notes = (*_unfinished(file.segments), *_of_no_segment(file))
        return NamedMasks(masks, codes, file.affine_ras, notes, ids=ids, images=images)
    volumes = read_image_file(path)
    if len(volumes) > 1:
        raise LabelError(
            f"{path.name} holds {len(volumes)} channels and names none of them; save a segmentation as KEY.seg.nrrd"
        )
    volume = volumes[0]
    if table is not None:
        checked = table.check(volume.voxels)
        found = MadeMasks({region.name: partial(_where, checked, region.values) for region in table.regions})
        told = {region.name: region.code for region in table.regions}
        return NamedMasks(found, told, volume.affine_ras, layered=table.overlap)
    own = names_in_header(path)
    if own and values and any(values.get(value, name) != name for value, name in own.items()):
        raise LabelError(f"the names in the header of {path.name} contradict the table beside it; leave one of them")
    names = own or values
    if not names:
        raise LabelError(
            f"{path.name} has no names in its header, and no table stands beside it; give one with --table"
        )
    voxels = whole_numbers(volume.voxels, case=None)
    held = [int(value) for value in held_values(voxels).tolist() if value]
    if unknown := [value for value in held if value not in names]:
        raise LabelError(
            f"{path.name} holds the value {unknown[0]}, which no table names; the table names {sorted(names)[:8]}"
        )
    given = [name for value, name in names.items() if value in held]
    if twice := next((name for name in given if given.count(name) > 1), None):
        shared = [value for value in held if names[value] == twice]
        raise LabelError(
            f"{path.name} holds {len(shared)} values named {twice!r} ({', '.join(map(str, shared))}); give each a name "
            "of its own, or merge them"
        )
    parts: dict[str, list[int]] = {}
    known = {fold_name(name) for name in (*regions, *(name for name in names.values() if "+" not in name))}
    of_values = {value: _combined(name, known) for value, name in names.items()}
    for value, of_value in of_values.items():
        for part in of_value:
            parts.setdefault(part, []).append(value)
    masks = MadeMasks({part: partial(_where, voxels, of_part) for part, of_part in parts.items()})
    layered = any(len(of_value) > 1 for of_value in of_values.values())
    return NamedMasks(masks, {}, volume.affine_ras, layered=layered)


def _combined(name: str, known: Collection[str]) -> list[str]:
    """The regions of a value: one, or those of a combination, which is named after all of them (`liver+tumour`).

    Args:
        name: Name of the value.
        known: Names of regions, see `fold_name`.

    Raises:
        LabelError: A part of the name is a region and another one is not, so it may be a region of its own.

    >>> _combined("liver+tumour", ["liver", "tumour"]), _combined("CD4+", ["cd4+"]), _combined("a+b", [])
    (['liver', 'tumour'], ['CD4+'], ['a', 'b'])
    """
    words = _words(name)
    if len(words) == 1 or fold_name(name) in known:
        return [name]
    if found := _known_parts(words, known):
        return found
    if not all(words):
        return [name]
    if any(fold_name(word) in known for word in words):
        raise LabelError(
            f"the name {name!r} must be that of a region or of a combination of regions, and of its parts some are "
            "regions and others are not; rename it in the table, or name its parts there"
        )
    return words


def _words(name: str) -> list[str]:
    return [word.strip() for word in name.split("+")]


def _known_parts(words: Sequence[str], known: Collection[str]) -> list[str] | None:
    """The known names that some words make, which a plus sign stood between; None if they make none."""
    for end in range(len(words), 0, -1):
        part = "+".join(words[:end])
        rest = _known_parts(words[end:], known) if fold_name(part) in known else None
        if rest is not None:
            return [part, *rest]
    return None if words else []


def _of_segments(file: Segmentation, regions: Sequence[str]) -> MadeMasks:
    """The masks of the segments by name; one that is called as a combination of regions is a part of each of them.

    A label map that was given out with its combinations named, as `liver+tumour`, comes back with such segments.
    """
    known = {fold_name(name) for name in regions}
    own = {fold_name(segment.name): segment.name for segment in file.segments}
    parts: dict[str, list[Segment]] = {}
    for segment in file.segments:
        words = _words(segment.name)
        several = _known_parts(words, known) if len(words) > 1 and fold_name(segment.name) not in known else None
        names = [own.get(fold_name(name), name) for name in several or ()] or [segment.name]
        for name in names:
            parts.setdefault(name, []).append(segment)

    def mask(segments: Sequence[Segment]) -> NDArray[np.bool_]:
        first, *others = (file.mask(segment) for segment in segments)
        for other in others:
            first = first | other
        return first

    return MadeMasks({name: partial(mask, segments) for name, segments in parts.items()})


def under_old_names(one: NamedMasks, labels: LabelTable, *, answered: Collection[str] = ()) -> NamedMasks:
    """The masks of a file, those of segments that a user renamed by the names that they were exported under.

    A name of the table counts as it stands. Any other is taken for the region whose ID its segment bears, if its code
    is still that region's and no segment bears the region's name: whoever makes another organ of a segment gives it
    another code, or the name of a region.

    Args:
        one: Masks of a file.
        labels: Regions.
        answered: Names of which a person has said what they are.
    """
    theirs = {fold_name(name) for name in one.masks}
    known = {fold_name(name) for name in (*labels.names, *answered, LabelTable.IGNORE)}
    regions = {segment_id(region.name): region for region in labels.regions if fold_name(region.name) not in theirs}
    renamed = {
        name: region.name
        for name in one.masks
        if fold_name(name) not in known
        and (region := regions.get(one.ids.get(name, ""))) is not None
        and one.codes.get(name, region.code).value == region.code.value
    }
    if not renamed or len(set(renamed.values())) < len(renamed):
        return one
    notes = [f"the segment {name} was taken for {own}, as which it was exported" for name, own in renamed.items()]
    return replace(
        one,
        masks=MadeMasks({renamed.get(name, name): partial(one.masks.__getitem__, name) for name in one.masks}),
        codes={renamed.get(name, name): code for name, code in one.codes.items()},
        ids={renamed.get(name, name): own for name, own in one.ids.items()},
        images={renamed.get(name, name): digest for name, digest in one.images.items()},
        notes=(*one.notes, *notes),
    )


def names_in_header(path: Path) -> dict[int, str]:
    """The names in the header of a NIfTI file by value; none where it has none or is damaged."""
    import nibabel

    try:
        image: Any = nibabel.load(path)
        extensions = [(int(one.get_code()), bytes(one.get_content())) for one in image.header.extensions]
    except Exception:  # noqa: BLE001 - a damaged file is told where it is read as a label map
        return {}
    return header_names(extensions)


def _where(voxels: NDArray[Any], values: Sequence[int]) -> NDArray[np.bool_]:
    """Where a label map holds one of some values."""
    found: NDArray[np.bool_] = voxels == values[0] if len(values) == 1 else np.isin(voxels, values)
    return found


def _of_no_segment(file: Segmentation) -> list[str]:
    """What to say of voxels whose value no segment of their layer has; Slicer does not show them."""
    told = []
    for number, layer in enumerate(file.layers):
        known = {0, *(segment.value for segment in file.segments if segment.layer == number)}
        left = [value for value in held_values(layer.voxels).tolist() if value not in known]
        if left:
            count = int(np.isin(layer.voxels, left).sum())
            empty = [one.name for one in file.segments if one.layer == number and not file.mask(one).any()]
            doubt = f", while {first_names(empty)} has none" if empty else ""
            values = first_names(map(str, left))
            told.append(f"{count} voxels hold values that no segment has ({values}), and were left out{doubt}")
    return told


def _unfinished(segments: Sequence[Segment]) -> list[str]:
    open_ones = [segment.name for segment in segments if segment.status in ("inprogress", "flagged", "notstarted")]
    return [f"{', '.join(open_ones)} bears a status that is not completed"] if open_ones else []


def place_mask(
    mask: NDArray[np.bool_], affine_ras: Affine, grid: Grid, *, resample: bool = False
) -> tuple[NDArray[np.bool_], int]:
    """Place a mask on a grid, and count its voxels that lie outside.

    Args:
        mask: Mask (X, Y, Z) on its own grid.
        affine_ras: Affine of the mask, RAS mm.
        grid: Grid to place the mask on.
        resample: Whether voxels that do not coincide take the value of the nearest one; they are refused by default.

    Returns:
        The mask on the grid, and how many of its voxels lie outside.

    Raises:
        GeometryError: The voxels do not coincide.

    >>> mask, outside = place_mask(np.ones((2, 1, 1), bool), np.eye(4), Grid((3, 1, 1), np.diag([-1.0, 1, 1, 1])))
    >>> mask[:, 0, 0].tolist(), outside  # index 0 of both is the same place, index 1 of the mask is at -1
    ([True, False, False], 1)
    """
    target = np.zeros(grid.shape, dtype=np.bool_)
    if not mask.any():
        return target, 0
    to_grid = np.linalg.inv(grid.affine_ras) @ affine_ras
    turn, shift = np.rint(to_grid[:3, :3]), np.rint(to_grid[:3, 3])
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in mask.shape], indexing="ij")).reshape(3, -1)
    off = np.abs((to_grid[:3, :3] - turn) @ corners + (to_grid[:3, 3] - shift)[:, None]).max()
    if off > _OFF_GRID_SHARE or not (np.abs(turn).sum(axis=0) == 1).all() or not (np.abs(turn).sum(axis=1) == 1).all():
        if resample:
            return _resampled(mask, affine_ras, grid)
        if same := grid.difference(Grid(mask.shape, affine_ras)):
            raise GeometryError(
                f"its voxels lie {off:.2f} voxels off those of the image, or have another spacing ({same}); in 3D "
                "Slicer export with the image as the reference volume"
            )
        return mask.copy(), 0
    places = (turn.astype(np.int64) @ np.array(np.nonzero(mask)) + shift.astype(np.int64)[:, None]).astype(np.int64)
    inside = ((places >= 0) & (places < np.array(grid.shape)[:, None])).all(axis=0)
    target[tuple(places[:, inside])] = True
    return target, int((~inside).sum())


def _resampled(mask: NDArray[np.bool_], affine_ras: Affine, grid: Grid) -> tuple[NDArray[np.bool_], int]:
    """The nearest voxels of a mask, with one empty voxel around it, since values at the edge are continued."""
    padded = np.pad(mask, 1)
    shifted = np.array(affine_ras, dtype=np.float64)
    shifted[:3, 3] -= shifted[:3, :3] @ np.ones(3)
    found = nearest_voxels(padded, shifted, grid.shape, np.asarray(grid.affine_ras))
    index = np.linalg.inv(grid.affine_ras) @ affine_ras
    places = np.rint(index[:3, :3] @ np.array(np.nonzero(mask)) + index[:3, 3:])
    outside = ((places < 0) | (places >= np.array(grid.shape)[:, None])).any(axis=0)
    return found, int(outside.sum())


def slices_as_mask(numbers: Sequence[int], grid: Grid) -> NDArray[np.bool_]:
    """All voxels of some slices, counted from 1 along the axis of `volseg.volume.slice_axis`.

    >>> slices_as_mask([1, 3], Grid((2, 2, 4), np.diag([1.0, 1, 3, 1])))[0, 0].tolist()
    [True, False, True, False]

    Raises:
        GeometryError: There is no such slice.
    """
    axis = slice_axis(grid.affine_ras, grid.shape)
    count = grid.shape[axis]
    if wrong := [number for number in numbers if not 1 <= number <= count]:
        raise GeometryError(f"the image has the slices 1 to {count}, got {wrong[0]}")
    mask = np.zeros(grid.shape, dtype=np.bool_)
    index: list[Any] = [slice(None)] * 3
    index[axis] = [number - 1 for number in numbers]
    mask[tuple(index)] = True
    return mask
