"""Day after day, measured without a leak: networks that never saw a patient, given his earlier days alone.

For each fold two networks are trained on the other patients, without and with a prior. Then day k of a held-out patient
is predicted from today's image and days before k. A file per prediction, so that a stop loses nothing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from volseg import bundle as bundles
from volseg.bundle import read_recipe
from volseg.cohort import (
    Alignments,
    Cohort,
    Prediction,
    Predictions,
    Session,
    adapted_path,
    sessions_of,
    write_labels,
    write_prediction,
)
from volseg.errors import UsageError
from volseg.evaluation import EvaluationSettings, RegionScores, evaluate
from volseg.files import atomic
from volseg.metrics import mean_interval
from volseg.volume import Volume, nearest_voxels, placed, read_volume

logger = logging.getLogger("volseg.days")

MODES: dict[str, str] = {
    "none": "a network without a prior",
    "copied": "the contours of the last earlier day, voxel by voxel in the scanner's frame",
    "aligned": "the same after the rigid alignment of the images",
    "prior": "a network with a prior, given the last earlier day",
    "prior_empty": "the same file without the earlier day: it holds the network without a prior for such cases",
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
    "prior": "prior",
    "prior_empty": "prior, none given",
    "prior_shifted": "prior, shifted 15 mm",
    "prior_wrong": "prior, another patient's",
    "prior_forced": "another patient's, forced",
    "adapted": "adapted",
    "both": "adapted, with prior",
}
"""What each way is called in tables and figures for readers."""
# Along each axis in turn, by the key of the case.
_SHIFT_MM = ((15.0, 0.0, 0.0), (0.0, 15.0, 0.0), (0.0, 0.0, 15.0))
_METRICS = ("dice", "hd95_mm", "surface_dice", "added_path_length_mm", "correction_minutes")


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
        modes: Rows of the table, of `MODES`.
        seed: Seed of the trainings.
        overrides: Further settings of train.json.
        device: Device; None for the best.
    """

    cohort: Cohort
    bundle: str
    minutes: float | None = None
    epochs: int | None = None
    adapt_minutes: float = 3.0
    adapt_steps: int | None = None
    warm: bool = True
    folds: tuple[int, ...] = ()
    modes: tuple[str, ...] = tuple(MODES)
    seed: int = 0
    overrides: Mapping[str, Any] | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        unknown = [name for name in self.modes if name not in MODES]
        if unknown or not self.modes:
            raise UsageError(f"--modes must be of {', '.join(MODES)}, got {', '.join(unknown) or 'nothing'}")
        if not self.folds:
            object.__setattr__(self, "folds", tuple(range(len(self.cohort.folds()))))
        several = [one for one in sessions_of(self.cohort.rows.values()).values() if len(one) > 1]
        if not several:
            raise UsageError(f"{self.cohort.folder} has no patient with two sessions; `volseg check` counts them")

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
    """The cases of some patients in the order of their days, with what may be seen of each."""
    wanted = set(keys)
    found = []
    for patient, sessions in sessions_of(cohort.rows[key] for key in sorted(cohort.labelled)).items():
        for number, session in enumerate(sessions):
            last = sessions[number - 1] if number else None
            gap = None
            if last is not None and session.day is not None and last.day is not None:
                gap = session.day - last.day
            earlier = tuple(sessions[:number][::-1])
            found += [DayCase(key, patient, number, gap, earlier) for key in session.keys if key in wanted]
    return found


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
    for fold in settings.folds:
        networks = {name: _trained(settings, folder, fold, name, say=say) for name in _networks(settings.modes)}
        cases = day_cases(settings.cohort, settings.cohort.fold(fold).validation)
        for mode in settings.modes:
            _Mode(settings, folder, fold, networks).predict(mode, cases)
            say(f"fold {fold}: {mode} is predicted")
    return conclude_days(settings, folder)


def _networks(modes: Sequence[str]) -> list[str]:
    wanted = []
    with_prior = {"prior", "prior_empty", "prior_shifted", "prior_wrong", "prior_forced", "both"} & set(modes)
    if with_prior or {"none", "adapted"} & set(modes):
        wanted.append("none")
    if with_prior:  # after the other one, which its file holds too
        wanted.append("prior")
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

    Of warm networks the run `start` is the first half of the schedule, without a prior; `none` and `prior` are the
    second half, so that both have seen as much. The file of `prior` holds `none` for cases without a prior, which are
    thus predicted by it and by no other.
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
        "prior": name == "prior",
        # No validation chooses: the held-out patients are those that are scored.
        "validate#dataset#data": [],
        **_schedule(settings),
    }
    if start is not None:
        overrides["weights"] = str(start / "model.pt")
    if settings.device is not None:
        overrides["device"] = settings.device
    train(settings.bundle, overrides=overrides)
    plain = folder / f"fold_{fold}" / "none" / "model.pt" if name == "prior" else None
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


