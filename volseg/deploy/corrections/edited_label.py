"""An edited file as a label map of the cohort: read by name, placed exactly, and refused where something is open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from volseg.cohort import Cohort, read_dataset_json
from volseg.deploy.corrections.answers import Answers, question
from volseg.deploy.corrections.edits import Edit
from volseg.deploy.corrections.todo import image_digest
from volseg.dicom import is_dicom, read_object_masks
from volseg.errors import GeometryError, LabelError
from volseg.formats import (
    SEGMENTATION_SUFFIX,
    NamedMasks,
    encode_exactly,
    encode_named,
    find_table,
    names_in_header,
    pair_names,
    read_named_masks,
    read_table_names,
    slices_as_mask,
    under_old_names,
)
from volseg.labels import Code, LabelTable, fold_name
from volseg.volume import Grid, Volume, aligned, read_grid, read_volume


@dataclass(frozen=True)
class Naming:
    """What the values of label maps mean that do not say it themselves.

    Attributes:
        table: Table of names (colour table, label description, dseg.tsv).
        values_as: Label table whose values they are.
        secret: Secret of the records of DICOM series.
    """

    table: Path | None = None
    values_as: LabelTable | None = None
    secret: str = ""


def read_edit(edit: Edit, image: Volume, naming: Naming, *, regions: Sequence[str]) -> NamedMasks:
    """Read the masks of an edited file by name.

    Args:
        edit: The file.
        image: Image of the case, on whose grid a DICOM object is drawn.
        naming: What the values of a label map mean that does not say it itself.
        regions: Names of the cohort's regions.

    Raises:
        VolsegError: The file is damaged, of another patient, or does not say what its values mean.
    """
    path = edit.path
    if is_dicom(path):
        found = read_object_masks(path, image.grid, secret=naming.secret)
        return NamedMasks(found.masks, found.codes, image.affine_ras, found.notes)
    if path.name.endswith(SEGMENTATION_SUFFIX):
        return read_named_masks(path, regions=regions)
    if naming.table is not None:
        return read_named_masks(path, read_table_names(naming.table), regions=regions)
    if naming.values_as is not None:
        return read_named_masks(path, table=naming.values_as)
    if edit.names:
        return read_named_masks(path, edit.names, regions=regions)
    table = find_table(path.parent)
    if table is None and (path.parent / "dataset.json").is_file():
        labels = LabelTable.from_dataset_json(read_dataset_json(path.parent))
        for value, name in names_in_header(path).items():
            if name not in [region.name for region in labels.regions if value in region.values]:
                raise LabelError(f"the header of {path.name} calls the value {value} {name}, and dataset.json does not")
        return read_named_masks(path, table=labels)
    try:
        return read_named_masks(path, None if table is None else read_table_names(table), regions=regions)
    except LabelError as error:
        if table is None and not names_in_header(path):
            raise LabelError(
                f"{path.name} does not say what its values mean; save it as KEY{SEGMENTATION_SUFFIX}, give a table "
                "with --table, or say --values-as-in COHORT"
            ) from error
        raise


def check_place(named: NamedMasks, key: str, cohort: Cohort, image: Volume) -> None:
    """Refuse a segmentation on the very grid of another case's image.

    Raises:
        GeometryError: It is.
    """
    grid = named.grid
    if image.grid.difference(grid) is None:
        return
    for other, row in cohort.rows.items():
        if other == key or row.shape != grid.shape:
            continue
        shape, affine = read_grid(cohort.image_paths(other)[0])
        if Grid((shape[0], shape[1], shape[2]), affine).difference(grid) is None:
            raise GeometryError(
                f"it lies on the grid of the image of {other}, not on that of {key}; it was drawn on another image"
            )


def check_image(named: NamedMasks, key: str, cohort: Cohort, image: Volume) -> list[str]:
    """Refuse a segmentation that was written out for another case's image; what is to be known if the image is none.

    Segments bear the digest of the image that they were written out for, and keep it where programs edit them.

    Raises:
        GeometryError: It is.
    """
    stated = set(named.images.values())
    own = image_digest(image) if stated else ""
    if not stated - {own}:
        return []
    if own in stated:
        copied = [name for name, digest in named.images.items() if digest != own]
        return [f"{', '.join(copied)} was copied from the segmentation of another image; look whether it lies right"]
    for other, row in cohort.rows.items():
        if other == key or row.shape != image.shape:
            continue
        if image_digest(read_volume(cohort.image_paths(other)[0])) in stated:
            raise GeometryError(
                f"it was written out for the image of {other}, not for that of {key}; save it under the name of its "
                "own case"
            )
    return ["it was written out for an image that is no longer in the cohort; look whether it lies right"]


def edited_label(
    named: NamedMasks, labels: LabelTable, image: Volume, before: Volume | None, answers: Answers
) -> tuple[Volume, list[str]]:
    """The edited label map without what is to be ignored, and what is to be known of it."""
    read = named
    named = under_old_names(named, labels, answered=(*answers.take, *answers.drop))
    masks = _renamed(named.masks, answers)
    if not any(mask.any() for mask in masks.values()) and not answers.empty:
        raise LabelError(
            "all its segments are empty; was it saved before the segmentation was loaded? --allow-empty takes it"
        )
    codes = {name: named.codes.get(name) for name in masks}
    pairs = _pairs(labels, codes)
    missing = [name for name in labels.names if name not in pairs]
    extra = [name for name in masks if name not in pairs.values()]
    if (missing and answers.missing == "ask") or extra:
        raise question(missing if answers.missing == "ask" else (), extra)
    kept = replace(named, masks=masks)
    contradictions = _contradictions(labels, pairs, codes)
    label, notes = encode_named(kept, labels, pairs, image, resample=answers.resample)
    if not label.voxels.any() and any(mask.any() for mask in masks.values()):
        raise GeometryError("all of it lies outside the image; it was drawn on another one, or saved under a transform")
    notes += named.notes[len(read.notes) :]
    notes += contradictions
    notes += [
        f"the segment {own} was taken for {name}, which has the same code"
        for name, own in pairs.items()
        if fold_name(own) != fold_name(name)
    ]
    former = None if before is None else labels.masks(labels.check(aligned(before, image.grid)[0].voxels))
    if missing and answers.missing == "keep":
        joined = labels.masks(label.voxels)
        for name in missing:
            place = labels.names.index(name)
            joined[place] = False if former is None else former[place]
        label = Volume(encode_exactly(labels, joined), image.affine_ras)
    if missing:
        notes.append(f"{', '.join(missing)} {'kept as before' if answers.missing == 'keep' else 'taken for absent'}")
    if former is not None and not named.layered and not answers.flat:
        crowded = int((former.sum(axis=0) > 1).sum())
        if crowded and not (labels.masks(label.voxels).sum(axis=0) > 1).any():
            raise LabelError(
                f"a label map holds no overlap, and {crowded} voxels belonged to several regions before; save it as "
                f"KEY{SEGMENTATION_SUFFIX}, or say --flat to take it as it is"
            )
    if (
        former is not None
        and former.any()
        and label.voxels.any()
        and not (former.any(axis=0) & (label.voxels > 0)).any()
    ):
        notes.append("it has no voxel in common with what was there before; look whether it is of this case")
    return label, notes


def _renamed(masks: Mapping[str, NDArray[np.bool_]], answers: Answers) -> dict[str, NDArray[np.bool_]]:
    """The masks by the names that a person gave them, without those left out and what is to be ignored."""
    renamed: dict[str, NDArray[np.bool_]] = {}
    for name, mask in masks.items():
        if answers.drops(name) or fold_name(name) == LabelTable.IGNORE:
            continue
        new = answers.take.get(name, name)
        if new in renamed:
            raise LabelError(f"two segments are {new} now; leave one out with --drop")
        renamed[new] = mask
    if not renamed:
        raise LabelError("it holds no segment of a region")
    return renamed


def _pairs(labels: LabelTable, codes: Mapping[str, Code | None]) -> dict[str, str]:
    try:
        return pair_names(labels, codes)
    except LabelError:
        ours = {fold_name(name) for name in labels.names}
        if any(fold_name(name) in ours for name in codes) or not all(codes):
            raise
        return {}


def _contradictions(labels: LabelTable, pairs: Mapping[str, str], codes: Mapping[str, Code | None]) -> list[str]:
    """Segments that have the name of one region and the code of another one alone."""
    owners: dict[tuple[str, str], list[str]] = {}
    for region in labels.regions:
        owners.setdefault((region.code.scheme, region.code.value), []).append(region.name)
    notes = []
    for name, own in pairs.items():
        code = codes.get(own)
        others = [] if code is None else owners.get((code.scheme, code.value), [])
        if fold_name(own) == fold_name(name) and len(others) == 1 and others[0] != name:
            notes.append(f"the segment {own} bears the code of {others[0]}; its name decided, look whether it is right")
    return notes


def with_ignored(
    label: Volume,
    named: NamedMasks,
    labels: LabelTable,
    image: Volume,
    slices: Sequence[int],
    answers: Answers,
) -> tuple[Volume, int | None]:
    """The label map with the voxels that nobody looked at, and their value; None if there are none."""
    mask = np.zeros(image.shape, dtype=np.bool_)
    own = next((name for name in named.masks if fold_name(name) == LabelTable.IGNORE), None)
    if own is not None and not answers.drops(own):
        marked = LabelTable.exclusive(["marked"])
        one = replace(named, masks={"marked": named.masks[own]})
        mask |= encode_named(one, marked, {"marked": "marked"}, image, resample=answers.resample)[0].voxels > 0
    if slices:
        mask |= slices_as_mask(slices, image.grid)
    if not mask.any():
        return label, None
    if mask.all():
        raise LabelError("all of it is marked to be ignored; there is nothing to learn from it")
    value = labels.values[-1] + 1 if labels.ignore is None else labels.ignore
    if value > 255:
        raise LabelError("the label table uses the value 255, so that none is left for what is to be ignored")
    return Volume(np.where(mask, np.uint8(value), label.voxels), label.affine_ras), value
