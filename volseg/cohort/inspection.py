"""Reading every file of a cohort to find what training would stumble over."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.cohort.case import Case
from volseg.cohort.directions import cohort_note
from volseg.cohort.duplicates import doubtful_folds, same_voxels, voxels_digest
from volseg.cohort.folder import Cohort, read_dataset_json
from volseg.cohort.folds import Fold, tested_patients_note
from volseg.cohort.intensities import ChannelRange, intensity_notes, range_of
from volseg.cohort.patients import patients_note
from volseg.cohort.sessions import order_note, sessions_note
from volseg.cohort.sizes import size_warnings
from volseg.cohort.spreadsheet import restored_keys
from volseg.cohort.table import CaseRow, read_table
from volseg.cohort.units import units_note
from volseg.errors import CohortError, GeometryError, VolsegError, VolumeError, first_names, telling_memory
from volseg.volume import Volume, read_volume

_UNREAD = "no label to look at"
_OTHER_ROW = (
    "cases.csv states another size or spacing than the image's file has, and trainings are planned by it; correct its "
    "line, or convert the case again"
)
_SLAB_VOXELS = 2**20
_TOLD_WARNINGS = 20
"""Warnings of `cases.csv` that are told before the rest is only counted."""


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
        text: For people, with the warnings below as its last lines.
        failed: Error per case that failed.
        warnings: What is read, but may not be what its makers meant; one sentence each. A warning that concerns many
            cases stands once, with their number and the first keys.
        wrong: What is wrong with the cohort as a whole, such as its folds.
        facts: What was found, as JSON: cases, channels, spacing, regions and folds.
    """

    text: str
    failed: dict[str, str]
    warnings: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def inspect_cohort(
    cohort: Cohort,
    *,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
    too_large: Mapping[str, str] | None = None,
) -> Inspection:
    """Read each image and label: same grid, finite voxels, declared values and objects, folds that keep patients apart.

    Args:
        cohort: Cohort, opened, so its files already match by name.
        workers: Number of threads.
        progress: Function that is called with (done, total).
        too_large: Reason for each key of a case that is not read, since it does not fit into the memory.
    """
    left_out = too_large or {}
    failed: dict[str, str] = {}
    contents: list[_Content] = []
    notes: dict[str, tuple[str, ...]] = {}
    ranges: dict[str, dict[int, ChannelRange]] = {}
    digests: dict[str, list[object]] = {}
    with ThreadPoolExecutor(workers) as pool:

        def look(key: str) -> tuple[str, _Content | VolsegError | None]:
            return key, VolumeError(left_out[key]) if key in left_out else _inspect(cohort, key, notes, ranges, digests)

        inspected = pool.map(look, cohort.keys)
        for done, (key, found) in enumerate(inspected, start=1):
            if isinstance(found, VolsegError):
                failed[key] = found.message
            elif found:
                contents.append(found)
            if progress:
                progress(done, len(cohort.keys))
    suspects = [row.key for row in cohort.rows.values() if row.suspect]
    spacing = " x ".join(f"{mm:g}" for mm in cohort.median_spacing_mm())
    lines = [
        f"{cohort.folder}: {len(cohort.keys)} cases, {len(cohort.labelled)} with labels, "
        f"{len({row.patient for row in cohort.rows.values()})} patients, {len(suspects)} suspect",
        f"channels {', '.join(cohort.channel_names)}; median spacing {spacing} mm",
    ]
    regions = []
    unit = "mm2" if cohort.flat else "ml"
    for name in cohort.labels.names:
        sizes = [found.sizes[name] for found in contents if found.sizes[name] > 0]
        there = f"median {_few_digits(float(np.median(sizes)))} {unit}" if sizes else "in no case"
        median = round(float(np.median(sizes)), 3) if sizes else None
        regions.append({"name": name, "cases": len(sizes), f"median_{unit}": median})
        lines.append(f"  {name}: " + (f"in {len(sizes)} of {len(contents)} labels, {there}" if contents else _UNREAD))
    wrong: list[str] = []
    try:
        lines += filter(None, [sessions_note(cohort.rows.values())])
    except CohortError as error:
        wrong.append(f"sessions: {error.message}")
    if cohort.has_instances:
        lines.append(f"objects told apart: {sum(found.objects for found in contents)}")
    if tests := sum(row.test for row in cohort.rows.values()):
        lines.append(f"kept for a test: {tests}")
    folds: list[list[int]] = []
    doubtful: list[str] = []
    try:
        stated = cohort.folds()
        notes_of_folds = [tested_patients_note(cohort.rows.values(), stated), _left_out_note(cohort, stated)]
        doubtful = [*doubtful_folds(stated), *filter(None, notes_of_folds)]
        folds = [[len(fold.training), len(fold.validation)] for fold in stated]
        lines.append(f"folds: {', '.join(f'{training}/{validation}' for training, validation in folds)}")
    except CohortError as error:
        if cohort.has_folds:
            wrong.append(error.message)
        else:  # as in a raw folder of nnU-Net
            lines.append(f"folds: {error}")
    measured = {key: ranges[key] for key in cohort.keys if key in ranges}
    intensities = intensity_notes(cohort.channel_names, measured)
    twice = same_voxels({key: digests[key] for key in cohort.keys if key in digests})
    warnings = (*_of_headers(cohort, notes), *_warnings(cohort), *intensities, *twice, *doubtful)
    lines += [f"warning: {warning}" for warning in warnings]
    facts = {
        "folder": str(cohort.folder),
        "cases": len(cohort.keys),
        "labelled": len(cohort.labelled),
        "patients": len({row.patient for row in cohort.rows.values()}),
        "suspect": suspects,
        "channels": list(cohort.channel_names),
        "median_spacing_mm": [round(float(mm), 6) for mm in cohort.median_spacing_mm()],
        "regions": regions,
        "folds": folds,
    }
    return Inspection("\n".join(lines), failed, warnings, tuple(wrong), facts)


