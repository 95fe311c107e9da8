"""Predictions of other programs, written anew on the grids and in the values of a cohort, by the names they bear."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.cohort import FILE_ENDING, Cohort, Predictions, write_labels
from volseg.errors import GeometryError, LabelError, UsageError, VolsegError
from volseg.formats.segmentation_file import SEGMENTATION_SUFFIX, Segment, read_segmentation
from volseg.formats.value_names import find_table, header_names, read_table_names
from volseg.labels import Code, LabelTable, Masks, Region, fold_name, match_labels
from volseg.volume import Affine, Grid, Volume, read_volume, write_volume

_COLOUR = (153, 153, 153)
# How far the corner of a voxel may be off, as a share of a voxel.
_OFF_GRID_SHARE = 0.02


@dataclass
class ImportedPredictions:
    """The result of importing a folder of label maps.

    Attributes:
        folder: Predictions in the cohort's values, on its grids.
        notes: What a reader of the numbers must know, by key.
        failed: Error per case that could not be imported.
    """

    folder: Path
    notes: dict[str, list[str]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Named:
    """The masks of a file by name, on the file's own grid."""

    masks: Mapping[str, NDArray[np.bool_]]
    codes: Mapping[str, Code]
    affine_ras: Affine
    notes: tuple[str, ...] = ()


def needs_import(folder: Path) -> bool:
    """Whether the label maps of a folder are in the form, or bear the names, of another program.

    That is so if there is no `dataset.json` with label maps beside it, and there are `.seg.nrrd` files, or a table of
    names, or names in the header of a label map.
    """
    if not folder.is_dir():
        return False
    keys = Predictions(folder).keys()
    if keys and (folder / "dataset.json").is_file():
        return False
    if any(path.name.endswith(SEGMENTATION_SUFFIX) for path in folder.iterdir() if path.is_file()):
        return True
    return bool(keys) and (find_table(folder) is not None or bool(_names_in_header(Predictions(folder).path(keys[0]))))