@dataclass(frozen=True, eq=False)
class _Mode:
    """The prediction of the cases of one fold in one way."""

    settings: DaysSettings
    folder: Path
    fold: int
    runs: Mapping[str, Path]

    @property
    def alignments(self) -> Alignments:
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
            if mode in ("copied", "aligned"):
                found = self._copied(case, aligned=mode == "aligned")
            else:
                found = self._by_network(mode, case, predictors)
            write_prediction(path, found)

    def _copied(self, case: DayCase, *, aligned: bool) -> Prediction:
        cohort = self.settings.cohort
        earlier = case.earlier[0].keys[0]
        today = read_volume(cohort.image_paths(case.key)[0])
        label = read_volume(str(cohort.label_path(earlier)))
        if aligned:
            registration = self.alignments.of(cohort.image_paths(case.key)[0], cohort.image_paths(earlier)[0])
            if not registration.failure:
                label = placed(label, registration)
        voxels = nearest_voxels(label.voxels, np.asarray(label.affine_ras), today.shape, np.asarray(today.affine_ras))
        return Prediction(Volume(voxels.astype(np.uint8), today.affine_ras), {})

    def _by_network(self, mode: str, case: DayCase, predictors: dict[Path, Any]) -> Prediction:
        run = self.runs["none" if mode in ("none", "adapted") else "prior"]
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
        if mode in ("prior", "both", "prior_shifted", "prior_wrong", "prior_forced"):
            prior = self._prior(case, mode)
            predictor = replace(predictor, priors={} if prior is None else {case.key: prior})
        found: Prediction = predictor.predict(self.settings.cohort.image_paths(case.key), key=case.key)
        return found

    def _prior(self, case: DayCase, mode: str) -> Any:  # noqa: ANN401 - PriorFiles or None
        from volseg.inference import PriorFiles, unlike_own_days

        cohort = self.settings.cohort
        key = case.earlier[0].keys[0]
        if mode in ("prior_wrong", "prior_forced"):
            others = [one for one in cohort.fold(self.fold).validation if cohort.patient(one) != case.patient]
            others = others or list(cohort.fold(self.fold).training)
            key = others[sum(case.key.encode()) % len(others)]
        measured = read_recipe(self.runs["prior"] / "model.pt").facts.get("prior") or {}
        images = cohort.image_paths(key)
        found = self.alignments.of(cohort.image_paths(case.key)[0], images[0])
        if found.failure or (mode != "prior_forced" and unlike_own_days(found, measured)):
            return None
        if mode == "prior_shifted":
            found = found.shifted(_SHIFT_MM[sum(case.key.encode()) % 3])
        label = str(cohort.label_path(key))
        widths = dict(measured.get("widths_mm", {}))
        files = PriorFiles(key, tuple(map(str, images)), label, cohort.labels.to_dataset_json(), found)
        return replace(files, widths_mm=widths)

    def _adapted(self, run: Path, case: DayCase) -> Path:
        from volseg.training import Adapting, adapt

        cohort = self.settings.cohort
        before = cohort.rows[case.key].session
        work = Adapting(
            run,
            cohort,
            case.patient,
            bundle=self.settings.bundle,
            before=before,
            minutes=self.settings.adapt_minutes,
            steps=self.settings.adapt_steps,
            device=self.settings.device,
            cache_dir=self.folder / "cache",
            seed=self.settings.seed,
        )
        known = adapted_path(run, case.patient, case.earlier[0].name)
        target = adapt(work)
        if target != known:
            raise UsageError(f"{case.key} would be predicted by {target}, which is not of the days before it")
        return target


def conclude_days(settings: DaysSettings, folder: Path) -> dict[str, Any]:
    """Score what is predicted, and write `table.csv`, `summary.json`, `days.md` and `days.html`."""
    cohort = settings.cohort
    keys = [key for fold in settings.folds for key in cohort.fold(fold).validation]
    cases = {case.key: case for case in day_cases(cohort, keys)}
    rows: dict[str, list[RegionScores]] = {}
    for mode in settings.modes:
        there = Predictions(folder / "oof" / mode)
        mine = [key for key in cases if there.path(key).is_file()]
        rows[mode] = evaluate(there.folder, cohort, keys=mine, method=EvaluationSettings()) if mine else []
    content = {
        "schema": "volseg.days/1",
        **settings.facts,
        "modes": {mode: _mode_summary(rows[mode], rows.get("none", []), cases) for mode in settings.modes},
        "definitions": {mode: MODES[mode] for mode in settings.modes},
        "titles": {mode: TITLES[mode] for mode in settings.modes},
    }
    _write_table(folder / "table.csv", rows, cases)
    with atomic(folder / "summary.json") as partial:
        partial.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
    with atomic(folder / "days.md") as partial:
        partial.write_text(days_page(content), encoding="utf-8")
    from volseg.report import write_days_page

    write_days_page(content, folder)
    return content


