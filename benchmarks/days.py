"""What earlier days are worth on the phantom's real days: `volseg days` over several seeds, resumed after a stop.

    python benchmarks/days.py data/days --patients 12 --days 4 --epochs 60 --seeds 0,1,2

Each seed has a folder of its own with `days.md`, `table.csv` and `summary.json`; `seeds.json` has the gains of each,
and `BUNDLE_seeds.md` a table over all seeds that are there, with intervals by patient.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from volseg.cohort import Cohort, split_by_patient, write_cohort, write_splits
from volseg.crossval import DaysSettings, default_modes, run_days
from volseg.datasets import write_phantom
from volseg.formats import UwMadison
from volseg.metrics import mean_interval


def cohort_of(folder: Path, *, patients: int, days: int, folds: int, workers: int) -> Cohort:
    """The phantom cohort, written once."""
    raw, cohort = folder / "raw", folder / "cohort"
    if not raw.is_dir():
        write_phantom(raw, patients=patients, days=days, kind="real", workers=workers)
    write_cohort(UwMadison(raw), cohort)
    opened = Cohort.open(cohort)
    write_splits(cohort, split_by_patient(opened.rows.values(), folds=folds))
    return Cohort.open(cohort)


def seeds_table(folders: Sequence[Path]) -> str:
    """The means over several seeds and the gains over no prior of the same seed, day and region, as Markdown.

    A patient's days of all seeds are resampled together, so the intervals say what other patients would change, and not
    what other seeds would; the last column has the gain in Dice of each seed by itself.
    """
    metrics = ("dice", "correction_minutes", "tolerant_minutes")
    values: dict[str, dict[str, dict[tuple[str, str, str], float]]] = {}
    patients: dict[str, str] = {}
    for folder in folders:
        with (folder / "table.csv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                patients[row["key"]] = row["patient"]
                if int(row["day_number"]) > 0:
                    of_mode = values.setdefault(row["mode"], {name: {} for name in metrics})
                    for name in metrics:
                        if row[name]:
                            of_mode[name][folder.name, row["key"], row["region"]] = float(row[name])
    lines = [
        "| row | Dice | gain | minutes | gain | with tolerance | gain | gain in Dice by seed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for mode, found in values.items():
        cells = []
        for name in metrics:
            base = values["none"][name]
            gains = {one: value - base[one] for one, value in found[name].items() if one in base}
            for column in (found[name], gains):
                told = mean_interval(list(column.values()), [patients[one[1]] for one in column])
                cells.append(f"{told.mean:.3f} [{told.low:.3f}, {told.high:.3f}]")
            if name == "dice":
                by_seed = [[gain for one, gain in gains.items() if one[0] == folder.name] for folder in folders]
                seeds = ", ".join(f"{sum(gain) / len(gain):.3f}" if gain else "–" for gain in by_seed)
        lines.append(f"| {mode} | {' | '.join(cells)} | {seeds} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run, and join the seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--patients", type=int, default=12)
    parser.add_argument("--days", type=int, default=4)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--only-folds", default="", help="such as 0; all by default")
    parser.add_argument("--bundles", default="unet")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--adapt-steps", type=int, default=None, help="in place of --adapt-minutes")
    parser.add_argument("--cold", action="store_true", help="train both networks from random weights")
    parser.add_argument("--adapt-minutes", type=float, default=3.0)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--modes", default=",".join(default_modes()))
    parser.add_argument("--roi-voxels", type=int, default=0)
    parser.add_argument("--width", type=int, default=0, help="of the U-Net; 0 for the bundle's own")
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    cohort = cohort_of(given.folder, patients=given.patients, days=given.days, folds=given.folds, workers=given.workers)
    bundles = Path(__file__).resolve().parents[1] / "bundles"
    sizes = {"roi_voxels": given.roi_voxels, "width": given.width}
    joined = {}
    for bundle in given.bundles.split(","):
        for seed in map(int, given.seeds.split(",")):
            settings = DaysSettings(
                cohort,
                str(bundles / bundle),
                epochs=given.epochs,
                adapt_steps=given.adapt_steps,
                warm=not given.cold,
                adapt_minutes=given.adapt_minutes,
                folds=tuple(int(word) for word in given.only_folds.split(",") if word),
                modes=tuple(given.modes.split(",")),
                seed=seed,
                overrides={name: value for name, value in sizes.items() if value},
            )
            found = run_days(settings, given.folder / f"{bundle}_seed_{seed}", told=print)
            joined[f"{bundle} seed {seed}"] = {
                mode: {name: one[name] for name in ("dice", "gain_dice", "minutes", "gain_minutes")}
                for mode, one in found["modes"].items()
            }
            (given.folder / "seeds.json").write_text(json.dumps(joined, indent=1) + "\n", encoding="utf-8")
        there = sorted(path.parent for path in given.folder.glob(f"{bundle}_seed_*/table.csv"))
        (given.folder / f"{bundle}_seeds.md").write_text(seeds_table(there), encoding="utf-8")


if __name__ == "__main__":
    main()
