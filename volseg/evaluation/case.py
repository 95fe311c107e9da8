"""Evaluation: prediction and reference files, paired by key, become one row of metrics per case and region."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import repeat
from pathlib import Path

import numpy as np

from volseg.cohort import INSTANCES, Cohort, Predictions, check_unseen, check_values_as, read_volume_as
from volseg.errors import (
    CohortError,
    GeometryError,
    SourceError,
    UsageError,
    VolsegError,
    first_names,
    telling_memory,
)
from volseg.evaluation.region import Instances, score_region
from volseg.evaluation.scores import STANDARD, EvaluationSettings, RegionScores
from volseg.labels import LabelMatch
from volseg.metrics import Mask, bounding_box
from volseg.volume import MAX_SKEW, Affine, Grid, Volume, aligned, read_grid, skew, slice_axis

logger = logging.getLogger(__name__)


def evaluate(
    predictions: Path,
    cohort: Cohort,
    *,
    keys: Sequence[str] | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    method: EvaluationSettings = STANDARD,
    match: LabelMatch | None = None,
    too_large: Mapping[str, str] | None = None,
) -> list[RegionScores]:
    """Score the predictions of a folder against the references of a cohort, paired by key.

    A case that cannot be scored (no prediction, no reference, unreadable, another grid, an undeclared value) is one
    row with its error and no number.

    Args:
        predictions: Folder of label maps `KEY.nii.gz` on the grid of the case. Their values are those of the folder's
            `dataset.json`, whose regions may have any order and values; without one, they are the cohort's.
        cohort: Cohort of the references.
        keys: Keys of the cases that must have a prediction; None (the default) for every prediction in the folder.
        workers: Number of cases scored, and held in memory, at once.
        progress: Function that is called after each case with the number of finished cases and of all.
        method: Settings: the reading of distances, tolerances and what is computed.
        match: Match of the predictions' regions with the cohort's, see `Predictions.match`; None (the default) matches
            by name.
        too_large: Reason for each key of a case that is not read, since it does not fit into the memory.

    Returns:
        One row per case and region, in the order of the keys (sorted if `keys` is None) and of the label table. Regions
        that the predictions do not have get no rows.

    Raises:
        UsageError: There is no such folder or no prediction in it, a key is given twice, or there is no worker; or a
            case was predicted by a network that was adapted on it or on a later session.
        LabelError: The predictions have no region of the cohort.
    """
    there = Predictions.open(predictions)
    shared = there.match(cohort) if match is None else match
    if workers < 1:
        raise UsageError(f"the number of workers must be at least 1, got {workers}; give another one")
    if keys is None:
        keys = there.some_keys()
    repeated = [key for key, times in Counter(keys).items() if times > 1]
    if repeated:
        raise UsageError(f"each key must be given once, got {repeated} more than once; a case counts once")
    check_unseen(predictions, cohort, keys)
    known = frozenset(cohort.keys)
    notes: dict[str, tuple[str, ...]] = {}

    def rows_of(key: str) -> list[RegionScores]:
        if too_large and key in too_large:
            return [RegionScores(key, cohort.patient(key), "", error=too_large[key])]
        return _rows(key, there.folder, cohort, known, method, shared, notes)

    rows: list[RegionScores] = []
    with ThreadPoolExecutor(workers) as pool:
        for done, of_case in enumerate(pool.map(rows_of, keys), start=1):
            rows += of_case
            if progress is not None:
                progress(done, len(keys))
    tell_notes(notes, cases=len(keys))
    return rows


def tell_notes(notes: Mapping[str, Sequence[str]], *, cases: int) -> None:
    """Warn of what was decided about the grids of predictions, each note once, with the cases that it concerns.

    Args:
        notes: Notes by case key.
        cases: Number of all cases.
    """
    keys: dict[str, list[str]] = {}
    for key in sorted(notes):
        for note in notes[key]:
            keys.setdefault(note, []).append(key)
    for note, found in keys.items():
        logger.warning(
            "warning: the prediction: %s: in %d of %d cases (%s)", note, len(found), cases, first_names(found)
        )


def _rows(
    key: str,
    predictions: Path,
    cohort: Cohort,
    known: frozenset[str],
    method: EvaluationSettings,
    match: LabelMatch,
    notes: dict[str, tuple[str, ...]],
) -> list[RegionScores]:
    """The rows of one case, or the single row with the reason why there are none; its notes are written."""
    patient = cohort.patient(key) if key in known else ""
    try:
        with telling_memory():
            return score_case(key, predictions, cohort, known=known, method=method, match=match, notes=notes)
    except VolsegError as error:
        return [RegionScores(key, patient, "", error=error.message)]


def score_case(
    key: str,
    predictions: Path,
    cohort: Cohort,
    *,
    known: frozenset[str],
    method: EvaluationSettings,
    match: LabelMatch | None = None,
    notes: dict[str, tuple[str, ...]] | None = None,
) -> list[RegionScores]:
    """Score one case; returns one row per region.

    Args:
        key: Key of the case.
        predictions: Folder of label maps.
        cohort: Cohort of the references.
        known: Keys of the cohort.
        method: Settings of the evaluation.
        match: Match of regions, see `evaluate`.
        notes: Dictionary that gets what was decided about the prediction's grid, if anything was.

    Raises:
        VolsegError: The case cannot be scored; the message says why.
    """
    match = Predictions(predictions).match(cohort) if match is None else match
    if key not in known:
        raise CohortError(
            f"a prediction must have the key of a case of the cohort {cohort.folder.name}, got one that it does not "
            "hold; name the prediction after its case"
        )
    path = Predictions(predictions).path(key)
    if not path.is_file():
        raise SourceError(f"there is no prediction {path.name}; run the prediction of this case")
    reference_path = cohort.label_path(key)
    if reference_path is None:
        raise CohortError(
            "a case must have a reference label to be scored, got none in labelsTr; add the file, or leave the case out"
        )
    reference, predicted = read_volume_as("reference", reference_path), read_volume_as("prediction", path)
    _check_right_angles(reference.affine_ras)
    reference = _on_image(reference, cohort.image_paths(key)[0])
    try:
        predicted, note = aligned(predicted, reference.grid)
    except GeometryError as error:
        raise GeometryError(
            f"the prediction must be on the reference's grid, got another one: {error}; write it on the grid of the "
            "case's image"
        ) from error
    if note and notes is not None:
        notes[key] = (note,)
    _check_right_angles(reference.affine_ras)
    # Outside the box both masks are 0, so results inside it hold for the whole grid.
    box = bounding_box(reference.voxels != 0, predicted.voxels != 0)
    truth = check_values_as("reference", reference.voxels[box], cohort.labels)
    guess = check_values_as("prediction", predicted.voxels[box], match.prediction)
    ignored = cohort.labels.ignored(truth)
    beyond: Iterable[Mask | None] = repeat(None, len(match.names))
    if ignored is not None:  # nobody looked there: both count as background
        beyond = match.shared.each_mask(np.where(ignored, guess, np.uint8(0)))
        guess = np.where(ignored, np.uint8(0), guess)
    truths, guesses = match.scored.each_mask(truth), match.shared.each_mask(guess)
    score = partial(
        score_region,
        key,
        cohort.patient(key),
        image_shape=reference.shape,
        spacing_mm=reference.spacing_mm,
        slices_along=slice_axis(reference.affine_ras, reference.shape),
        method=method,
        instances=_instances(cohort, key, reference)[box] if method.objects and method.instances else None,
        unseen=ignored,
    )
    rows = [
        score(name, guess, truth, beyond=hidden)
        for name, guess, truth, hidden in zip(match.names, guesses, truths, beyond, strict=True)
    ]
    return rows if ignored is None else [replace(row, ignored=True) for row in rows]


def _on_image(reference: Volume, image: Path) -> Volume:
    """The reference on the grid that the image's header gives, as `convert` would place it: see `NiftiHeader`.

    A label map that a program saved with another reading of that header has wrong spacings of its own.
    """
    shape, affine_ras = read_grid(image)
    x, y, z = shape[:3]
    try:
        return aligned(reference, Grid((x, y, z), affine_ras))[0]
    except GeometryError as error:
        raise GeometryError(
            f"the reference must be on the grid of its image, got another one: {error}; save it on that grid, or "
            "convert the case again"
        ) from error


def _instances(cohort: Cohort, key: str, reference: Volume) -> Instances:
    """Read the map of objects (X, Y, Z) of a case."""
    path = cohort.instances_path(key)
    if path is None:
        raise CohortError(
            f"each case must have a map of objects in {INSTANCES} if others have one, got none; convert the case "
            "again, or take that folder away"
        )
    try:
        objects, _ = aligned(read_volume_as("map of objects", path), reference.grid)
    except GeometryError as error:
        raise CohortError(f"the map of objects is {error}; convert the case again") from error
    if objects.voxels.dtype.kind not in "iu":
        raise CohortError(
            f"the map of objects must hold whole numbers, got {objects.voxels.dtype}; convert the case again"
        )
    return objects.voxels


def _check_right_angles(affine_ras: Affine) -> None:
    cosine = skew(affine_ras)
    if cosine > MAX_SKEW:
        raise GeometryError(
            f"the grid's axes must be at right angles, got a cosine of {cosine:.3g}, as with a tilted gantry, so that "
            "distances in mm would be wrong; resample the case to a straight grid"
        )