def _warnings(cohort: Cohort) -> tuple[str, ...]:
    """What is doubtful about a cohort whose files can be read, in the order of its table."""
    rows = cohort.rows.values()
    return (
        *_of_table(cohort),
        *_of_source(cohort),
        *_of_other_rows(cohort),
        *filter(None, [cohort_note(cohort), patients_note(rows), _order_note(cohort), units_note(rows)]),
        *size_warnings(rows, alone=True),  # what is doubtful by itself is told by the headers
    )


def _left_out_note(cohort: Cohort, folds: Sequence[Fold]) -> str | None:
    """A warning if labelled cases are in no fold, such as those that `volseg adopt` gave a label."""
    there = {key for fold in folds for key in (*fold.training, *fold.validation)}
    rows = (cohort.rows[key] for key in sorted(cohort.labelled.difference(there)))
    left = [row.key for row in rows if not (row.suspect or row.test)]
    if not left:
        return None
    return (
        f"{len(left)} labelled cases are in no fold ({first_names(left)}), so that no training takes them; draw folds "
        "anew with `volseg split`"
    )


def _order_note(cohort: Cohort) -> str | None:
    """What is doubtful about the order of sessions, or wrong with it."""
    try:
        return order_note(cohort.rows.values())
    except CohortError as error:
        return error.message


def _of_source(cohort: Cohort) -> list[str]:
    """What the conversion left out that concerns no case."""
    told = read_dataset_json(cohort.folder).get("volseg", {})
    return [str(warning) for warning in told.get("warnings", [])] if isinstance(told, dict) else []


def _of_table(cohort: Cohort) -> list[str]:
    """The warnings of `cases.csv`, each once, with the number of its cases and the first of their keys."""
    told = _each_once(cohort, {row.key: row.warnings for row in cohort.rows.values()})
    if len(told) <= _TOLD_WARNINGS:
        return told
    return [*told[:_TOLD_WARNINGS], f"{len(told) - _TOLD_WARNINGS} more warnings in {cohort.folder / 'cases.csv'}"]


def _of_other_rows(cohort: Cohort) -> list[str]:
    """A warning if `cases.csv` lacks cases and has rows of none: they may be the same under another name."""
    table = cohort.folder / "cases.csv"
    rows = [row.key for row in read_table(table)] if table.is_file() else []
    restored = restored_keys(rows, cohort.rows)
    others = [key for key in rows if key not in cohort.rows and key not in restored]
    lacking = sorted(set(cohort.rows).difference(rows, restored.values()))
    if not (others and lacking):
        return []
    return [
        f"cases.csv has no row of {first_names(lacking)}, whose patients are those that their keys tell, and rows of "
        f"{first_names(others)}, which are no cases: if they are the same, put the keys back"
    ]


def _of_headers(cohort: Cohort, notes: Mapping[str, Sequence[str]]) -> list[str]:
    """What the headers of the files leave in doubt, by key, where the table does not say it already."""
    known = {key: row.warnings for key, row in cohort.rows.items()}
    return _each_once(
        cohort, {key: [note for note in notes[key] if note not in known[key]] for key in cohort.keys if key in notes}
    )


