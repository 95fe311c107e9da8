"""The days of held-out patients, predicted in one of the ways: copied, by a network, with a prior, adapted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from volseg import bundle as bundles
from volseg.bundle import read_recipe
from volseg.cohort import (
    Alignments,
    Prediction,
    Predictions,
    adapted_path,
    sessions_of,
    write_labels,
    write_prediction,
)
from volseg.crossval.days_settings import DayCase, DaysSettings
from volseg.errors import UsageError
from volseg.volume import Volume, nearest_voxels, placed, read_volume

# Along each axis in turn, by the key of the case.
_SHIFT_MM = ((15.0, 0.0, 0.0), (0.0, 15.0, 0.0), (0.0, 0.0, 15.0))


@dataclass(frozen=True, eq=False)
class DaysPredictions:
    """The prediction of the cases of one fold in one way."""

    settings: DaysSettings
    folder: Path
    fold: int
    runs: Mapping[str, Path]

    @property
    def alignments(self) -> Alignments:
        """Alignments that are kept from one call to the next."""
        return Alignments(self.folder / "cache" / "alignments")

    def predict(self, mode: str, cases: Sequence[DayCase]) -> None:
        """Write the label map of each case that has none yet; a first day only where no earlier one is needed."""
        output = self.folder / "oof" / mode
        output.mkdir(parents=True, exist_ok=True)
        labels = self.settings.cohort.labels
        write_labels(output, labels, channel_names=self.settings.cohort.channel_names)
        predictors: dict[Path, Any] = {}
        for case in cases:
            path = Predictions(output).path(case.key)
            if path.is_file() or (not case.earlier and mode not in ("none", "prior_empty")):
                continue
            if mode in ("copied", "aligned", "deformed"):
                found = self._copied(case, mode)
            else:
                found = self._by_network(mode, case, predictors)
            write_prediction(path, found)

    def _copied(self, case: DayCase, mode: str) -> Prediction:
        """The earlier contours; where an alignment has failed, the simpler one before it counts."""
        cohort = self.settings.cohort
        earlier = case.earlier[0].keys[0]
        today = read_volume(cohort.image_paths(case.key)[0])
        label = read_volume(str(cohort.label_path(earlier)))
        pair = cohort.image_paths(case.key)[0], cohort.image_paths(earlier)[0]
        deformation = self.alignments.deformed(*pair) if mode == "deformed" else None
        if deformation is not None:
            bent = deformation.bent(label, today.grid, labels=True)
            return Prediction(Volume(bent.astype(np.uint8), today.affine_ras), {})
        if mode != "copied":
            registration = self.alignments.of(*pair)
            if not registration.failure:
                label = placed(label, registration)
        voxels = nearest_voxels(label.voxels, np.asarray(label.affine_ras), today.shape, np.asarray(today.affine_ras))
        return Prediction(Volume(voxels.astype(np.uint8), today.affine_ras), {})

    def _by_network(self, mode: str, case: DayCase, predictors: dict[Path, Any]) -> Prediction:
        run = self._run(mode)
        checkpoint = run / "model.pt"
        if mode in ("adapted", "both"):
            checkpoint = self._adapted(run, case)
        if checkpoint not in predictors:
            from volseg.inference import Predictor

            predictors.clear()
            predictors[checkpoint] = Predictor.from_bundle(
                bundles.find(self.settings.bundle), checkpoint=checkpoint, device=self.settings.device
            ).with_engine("torch")
        predictor = predictors[checkpoint]
        if mode in ("prior", "prior_deformed", "both", "prior_shifted", "prior_wrong", "prior_forced"):
            prior = self._prior(case, mode)
            predictor = replace(predictor, priors={} if prior is None else {case.key: prior})
        found: Prediction = predictor.predict(self.settings.cohort.image_paths(case.key), key=case.key)
        return found

    def _run(self, mode: str) -> Path:
        if mode in ("none", "adapted"):
            return self.runs["none"]
        return self.runs["prior_deformed" if mode == "prior_deformed" else "prior"]

    def _prior(self, case: DayCase, mode: str) -> Any:  # noqa: ANN401 - PriorFiles or None
        from volseg.inference import PriorFiles, unlike_own_days

        cohort = self.settings.cohort
        key = case.earlier[0].keys[0]
        if mode in ("prior_wrong", "prior_forced"):
            others = [one for one in cohort.fold(self.fold).validation if cohort.patient(one) != case.patient]
            others = others or list(cohort.fold(self.fold).training)
            key = others[sum(case.key.encode()) % len(others)]
        recipe = read_recipe(self._run(mode) / "model.pt")
        measured = recipe.facts.get("prior") or {}
        images = cohort.image_paths(key)
        pair = self.alignments.pair(cohort.image_paths(case.key)[0], images[0], alignment=recipe.prior_alignment)
        found = pair.registration
        if found.failure or (mode != "prior_forced" and unlike_own_days(found, measured)):
            return None
        if mode == "prior_shifted":
            found = found.shifted(_SHIFT_MM[sum(case.key.encode()) % 3])
        label = str(cohort.label_path(key))
        return PriorFiles(
            key,
            tuple(map(str, images)),
            label,
            cohort.labels.to_dataset_json(),
            found,
            widths_mm=dict(measured.get("widths_mm", {})),
            deformation=None if pair.deformation is None else str(pair.deformation),
        )

    def _adapted(self, run: Path, case: DayCase) -> Path:
        from volseg.training import Adapting, adapt

        cohort = self.settings.cohort
        name_of = {key: one.name for one in sessions_of(cohort.rows.values())[case.patient] for key in one.keys}
        work = Adapting(
            run,
            cohort,
            case.patient,
            bundle=self.settings.bundle,
            before=name_of[case.key],
            minutes=self.settings.adapt_minutes,
            steps=self.settings.adapt_steps,
            device=self.settings.device,
            cache_dir=self.folder / "cache",
            seed=self.settings.seed,
        )
        known = adapted_path(run, case.patient, name_of[case.earlier[0].keys[0]])
        target = adapt(work)
        if target != known:
            raise UsageError(f"{case.key} would be predicted by {target}, which is not of the days before it")
        return target
