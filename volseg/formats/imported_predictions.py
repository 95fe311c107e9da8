"""Predictions of other programs, written anew on the grids and in the values of a cohort, by the names they bear."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from volseg.cohort import FILE_ENDING, Cohort, Predictions, write_labels
from volseg.errors import LabelError, UsageError, VolsegError
from volseg.formats.named_masks import NamedMasks, names_in_header, place_mask, read_named_masks, under_old_names
from volseg.formats.segmentation_file import SEGMENTATION_SUFFIX
from volseg.formats.value_names import find_table, read_table_names
from volseg.labels import Code, LabelMap, LabelTable, Masks, Region, match_labels
from volseg.volume import Volume, read_volume, write_volume

_COLOUR = (153, 153, 153)


@dataclass
class ImportedPredictions:
    """The result of importing a folder of label maps.

    Attributes:
        folder: Predictions in the cohort's values, on its grids.
        notes: What a reader of the numbers must know, by key.
        failed: Error per case that could not be imported.
        unknown: Names in the files that are of no region of the cohort, and whose voxels are left out.
    """

    folder: Path
    notes: dict[str, list[str]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


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
    return bool(keys) and (find_table(folder) is not None or bool(names_in_header(Predictions(folder).path(keys[0]))))


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
    told: dict[str, Code | None] = {}
    # All names are known before any label map is written; the voxels are read again then, and not kept of all cases.
    for key, path in files.items():
        try:
            one = under_old_names(read_named_masks(path, values, regions=cohort.labels.names), cohort.labels)
            told.update({name: one.codes.get(name) for name in one.masks if not told.get(name)})
        except VolsegError as error:
            found.failed[key] = error.message
    readable = {key: path for key, path in files.items() if key not in found.failed}
    if not readable:
        return found
    pairs = pair_names(cohort.labels, told)
    found.unknown = tuple(name for name in told if name not in pairs.values())
    kept = LabelTable(tuple(region for region in cohort.labels.regions if region.name in pairs))
    for done, (key, path) in enumerate(readable.items(), start=1):
        try:
            one = under_old_names(read_named_masks(path, values, regions=cohort.labels.names), cohort.labels)
            found.notes[key] = [*one.notes, *_write(out, key, one, cohort, kept, pairs)]
        except VolsegError as error:
            found.failed[key] = error.message
        if progress:
            progress(done, len(readable))
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


def pair_names(labels: LabelTable, told: Mapping[str, Code | None]) -> dict[str, str]:
    """Find the name that files have for each region of a cohort: by name as the field writes names, else by code.

    Args:
        labels: Regions of the cohort.
        told: Code by name, as the files state them.

    Raises:
        LabelError: A segment without a name, no region that is the same, or two names that are spelt alike.
    """
    theirs = []
    for number, (name, code) in enumerate(told.items(), start=1):
        if not name:
            raise LabelError("a segment has no name; name it after its region in 3D Slicer")
        theirs.append(Region(name, (1 + (number - 1) % 255,), _COLOUR, code or Code("85756007", "Tissue")))
    return dict(match_labels(labels, LabelTable(tuple(theirs))).pairs)


def _write(
    out: Path, key: str, one: NamedMasks, cohort: Cohort, kept: LabelTable, pairs: Mapping[str, str]
) -> list[str]:
    """One case in the cohort's values on its grid; what is to be known of it."""
    if key not in cohort.rows:
        raise UsageError(f"the cohort has no case {key}; name the file after the key of its case")
    lost = [name for name in kept.names if one.named(pairs[name]) is None]
    if lost:
        raise LabelError(
            f"{', '.join(lost)} is not among the segments ({', '.join(one.masks)}), and an absent region is not "
            "taken for "
            "an empty one; add an empty segment if there is none of it"
        )
    image = read_volume(cohort.image_paths(key)[0])
    label, notes = encode_named(one, kept, pairs, image)
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
    one = under_old_names(read_named_masks(path), labels)
    pairs = pair_names(labels, {name: one.codes.get(name) for name in one.masks})
    if lost := [name for name in labels.names if name not in pairs]:
        raise LabelError(f"{path.name} has no segment of {', '.join(lost)}; there are {', '.join(one.masks)}")
    label, notes = encode_named(one, labels, pairs, image)
    return label, [*one.notes, *notes]


def encode_named(
    one: NamedMasks, kept: LabelTable, pairs: Mapping[str, str], image: Volume, *, resample: bool = False
) -> tuple[Volume, list[str]]:
    """Join the masks of a file into one label map on the grid of an image.

    Args:
        one: Masks by name; a region whose name is not there is empty.
        kept: Regions of the label map.
        pairs: Name in the file by region.
        image: Image whose grid counts.
        resample: Whether masks whose voxels do not coincide with those of the image are resampled to the nearest.

    Returns:
        The label map, and what is to be known of it.

    Raises:
        LabelError: Regions overlap and the table has no value for the combination.
        GeometryError: The voxels do not coincide with those of the image.
    """
    notes: list[str] = []

    def placed(name: str) -> NDArray[np.bool_]:
        held = one.named(pairs[name]) if name in pairs else None
        if held is None:
            return np.zeros(image.shape, dtype=np.bool_)
        mask, outside = place_mask(held, one.affine_ras, image.grid, resample=resample)
        if outside:
            notes.append(f"{outside} voxels of {name} lie outside the image")
        return mask

    if kept.overlap:
        label_map = encode_exactly(kept, np.stack([placed(name) for name in kept.names]))
    else:
        label_map = _encode_each(kept, placed)
    return Volume(label_map, image.affine_ras), list(dict.fromkeys(notes))


def _encode_each(labels: LabelTable, mask_of: Callable[[str], NDArray[np.bool_]]) -> LabelMap:
    """As `encode_exactly`, of regions that exclude each other, with one mask in memory after the other."""
    numbers = crowded = None
    for number, name in enumerate(labels.names, start=1):
        mask = mask_of(name)
        if numbers is None or crowded is None:
            numbers, crowded = np.zeros(mask.shape, np.uint8), np.zeros(mask.shape, np.bool_)
        crowded |= mask & (numbers > 0)
        numbers[mask] = number
    if numbers is None or crowded is None:
        raise LabelError("the label table has no region")
    if crowded.any():
        raise _overlap(int(crowded.sum()), [name for name in labels.names if mask_of(name)[crowded].any()])
    return labels.from_numbers(numbers)


def encode_exactly(labels: LabelTable, masks: Masks) -> LabelMap:
    """Join masks (R, X, Y, Z) into a label map that holds each of them exactly.

    Raises:
        LabelError: Regions overlap and the table has no value for the combination.
    """
    label_map = labels.encode(masks)
    wrong = (labels.masks(label_map) != masks).any(axis=0)
    if count := int(wrong.sum()):
        names = [name for name, mask in zip(labels.names, masks, strict=True) if mask[wrong].any()]
        raise _overlap(count, names)
    return label_map


def _overlap(count: int, names: Sequence[str]) -> LabelError:
    return LabelError(
        f"{count} voxels belong to several regions at once ({', '.join(names)}), and the cohort has no value for "
        "that combination; remove the overlap in 3D Slicer"
    )
