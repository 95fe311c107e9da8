"""The folder of cases to look at first: image, segmentation and scene of each, a list, and a page to work through."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from volseg.cohort import (
    FILE_ENDING,
    Cohort,
    Predictions,
    corrected_keys,
    read_bounds,
    read_label_map,
    read_uncertainty,
)
from volseg.deploy.corrections.choice import Candidate, Chosen, choose
from volseg.deploy.corrections.expected import Promise, contour_mm, expected_mm, promise
from volseg.deploy.corrections.scene import write_scene
from volseg.deploy.corrections.todo import FILE, Todo, TodoRow, file_digest, image_digest, write_todo
from volseg.deploy.corrections.worksheet import write_worksheet
from volseg.errors import UsageError, VolsegError
from volseg.evaluation import Quality, rank
from volseg.files import atomic
from volseg.formats import SEGMENTATION_SUFFIX, write_segmentation
from volseg.labels import LabelMatch
from volseg.volume import read_volume, write_volume

Progress = Callable[[int, int], None]
# Score of a usual case, see `volseg.evaluation.quality`, and how much its unlikeness may weigh.
_USUAL_SCORE, _LEAST, _MOST = 0.4, 0.25, 10.0


def review(
    predictions: Path,
    cohort: Cohort,
    out: Path,
    *,
    budget: int = 10,
    seed: int = 0,
    labelled: bool = False,
    workers: int = 2,
    progress: Progress | None = None,
) -> tuple[Todo, dict[str, str]]:
    """Choose cases and write them out for 3D Slicer.

    Cases that were corrected already and those kept for a test are left out; labelled ones too, unless they are asked
    for or no other was predicted.

    Args:
        predictions: Folder of label maps, with the `uncertainty.csv` of the network.
        cohort: Cohort of the cases; its labelled ones say what is usual.
        out: Folder that is made; a list that is there already is refused.
        budget: Number of cases.
        seed: Seed of the cases that are drawn by lot.
        labelled: Whether labelled cases are looked at too.
        workers: Number of cases measured at once.
        progress: Function that is called with (finished, total).

    Returns:
        The list, and the error of each case that could not be measured.

    Raises:
        UsageError: There is nothing to look at, or the folder holds a list.
    """
    if (out / FILE).exists():
        raise UsageError(f"{out} holds a list already; adopt it with `volseg adopt {out} COHORT`, or name a new folder")
    there = Predictions.open(predictions)
    match = there.match(cohort)
    keys = _keys(there.some_keys(), cohort, labelled=labelled)
    unlike = _unlikeness(predictions, cohort, match, workers=workers, progress=progress)
    candidates, promises, failed = _candidates(keys, there, cohort, match, unlike)
    chosen = choose(candidates, budget=budget, seed=seed)
    if not chosen:
        raise UsageError(f"no prediction of {predictions} could be read: {next(iter(failed.values()))}")
    rows = []
    for number, one in enumerate(chosen, start=1):
        rows.append(_write_case(number, one, there, cohort, match, out, promises[one.candidate.key]))
        if progress is not None:
            progress(number, len(chosen))
    facts: dict[str, Any] = {
        "cohort": cohort.folder.resolve().name,
        "predictions": predictions.resolve().name,
        "candidates": len(candidates),
        "budget": budget,
        "seed": seed,
        "promise": sorted({one.source for case in promises.values() for one in case.values()}),
    }
    write_todo(out, rows, labels=cohort.labels.digest, facts=facts)
    todo = Todo(out, tuple(rows), cohort.labels.digest, facts)
    write_worksheet(todo, cohort)
    return todo, failed


def _keys(predicted: Sequence[str], cohort: Cohort, *, labelled: bool) -> list[str]:
    corrected = set(corrected_keys(cohort.folder))
    known = [key for key in predicted if key in cohort.rows and key not in corrected and not cohort.rows[key].test]
    if not known:
        raise UsageError(
            f"no prediction is of a case of {cohort.folder} that was not corrected and is not kept for a test"
        )
    fresh = [key for key in known if key not in cohort.labelled]
    return known if labelled or not fresh else fresh


def _unlikeness(
    predictions: Path, cohort: Cohort, match: LabelMatch, *, workers: int, progress: Progress | None
) -> dict[str, Quality]:
    """The quality control of each prediction; none where there are too few cases to learn from."""
    try:
        found = rank(predictions, match.scored, cohort=cohort, workers=workers, progress=progress)
    except UsageError:
        return {}
    return {one.key: one for one in found}


def _candidates(
    keys: Sequence[str], there: Predictions, cohort: Cohort, match: LabelMatch, unlike: dict[str, Quality]
) -> tuple[list[Candidate], dict[str, dict[str, Promise]], dict[str, str]]:
    bounds, expected = read_bounds(there.folder), read_uncertainty(there.folder)
    contours, promises, failed = {}, {}, {}
    for key in keys:
        try:
            image = read_volume(cohort.image_paths(key)[0])
            label = read_label_map("prediction", there.path(key), image, cohort.labels, match=match)
        except VolsegError as error:
            failed[key] = error.message
            continue
        lengths = contour_mm(label, cohort.labels)
        contours[key] = {name: lengths[name] for name in match.names}
        promises[key] = {
            name: promise(bounds.get(key, {}).get(own), expected.get(key, {}).get(own))
            for name, own in match.pairs.items()
        }
    mm = expected_mm(contours, promises)
    candidates = []
    for key in contours:
        score = unlike[key].score if key in unlike else _USUAL_SCORE
        weight = min(max(score / _USUAL_SCORE, _LEAST), _MOST) if math.isfinite(score) else _MOST
        candidates.append(Candidate(key, cohort.patient(key), mm[key], weight))
    return candidates, promises, failed


def _write_case(
    number: int,
    one: Chosen,
    there: Predictions,
    cohort: Cohort,
    match: LabelMatch,
    out: Path,
    promises: dict[str, Promise],
) -> TodoRow:
    """Image, segmentation and scene of a case; its line of the list."""
    candidate, key = one.candidate, one.candidate.key
    place = out / key
    names = []
    for path in cohort.image_paths(key):
        with atomic(place / path.name) as partial:  # a copy: what is edited in place must not reach the cohort
            shutil.copyfile(path, partial)
        names.append(path.name)
    image = read_volume(cohort.image_paths(key)[0])
    label = read_label_map("prediction", there.path(key), image, cohort.labels, match=match)
    segmentation = place / f"{key}{SEGMENTATION_SUFFIX}"
    write_segmentation(segmentation, label, cohort.labels, image=image_digest(image))
    write_volume(out / ".volseg" / "predictions" / f"{key}{FILE_ENDING}", label)
    write_scene(place / f"{key}.mrml", name=key, images=names, segmentation=segmentation.name)
    total = math.fsum(candidate.mm.values())
    if one.how == "random":
        reason = "drawn by lot, so that the estimate of quality stays honest"
    else:
        reason = (
            f"{one.region}: {candidate.mm.get(one.region, 0.0):.0f} mm expected, Dice reckoned with "
            f"{promises[one.region].dice:.2f}" + (f", {candidate.unlikeness:.1f} times as unusual as a usual case")
        )
    return TodoRow(
        rank=number,
        key=key,
        patient=candidate.patient,
        chosen=one.how,
        expected_mm=total,
        unlikeness=candidate.unlikeness,
        region=one.region,
        reason=reason,
        image_digest=file_digest(cohort.image_paths(key)[0]),
        segmentation_digest=file_digest(segmentation),
    )
