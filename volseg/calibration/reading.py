"""Out-of-fold predictions with their probabilities and references, read case by case, and what they calibrate."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from volseg.calibration.choosing import choose_rules
from volseg.calibration.features import region_features
from volseg.calibration.measured import MeasuredCase, measure_region
from volseg.calibration.record import LEVEL, Calibration, fit_calibration
from volseg.calibration.scan import scan_features
from volseg.cohort import Cohort, Predictions, read_label_map
from volseg.errors import GeometryError, UsageError, first_names, naming
from volseg.labels import Cleanup, Masks
from volseg.metrics import (
    Scaling,
    decide_some_by_dice,
    dice,
    fit_scaling,
    fit_temperature,
    probability_histogram,
)
from volseg.volume import MAX_SKEW, Volume, read_probabilities, read_volume, skew

logger = logging.getLogger(__name__)
_Result = TypeVar("_Result")
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class HeldOut:
    """Predictions of cases that their networks have not trained on.

    Attributes:
        predictions: Folder with `probabilities/KEY.nii.gz`.
        cohort: Cohort of the images and references.
        keys: Keys of the cases.
        cleanup: Clean-up that the predictions get.
        workers: Number of cases read at once.
    """

    predictions: Predictions
    cohort: Cohort
    keys: Sequence[str]
    cleanup: Cleanup = field(default_factory=Cleanup)
    workers: int = 1

    def check(self) -> None:
        """Refuse cases without probabilities or reference.

        Raises:
            UsageError: There is no case, or a file is absent.
        """
        if not self.keys:
            raise UsageError(f"{self.predictions.folder} has no case that was held out and has a reference")
        absent = [key for key in self.keys if not self.predictions.probabilities_path(key).is_file()]
        if absent:
            raise UsageError(
                f"{self.predictions.folder} has no probabilities of {len(absent)} of {len(self.keys)} cases, such as "
                f"{absent[0]}; predict them with --save-probabilities (the same `volseg crossval` command with it "
                "predicts again and trains nothing)"
            )
        unknown = [key for key in self.keys if self.cohort.label_path(key) is None]
        if unknown:
            raise UsageError(f"{self.cohort.folder} has no reference of {unknown[0]}; name the cohort of the training")

    def seen(self) -> HeldOut:
        """The same without the cases of which someone has seen only a part; a warning names them."""
        labels, left = self.cohort.labels, []
        if labels.ignore is None:
            return self
        for key in self.keys:
            path = self.cohort.label_path(key)
            if path is not None and labels.ignored(read_volume(path).voxels) is not None:
                left.append(key)
        if left:
            logger.warning(
                "%d cases have voxels of the label 'ignore', which nobody looked at, and do not calibrate: %s",
                *(len(left), first_names(left)),
            )
        return replace(self, keys=[key for key in self.keys if key not in left])

    @property
    def digest(self) -> str:
        """A digest of the keys and references, from which no key can be read."""
        facts = hashlib.sha256()
        for key in sorted(self.keys):
            path = self.cohort.label_path(key)
            content = hashlib.sha256(path.read_bytes()).hexdigest() if path is not None else ""
            facts.update(hashlib.sha256(f"{key}\n{content}".encode()).digest())
        return facts.hexdigest()[:16]

    def each(
        self, work: Callable[[OpenCase], _Result], progress: Progress | None = None
    ) -> Iterator[tuple[str, _Result]]:
        """The result of a function of each case, by key, in the order of the keys."""

        def do(key: str) -> _Result:
            with naming(key):
                return work(OpenCase.read(self, key))

        with ThreadPoolExecutor(self.workers) as pool:
            for done, (key, result) in enumerate(zip(self.keys, pool.map(do, self.keys), strict=True), start=1):
                if progress is not None:
                    progress(done, len(self.keys))
                yield key, result


@dataclass(frozen=True, eq=False)
class OpenCase:
    """A case in memory.

    Attributes:
        held_out: Where it is from.
        image: Channels of the image.
        truth: Masks (R, X, Y, Z) of the reference.
        probabilities: Probabilities (R, X, Y, Z) of the regions.
        plain: Masks (R, X, Y, Z) of the threshold, before the clean-up.
    """

    held_out: HeldOut
    image: Sequence[Volume]
    truth: Masks
    probabilities: NDArray[np.float32]
    plain: Masks

    @classmethod
    def read(cls, held_out: HeldOut, key: str) -> OpenCase:
        """Read a case.

        Raises:
            VolsegError: A file cannot be read, or the probabilities are of another grid or table.
        """
        cohort, labels = held_out.cohort, held_out.cohort.labels
        image = [read_volume(path) for path in cohort.image_paths(key)]
        path = cohort.label_path(key)
        if path is None:
            raise UsageError("there is no reference")
        truth = labels.masks(read_label_map("reference", path, image[0], labels).voxels)
        probabilities = read_probabilities(held_out.predictions.probabilities_path(key))
        if probabilities.shape != (labels.channels, *image[0].shape):
            raise GeometryError(
                f"the probabilities have the shape {probabilities.shape}, expected {(labels.channels, *image[0].shape)}"
            )
        plain = labels.masks(labels.decide(probabilities))
        return cls(held_out, image, truth, probabilities[-len(labels.names) :], plain)

    @property
    def voxel_ml(self) -> float:
        """The volume of a voxel in ml."""
        return self.image[0].voxel_ml

    def decided(self, scalings: Sequence[Scaling | None]) -> Masks:
        """The masks (R, X, Y, Z) after the clean-up; regions with a scaling are decided by their Dice."""
        labels = self.held_out.cohort.labels
        masks = decide_some_by_dice(self.probabilities, self.plain, scalings, exclusive=not labels.overlap)
        label_map = self.held_out.cleanup.apply(labels.encode(masks), labels, voxel_ml=self.voxel_ml)
        return labels.masks(label_map)


def calibrate(
    held_out: HeldOut,
    *,
    level: float = LEVEL,
    progress: Progress | None = None,
    **digests: Any,  # noqa: ANN401 - the digests of `Calibration`
) -> Calibration:
    """Calibrate a network by predictions of cases that it has not trained on.

    Temperatures, scalings and decisions are chosen on all of them; then each case is measured with the decision of
    `auto`.

    Args:
        held_out: Predictions and references.
        level: Probability of the bounds, between 0 and 1.
        progress: Function that is called with the number of cases read and that of all, of all passes.
        digests: Digests of networks and plan, and the options of inference.

    Raises:
        UsageError: A file is absent.
        VolsegError: A file cannot be read.
    """
    held_out = held_out.seen()
    held_out.check()
    names = held_out.cohort.labels.names
    counts = count_probabilities(held_out, progress)
    temperatures = {name: fit_temperature(one) for name, one in counts.items()}
    scalings = {name: fit_scaling(one) for name, one in counts.items()}
    decisions = choose_decisions(held_out, scalings, progress)
    rules = [scalings[name] if decisions[name]["rule"] == "dice" else None for name in names]
    measured = measure_cases(held_out, rules, temperatures, progress)
    return fit_calibration(
        measured,
        names,
        level=level,
        temperatures=temperatures,
        scalings=scalings,
        decisions=decisions,
        labels=held_out.cohort.labels.digest,
        cases=held_out.digest,
        **digests,
    )


def count_probabilities(held_out: HeldOut, progress: Progress | None = None) -> dict[str, NDArray[np.float64]]:
    """Weights (2, 65536) of voxels outside and inside each region, by their probability; each patient has the same.

    They are what `volseg.metrics.fit_temperature` and `volseg.metrics.fit_scaling` take.
    """
    names, cohort = held_out.cohort.labels.names, held_out.cohort
    cases_of = Counter(cohort.patient(key) for key in held_out.keys)
    totals: dict[str, NDArray[np.float64]] = {name: np.zeros((2, 65536)) for name in names}

    def work(case: OpenCase) -> list[NDArray[np.float64]]:
        pairs = zip(case.probabilities, case.truth, strict=True)
        return [probability_histogram(probability, truth) for probability, truth in pairs]

    for key, counts in held_out.each(work, progress):
        for name, one in zip(names, counts, strict=True):
            if one.any():
                totals[name] += one / one.sum() / cases_of[cohort.patient(key)]
    return totals


def choose_decisions(
    held_out: HeldOut, scalings: Mapping[str, Scaling], progress: Progress | None = None
) -> dict[str, dict[str, Any]]:
    """The facts of the decision of each region, see `volseg.calibration.choose_rules`.

    Regions that exclude each other are tried again without those that gain nothing, since these keep their voxels.
    """
    labels, cohort = held_out.cohort.labels, held_out.cohort
    chosen = list(labels.names)
    facts: dict[str, dict[str, Any]] = {}
    while chosen:
        rules = [scalings[name] if name in chosen else None for name in labels.names]

        def work(case: OpenCase, rules: Sequence[Scaling | None] = rules) -> list[tuple[float, float]]:
            plain, other = case.decided([None] * len(rules)), case.decided(rules)
            return [(dice(a, t), dice(b, t)) for a, b, t in zip(plain, other, case.truth, strict=True)]

        pairs: dict[str, list[tuple[str, float, float]]] = {name: [] for name in chosen}
        for key, values in held_out.each(work, progress):
            for name, (plain, other) in zip(labels.names, values, strict=True):
                if name in pairs:
                    pairs[name].append((cohort.patient(key), plain, other))
        found = choose_rules(pairs)
        kept = [name for name in chosen if found[name]["rule"] == "dice"]
        facts |= {name: found[name] for name in chosen}
        if len(kept) == len(chosen) or labels.overlap:
            break
        chosen = kept
    return {name: facts[name] for name in labels.names}


def measure_cases(
    held_out: HeldOut,
    rules: Sequence[Scaling | None],
    temperatures: Mapping[str, float],
    progress: Progress | None = None,
) -> list[MeasuredCase]:
    """Measure each case with the decision of each region.

    Args:
        held_out: Predictions and references.
        rules: Scaling of each region that is decided by its Dice, None for the others.
        temperatures: Temperature of each region, for its features.
        progress: Function that is called with the number of cases read and that of all.
    """
    labels, cohort = held_out.cohort.labels, held_out.cohort

    def work(case: OpenCase) -> MeasuredCase:
        regions = {}
        for name, probability, mask, truth in zip(
            labels.names, case.probabilities, case.decided(rules), case.truth, strict=True
        ):
            features = region_features(
                probability, mask, voxel_ml=case.voxel_ml, temperature=temperatures.get(name, 1.0)
            )
            regions[name] = measure_region(
                mask,
                truth,
                spacing_mm=case.image[0].spacing_mm if skew(case.image[0].affine_ras) <= MAX_SKEW else None,
                voxel_ml=case.voxel_ml,
                features=features,
            )
        return MeasuredCase("", "", scan_features(case.image), regions)

    return [MeasuredCase(key, cohort.patient(key), one.scan, one.regions) for key, one in held_out.each(work, progress)]
