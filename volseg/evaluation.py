"""Evaluation: prediction and reference files, paired by key, become one row of metrics a case and region."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.cohort import FILE_ENDING, Cohort, read_dataset_json
from volseg.errors import CohortError, GeometryError, LabelError, SourceError, UsageError, VolsegError
from volseg.geometry import Affine, space_difference
from volseg.labels import LabelMap, LabelTable
from volseg.metrics.effort import (
    MINUTES_PER_METRE,
    POINT_RULES,
    added_path_length_mm,
    slices_to_correct,
    time_saved,
)
from volseg.metrics.objects import (
    count_contours,
    count_holes,
    match_objects,
)
from volseg.metrics.overlap import (
    Mask,
    dice,
    jaccard,
    outcome,
    precision,
    recall,
    volume_ml,
)
from volseg.metrics.surface import (
    READING_NOTES,
    READINGS,
    TOLERANCE_MM,
    Reading,
    bounding_box,
    surface_distances,
)
from volseg.metrics.uw_madison import uw_madison_score
from volseg.row import METRICS as METRICS  # with its row: who evaluates needs them
from volseg.row import Metric as Metric
from volseg.row import Row as Row
from volseg.volume import Volume, read_volume

# Cosine between two axes; beyond it a distance taken from the spacing is no longer the distance in space.
_SHEAR = 1e-3


@dataclass(frozen=True)
class Method:
    """How the numbers of an evaluation were made, as far as that is a choice; it travels with them into the report.

    Attributes:
        tolerance_mm: of surface Dice and of the slices to correct.
        reading: of HD95, surface Dice and the mean surface distance.
        minutes_per_metre: of contour drawn by hand.
        objects: whether objects and holes are counted, which takes longer.

    Raises:
        UsageError: a number that cannot be, or no such reading.
    """

    tolerance_mm: float = TOLERANCE_MM
    reading: Reading = "directed"
    minutes_per_metre: float = MINUTES_PER_METRE
    objects: bool = False

    def __post_init__(self) -> None:
        for name, value in (("tolerance", self.tolerance_mm), ("minutes per metre", self.minutes_per_metre)):
            if not (math.isfinite(value) and value >= 0):
                raise UsageError(f"the {name} is {value}, expected a number of 0 or more")
        if self.reading not in READINGS:
            raise UsageError(f"the reading of HD95 is {self.reading!r}, expected one of {', '.join(READINGS)}")

    @property
    def details(self) -> dict[str, str]:
        """What the reader of a report must know, by name.

        >>> Method(tolerance_mm=2).details["Tolerance"]
        '2 mm, of surface Dice and slices to correct'
        """
        return {
            "HD95 reading": READING_NOTES[self.reading],
            "Tolerance": f"{self.tolerance_mm:g} mm, of surface Dice and slices to correct",
            "Time to correct": f"{self.minutes_per_metre:g} minutes a metre of added path length (an assumption)",
        }


STANDARD = Method()


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
        _region, key, cohort.patient(key), image_shape=reference.shape, spacing_mm=reference.spacing_mm, method=method
    )
    return [score(name, guess, truth) for name, guess, truth in zip(cohort.labels.names, guesses, truths, strict=True)]


def _region(
    key: str,
    patient: str,
    region: str,
    guess: Mask,
    truth: Mask,
    *,
    image_shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    method: Method,
) -> Row:
    """The row of one region; `guess` and `truth` are cropped to one box of the image."""
    box = bounding_box(guess, truth)
    guess, truth = guess[box], truth[box]
    surfaces = surface_distances(guess, truth, spacing_mm, reading=method.reading)
    rule = POINT_RULES.get(region)
    saved = time_saved(guess, truth, rule, slices=image_shape[2]) if rule else None
    path_mm = added_path_length_mm(guess, truth, spacing_mm)
    row = Row(
        key,
        patient,
        region,
        dice=_number(dice(guess, truth)),
        hd95_mm=_number(surfaces.hausdorff_mm(95)),
        reference_ml=volume_ml(truth, spacing_mm),
        predicted_ml=volume_ml(guess, spacing_mm),
        outcome=outcome(guess, truth),
        surface_dice=_number(surfaces.surface_dice(method.tolerance_mm)),
        mean_surface_distance_mm=_number(surfaces.mean_mm()),
        hausdorff_mm=_number(surfaces.hausdorff_mm(100)),
        jaccard=_number(jaccard(guess, truth)),
        precision=_number(precision(guess, truth)),
        recall=_number(recall(guess, truth)),
        uw_madison_score=_number(uw_madison_score(guess, truth, image_shape=image_shape)),
        added_path_length_mm=path_mm,
        slices_to_correct=slices_to_correct(guess, truth, spacing_mm, tolerance_mm=method.tolerance_mm),
        correction_minutes=path_mm / 1000 * method.minutes_per_metre,
        time_saved=saved.points if saved else None,
        time_saved_from_empty=saved.from_empty if saved else None,
    )
    return _with_objects(row, guess, truth, image_shape) if method.objects else row


def _with_objects(row: Row, guess: Mask, truth: Mask, image_shape: tuple[int, int, int]) -> Row:
    thin = tuple(axis for axis, side in enumerate(image_shape) if side == 1)
    guess, truth = (
        np.logical_or.reduce(mask, axis=thin) for mask in (guess, truth)
    )  # in an image of one slice a ring encloses its inside
    objects = match_objects(guess, truth)
    return replace(
        row,
        reference_objects=objects.reference,
        predicted_objects=objects.predicted,
        matched_objects=objects.matched,
        object_f1=_number(objects.f1),
        reference_contours=count_contours(truth),
        predicted_contours=count_contours(guess),
        reference_holes=count_holes(truth),
        predicted_holes=count_holes(guess),
    )


def _number(value: float) -> float | None:
    """None where undefined."""
    return None if math.isnan(value) else value


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