def _mode_summary(
    rows: Sequence[RegionScores], base: Sequence[RegionScores], cases: Mapping[str, DayCase]
) -> dict[str, Any]:
    """Means from the second day on, by region, and the gain over no prior on the same cases."""
    later = [row for row in rows if row.error is None and cases[row.key].number > 0]
    of_base = {(row.key, row.region): row for row in base if row.error is None}
    found: dict[str, Any] = {"regions": {}, "cases": len({row.key for row in later})}
    for region in dict.fromkeys(row.region for row in later):
        mine = [row for row in later if row.region == region]
        found["regions"][region] = {name: _interval(mine, name) for name in _METRICS}
    pairs = [(row, of_base[row.key, row.region]) for row in later if (row.key, row.region) in of_base]
    found["dice"] = _interval(later, "dice")
    found["minutes"] = _interval(later, "correction_minutes")
    for name, metric in (("gain_dice", "dice"), ("gain_minutes", "correction_minutes")):
        values = [(_value(a, metric) - _value(b, metric), a.patient) for a, b in pairs]
        found[name] = _of_values(values)
    numbers = sorted({cases[row.key].number for row in rows if row.error is None})
    found["by_day"] = {
        str(n): _interval([row for row in rows if row.error is None and cases[row.key].number == n], "dice")
        for n in numbers
    }
    gaps = {"1 to 3 days": (0, 3), "4 to 7 days": (3, 7), "more": (7, float("inf"))}
    found["by_gap"] = {
        name: _interval([row for row in later if _within(cases[row.key].gap_days, *ends)], "dice")
        for name, ends in gaps.items()
    }
    return found


def _within(gap: float | None, low: float, high: float) -> bool:
    return gap is not None and low < gap <= high


def _value(row: RegionScores, metric: str) -> float:
    value = getattr(row, metric)
    return float("nan") if value is None else float(value)


def _interval(rows: Sequence[RegionScores], metric: str) -> dict[str, Any]:
    return _of_values([(_value(row, metric), row.patient) for row in rows])


def _of_values(values: Sequence[tuple[float, str]]) -> dict[str, Any]:
    there = [(value, patient) for value, patient in values if not np.isnan(value)]
    if not there:
        return {"mean": None, "low": None, "high": None, "values": 0}
    found = mean_interval([value for value, _ in there], [patient for _, patient in there])
    ends = [None if np.isnan(end) else round(float(end), 4) for end in (found.low, found.high)]
    return {"mean": round(float(found.mean), 4), "low": ends[0], "high": ends[1], "values": len(there)}


def _write_table(path: Path, rows: Mapping[str, Sequence[RegionScores]], cases: Mapping[str, DayCase]) -> None:
    import csv

    columns = ["mode", "key", "patient", "day_number", "gap_days", "region", *_METRICS, "error"]
    with atomic(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for mode, found in rows.items():
            for row in found:
                case = cases[row.key]
                facts = {"mode": mode, "day_number": case.number, "gap_days": case.gap_days}
                values = {**asdict(row), **facts}
                writer.writerow({name: "" if values.get(name) is None else values[name] for name in columns})


def days_page(content: Mapping[str, Any]) -> str:
    """The table as Markdown."""
    titles = content["titles"]
    lines = [
        "# Day after day",
        "",
        f"{content['bundle']}, patients held out by fold; day k is predicted from days before k alone. Means from the "
        "second day on, with 95 % intervals by patient.",
        "",
        "| row | Dice | gain over no prior | minutes to correct | gain, minutes | cases |",
        "|---|---|---|---|---|---|",
    ]
    for mode, found in content["modes"].items():
        cells = [_cell(found[name]) for name in ("dice", "gain_dice", "minutes", "gain_minutes")]
        lines.append(f"| {titles[mode]} | {' | '.join(cells)} | {found['cases']} |")
    lines += ["", "| row | region | Dice | HD95 mm | surface Dice | added path mm |", "|---|---|---|---|---|---|"]
    for mode, found in content["modes"].items():
        for region, metrics in found["regions"].items():
            cells = [_cell(metrics[name]) for name in ("dice", "hd95_mm", "surface_dice", "added_path_length_mm")]
            lines.append(f"| {titles[mode]} | {region.replace('_', ' ')} | {' | '.join(cells)} |")
    for name, title in (("by_day", "number of the day"), ("by_gap", "gap to the day before")):
        heads = list(dict.fromkeys(head for found in content["modes"].values() for head in found[name]))
        lines += ["", f"Dice by {title}:", "", f"| row | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
        for mode, found in content["modes"].items():
            cells = [_cell(found[name].get(head, {"mean": None})) for head in heads]
            lines.append(f"| {titles[mode]} | {' | '.join(cells)} |")
    lines += [
        "",
        "The minutes are the added path length, in which a pixel of contour counts as drawn only if the prediction's "
        "contour runs through that very pixel, times an assumed 2 minutes per metre.",
        "",
        *(f"- **{titles[mode]}** (`{mode}`): {text}." for mode, text in content["definitions"].items()),
    ]
    return "\n".join(lines) + "\n"


def _cell(found: Mapping[str, Any]) -> str:
    if found.get("mean") is None:
        return "–"
    digits = 3 if abs(found["mean"]) < 10 else 1
    text = f"{found['mean']:.{digits}f}"
    if found.get("low") is None:
        return text
    return f"{text} [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"
