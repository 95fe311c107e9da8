"""What is measured day after day: the ways of predicting a day, the settings, and the days of a cohort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from volseg.bundle import find
from volseg.cohort import Cohort, Session, is_ordered, sessions_of
from volseg.errors import UsageError
from volseg.volume import check_elastix, elastix_is_installed

MODES: dict[str, str] = {
    "none": "a network without a prior",
    "copied": "the contours of the last earlier day, voxel by voxel in the scanner's frame",
    "aligned": "the same after the rigid alignment of the images",
    "deformed": "the same after a deformable alignment too, a B-spline by elastix",
    "prior": "a network with a prior, given the last earlier day",
    "prior_deformed": "a network with a prior, trained with and given deformable alignments of the earlier days",
    "prior_empty": "the file of `prior` without the earlier day: it holds the network without a prior for such cases",
    "prior_shifted": "the network with a prior, given the last earlier day 15 mm away from where it belongs",
    "prior_wrong": "the same, given another patient's day: it must be no worse than without one, and no better",
    "prior_forced": "the same although the aligned images differ too much for one patient",
    "adapted": "the network without a prior, adapted to the earlier days of the patient",
    "both": "the network with a prior, adapted to the earlier days, given the last of them",
}
TITLES: dict[str, str] = {
    "none": "no prior",
    "copied": "contours copied",
    "aligned": "contours copied, aligned",
    "deformed": "contours copied, deformed",
    "prior": "prior",
    "prior_deformed": "prior, deformed",
    "prior_empty": "prior, none given",
    "prior_shifted": "prior, shifted 15 mm",
    "prior_wrong": "prior, another patient's",
    "prior_forced": "another patient's, forced",
    "adapted": "adapted",
    "both": "adapted, with prior",
}
"""What each way is called in tables and figures for readers."""
OF_ELASTIX = ("deformed", "prior_deformed")
"""Ways that need `itk-elastix`."""


def default_modes() -> tuple[str, ...]:
    """All ways, without those of `OF_ELASTIX` where `itk-elastix` is not installed."""
    return tuple(mode for mode in MODES if mode not in OF_ELASTIX or elastix_is_installed())


@dataclass(frozen=True)
class DaysSettings:
    """What the benchmark trains and predicts.

    Attributes:
        cohort: Cohort with several days per patient, and folds by patient.
        bundle: Name or folder of the bundle.
        minutes: Minutes of each training; None for the bundle's own epochs.
        epochs: Epochs of each training, on which the load of the machine has no influence; None for `minutes`.
        adapt_minutes: Minutes of each adaptation.
        adapt_steps: Steps of each adaptation, which then ends after them; None for `adapt_minutes`.
        warm: Whether the networks without and with a prior go on from one network, which both share for the first half.
        folds: Folds that are done.
        modes: Rows of the table, of `MODES`; by default `default_modes`.
        seed: Seed of the trainings.
        overrides: Further settings of train.json.
        device: Device; None for the best.
        apl_tolerance_mm: Tolerance of the added path length with tolerance, see `EvaluationSettings`; it concerns the
            scores alone, and another call may have another.

    Raises:
        BundleError: There is no such bundle.
        UsageError: There is no such way or fold, or no patient has two sessions whose names tell an order of time.
    """

    cohort: Cohort
    bundle: str
    minutes: float | None = None
    epochs: int | None = None
    adapt_minutes: float = 3.0
    adapt_steps: int | None = None
    warm: bool = True
    folds: tuple[int, ...] = ()
    modes: tuple[str, ...] = field(default_factory=default_modes)
    seed: int = 0
    overrides: Mapping[str, Any] | None = None
    device: str | None = None
    apl_tolerance_mm: float | None = None

    def __post_init__(self) -> None:
        unknown = [name for name in self.modes if name not in MODES]
        if unknown or not self.modes:
            raise UsageError(f"--modes must be some of {', '.join(MODES)}, got {', '.join(unknown) or 'nothing'}")
        for mode in OF_ELASTIX:
            if mode in self.modes:
                check_elastix(f"--modes {mode}")
        find(self.bundle)  # before anything is written: a folder that was begun keeps to its bundle
        for number in self.folds:
            self.cohort.fold(number)
        if not self.folds:
            object.__setattr__(self, "folds", tuple(range(len(self.cohort.folds()))))
        several = [one for one in sessions_of(self.cohort.rows.values()).values() if len(one) > 1]
        if not any(map(is_ordered, several)):
            told = " whose names tell an order of time; state the column day in cases.csv"
            told = told if several else "; `volseg check` counts them"
            raise UsageError(f"{self.cohort.folder} has no patient with two sessions{told}")

    @property
    def facts(self) -> dict[str, Any]:
        """What a later call on the same folder must have the same."""
        return {
            "bundle": Path(self.bundle).name,
            "minutes": self.minutes,
            "epochs": self.epochs,
            "adapt_minutes": self.adapt_minutes,
            "adapt_steps": self.adapt_steps,
            "warm": self.warm,
            "seed": self.seed,
            "overrides": dict(self.overrides or {}),
            "cohort": self.cohort.digest,
        }


@dataclass(frozen=True)
class DayCase:
    """A case to predict: its day counts from 0, and `earlier` are the days before it, the last one first."""

    key: str
    patient: str
    number: int
    gap_days: float | None
    earlier: tuple[Session, ...]


def day_cases(cohort: Cohort, keys: Sequence[str]) -> list[DayCase]:
    """The cases of some patients in the order of their days, with what may be seen of each.

    Where the names of a patient's sessions tell no order of time each of them is a first day. Days that are kept for a
    test are seen by nothing.
    """
    wanted = set(keys)
    found = []
    rows = [cohort.rows[key] for key in sorted(cohort.labelled) if not cohort.rows[key].test]
    for patient, sessions in sessions_of(rows).items():
        ordered = is_ordered(sessions)
        for place, session in enumerate(sessions):
            number = place if ordered else 0
            last = sessions[number - 1] if number else None
            gap = None
            if last is not None and session.day is not None and last.day is not None:
                gap = session.day - last.day
            earlier = tuple(sessions[:number][::-1])
            found += [DayCase(key, patient, number, gap, earlier) for key in session.keys if key in wanted]
    return found
