"""Quality control without a reference: which predictions people should check first, and why.

Each case is measured (volume, parts, jumps between slices, intensities) and compared with the labelled cases of a
training cohort; if there are further predictions of the same case, their disagreement counts too. A value far from the
usual raises an alarm, and alarms come first. Alarms and other cases are each ordered by the Dice that the network
expects of itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from volseg.cohort import (
    Bounds,
    Cohort,
    Predictions,
    Uncertainty,
    mean_expected_dice,
    order_of_bounds,
    read_bounds,
    read_uncertainty,
)
from volseg.errors import GeometryError, LabelError, UsageError, VolsegError, telling_memory
from volseg.evaluation.outliers import CHECKS, Z_DEFINITION, Finding, Values, learn, measure, unusual
from volseg.labels import LabelMatch, LabelTable, match_labels
from volseg.metrics import EXPECTED_DICE_DEFINITION, dice
from volseg.volume import Volume, aligned, read_volume, slice_axis

ALARM = 3.0  # weight of a finding from which it raises an alarm
_APART = 1.5  # times the usual disagreement, from which it is reported
_LEAST_APART = 0.01  # predictions that disagree by less count as equal

DEFINITIONS = (
    "Order = cases that could not be read; alarms, with the cases that are not comparable with the calibration; the "
    "others. Of both the lowest bound of Dice comes first, the mean over the regions (`volseg calibrate`); where there "
    "is none, the lowest expected Dice. Without one, the highest score comes first, at the top of the alarms and at "
    "the end of the others.",
    "Alarm = a region is absent that nearly every training case has, or there that hardly any has; a value is beyond "
    f"z {ALARM:g}; or predictions disagree {ALARM:g} times as much as they usually do.",
    EXPECTED_DICE_DEFINITION,
    "Score = mean over the checks of -log10 of the share of usual cases beyond the value's z, about 0.4 for a usual "
    "case; where further predictions are given, plus the disagreement over its median. It orders the cases; it is no "
    "probability and no Dice.",
    Z_DEFINITION,
    *(check.definition for check in CHECKS),
    "Disagreement = 1 - Dice of two predictions of a case, mean over the regions that either holds and over the "
    "further predictions that are there.",
)


_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Quality:
    """The quality control of one case.

    Attributes:
        key: Key of the case.
        score: Unusualness of the case: higher is more unusual; infinite for a case that could not be read.
        findings: Findings, the one of largest weight first.
        uncertainty: Values that `volseg predict` wrote for the case; empty if there are none.
        values: Measured values by check and region.
        disagreement: Disagreement of the predictions of the case; None without a second one.
        error: Reason why the case could not be measured.
        bounds: Bounds by region, of a calibrated network; empty otherwise.
    """

    key: str
    score: float
    findings: tuple[Finding, ...] = ()
    uncertainty: Uncertainty = field(default_factory=dict)
    values: Values | None = None
    disagreement: float | None = None
    error: str | None = None
    bounds: Bounds = field(default_factory=dict)

    @property
    def alarm(self) -> bool:
        """Whether a finding is far from the usual."""
        return any(finding.weight >= ALARM for finding in self.findings)

    @property
    def expected_dice(self) -> float | None:
        """The mean over the predicted regions; None if it is not known."""
        return mean_expected_dice(self.uncertainty)

    @property
    def bound(self) -> float | None:
        """The mean bound of Dice over the regions, by which the list is ordered; None if it is unknown or withheld."""
        return None if self.not_comparable else order_of_bounds(self.bounds)

    @property
    def not_comparable(self) -> str:
        """The reasons why bounds are withheld, each once; empty if none is."""
        return "; ".join(dict.fromkeys(one.not_comparable for one in self.bounds.values() if one.withheld))

    @property
    def order(self) -> tuple[int, float, float, str]:
        """The key by which the list is sorted."""
        first = self.alarm or bool(self.not_comparable)
        group = 0 if self.error is not None else 1 if first else 2
        # An alarm without an expected Dice may be a case in which nothing was found.
        known = self.expected_dice if self.bound is None else self.bound
        unknown = 0.0 if first else 1.0
        return group, unknown if known is None else known, -self.score, self.key


def rank(
    predictions: Path,
    labels: LabelTable,
    *,
    cohort: Cohort | None = None,
    images: Cohort | None = None,
    others: Sequence[Path] = (),
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[Quality]:
    """Rank the cases of a folder of predictions, the one to check first at the top.

    Args:
        predictions: Folder of label maps `KEY.nii.gz`, and of the network's `uncertainty.csv`.
        labels: Label table of the regions to check. A folder or cohort with another order or other values in its
            `dataset.json` is read by its own table; a region that one of them lacks is left out.
        cohort: Cohort of labelled cases that define what is usual, without the predicted ones; None for the predictions
            themselves.
        images: Cohort of the images of the predicted cases; None for `cohort`. A case that it lacks is not checked for
            intensities.
        others: Folders of further predictions of the same cases: of another network, or of the mirrored input.
        workers: Number of cases measured, and held in memory, at once.
        progress: Function that is called with (finished, total).

    Raises:
        UsageError: There is no prediction, there are fewer than five cases to learn from, or `uncertainty.csv` is of
            another kind.
        VolsegError: A training case cannot be read.
        LabelError: There is no region that all of them have.
    """
    predictions = Path(predictions)
    others = [Path(other) for other in others]
    tables = _Tables.of(labels, predictions, others, cohort)
    keys = Predictions.open(predictions).some_keys()
    uncertainties, bounds = read_uncertainty(predictions), read_bounds(predictions)
    images = images or cohort
    known = [] if cohort is None else sorted(cohort.labelled - set(keys))
    total = len(keys) + len(known)
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    def of_training(key: str) -> Values | None:
        path = cohort.label_path(key) if cohort is not None else None
        if cohort is None or path is None:
            return None
        try:
            if cohort.labels.ignore is not None and cohort.labels.ignored(read_volume(path).voxels) is not None:
                return None  # nobody has seen all of it, so it does not say that a region is absent
            return _measured(path, tables.cohort, _image(cohort, key))[0]
        except VolsegError as error:
            raise error.of_case(key) from error

    def of_prediction(key: str) -> tuple[Values, float | None] | VolsegError:
        try:
            path = Predictions(predictions).path(key)
            with telling_memory():
                values, volume = _measured(path, tables.predictions, _image(images, key))
                return values, _disagreement(volume, others, key, tables)
        except VolsegError as error:
            return error

    learnt, measured = [], {}
    with ThreadPoolExecutor(workers) as pool:
        for usual in pool.map(of_training, known):
            if usual is not None:
                learnt.append(usual)
            count()
        for key, found in zip(keys, pool.map(of_prediction, keys), strict=True):
            measured[key] = found
            count()
    readable = {key: found for key, found in measured.items() if not isinstance(found, VolsegError)}
    among = cohort is None
    unread = next((f"{key}: {found.message}" for key, found in measured.items() if isinstance(found, VolsegError)), "")
    try:
        norms = learn([values for values, _ in readable.values()] if among else learnt)
    except UsageError as error:
        if among and unread:
            raise UsageError(
                f"{error.message}; {len(measured) - len(readable)} predictions cannot be used, such as {unread}"
            ) from error
        raise
    apart = [apart for _, apart in readable.values() if apart is not None]
    usual_apart = float(np.median(apart)) if apart else 0.0
    result = []
    for key, found in measured.items():
        if isinstance(found, VolsegError):
            result.append(Quality(key, math.inf, error=found.message))
        else:
            values, disagreement = found
            score, findings = unusual(values, norms, among=among)
            if disagreement is not None:
                relative, named = _relative(disagreement, usual_apart)
                score += relative
                findings += named
            findings.sort(key=lambda finding: (-finding.weight, finding.check, finding.region))
            result.append(
                Quality(
                    key,
                    score,
                    tuple(findings),
                    tables.named(uncertainties.get(key, {})),
                    values,
                    disagreement,
                    bounds=tables.named(bounds.get(key, {})),
                ),
            )
    return sorted(result, key=lambda quality: quality.order)


@dataclass(frozen=True)
class _Tables:
    """The label tables of all folders, restricted to the regions that all of them have.

    Attributes:
        predictions: Table of the predictions, as a match with the regions to check.
        others: Match of each folder of further predictions.
        cohort: Match of the references.
    """

    predictions: LabelMatch
    others: tuple[LabelMatch, ...]
    cohort: LabelMatch

    @classmethod
    def of(cls, labels: LabelTable, predictions: Path, others: Sequence[Path], cohort: Cohort | None) -> _Tables:
        first, *more = [Predictions(folder).match_table(labels) for folder in (predictions, *others)]
        learnt = match_labels(labels, labels if cohort is None else cohort.labels)
        names = [name for name in labels.names if all(name in match.names for match in (first, learnt, *more))]
        if not names:
            raise LabelError(
                "the predictions, the further ones and the cohort must have a region in common, got none; name those "
                "of the same regions"
            )
        return cls(first.only(names), tuple(match.only(names) for match in more), learnt.only(names))

    def named(self, uncertainty: Mapping[str, _Value]) -> dict[str, _Value]:
        """Values by region under the names of the regions to check."""
        names = {other: name for name, other in self.predictions.pairs.items()}
        return {names.get(name, name): value for name, value in uncertainty.items()}


def _relative(disagreement: float, usual: float) -> tuple[float, list[Finding]]:
    """The ratio of a disagreement to the usual one, and the finding if it is large."""
    relative = disagreement / max(usual, _LEAST_APART)
    if relative <= _APART:
        return relative, []
    reason = f"the predictions disagree: 1 - Dice is {disagreement:.3f}, usually {usual:.3f}"
    return relative, [Finding("disagreement", "", relative, reason)]


def _image(cohort: Cohort | None, key: str) -> Path | None:
    return cohort.image_paths(key)[0] if cohort is not None and key in cohort.rows else None


def _measured(path: Path, match: LabelMatch, image_path: Path | None) -> tuple[Values, Volume]:
    volume, image = read_volume(path), None
    if image_path is not None:
        image = read_volume(image_path)
        try:
            volume, _ = aligned(volume, image.grid)
        except GeometryError as error:
            raise GeometryError(f"the label map must be on the image's grid, got another one: {error}") from error
    volume = Volume(match.prediction.check(volume.voxels), volume.affine_ras)
    masks = match.shared.each_mask(volume.voxels)
    voxels = None if image is None else image.voxels
    axis = slice_axis(volume.affine_ras, volume.shape)
    found = measure(masks, volume.spacing_mm, match.shared, voxels, slice_axis=axis, voxel_ml=volume.voxel_ml)
    return found, volume


def _disagreement(volume: Volume, others: Sequence[Path], key: str, tables: _Tables) -> float | None:
    """The mean over the existing further predictions; None if there is none."""
    apart = []
    for other, match in zip(others, tables.others, strict=True):
        path = Predictions(other).path(key)
        if not path.is_file():
            continue
        try:
            second, _ = aligned(read_volume(path), volume.grid)
        except GeometryError as error:
            raise GeometryError(f"the two predictions must be on one grid, got two: {error}") from error
        masks = tables.predictions.shared.each_mask(volume.voxels)
        theirs = match.shared.each_mask(match.prediction.check(second.voxels))
        overlaps = [dice(a, b) for a, b in zip(masks, theirs, strict=True)]
        held = [overlap for overlap in overlaps if not math.isnan(overlap)]
        apart.append(1 - math.fsum(held) / len(held) if held else 0.0)
    return math.fsum(apart) / len(apart) if apart else None
