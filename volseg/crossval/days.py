"""Day after day, measured without a leak: networks that never saw a patient, given his earlier days alone.

For each fold two networks are trained on the other patients, without and with a prior. Then day k of a held-out patient
is predicted from today's image and days before k. A file per prediction, so that a stop loses nothing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from volseg.crossval.days_predictions import DaysPredictions
from volseg.crossval.days_settings import OF_ELASTIX, DaysSettings, day_cases, default_modes
from volseg.crossval.days_table import conclude_days
from volseg.errors import UsageError
from volseg.files import atomic
from volseg.labels import DEFORMABLE

logger = logging.getLogger("volseg.days")

_WITH_PRIOR = ("prior", "prior_deformed")  # runs of networks with a prior


def run_days(settings: DaysSettings, folder: Path, *, told: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Train, adapt, predict and score; go on where an earlier call was stopped.

    Args:
        settings: What is trained and predicted.
        folder: Folder of everything; begun by an earlier call with the same settings, or new.
        told: Function that is called with a line per finished part.

    Returns:
        The content of `summary.json`: per mode, region and metric the mean with its interval by patient, the gain over
        no prior, and both by number of the day and by gap.

    Raises:
        UsageError: The folder was begun with other settings.
    """
    say = told or (lambda line: logger.info("%s", line))
    _begin(settings, folder)
    if settings.modes == default_modes() and (left_out := [mode for mode in OF_ELASTIX if mode not in settings.modes]):
        say(
            f"the rows {' and '.join(f'`{mode}`' for mode in left_out)} are left out: they need itk-elastix, "
            "pip install 'volseg[elastix]'"
        )
    for fold in settings.folds:
        networks = {name: _trained(settings, folder, fold, name, say=say) for name in _networks(settings.modes)}
        cases = day_cases(settings.cohort, settings.cohort.fold(fold).validation)
        for mode in settings.modes:
            DaysPredictions(settings, folder, fold, networks).predict(mode, cases)
            say(f"fold {fold}: {mode} is predicted")
    return conclude_days(settings, folder)


def _networks(modes: Sequence[str]) -> list[str]:
    wanted = []
    with_prior = {"prior", "prior_empty", "prior_shifted", "prior_wrong", "prior_forced", "both"} & set(modes)
    if with_prior or {"none", "adapted", "prior_deformed"} & set(modes):
        wanted.append("none")
    if with_prior:  # after the other one, which its file holds too
        wanted.append("prior")
    if "prior_deformed" in modes:
        wanted.append("prior_deformed")
    return wanted


def _begin(settings: DaysSettings, folder: Path) -> None:
    path = folder / "days.json"
    now = json.loads(json.dumps(settings.facts, default=str))
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        if before != now:
            changed = [name for name in now if before.get(name) != now[name]]
            raise UsageError(
                f"{folder} was begun with another {', '.join(changed)}; give the same, or name another folder with -o"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    with atomic(path) as partial:
        partial.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")


def _trained(settings: DaysSettings, folder: Path, fold: int, name: str, *, say: Callable[[str], None]) -> Path:
    """The run of a fold, trained if it is not yet; `model.pt` is the network of the last step.

    Of warm networks the run `start` is the first half of the schedule, without a prior; `none`, `prior` and
    `prior_deformed` are the second half, so that all have seen as much. The files of those with a prior hold `none` for
    cases without one, which are thus predicted by it and by no other.
    """
    from volseg.training import train, write_network

    run, done = folder / f"fold_{fold}" / name, folder / f"fold_{fold}" / name / "done.json"
    if done.is_file():
        return run
    start = None
    if settings.warm and name != "start":
        start = _trained(settings, folder, fold, "start", say=say)
    say(f"fold {fold}: training {name}")
    overrides: dict[str, Any] = {
        **dict(settings.overrides or {}),
        "dataset_dir": str(settings.cohort.folder),
        "output_dir": str(run),
        "cache_dir": str(folder / "cache"),
        "fold": fold,
        "seed": settings.seed,
        "resume": True,
        "prior": name in _WITH_PRIOR,
        # No validation chooses: the held-out patients are those that are scored.
        "validate#dataset#data": [],
        **_schedule(settings),
    }
    if name == "prior_deformed":
        overrides["prior_alignment"] = DEFORMABLE
    if start is not None:
        overrides["weights"] = str(start / "model.pt")
    if settings.device is not None:
        overrides["device"] = settings.device
    train(settings.bundle, overrides=overrides)
    plain = folder / f"fold_{fold}" / "none" / "model.pt" if name in _WITH_PRIOR else None
    write_network(run / "last.pt", run / "model.pt", without_prior=plain)
    with atomic(done) as partial:
        partial.write_text("{}\n", encoding="utf-8")
    return run


def _schedule(settings: DaysSettings) -> dict[str, Any]:
    """The length of one training: half of it if two follow one another."""
    parts = 2 if settings.warm else 1
    if settings.epochs is not None:
        return {"max_epochs": max(1, settings.epochs // parts)}
    return {} if settings.minutes is None else {"max_minutes": settings.minutes / parts}
