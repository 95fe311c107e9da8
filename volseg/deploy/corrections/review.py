"""The folder of cases to look at first: image, segmentation and scene of each, a list, and a page to work through."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from volseg.cohort import (
    FILE_ENDING,
    Cohort,
    Predictions,
    corrected_keys,
    read_label_map,
)
from volseg.deploy.corrections.choice import ALIKE, Candidate, Chosen, choose
from volseg.deploy.corrections.expected import Extent, Promise, expected_mm, extents, lacking_dice, read_promises
from volseg.deploy.corrections.likeness import Description, Likeness, describe
from volseg.deploy.corrections.scene import write_scene
from volseg.deploy.corrections.todo import FILE, Todo, TodoRow, file_digest, image_digest, write_todo
from volseg.deploy.corrections.worksheet import write_worksheet
from volseg.errors import UsageError, VolsegError
from volseg.evaluation import Quality, rank
from volseg.files import atomic
from volseg.formats import SEGMENTATION_SUFFIX, write_segmentation
from volseg.labels import LabelMatch
from volseg.volume import Volume, read_volume, write_volume

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
        seed: Seed of the cases that are drawn at random.
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
    candidates, promises, cases, failed = _candidates(keys, there, cohort, match, unlike, workers=workers)
    known = _labelled(cohort, match, without=keys, workers=workers)
    compared = _compared(bool(known), bool(cohort.labelled & set(keys)))
    chosen = choose(candidates, budget=budget, seed=seed, likeness=Likeness({**known, **cases}), known=sorted(known))
    if not chosen:
        raise UsageError(f"no prediction of {predictions} could be read: {next(iter(failed.values()))}")
    rows = []
    for number, one in enumerate(chosen, start=1):
        rows.append(_write_case(number, one, there, cohort, match, out, compared=compared))
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


def describe_labelled(cohort: Cohort, key: str, names: Sequence[str]) -> Description | None:
    """Describe a case by its label.

    Args:
        cohort: Cohort.
        key: Key of the case.
        names: Regions to describe.

    Returns:
        Its numbers; None if it has no label, or one of which a part is unlabelled.

    Raises:
        VolsegError: A file is unreadable, or the label has another grid or an undeclared value.
    """
    path = cohort.label_path(key)
    if path is None:
        return None
    images = image_channels(cohort, key)
    label = read_label_map("reference", path, images[0], cohort.labels)
    if cohort.labels.ignore is not None and cohort.labels.ignored(label.voxels) is not None:
        return None
    return describe(images, label, cohort.labels, names)


def image_channels(cohort: Cohort, key: str) -> list[Volume]:
    """The channels of a case that have the grid of the first."""
    first, *others = [read_volume(path) for path in cohort.image_paths(key)]
    return [first, *(one for one in others if one.shape == first.shape)]


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
    keys: Sequence[str],
    there: Predictions,
    cohort: Cohort,
    match: LabelMatch,
    unlike: dict[str, Quality],
    *,
    workers: int,
) -> tuple[list[Candidate], dict[str, dict[str, Promise]], dict[str, Description], dict[str, str]]:
    """The candidates, the promise and the description of each, and the error of each that could not be read."""
    promised = read_promises(there.folder, keys, match.pairs)

    def measured(key: str) -> tuple[dict[str, Extent], Description] | str:
        try:
            images = image_channels(cohort, key)
            label = read_label_map("prediction", there.path(key), images[0], cohort.labels, match=match)
        except VolsegError as error:
            return error.message
        return extents(label, cohort.labels), describe(images, label, cohort.labels, match.names)

    found: dict[str, dict[str, Extent]] = {}
    cases: dict[str, Description] = {}
    failed, promises, lacking, weights = {}, {}, {}, {}
    with ThreadPoolExecutor(workers) as pool:
        for key, one in zip(keys, pool.map(measured, keys), strict=True):
            if isinstance(one, str):
                failed[key] = one
                continue
            found[key] = {name: one[0][name] for name in match.names}
            cases[key] = one[1]
            promises[key] = promised[key]
            score = unlike[key].score if key in unlike else _USUAL_SCORE
            weights[key] = min(max(score / _USUAL_SCORE, _LEAST), _MOST) if math.isfinite(score) else _MOST
            lacking[key] = lacking_dice(promises[key], weights[key])
    mm = expected_mm(found, lacking)
    candidates = [Candidate(key, cohort.patient(key), mm[key], lacking[key], weights[key]) for key in found]
    return candidates, promises, cases, failed


def _labelled(cohort: Cohort, match: LabelMatch, *, without: Sequence[str], workers: int) -> dict[str, Description]:
    """The description of each labelled case by its label; not of those for a test, or of which a part is unlabelled."""

    def described(key: str) -> Description | None:
        try:
            return describe_labelled(cohort, key, match.names)
        except VolsegError as error:
            raise error.of_case(key) from error

    keys = sorted(key for key in cohort.labelled - set(without) if not cohort.rows[key].test)
    with ThreadPoolExecutor(workers) as pool:
        return {key: found for key, found in zip(keys, pool.map(described, keys), strict=True) if found is not None}


def _write_case(
    number: int,
    one: Chosen,
    there: Predictions,
    cohort: Cohort,
    match: LabelMatch,
    out: Path,
    *,
    compared: str,
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
    return TodoRow(
        rank=number,
        key=key,
        patient=candidate.patient,
        chosen=one.how,
        expected_mm=math.fsum(candidate.mm.values()),
        unlikeness=candidate.unlikeness,
        region=one.region,
        nearest=one.nearest,
        likeness=one.likeness,
        reason=_reason(one, compared=compared),
        image_digest=file_digest(cohort.image_paths(key)[0]),
        segmentation_digest=file_digest(segmentation),
    )


def _compared(labelled: bool, candidates_labelled: bool) -> str:
    """What a case was compared with, in words: a label of one that may be looked at tells nothing of the others."""
    if not labelled:
        return "in this list"
    return "in this list, or labelled and not predicted" if candidates_labelled else "labelled or in this list"


def _reason(one: Chosen, *, compared: str) -> str:
    """Why a case is in the list, in words."""
    if one.how == "random":
        return "drawn at random, so that the estimate of quality stays honest"
    if one.nearest and one.likeness >= ALIKE:
        first = f"like {one.nearest}, and as much to learn per mm as from any"
    else:
        first = f"unlike anything {compared}"
    others = f"; {one.alike} more predicted cases are like it" if one.alike > 1 else ""
    candidate = one.candidate
    return (
        f"{first}{others}; {one.region}: {candidate.mm.get(one.region, 0.0):.0f} mm "
        f"and a Dice of {1 - candidate.lacking.get(one.region, 0.0):.2f} expected"
    )
