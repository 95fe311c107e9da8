"""`volseg predict --crop-first` beside every window, where organs fill a small part of a scan.

    python benchmarks/crop_first.py --cohort data/hippocampus --bundle bundles/hippocampus --weights bundles/hippocampus

The scans of a cohort are laid into a wider field of view (`harness/wide_cohort.py`), a network is trained on the first
fold of these and packed for OpenVINO, and each case is predicted with the coarse pass and without, from file to label
map, in one process. A case is a round; every second one begins with the other way. What is made stays in `--output`,
so that the command can be given again for more cases. An organ counts as cut if a voxel of its
reference lies outside the box, whether or not the network finds it.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from harness import measurement, volseg_command
from harness.measurement import CPU, WALL, Measure, Values, tell
from harness.wide_cohort import write_wide_cohort
from numpy.typing import NDArray

from volseg.cohort import Cohort
from volseg.inference import array_predictor
from volseg.inference.arrays.predictor import ArrayPredictor
from volseg.metrics import dice
from volseg.volume import read_volume

WINDOWS = Measure("windows", "Windows", "", 0)
EVERY, CROPPED = "every window", "crop first"


class Counted:
    """An engine that counts the windows it is given."""

    def __init__(self, engine: Any) -> None:  # noqa: ANN401 - a WindowFunction
        self._engine, self.windows = engine, 0
        self.name, self.precision = engine.name, engine.precision

    @property
    def windows_at_once(self) -> int:
        """Number of windows per call that is fastest."""
        return int(self._engine.windows_at_once)

    def __call__(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the logits."""
        self.windows += len(windows)
        found: NDArray[np.float32] = self._engine(windows)
        return found


def trained(given: Any, wide: Path) -> Path:  # noqa: ANN401
    """The folder of a packed network that knows the wider field of view; made once."""
    package: Path = given.output / "package"
    if package.exists():
        return package
    run = given.output / "run"
    if not (run / "model.pt").exists():
        recipe = {"spacing_mm": [1, 1, 1], "roi_size": given.window, "seed": 0, "device": "cpu"}
        settings = recipe | {"max_epochs": given.epochs, "val_interval": given.epochs}
        words: list[str | Path] = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        start: list[str | Path] = ["--weights", given.weights.resolve()] if given.weights else []
        volseg_command.run(
            "train", given.bundle, "--dataset_dir", wide.resolve(), "--output_dir", run.resolve(), *words, *start
        )
    volseg_command.run(
        "pack", given.bundle, "--checkpoint", (run / "model.pt").resolve(), "-o", package.resolve(), "--openvino"
    )
    return package


def predicted(predictor: ArrayPredictor, engine: Counted, images: Sequence[Path], key: str) -> tuple[Values, Any, Any]:
    """One case from file to label map: what it took, the prediction, and the box on the file's grid if there is one."""
    engine.windows = 0
    begun, begun_cpu = time.perf_counter(), time.process_time()
    item = predictor.infer(predictor.preprocess(images, key=key))
    found = predictor.postprocess(item)
    used = {"wall_s": time.perf_counter() - begun, "cpu_s": time.process_time() - begun_cpu}
    return {**used, "windows": engine.windows}, found, item.get("crop")


def measured(cohort: Cohort, package: Path, keys: Sequence[str], overlap: float, kept: Path) -> list[dict[str, Any]]:
    """What each case gave, both ways; cases that a former run kept are not predicted again."""
    members, overrides = [(str(package), package / "models" / "model.pt")], {"overlap": overlap}
    both: dict[str, ArrayPredictor] = {}
    for name in (EVERY, CROPPED):
        made = array_predictor(members, device="cpu", overrides=overrides, crop_first=name == CROPPED)
        both[name] = made or sys.exit(f"{package} needs the steps of MONAI, which have no coarse pass")
    engine = Counted(both[EVERY].with_engine("openvino").engine)
    tell(f"{engine.name} in {engine.precision}")
    before = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    done = {row["key"]: row for row in before}
    for number, key in enumerate(keys):
        if key in done:
            continue
        reference = read_volume(cohort.label_path(key) or sys.exit(f"{key} has no label")).voxels
        truth = cohort.labels.masks(reference)
        row: dict[str, Any] = {"key": key, "rounds": {}, "dice": {}, "cut": [], "whole": None}
        maps = {}
        for name in (EVERY, CROPPED) if number % 2 == 0 else (CROPPED, EVERY):
            predictor = replace(both[name], windows=engine)
            row["rounds"][name], found, box = predicted(predictor, engine, cohort.image_paths(key), key)
            maps[name] = found.label_map.voxels
            masks = cohort.labels.masks(maps[name])
            row["dice"][name] = [dice(mask, true) for mask, true in zip(masks, truth, strict=True)]
            if name == CROPPED and box is None:
                row["whole"] = found.note.partition("the whole grid was predicted: ")[2]
            elif name == CROPPED:
                outside = np.ones(reference.shape, bool)
                outside[box.box] = False
                regions = zip(cohort.labels.names, truth, strict=True)
                row["cut"] = [f"{key} {region}" for region, true in regions if (true & outside).any()]
        row["differing"] = int((maps[EVERY] != maps[CROPPED]).sum())
        row["share"] = float((reference > 0).mean())
        done[key] = row
        with kept.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        ran = ", ".join(f"{n} {r['cpu_s']:.2f} s {r['windows']:.0f} windows" for n, r in row["rounds"].items())
        tell(f"{key}: {ran}, {row['differing']} voxels differ, Dice {np.mean(row['dice'][CROPPED]):.3f}")
    return [done[key] for key in keys]


