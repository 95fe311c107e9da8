"""Does the decision with the largest expected Dice gain over a threshold of 0.5? Dice of both, paired by patient.

    volseg predict unet data/cohort --part validation --save-probabilities --no-calibration -o data/soft
    python benchmarks/decision.py data/cohort data/soft -o data/decision_benchmark

The probabilities of one run are decided in four ways, so that nothing else differs: by the threshold; for the largest
expected Dice of the probabilities as they are (`--decision dice`); of the scaled ones; and by `auto`, which is what
`volseg calibrate` chooses. Scalings and `auto` are chosen by a random half of the patients and tried on the other half,
and the other way round; this is repeated, and the Dice of a case is the mean of the repetitions. Per region: mean Dice,
the mean gain by patient with its 95 % interval (percentile bootstrap over patients), patients that gain and that lose
with `auto`, the p-value of a signed-rank test over patients, and in how many of the halves `auto` left the threshold.
`cases.csv` in the output holds every number. The last lines are the processor time of the decisions alone, alternating,
the best of three of each case, and the peak of memory of the largest case with its probabilities.
"""

from __future__ import annotations

import argparse
import csv
import time
import tracemalloc
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from harness.measurement import tell

from volseg.calibration import HeldOut, choose_decisions, count_probabilities
from volseg.cohort import Cohort, Predictions
from volseg.errors import UsageError
from volseg.labels import LabelTable
from volseg.metrics import (
    Interval,
    Scaling,
    decide_by_dice,
    dice,
    fit_scaling,
    mean_interval,
    regions_by_dice,
    signed_rank_p,
)

WAYS = ("threshold", "dice", "scaled", "auto")
COLUMNS = ("case", "patient", "region", "reference_voxels", *WAYS)

Row = tuple[str, str, str, int, float, float, float, float]


class Kept(HeldOut):
    """Predictions that are read once."""

    _open: dict[str, Any] = {}  # noqa: RUF012 - shared by all halves of the cohort

    def each(self, work: Callable[[Any], Any], progress: Any = None) -> Any:  # noqa: ANN401, ARG002 - as in HeldOut
        """The result of a function of each case."""
        for key in self.keys:
            if key not in self._open:
                ((_, self._open[key]),) = HeldOut(self.predictions, self.cohort, [key]).each(lambda case: case)
            yield key, work(self._open[key])


def halves_of(patients: Sequence[str], repeats: int) -> list[tuple[set[str], set[str]]]:
    """Patients that choose and patients that are decided, both ways for each of some random halves."""
    draw, found = np.random.default_rng(0), []
    for _ in range(repeats):
        dealt = draw.permutation(sorted(set(patients))).tolist()
        one, other = set(dealt[::2]), set(dealt[1::2])
        found += [(one, other), (other, one)]
    return found


def score(held: Kept, repeats: int) -> tuple[list[Row], dict[str, int]]:
    """Rows of all cases with a reference, and in how many halves each region was decided by its Dice."""
    cohort, labels = held.cohort, held.cohort.labels
    values: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    chosen: Counter[str] = Counter()

    def keep(keys: Sequence[str], way: str, rules: Sequence[Scaling | None]) -> None:
        part = Kept(held.predictions, cohort, keys)
        for key, case in part.each(lambda case: case):
            for name, mask, truth in zip(labels.names, case.decided(rules), case.truth, strict=True):
                values[key, name, way].append(dice(mask, truth))

    keep(held.keys, "threshold", [None] * len(labels.names))
    keep(held.keys, "dice", [Scaling()] * len(labels.names))
    for known, new in halves_of([cohort.patient(key) for key in held.keys], repeats):
        choosing = Kept(held.predictions, cohort, [key for key in held.keys if cohort.patient(key) in known])
        scalings = {name: fit_scaling(one) for name, one in count_probabilities(choosing).items()}
        facts = choose_decisions(choosing, scalings)
        chosen.update(name for name, one in facts.items() if one["rule"] == "dice")
        deciding = [key for key in held.keys if cohort.patient(key) in new]
        keep(deciding, "scaled", list(scalings.values()))
        keep(deciding, "auto", [scalings[name] if one["rule"] == "dice" else None for name, one in facts.items()])
    tell(f"scalings of the last half: { {name: tuple(one) for name, one in scalings.items()} }")
    rows: list[Row] = []
    for key, case in held.each(lambda case: case):
        for name, truth in zip(labels.names, case.truth, strict=True):
            means = [float(np.mean(values[key, name, way])) for way in WAYS]
            rows.append((key, cohort.patient(key), name, int(truth.sum()), *means))
    return rows, dict(chosen)


