"""Do the bounds hold? Coverage of `volseg calibrate` over random splits, left-out folds, days of patients and damage.

    volseg crossval dense_unet data/hippocampus -o data/cv --minutes 20 --save-probabilities
    python benchmarks/calibration.py splits data/cv data/hippocampus
    python benchmarks/calibration.py damaged data/cv data/hippocampus -o data/calibration_benchmark

    volseg phantom data/raw --patients 32 --days 4 --seed 7 && volseg convert uw_madison data/raw data/phantom32
    volseg predict swinunetr data/phantom32 --checkpoint RUN --save-probabilities -o data/soft32
    python benchmarks/calibration.py days data/soft32 data/phantom32

`splits` calibrates on four fifths of the patients and tests on the others: each fold in turn, and random splits.
Normalisers, quantiles and ranges are made again in each; temperatures and decisions are those of all patients. Beside
each coverage stands what a perfect bound would give: with k = ceil(level (n + 1)) the coverage of a split conformal
bound of n patients is Beta(k, n + 1 - k), and the number of m new patients for whom it holds is beta-binomial (Vovk
2012, arXiv:1209.2673). Whether folds are unlike is a permutation test: patients are dealt to folds at random, and all
is done again. Random splits of the same patients cannot tell it: they hold 90 % on average whatever the network is.
`damaged` damages the held-out images of each fold as `benchmarks/quality.py` does, predicts them by the network of that
fold, and calibrates on the undamaged other folds; what it has predicted is not predicted again. A turned image is
scored against the reference as it was, and against one that was turned with it. `days` leaves out a fifth of the
patients, and calibrates with the patient and, wrongly, with the day as the unit.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from harness.damage import DAMAGES, predict_damaged, turned
from harness.measurement import tell
from scipy import stats

from volseg.calibration import (
    LEVEL,
    Calibration,
    HeldOut,
    MeasuredCase,
    choose_decisions,
    count_probabilities,
    fit_calibration,
    measure_cases,
)
from volseg.cohort import Cohort, Predictions
from volseg.crossval import CrossvalFolder
from volseg.evaluation import rank
from volseg.metrics import fit_scaling, fit_temperature

Told = dict[str, list[float]]


def measured(held_out: HeldOut) -> tuple[list[MeasuredCase], dict[str, float], dict[str, dict[str, Any]]]:
    """All cases with the decision of `auto`, the temperatures, and the facts of the decisions."""
    names = held_out.cohort.labels.names
    counts = count_probabilities(held_out)
    temperatures = {name: fit_temperature(one) for name, one in counts.items()}
    scalings = {name: fit_scaling(one) for name, one in counts.items()}
    decisions = choose_decisions(held_out, scalings)
    rules = [scalings[name] if decisions[name]["rule"] == "dice" else None for name in names]
    return measure_cases(held_out, rules, temperatures), temperatures, decisions


def try_bounds(calibration: Calibration, cases: Sequence[MeasuredCase], told: dict[str, Told]) -> None:
    """Add what became of the bounds of some cases, by region."""
    for case in cases:
        bounds = calibration.bounds({name: one.features for name, one in case.regions.items()}, case.scan)
        for name, given in bounds.items():
            one, of_region = case.regions[name], told.setdefault(name, {})
            if not one.found or math.isnan(one.dice):
                continue
            of_region.setdefault("answered", []).append(float(not given.withheld))
            if given.withheld or given.dice_at_least is None:
                of_region.setdefault("withheld_dice", []).append(one.dice)
                continue
            low, high = given.ml_low or 0.0, math.inf if given.ml_high is None else given.ml_high
            margin = math.inf if given.margin_mm is None else given.margin_mm
            values = {
                "dice": one.dice >= given.dice_at_least,
                "volume": low <= one.reference_ml <= high,
                "margin": one.margin_mm <= margin,
                "slack": one.dice - given.dice_at_least,
                "bound": given.dice_at_least,
                "true": one.dice,
                "margin_mm": margin,
                "width": (high - low) / one.reference_ml if one.reference_ml else math.nan,
            }
            for fact, value in values.items():
                of_region.setdefault(fact, []).append(float(value))


HEAD = (
    "| {} | region | Dice bound holds | volume holds | margin holds | slack | median bound | true Dice "
    "| median margin, mm | not comparable |\n|---|---|---|---|---|---|---|---|---|---|"
)


def lines(what: str, told: dict[str, Told]) -> list[str]:
    """A row of the table per region."""
    found = []
    for name, one in told.items():
        share = {
            fact: f"{100 * np.mean(one[fact]):.1f} %" if one.get(fact) else "–" for fact in ("dice", "volume", "margin")
        }
        numbers = [f"{np.mean(one['slack']):.3f}", f"{np.median(one['bound']):.3f}", f"{np.mean(one['true']):.3f}"]
        withheld = 100 * (1 - np.mean(one["answered"]))
        found.append(
            f"| {what} | {name} | {share['dice']} | {share['volume']} | {share['margin']} | {' | '.join(numbers)} "
            f"| {np.median(one['margin_mm']):.2f} | {withheld:.1f} % |"
        )
    return found


def held_out_of(folder: Path, cohort: Cohort) -> tuple[HeldOut, dict[str, int]]:
    """The out-of-fold predictions of a cross-validation, finished or not, and the fold of each case."""
    there = CrossvalFolder(folder)
    network = next(path.parent.parent.name for path in sorted(folder.glob("*/fold_*/final.pt")))
    folds: dict[str, int] = {}
    place = folder / "oof" / network
    gathered = place if (place / "probabilities").is_dir() else None
    for number in range(len(cohort.folds())):
        predictions = Predictions(there.validation(network, number))
        for key in cohort.fold(number).validation:
            if predictions.probabilities_path(key).is_file():
                folds[key] = number
    if gathered is None:
        gathered = Path(str(folder.resolve()) + "_oof")
        (gathered / "probabilities").mkdir(parents=True, exist_ok=True)
        for key, number in folds.items():
            target = Predictions(gathered).probabilities_path(key)
            if not target.exists():
                target.symlink_to(Predictions(there.validation(network, number)).probabilities_path(key).resolve())
    return HeldOut(Predictions(gathered), cohort, sorted(folds)), folds


def perfect(known: int, new: int, level: float = LEVEL) -> tuple[float, float, float]:
    """Mean coverage of a bound that is right, and the ends of the 95 % interval of what `new` patients show of it.

    Args:
        known: Patients behind the quantile.
        new: Patients tested.
        level: Probability that is promised.
    """
    rank_of = math.ceil(level * (known + 1) - 1e-9)
    law = stats.betabinom(new, rank_of, known + 1 - rank_of)
    return float(law.mean()) / new, float(law.ppf(0.025)) / new, float(law.ppf(0.975)) / new


def left_out(
    cases: Sequence[MeasuredCase], folds: dict[str, int], names: Sequence[str]
) -> tuple[dict[int, dict[str, Told]], dict[int, Calibration]]:
    """What became of the bounds of each fold, calibrated on the others."""
    told: dict[int, dict[str, Told]] = {}
    calibrations = {}
    for fold in sorted(set(folds.values())):
        calibrations[fold] = fit_calibration([case for case in cases if folds[case.key] != fold], names, checked=False)
        try_bounds(calibrations[fold], [case for case in cases if folds[case.key] == fold], told.setdefault(fold, {}))
    return told, calibrations


def unlike(told: dict[int, dict[str, Told]], name: str, target: str) -> float:
    """How unlike the folds are: the variance of their coverages, by the number of cases."""
    shares = [(len(one[name][target]), float(np.mean(one[name][target]))) for one in told.values() if name in one]
    weights, values = (np.array(column) for column in zip(*shares, strict=True))
    return float((weights * (values - np.average(values, weights=weights)) ** 2).sum())


def tell_unlike(
    cases: Sequence[MeasuredCase],
    folds: dict[str, int],
    names: Sequence[str],
    told: dict[int, dict[str, Told]],
    draws: int,
) -> None:
    """The p-values of a permutation test: are the folds less alike than random fifths of the same patients?"""
    of_patient = {case.patient: folds[case.key] for case in cases}
    patients = sorted(of_patient)
    draw = np.random.default_rng(1)
    tests = [(name, target) for name in names for target in ("dice", "volume", "margin")]
    seen = {test: unlike(told, *test) for test in tests}
    above = dict.fromkeys(tests, 1)
    for _ in range(draws):
        dealt = dict(zip(patients, draw.permutation([of_patient[one] for one in patients]).tolist(), strict=True))
        other, _ = left_out(cases, {case.key: dealt[case.patient] for case in cases}, names)
        for test in tests:
            above[test] += unlike(other, *test) >= seen[test] - 1e-12
    tell(f"folds unlike each other, p of {draws} permutations of the patients:")
    for (name, target), count in above.items():
        tell(f"  {name}, {target}: {count / (draws + 1):.3f}")


def splits(given: argparse.Namespace) -> None:
    """Left-out folds and random splits."""
    cohort = Cohort.open(given.cohort)
    held_out, folds = held_out_of(given.crossval, cohort)
    cases, temperatures, decisions = measured(held_out)
    names = cohort.labels.names
    tell(f"{len(cases)} cases of {len({case.patient for case in cases})} patients; temperatures {temperatures}")
    for name, chosen_by in decisions.items():
        tell(f"  {name}: {chosen_by}")
    tell(HEAD.format("left out"))
    by_fold, calibrations = left_out(cases, folds, names)
    for fold, told in by_fold.items():
        for line in lines(f"fold {fold}", told):
            tell(line)
    counted = min(one.patients for calibration in calibrations.values() for one in calibration.regions.values())
    size = len(cases) // len(by_fold)
    mean, low, high = perfect(counted, size)
    tell(f"a perfect bound of {counted} patients, in {size} others: {mean:.3f}, 95 % of folds {low:.3f} to {high:.3f}")
    if given.permutations:
        tell_unlike(cases, folds, names, by_fold, given.permutations)
    patients = sorted({case.patient for case in cases})
    test = max(1, len(patients) // 5)
    draw = np.random.default_rng(0)
    told = {}
    chosen: dict[str, dict[str, int]] = {}
    shares: dict[str, list[float]] = {}
    for _ in range(given.draws):
        one_split: dict[str, Told] = {}
        left = set(draw.permutation(patients)[:test].tolist())
        calibration = fit_calibration([case for case in cases if case.patient not in left], names, checked=False)
        for name, one in calibration.regions.items():
            for target in ("dice", "volume", "margin"):
                counts = chosen.setdefault(f"{name}, {target}", {})
                label = getattr(one, target).normaliser.name
                counts[label] = counts.get(label, 0) + 1
        try_bounds(calibration, [case for case in cases if case.patient in left], one_split)
        for name, facts in one_split.items():
            shares.setdefault(name, []).append(float(np.mean(facts["dice"])))
            for fact, values in facts.items():
                told.setdefault(name, {}).setdefault(fact, []).extend(values)
    for line in lines(f"{given.draws} random splits, {len(patients) - test} and {test}", told):
        tell(line)
    mean, low, high = perfect(counted, test)
    for name, values in shares.items():
        ends = np.percentile(values, (2.5, 97.5))
        tell(
            f"  {name}: 95 % of the splits between {100 * ends[0]:.1f} and {100 * ends[1]:.1f} %; of a perfect bound "
            f"with new patients each time between {100 * low:.1f} and {100 * high:.1f} %"
        )
    for target, counts in chosen.items():
        tell(f"  normaliser of {target}: {dict(sorted(counts.items(), key=lambda pair: -pair[1]))}")


def days(given: argparse.Namespace) -> None:
    """The patient and, wrongly, the day as the unit."""
    cohort = Cohort.open(given.cohort)
    predictions = Predictions.open(given.predictions)
    keys = [key for key in sorted(cohort.labelled) if predictions.probabilities_path(key).is_file()]
    cases, temperatures, decisions = measured(HeldOut(predictions, cohort, keys))
    names = cohort.labels.names
    patients = sorted({case.patient for case in cases})
    tell(f"{len(cases)} scans of {len(patients)} patients; temperatures {temperatures}")
    for name, facts in decisions.items():
        tell(f"  {name}: {facts}")
    tell(HEAD.format("unit"))
    by_day = {case.key: replace(case, patient=case.key) for case in cases}
    for unit in ("patient", "day"):
        draw = np.random.default_rng(0)
        told: dict[str, Told] = {}
        whole: dict[str, list[float]] = {}
        for _ in range(given.draws):
            left = set(draw.permutation(patients)[: max(1, len(patients) // 5)].tolist())
            known = [case for case in cases if case.patient not in left]
            known = known if unit == "patient" else [by_day[case.key] for case in known]
            calibration = fit_calibration(known, names, checked=False)
            new = [case for case in cases if case.patient in left]
            before = {name: len(one.get("dice", ())) for name, one in told.items()}
            try_bounds(calibration, new, told)
            for name, one in told.items():
                whole.setdefault(name, []).append(float(np.mean(one["dice"][before.get(name, 0) :])))
        for line in lines(unit, told):
            tell(line)
        for name, shares in whole.items():
            low = 100 * np.mean([share < 0.85 for share in shares])
            tell(f"  {unit}, {name}: below 85 % in {low:.1f} % of the splits")


def damage(given: argparse.Namespace) -> None:
    """Damaged images of each fold."""
    cohort = Cohort.open(given.cohort)
    held_out, folds = held_out_of(given.crossval, cohort)
    cases, temperatures, _ = measured(held_out)
    names = cohort.labels.names
    there = CrossvalFolder(given.crossval)
    network = next(path.parent.parent.name for path in sorted(given.crossval.glob("*/fold_*/final.pt")))
    told: dict[str, Told] = {}
    by_kind: dict[str, dict[str, Told]] = {}
    heads = ("fold", "cases", "rho of the list by bound", "by expected Dice", "p of the first")
    tell(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for fold in sorted(set(folds.values()))[: given.folds]:
        keys = [key for key, number in folds.items() if number == fold]
        calibration = fit_calibration([case for case in cases if folds[case.key] != fold], names, checked=False)
        calibration = replace(
            calibration,
            regions={name: replace(one, temperature=temperatures[name]) for name, one in calibration.regions.items()},
        )
        new = predict_damaged(
            cohort, keys, there.network(network, fold), network, given.output / f"fold_{fold}", calibration
        )
        try_bounds(calibration, new, told)
        for case in new:
            number = sorted(keys).index(case.key)
            kind = DAMAGES[number % len(DAMAGES)]
            try_bounds(calibration, [case], by_kind.setdefault(kind, {}))
            if kind == "rotation":
                other = turned(case, cohort, given.output / f"fold_{fold}", 1000 + number)
                try_bounds(calibration, [other], by_kind.setdefault(f"{kind}, its reference turned too", {}))
        tell(order(cohort, given.output / f"fold_{fold}", new, fold))
    tell(HEAD.format("damaged"))
    for line in lines("all", told):
        tell(line)
    for kind, of_kind in by_kind.items():
        for name, one in of_kind.items():
            answered, dices = one["answered"], [*one.get("true", ()), *one.get("withheld_dice", ())]
            held = f"{sum(one.get('dice', ())):.0f} of {len(one.get('dice', ()))}"
            tell(
                f"| {kind} | {name} | holds {held} | withheld {len(answered) - sum(answered):.0f} of {len(answered)} "
                f"| mean Dice {np.mean(dices):.3f} |"
            )


def order(cohort: Cohort, folder: Path, cases: Sequence[MeasuredCase], fold: int) -> str:
    """Spearman's rho of the place in the list of `volseg quality` with the true mean Dice, with and without bounds."""
    true = {case.key: float(np.nanmean([one.dice for one in case.regions.values()])) for case in cases}
    rhos = []
    for with_bounds in (True, False):
        listed = rank(folder / "predictions", cohort.labels, cohort=cohort, images=Cohort.open(folder / "images"))
        if not with_bounds:
            listed = sorted((replace(one, bounds={}) for one in listed), key=lambda one: one.order)
        rhos.append(stats.spearmanr(range(len(listed)), [true[one.key] for one in listed]))
    found = [f"{rho.statistic:+.2f}" for rho in rhos]
    return f"| {fold} | {len(cases)} | {found[0]} | {found[1]} | {rhos[0].pvalue:.1g} |"


def main() -> None:
    """Parse and run one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(required=True)
    for name, run, first in (
        ("splits", splits, "crossval"),
        ("damaged", damage, "crossval"),
        ("days", days, "predictions"),
    ):
        part = parts.add_parser(name)
        part.add_argument(first, type=Path)
        part.add_argument("cohort", type=Path)
        part.add_argument("--draws", type=int, default=1000)
        part.add_argument("--permutations", type=int, default=500, help="of patients among the folds; 0 for none")
        part.add_argument("--folds", type=int, default=5)
        part.add_argument("-o", "--output", type=Path, default=Path("data/calibration_benchmark"))
        part.set_defaults(run=run)
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