def import_predictions(
    folder: Path,
    cohort: Cohort,
    out: Path,
    *,
    table: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImportedPredictions:
    """Write each label map of a folder as a prediction of the cohort: `out/KEY.nii.gz`, and `out/dataset.json`.

    A region is known by its name as the field writes names, else by its code, and never by its number. Voxels are
    placed by the positions that the file states: it may be cropped or grown beyond the image by whole voxels, and axes
    may be turned; what lies outside the image is counted. A region that a file does not name is not taken for an empty
    one.

    Args:
        folder: `KEY.seg.nrrd`, or label maps `KEY.nii.gz` with names in a table beside them or in their header.
        cohort: Says what the regions are, and where each case lies.
        out: Folder that is made.
        table: Table of names to take, instead of the one in the folder.
        progress: Called with (done, total).

    Raises:
        UsageError: No such folder or table, or no label map in the folder.
        LabelError: No region of the cohort is named, or tables that contradict each other.
    """
    Predictions.open(folder)
    if table is not None and not table.is_file():
        raise UsageError(f"there is no table {table}; name a colour table, a label description or a dseg.tsv")
    files = _files(folder)
    if not files:
        raise UsageError(f"{folder} holds no KEY{SEGMENTATION_SUFFIX} and no KEY{FILE_ENDING}; name a folder that does")
    names = read_table_names(table) if table else find_table(folder)
    values = read_table_names(names) if isinstance(names, Path) else names
    found = ImportedPredictions(out)
    named: dict[str, _Named] = {}
    told: dict[str, Code | None] = {}
    for key, path in files.items():
        try:
            named[key] = _read(path, values)
            told.update({name: named[key].codes.get(name) for name in named[key].masks if not told.get(name)})
        except VolsegError as error:
            found.failed[key] = error.message
    if not named:
        return found
    pairs = _pairs(cohort.labels, told)
    kept = LabelTable(tuple(region for region in cohort.labels.regions if region.name in pairs))
    for done, (key, one) in enumerate(named.items(), start=1):
        try:
            found.notes[key] = [*one.notes, *_write(out, key, one, cohort, kept, pairs)]
        except VolsegError as error:
            found.failed[key] = error.message
        if progress:
            progress(done, len(named))
    write_labels(out, kept, channel_names=cohort.channel_names)
    return found


def _files(folder: Path) -> dict[str, Path]:
    """The label map of each key; a segmentation goes before a label map of the same key."""
    files: dict[str, Path] = {}
    for suffix in (FILE_ENDING, SEGMENTATION_SUFFIX):
        for path in sorted(folder.iterdir()):
            if path.is_file() and path.name.endswith(suffix) and not path.name.startswith("."):
                files[path.name.removesuffix(suffix)] = path
    return dict(sorted(files.items()))


def _read(path: Path, values: Mapping[int, str] | None) -> _Named:
    """The masks of a file by name."""
    if path.name.endswith(SEGMENTATION_SUFFIX):
        file = read_segmentation(path)
        codes = {segment.name: segment.code for segment in file.segments if segment.code}
        masks = {segment.name: file.mask(segment) for segment in file.segments}
        return _Named(masks, codes, file.affine_ras, tuple(_unfinished(file.segments)))
    volume = read_volume(path)
    own = _names_in_header(path)
    if own and values and any(values.get(value, name) != name for value, name in own.items()):
        raise LabelError(f"the names in the header of {path.name} contradict the table beside it; leave one of them")
    names = own or values
    if not names:
        raise LabelError(
            f"{path.name} has no names in its header, and no table stands beside it; give one with --table"
        )
    held = [int(value) for value in np.unique(volume.voxels) if value != 0]
    if unknown := [value for value in held if value not in names]:
        raise LabelError(
            f"{path.name} holds the value {unknown[0]}, which no table names; the table names {sorted(names)[:8]}"
        )
    masks = {}
    for value, name in names.items():
        # A value of a combination is named after all its regions, as our own colour table has it.
        for part in name.split("+"):
            masks[part.strip()] = masks.get(part.strip(), False) | (volume.voxels == value)
    return _Named(masks, {}, volume.affine_ras)


def _names_in_header(path: Path) -> dict[int, str]:
    import nibabel

    try:
        image: Any = nibabel.load(path)
        extensions = [(int(one.get_code()), bytes(one.get_content())) for one in image.header.extensions]
    except Exception:  # noqa: BLE001 - a damaged file is told where it is read as a label map
        return {}
    return header_names(extensions)


def _unfinished(segments: Sequence[Segment]) -> list[str]:
    open_ones = [segment.name for segment in segments if segment.status in ("inprogress", "flagged", "notstarted")]
    return [f"{', '.join(open_ones)} bears a status that is not completed"] if open_ones else []


def _pairs(labels: LabelTable, told: Mapping[str, Code | None]) -> dict[str, str]:
    """Region of the cohort to the name that the files have for it."""
    theirs = []
    for number, (name, code) in enumerate(told.items(), start=1):
        if not name:
            raise LabelError("a segment has no name; name it after its region in 3D Slicer")
        theirs.append(Region(name, (1 + (number - 1) % 255,), _COLOUR, code or Code("85756007", "Tissue")))
    return dict(match_labels(labels, LabelTable(tuple(theirs))).pairs)


def _write(out: Path, key: str, one: _Named, cohort: Cohort, kept: LabelTable, pairs: Mapping[str, str]) -> list[str]:
    """One case in the cohort's values on its grid; what is to be known of it."""
    if key not in cohort.keys:
        raise UsageError(f"the cohort has no case {key}; name the file after the key of its case")
    lost = [name for name in kept.names if not _named_in(one, pairs[name])]
    if lost:
        raise LabelError(
            f"{', '.join(lost)} is not among the segments ({', '.join(one.masks)}), and an absent region is not "
            "taken for "
            "an empty one; add an empty segment if there is none of it"
        )
    image = read_volume(cohort.image_paths(key)[0])
    label, notes = _encoded(one, kept, pairs, image)
    write_volume(out / f"{key}{FILE_ENDING}", label)
    return notes


def read_named(path: Path, labels: LabelTable, image: Volume) -> tuple[Volume, list[str]]:
    """A `.seg.nrrd` file as a label map of a table, on the grid of an image.

    Args:
        path: The file; its segments are known by name, else by code.
        labels: What the values mean; each of its regions must be among the segments.
        image: Whose grid counts.

    Returns:
        The label map, and what is to be known of it.

    Raises:
        LabelError: A region that is not among the segments, or an overlap that the table cannot hold.
        GeometryError: Voxels that do not coincide with those of the image.
    """
    one = _read(path, None)
    pairs = _pairs(labels, {name: one.codes.get(name) for name in one.masks})
    if lost := [name for name in labels.names if name not in pairs]:
        raise LabelError(f"{path.name} has no segment of {', '.join(lost)}; there are {', '.join(one.masks)}")
    label, notes = _encoded(one, labels, pairs, image)
    return label, [*one.notes, *notes]


def _encoded(one: _Named, kept: LabelTable, pairs: Mapping[str, str], image: Volume) -> tuple[Volume, list[str]]:
    """The masks of a file as one label map on the grid of an image."""
    notes: list[str] = []
    placed = []
    for name in kept.names:
        mask, outside = _place(_named_in(one, pairs[name])[0], one.affine_ras, image.grid)
        placed.append(mask)
        if outside:
            notes.append(f"{outside} voxels of {name} lie outside the image")
    masks: Masks = np.stack(placed)
    label_map = kept.encode(masks)
    wrong = (kept.masks(label_map) != masks).any(axis=0)
    if count := int(wrong.sum()):
        names = [name for name, mask in zip(kept.names, masks, strict=True) if mask[wrong].any()]
        raise LabelError(
            f"{count} voxels belong to several regions at once ({', '.join(names)}), and the cohort has no value for "
            "that combination; remove the overlap in 3D Slicer"
        )
    return Volume(label_map, image.affine_ras), notes


def _named_in(one: _Named, name: str) -> list[NDArray[np.bool_]]:
    """The mask of a name, or of one that is spelt alike."""
    return [mask for own, mask in one.masks.items() if own == name] or [
        mask for own, mask in one.masks.items() if fold_name(own) == fold_name(name)
    ]


def _place(mask: NDArray[np.bool_], affine_ras: Affine, grid: Grid) -> tuple[NDArray[np.bool_], int]:
    """A mask on a grid whose voxels coincide with its own, and how many of its voxels lie outside.

    Args:
        mask: (X, Y, Z) on its own grid.
        affine_ras: Affine of the mask, RAS mm.
        grid: Grid to place the mask on.

    Raises:
        GeometryError: The voxels do not coincide.

    >>> mask, outside = _place(np.ones((2, 1, 1), bool), np.eye(4), Grid((3, 1, 1), np.diag([-1.0, 1, 1, 1])))
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
        raise GeometryError(
            f"its voxels lie {off:.2f} voxels off those of the image, or have another spacing; in 3D Slicer export "
            "with the "
            "image as the reference volume"
        )
    places = (turn.astype(np.int64) @ np.array(np.nonzero(mask)) + shift.astype(np.int64)[:, None]).astype(np.int64)
    inside = ((places >= 0) & (places < np.array(grid.shape)[:, None])).all(axis=0)
    target[tuple(places[:, inside])] = True
    return target, int((~inside).sum())