def seconds(held: Kept, scaling: Scaling) -> str:
    """Processor seconds per million voxels of the ways, and the peak of memory."""
    labels, found = held.cohort.labels, defaultdict(list)
    ways = ways_of(labels, scaling)
    largest: Any = None
    for _, case in held.each(lambda case: case):
        million = case.plain[0].size / 1e6
        largest = case if largest is None or case.plain.size > largest.plain.size else largest
        best = dict.fromkeys(ways, float("inf"))
        given = everything(labels, case.probabilities)
        for _ in range(3):
            for way, decide in ways.items():
                begun = time.process_time()
                decide(given)
                best[way] = min(best[way], (time.process_time() - begun) / million)
        for way, value in best.items():
            found[way].append(value)
    peaks = {}
    given = everything(labels, largest.probabilities)
    for way, decide in ways.items():
        tracemalloc.start()
        decide(given)
        peaks[way] = (given.nbytes + tracemalloc.get_traced_memory()[1]) / 2**20
        tracemalloc.stop()
    of_threshold = np.array(found["threshold"])
    told = [
        f"{way} {np.median(found[way]):.4f} s ({np.median(np.array(found[way]) / of_threshold):.2f} times), "
        f"{peaks[way]:.1f} MiB ({peaks[way] / peaks['threshold']:.2f} times)"
        for way in ways
    ]
    return f"\nProcessor time per million voxels, from probabilities to masks, and peak of memory: {'; '.join(told)}"


def everything(labels: LabelTable, of_regions: Any) -> Any:  # noqa: ANN401 - arrays
    """All channels, with a background where regions exclude each other."""
    if labels.overlap:
        return of_regions
    return np.concatenate([np.maximum(0, 1 - of_regions.sum(axis=0, keepdims=True)), of_regions])


def ways_of(labels: LabelTable, scaling: Scaling) -> dict[str, Callable[[Any], Any]]:
    """Functions from the probabilities of all channels to masks, as a prediction goes: through the label map."""
    count, exclusive = len(labels.names), not labels.overlap

    def by_dice(scalings: Sequence[Scaling] | None) -> Callable[[Any], Any]:
        if exclusive:
            return lambda given: labels.masks(
                labels.from_numbers(regions_by_dice(given[1:], scalings, background=given[0]))
            )
        return lambda given: labels.masks(
            labels.encode(decide_by_dice(given[-count:], exclusive=False, scalings=scalings))
        )

    return {
        "threshold": lambda given: labels.masks(labels.decide(given)),
        "dice": by_dice(None),
        "scaled": by_dice([scaling] * count),
    }


def summarise(rows: list[Row], chosen: dict[str, int], halves: int) -> list[str]:
    """A table in Markdown, one line per region."""
    lines = [
        "| region | cases, patients | Dice at 0.5 | `dice` | scaled | `auto` | gain of scaled | gain of `auto` "
        "| patients better, worse | p | halves that chose it |",
        f"|{'---|' * 11}",
    ]
    for region in dict.fromkeys(name for _, _, name, *_ in rows):
        own = [row for row in rows if row[2] == region and np.isfinite(row[4:]).all()]
        patients = [row[1] for row in own]
        if not own:
            continue
        gains: dict[str, list[float]] = defaultdict(list)
        for row in own:
            gains[row[1]].append(row[7] - row[4])
        by_patient = [float(np.mean(values)) for values in gains.values()]
        dice = np.array([row[4:] for row in own])  # (cases, ways)
        means = [f"{mean:.4f}" for mean in dice.mean(axis=0)]
        told = [_told(mean_interval((dice[:, way] - dice[:, 0]).tolist(), patients)) for way in (2, 3)]
        lines.append(
            f"| {region} | {len(own)}, {len(gains)} | {' | '.join([*means, *told])} "
            f"| {sum(gain > 0 for gain in by_patient)}, {sum(gain < 0 for gain in by_patient)} "
            f"| {signed_rank_p(by_patient):.2g} | {chosen.get(region, 0)} of {halves} |"
        )
    return lines


def _told(interval: Interval) -> str:
    return f"{interval.mean:+.4f} ({interval.low:+.4f} to {interval.high:+.4f})"


def main() -> None:
    """Score and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("predictions", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=5, help="random halves of the patients, each both ways")
    given = parser.parse_args()
    cohort, there = Cohort.open(given.cohort), Predictions.open(given.predictions)
    keys = [key for key in sorted(cohort.labelled) if there.probabilities_path(key).is_file()]
    if not keys:
        raise UsageError(
            f"{given.predictions} has no probabilities of cases with a reference; use --save-probabilities"
        )
    held = Kept(there, cohort, keys)
    rows, chosen = score(held, given.repeats)
    given.output.mkdir(parents=True, exist_ok=True)
    with (given.output / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        table.writerows(rows)
    for line in summarise(rows, chosen, 2 * given.repeats):
        tell(line)
    tell(seconds(held, Scaling(0.8, -0.5)))


if __name__ == "__main__":
    main()