def told(rows: Sequence[dict[str, Any]], held_out: Sequence[str]) -> list[str]:
    """The lines below the table."""
    each = {name: np.array([row["dice"][name] for row in rows]) for name in (EVERY, CROPPED)}
    change = (each[CROPPED] - each[EVERY]).mean(axis=1)
    totals = {name: sum(row["rounds"][name]["cpu_s"] for row in rows) for name in (EVERY, CROPPED)}
    unseen = [number for number, row in enumerate(rows) if row["key"] in set(held_out)]
    cut = [organ for row in rows for organ in row["cut"]]
    reasons = [row["whole"] for row in rows if row["whole"]]
    lines = [
        f"All {len(rows)} cases together: {totals[EVERY]:.0f} s of processor time by every window, "
        f"{totals[CROPPED]:.0f} s with a coarse pass, {totals[EVERY] / totals[CROPPED]:.2f} times as fast.",
        f"Dice by every window {each[EVERY].mean():.4f} ({each[EVERY][unseen].mean():.4f} in the {len(unseen)} "
        f"held-out cases); with a coarse pass it changes by {change.mean():+.5f}, the case that falls most by "
        f"{change.min():+.4f}, the one that rises most by {change.max():+.4f}. The label maps are equal in "
        f"{sum(not row['differing'] for row in rows)} cases; "
        f"{statistics.median(row['differing'] for row in rows):.0f} voxels differ in the median.",
        f"Organs fill {100 * statistics.median(row['share'] for row in rows):.2f} % of a scan in the median. Organs "
        f"cut: {len(cut)} of {each[EVERY].size}" + (f" ({', '.join(cut)})." if cut else "."),
    ]
    for why in dict.fromkeys(reasons):
        lines.append(f"The whole grid was predicted in {reasons.count(why)} cases: {why}.")
    return lines


def main() -> None:
    """Parse, make, predict, write."""
    parser = measurement.options("crop_first", __doc__)
    parser.add_argument("--cohort", type=Path, default=measurement.ROOT / "data" / "hippocampus")
    parser.add_argument("--bundle", default="dense_unet", help="the network that is trained")
    parser.add_argument("--weights", type=Path, help="where its training starts")
    parser.add_argument("--window", default="[32,48,40]")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--shape", type=json.loads, default=[96, 128, 96], help="voxels of the wider scans")
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--overlap", type=float, default=0.5)
    given = parser.parse_args()
    machine = measurement.machine()
    source = Cohort.open(given.cohort)
    # The held-out cases first, so that fewer cases are unseen ones.
    order = [*source.part("validation"), *source.part("training")]
    wide = given.output / "cohort"
    write_wide_cohort(source, wide, keys=order, shape=given.shape, validated=4)
    package = trained(given, wide)
    cohort, keys = Cohort.open(wide), order[: 2 if given.quick else given.cases]
    rows = measured(cohort, package, keys, given.overlap, given.output / f"cases_{given.overlap:g}.jsonl")
    table = measurement.table(
        f"{len(keys)} scans of {' x '.join(map(str, given.shape))} voxels, window {given.window}; a case is a round",
        [CPU, WALL, WINDOWS],
        {name: [row["rounds"][name] for row in rows] for name in (EVERY, CROPPED)},
        reference=EVERY,
    )
    notes = told(rows, source.part("validation"))
    versions = measurement.versions("volseg", "numpy", "torch", "openvino")
    measurement.write(
        measurement.result("crop_first", [table], quick=given.quick, machine=machine, versions=versions, notes=notes)
    )


if __name__ == "__main__":
    main()
