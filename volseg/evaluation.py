"""Evaluation: prediction and reference files, paired by key, become one row of metrics a case and region."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.cohort import FILE_ENDING, INSTANCES, Cohort, read_dataset_json
from volseg.errors import CohortError, GeometryError, LabelError, SourceError, UsageError, VolsegError
from volseg.geometry import Affine, space_difference
from volseg.labels import LabelMap, LabelTable
from volseg.method import STANDARD as STANDARD  # with its method: who evaluates needs them
from volseg.method import Method as Method
from volseg.metrics.surface import bounding_box
from volseg.region_row import Instances, region_row
from volseg.row import METRICS as METRICS  # and its rows
from volseg.row import Metric as Metric
from volseg.row import Row as Row
from volseg.volume import Volume, read_volume

# Cosine between two axes; beyond it a distance taken from the spacing is no longer the distance in space.
_SHEAR = 1e-3


def evaluate(
    predictions: Path,
    cohort: Cohort,
    *,
    keys: Sequence[str] | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    method: Method = STANDARD,
) -> list[Row]:
    """Score the predictions of a folder against the references of a cohort, paired by key.

    A case that cannot be scored (no prediction, no reference, unreadable, another grid, an undeclared value) is one
    row with its error and no number.

    Args:
        predictions: folder of label maps `KEY.nii.gz` with the cohort's values, on the grid of the case.
        cohort: holds the references.
        keys: the cases that must have a prediction; None for every prediction in the folder.
        workers: cases scored, and held in memory, at once.
        progress: called after each case with the number of cases done and of all.
        method: the choices among readings, tolerances and what is computed.

    Returns:
        One row a case and region, in the order of the keys (sorted where `keys` is None) and of the label table.

    Raises:
        UsageError: no such folder, no prediction in it, a key given twice, or fewer than one worker.
    """
    predictions = Path(predictions)
    if not predictions.is_dir():
        raise UsageError(f"{predictions} is no folder; name the folder that holds the predictions KEY{FILE_ENDING}")
    if workers < 1:
        raise UsageError(f"{workers} workers were asked for, expected at least 1")
    if keys is None:
        keys = predicted_keys(predictions)
        if not keys:
            raise UsageError(f"{predictions} holds no prediction KEY{FILE_ENDING}")
    repeated = [key for key, times in Counter(keys).items() if times > 1]
    if repeated:
        raise UsageError(f"the keys {repeated} are given more than once; a case counts once")
    known = frozenset(cohort.keys)

    def rows_of(key: str) -> list[Row]:
        return _rows(key, predictions, cohort, known, method)

    rows: list[Row] = []
    with ThreadPoolExecutor(workers) as pool:
        for done, of_case in enumerate(pool.map(rows_of, keys), start=1):
            rows += of_case
            if progress is not None:
                progress(done, len(keys))
    return rows


def check_labels(predictions: Path, cohort: Cohort) -> None:
    """Refuse predictions whose own `dataset.json` states another label table; without one, values decide.

    Raises:
        LabelError: with both tables.
    """
    if not (predictions / "dataset.json").is_file():
        return
    table = LabelTable.from_dataset_json(read_dataset_json(predictions))
    if table.digest != cohort.labels.digest:
        raise LabelError(
            f"the predictions in {predictions} are of {list(table.names)}, the cohort has {list(cohort.labels.names)}, "
            "or the same names with other values; evaluate against the cohort the network was trained on"
        )


def predicted_keys(folder: Path) -> list[str]:
    """The keys of the predictions in a folder, sorted."""
    names = (path.name for path in folder.iterdir() if path.is_file())
    return sorted(
        name.removesuffix(FILE_ENDING) for name in names if name.endswith(FILE_ENDING) and not name.startswith(".")
    )


def _rows(key: str, predictions: Path, cohort: Cohort, known: frozenset[str], method: Method) -> list[Row]:
    """The rows of one case, or the one row that says why there are none."""
    patient = cohort.patient(key) if key in known else ""
    try:
        return score_case(key, predictions, cohort, known=known, method=method)
    except VolsegError as error:
        return [Row(key, patient, "", error=error.message)]


def score_case(key: str, predictions: Path, cohort: Cohort, *, known: frozenset[str], method: Method) -> list[Row]:
    """The rows of one case, one a region.

    Args:
        key: of the case.
        predictions: folder of label maps.
        cohort: holds the references.
        known: the keys of the cohort.
        method: of the numbers.

    Raises:
        VolsegError: why the case cannot be scored.
    """
    if key not in known:
        raise CohortError(
            f"the cohort {cohort.folder.name} has no case of this key; name the prediction after its case"
        )
    path = predictions / f"{key}{FILE_ENDING}"
    if not path.is_file():
        raise SourceError(f"there is no prediction {path.name}; run the prediction of this case")
    reference_path = cohort.label_path(key)
    if reference_path is None:
        raise CohortError("the case has no reference label, so its prediction cannot be scored")
    reference, predicted = _read("reference", reference_path), _read("prediction", path)
    difference = space_difference(reference.shape, reference.affine_ras, predicted.shape, predicted.affine_ras)
    if difference:
        raise GeometryError(
            f"the prediction is not on the reference's grid: {difference}; write it on the grid of the case's image"
        )
    _check_right_angles(reference.affine_ras)
    # Outside the box both are 0, so what is found inside it holds for the whole grid.
    box = bounding_box(reference.voxels != 0, predicted.voxels != 0)
    truths = cohort.labels.masks(_checked("reference", reference.voxels[box], cohort.labels))
    guesses = cohort.labels.masks(_checked("prediction", predicted.voxels[box], cohort.labels))
    score = partial(
        region_row,
        key,
        cohort.patient(key),
        image_shape=reference.shape,
        spacing_mm=reference.spacing_mm,
        method=method,
        instances=_instances(cohort, key, reference)[box] if method.objects and method.instances else None,
    )
    return [score(name, guess, truth) for name, guess, truth in zip(cohort.labels.names, guesses, truths, strict=True)]


def _instances(cohort: Cohort, key: str, reference: Volume) -> Instances:
    """(X, Y, Z), the map of objects of a case."""
    path = cohort.instances_path(key)
    if path is None:
        raise CohortError(
            f"the case has no map of objects in {INSTANCES}, others have; convert it again, or take that folder away"
        )
    objects = _read("map of objects", path)
    difference = space_difference(reference.shape, reference.affine_ras, objects.shape, objects.affine_ras)
    if difference or objects.voxels.dtype.kind not in "iu":
        raise CohortError(f"the map of objects is {difference or objects.voxels.dtype}; convert the case again")
    return objects.voxels


def _read(role: str, path: Path) -> Volume:
    """Read a volume; an error says which of the two files it is about, since both bear the case's name."""
    try:
        return read_volume(path)
    except VolsegError as error:
        raise type(error)(f"the {role}: {error.message}") from error


def _checked(role: str, voxels: NDArray[Any], labels: LabelTable) -> LabelMap:
    try:
        return labels.check(voxels)
    except VolsegError as error:
        raise type(error)(f"the {role}: {error.message}") from error


def _check_right_angles(affine_ras: Affine) -> None:
    axes = affine_ras[:3, :3] / np.linalg.norm(affine_ras[:3, :3], axis=0)
    cosine = float(np.abs(axes.T @ axes - np.eye(3)).max())
    if cosine > _SHEAR:
        raise GeometryError(
            f"the grid's axes are not at right angles (cosine {cosine:.3g}), as with a tilted gantry; distances in mm "
            "would be wrong, resample the case to a straight grid"
        )
