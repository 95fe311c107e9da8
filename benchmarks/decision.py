"""Does the decision with the largest expected Dice gain over a threshold of 0.5? Dice of both, paired by patient.

    volseg predict unet data/cohort --part validation --save-probabilities --no-calibration -o data/soft
    python benchmarks/decision.py data/cohort data/soft -o data/decision_benchmark

The probabilities of one run are decided both ways, so that nothing else differs. `auto` is what `volseg calibrate`
chooses: one half of the patients chooses temperature and rule, and the other half is decided by it, and the other way
round. Per region: mean Dice of both, the
mean gain by patient with its 95 % interval (percentile bootstrap over patients), cases that gain and that lose, and the
p-value of a signed-rank test over patients. `cases.csv` in the output holds every number. The last two columns are the
processor time of the decisions alone, in seconds per million voxels, alternating in this run.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

import nibabel as nib
import numpy as np

from volseg.calibration import HeldOut, choose_decisions, fit_temperatures, measure_cases
from volseg.cohort import FILE_ENDING, PROBABILITIES, Cohort, Predictions, read_labels
from volseg.errors import UsageError
from volseg.labels import LabelTable
from volseg.metrics import decide_by_dice, dice, mean_interval, signed_rank_p
from volseg.volume import read_volume

COLUMNS = ("case", "patient", "region", "reference_voxels", "threshold", "dice", "auto")

Row = tuple[str, str, str, int, float, float, float]
Seconds = tuple[float, float]


def tell(line: str) -> None:
    """Write one line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def score(cohort: Cohort, folder: Path, labels: LabelTable) -> tuple[list[Row], list[Seconds]]:
    """Rows of all cases with a reference, and seconds per million voxels of both decisions of each case."""
    rows: list[Row] = []
    automatic = decide_automatically(cohort, folder)
    seconds: list[Seconds] = []
    for path in sorted((folder / PROBABILITIES).glob(f"*{FILE_ENDING}")):
        key = path.name.removesuffix(FILE_ENDING)
        reference_path = cohort.label_path(key)
        if reference_path is None:
            continue
        probabilities = np.ascontiguousarray(np.moveaxis(np.asarray(nib.load(path).dataobj, np.float32), -1, 0))
        truth = labels.masks(np.asarray(read_volume(reference_path).voxels))
        of_regions = probabilities[-len(labels.names) :]
        begun = time.process_time()
        plain = labels.masks(labels.decide(probabilities))
        between = time.process_time()
        best = labels.masks(labels.encode(decide_by_dice(of_regions, exclusive=not labels.overlap)))
        million = truth[0].size / 1e6
        seconds.append(((between - begun) / million, (time.process_time() - between) / million))
        for name, mask, one, other, auto in zip(labels.names, truth, plain, best, automatic[key], strict=True):
            values = (dice(one, mask), dice(other, mask), auto)
            rows.append((key, cohort.patient(key), name, int(mask.sum()), *values))
    if not rows:
        raise UsageError(f"{folder} has no probabilities of cases with a reference; use predict --save-probabilities")
    return rows, seconds


def decide_automatically(cohort: Cohort, folder: Path) -> dict[str, list[float]]:
    """Dice of each region of each case, decided by what the other half of the patients has chosen."""
    there = Predictions(folder)
    keys = [key for key in sorted(cohort.labelled) if there.probabilities_path(key).is_file()]
    patients = sorted({cohort.patient(key) for key in keys})
    halves = [set(patients[::2]), set(patients[1::2])]
    found: dict[str, list[float]] = {}
    for known, new in (halves, halves[::-1]):
        choosing = HeldOut(there, cohort, [key for key in keys if cohort.patient(key) in known])
        temperatures = fit_temperatures(choosing)
        facts = choose_decisions(choosing, temperatures)
        rules = [temperatures[name] if one["rule"] == "dice" else None for name, one in facts.items()]
        tell(f"auto of one half: { {name: one['rule'] for name, one in facts.items()} }, temperatures {temperatures}")
        deciding = HeldOut(there, cohort, [key for key in keys if cohort.patient(key) in new])
        for case in measure_cases(deciding, rules, temperatures):
            found[case.key] = [one.dice for one in case.regions.values()]
    return found


def summarise(rows: list[Row], seconds: list[Seconds]) -> list[str]:
    """A table in Markdown, one line per region."""
    lines = [
        "| region | cases | patients | Dice at 0.5 | Dice of dice | gain by patient | better, worse | p | of auto "
        "| gain of auto |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for region in dict.fromkeys(name for _, _, name, *_ in rows):
        own = [row for row in rows if row[2] == region and np.isfinite(row[4:]).all()]
        auto = mean_interval([row[6] - row[4] for row in own], [row[1] for row in own])
        gains: dict[str, list[float]] = defaultdict(list)
        for _, patient, _, _, plain, best, _ in own:
            gains[patient].append(best - plain)
        by_patient = [float(np.mean(values)) for values in gains.values()]
        interval = mean_interval([row[5] - row[4] for row in own], [row[1] for row in own])
        changes = [value for values in gains.values() for value in values]
        lines.append(
            f"| {region} | {len(own)} | {len(gains)} | {np.mean([row[4] for row in own]):.4f} "
            f"| {np.mean([row[5] for row in own]):.4f} "
            f"| {interval.mean:+.4f} ({interval.low:+.4f} to {interval.high:+.4f}) "
            f"| {sum(change > 0 for change in changes)}, {sum(change < 0 for change in changes)} "
            f"| {signed_rank_p(by_patient):.2g} | {np.mean([row[6] for row in own]):.4f} "
            f"| {auto.mean:+.4f} ({auto.low:+.4f} to {auto.high:+.4f}) |"
        )
    plain_s, best_s = (median(pair[place] for pair in seconds) for place in (0, 1))
    lines.append(f"\nProcessor seconds per million voxels: {plain_s:.4f} at 0.5, {best_s:.4f} for the largest Dice")
    return lines


def main() -> None:
    """Score and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("predictions", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    labels = read_labels(given.predictions, option="predictions")
    rows, seconds = score(Cohort.open(given.cohort), given.predictions, labels)
    given.output.mkdir(parents=True, exist_ok=True)
    with (given.output / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        table.writerows(rows)
    for line in summarise(rows, seconds):
        tell(line)


if __name__ == "__main__":
    main()
