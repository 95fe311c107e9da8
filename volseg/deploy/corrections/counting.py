"""What a correction changed, region by region, for `corrections.csv`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from volseg.cohort import Correction, label_digest
from volseg.labels import LabelTable
from volseg.metrics import added_path_length_mm
from volseg.volume import Volume, aligned, slice_axis


def correction_rows(
    label: Volume,
    labels: LabelTable,
    before: tuple[str, Volume | None],
    *,
    key: str,
    number: int,
    minutes: float | None,
) -> list[Correction]:
    """What changed, region by region; what nobody looked at does not count."""
    began, former = before
    ignored = labels.ignored(label.voxels)
    old = np.zeros(label.shape, np.uint8) if former is None else labels.check(aligned(former, label.grid)[0].voxels)
    if ignored is not None:
        old = np.where(ignored, np.uint8(0), old)
    axis = slice_axis(label.affine_ras, label.shape)
    others = tuple(one for one in range(3) if one != axis)
    rows = []
    pairs = zip(labels.names, labels.each_mask(old), labels.each_mask(label.voxels), strict=True)
    for name, was, now in pairs:
        changed = was != now
        rows.append(
            Correction(
                round=number,
                key=key,
                region=name,
                ml=float(now.sum()) * label.voxel_ml,
                changed_ml=float(changed.sum()) * label.voxel_ml,
                added_path_mm=added_path_length_mm(was, now, label.spacing_mm, slice_axis=axis, unseen=ignored),
                voxels=int(changed.sum()),
                slices=int(changed.any(axis=others).sum()),
                case_minutes=minutes,
                before=began,
                digest_before="" if former is None else label_digest(former),
                digest_after=label_digest(label),
            )
        )
    return rows


def emptied(rows: Sequence[Correction], label: Volume, labels: LabelTable, former: Volume | None) -> list[str]:
    """Regions that are empty now and were not before."""
    if former is None:
        return []
    old = labels.each_mask(labels.check(former.voxels))
    return [
        f"{row.region} is empty now; it had {mask.sum() * label.voxel_ml:.3g} ml"
        for row, mask in zip(rows, old, strict=True)
        if row.ml == 0 and mask.any()
    ]


def unseen_notes(
    label: Volume, labels: LabelTable, *, seen: Volume, began: Volume | None, there: Volume | None
) -> list[str]:
    """What is to be known of voxels that nobody looked at: drawn on all the same, or looked at from now on.

    Args:
        label: Label map that is adopted, with the voxels to be ignored.
        labels: Its label table.
        seen: The same with what was drawn there.
        began: Label map that the person began from.
        there: Label map of the cohort so far.
    """
    notes = []
    ignored = labels.ignored(label.voxels)
    if ignored is not None:
        old = np.uint8(0) if began is None else labels.check(aligned(began, label.grid)[0].voxels)
        drawn = ignored & (seen.voxels != np.where(old == labels.ignore, np.uint8(0), old))
        if count := int(drawn.sum()):
            notes.append(f"{count} voxels were drawn anew where it is marked to be ignored; they do not count")
    former = None if there is None else labels.ignored(aligned(there, label.grid)[0].voxels)
    if former is not None:
        shown = former if ignored is None else former & ~ignored
        if count := int(shown.sum()):
            notes.append(f"{count} voxels that were to be ignored count as looked at from now on")
    return notes


def taken_back(label: Volume, labels: LabelTable, *, there: Volume, shown: Volume) -> list[str]:
    """What is to be known of an edit that takes an earlier correction back: another reader began from the prediction.

    Args:
        label: Label map that is adopted.
        labels: Its label table.
        there: Label map of the cohort so far, which was corrected.
        shown: Prediction that was written out.
    """
    before, predicted = (aligned(one, label.grid)[0].voxels for one in (there, shown))
    corrected = before != predicted
    if (ignored := labels.ignored(before)) is not None:
        corrected &= ~ignored
    lost = int((corrected & (label.voxels == predicted)).sum())
    if not lost or 2 * lost < int(corrected.sum()):
        return []
    return [
        f"{lost} of the {int(corrected.sum())} voxels that an earlier correction changed are as predicted again: "
        "this edit began from the prediction, and not from that correction"
    ]