def _each_once(cohort: Cohort, warnings: Mapping[str, Sequence[str]]) -> list[str]:
    """The warnings of cases by key, each once, with the number of its cases and the first of their keys."""
    keys: dict[str, list[str]] = {}
    for key, told in warnings.items():
        for warning in told:
            keys.setdefault(warning, []).append(key)
    return [
        f"{warning}: in {len(found)} of {len(cohort.rows)} cases ({', '.join(found[:3])}{', ...' * (len(found) > 3)})"
        for warning, found in keys.items()
    ]


@dataclass(frozen=True)
class _Content:
    """Volume in ml of each region of a labelled case (area in mm2 where every case is one slice), and its objects."""

    sizes: dict[str, float]
    objects: int


def _inspect(
    cohort: Cohort,
    key: str,
    notes: dict[str, tuple[str, ...]],
    ranges: dict[str, dict[int, ChannelRange]],
    digests: dict[str, list[object]],
) -> _Content | VolsegError | None:
    """What a case holds, None where it has no label, or what is wrong with it; notes, ranges, digests are written."""
    try:
        with telling_memory():
            return _content(cohort, key, notes, ranges, digests)
    except VolsegError as error:
        return error


def _content(
    cohort: Cohort,
    key: str,
    notes: dict[str, tuple[str, ...]],
    ranges: dict[str, dict[int, ChannelRange]],
    digests: dict[str, list[object]],
) -> _Content | None:
    """As `_inspect`; one volume after the other is in memory, and of images seen only their grids stay."""
    grids: list[Volume] = []
    of_channels: dict[int, ChannelRange] = {}
    facts: list[object] = []
    for number, path in enumerate(cohort.image_paths(key)):
        volume = read_volume(path)
        if volume.voxels.dtype.kind == "f" and not all(np.isfinite(one).all() for one in _slabs(volume.voxels)):
            raise VolumeError("the image holds NaN or infinity; replace them by the background's value")
        of_channels[number] = range_of(volume.voxels)
        facts += [volume.shape, voxels_digest(volume.voxels)]
        grids.append(Volume(np.broadcast_to(volume.voxels.dtype.type(0), volume.shape), volume.affine_ras))
        del volume
    ranges[key], digests[key] = of_channels, facts
    label_path = cohort.label_path(key)
    label = read_volume(label_path) if label_path else None
    objects_path = cohort.instances_path(key)
    objects = read_volume(objects_path) if objects_path else None
    try:
        # Other programs give keys that a conversion would not.
        case = Case("case", "", "", tuple(grids), label, "", (), objects)
    except GeometryError as error:
        raise VolumeError(f"the files of the case lie on different grids: {error.message}") from error
    notes[key] = (*case.warnings, *([_OTHER_ROW] if _is_other(cohort.rows[key], grids[0]) else []))
    label, objects = case.label, case.instances
    if label is None:
        return None
    checked = cohort.labels.check(label.voxels)
    if objects is None and cohort.has_instances:  # in this order: the second lists a folder
        raise CohortError("the case must have a map of objects as others have, got none; convert it again")
    unseen = cohort.labels.ignored(checked)  # where nobody looked there may be an object or none
    counted = True if unseen is None else ~unseen
    if objects is not None and (((objects.voxels != 0) != (checked != 0)) & counted).any():
        raise CohortError("the map of objects marks other voxels than the label; convert the case again")
    thickness = math.prod(mm for mm, n in zip(label.spacing_mm, label.shape, strict=True) if n == 1)
    unit = 1000 / thickness if cohort.flat else 1.0
    voxel_ml = unit * label.voxel_ml
    sizes = {name: voxel_ml * count for name, count in cohort.labels.voxels_of_regions(checked).items()}
    return _Content(sizes, 0 if objects is None else len(np.unique(objects.voxels[objects.voxels != 0])))


def _is_other(row: CaseRow, image: Volume) -> bool:
    """Whether a row of the table, by which trainings are planned, is of another grid than the file now has."""
    near = np.allclose(row.spacing_mm, image.spacing_mm, rtol=1e-3, atol=0)
    return tuple(row.shape) != tuple(image.shape) or not near


def _few_digits(size: float) -> str:
    """A volume or an area with one decimal, a small one with two digits, so that it does not read as none."""
    return f"{size:.1f}" if size >= 0.1 else f"{size:.2g}"


def _slabs(voxels: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Slabs of about a million voxels along the slowest axis, so that what is computed of them stays small."""
    axis = int(np.argmax(voxels.strides))
    step = max(1, _SLAB_VOXELS * voxels.shape[axis] // voxels.size)
    for first in range(0, voxels.shape[axis], step):
        yield voxels[(slice(None),) * axis + (slice(first, first + step),)]
