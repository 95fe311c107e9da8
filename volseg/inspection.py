"""Reading every file of a cohort to find what training would stumble over."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from volseg.cohort import Cohort
from volseg.errors import CohortError, VolsegError, VolumeError
from volseg.geometry import space_difference
from volseg.metrics.overlap import volume_ml
from volseg.volume import read_volume


@dataclass(frozen=True)
class Inspection:
    """What was found: a text for people, and the error of each failed case."""

    text: str
    failed: dict[str, str]


def inspect_cohort(
    cohort: Cohort, *, workers: int = 2, progress: Callable[[int, int], None] | None = None
) -> Inspection:
    """Read each image and label: same grid, finite voxels, declared values, and folds that keep patients apart.

    Args:
        cohort: opened, so its files already match by name.
        workers: threads.
        progress: called with (done, total).
    """
    failed: dict[str, str] = {}
    volumes: list[dict[str, float]] = []
    with ThreadPoolExecutor(workers) as pool:
        for done, (key, found) in enumerate(pool.map(lambda key: (key, _inspect(cohort, key)), cohort.keys), start=1):
            if isinstance(found, VolsegError):
                failed[key] = found.message
            elif found:
                volumes.append(found)
            if progress:
                progress(done, len(cohort.keys))
    suspects = [row.key for row in cohort.rows.values() if row.suspect]
    spacing = " x ".join(f"{mm:g}" for mm in cohort.median_spacing_mm())
    lines = [
        f"{cohort.folder}: {len(cohort.keys)} cases, {len(cohort.labelled)} with labels, "
        f"{len({row.patient for row in cohort.rows.values()})} patients, {len(suspects)} suspect",
        f"channels {', '.join(cohort.channel_names)}; median spacing {spacing} mm",
    ]
    for name in cohort.labels.names:
        sizes = [found[name] for found in volumes if found[name] > 0]
        there = f"median {np.median(sizes):.1f} ml" if sizes else "in no case"
        lines.append(f"  {name}: in {len(sizes)} of {len(volumes)} labels, {there}")
    try:
        lines.append(f"folds: {', '.join(f'{len(f.training)}/{len(f.validation)}' for f in cohort.folds())}")
    except CohortError as error:
        lines.append(f"folds: {error}")
    return Inspection("\n".join(lines), failed)


def _inspect(cohort: Cohort, key: str) -> dict[str, float] | VolsegError:
    """Volume in ml of each region of one case, or what is wrong with it."""
    try:
        first, *others = [read_volume(path) for path in cohort.image_paths(key)]
        for volume in (first, *others):
            if not np.isfinite(volume.voxels).all():
                raise VolumeError("the image holds NaN or infinity; replace them by the background's value")
        label_path = cohort.label_path(key)
        label = read_volume(label_path) if label_path else None
        for volume in (*others, *([label] if label else [])):
            difference = space_difference(first.shape, first.affine_ras, volume.shape, volume.affine_ras)
            if difference:
                raise VolumeError(f"the files of the case lie on different grids: {difference}")
        if label is None:
            return {}
        masks = cohort.labels.masks(cohort.labels.check(label.voxels))
        return {name: volume_ml(mask, label.spacing_mm) for name, mask in zip(cohort.labels.names, masks, strict=True)}
    except VolsegError as error:
        return error
