"""`volseg predict --crop-first` beside every window, where organs fill a small part of a scan.

    python benchmarks/crop_first.py hippocampus_wide pet_body hippocampus phantom lungs --checkpoint lungs=RUN/model.pt

- hippocampus_wide: the scans lie in a wider field of view (harness/wide_cohort.py), and the packaged network is trained
  on for some epochs with the first fold of these; the held-out cases come first.
- pet_body: made scans from the head to the thighs (harness/made_cohorts.py), from number 100 on, by a U-Net that is
  trained for 5 minutes on the first 20.
- hippocampus: every fifth volume; phantom: three days of three patients that nobody was trained on. Both by the
  packaged networks. lungs: the held-out X-rays, by a network that `--checkpoint` names. They are predicted as they are.

Each network is packed for OpenVINO, and each case is predicted with the coarse pass and without, from file to label
map, in one process. A case is a round; every second one begins with the other way. What is made and each finished case
stay in `--output`, so that the command can be given again for more cases and more cohorts; its result holds what was
finished. An organ counts as cut if a voxel of its reference lies where no window has decided, whether or not every
window finds that voxel.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from harness import measurement, volseg_command
from harness.made_cohorts import write_made_cohort
from harness.measurement import CPU, WALL, Measure, Values, tell
from harness.wide_cohort import write_wide_cohort
from numpy.typing import NDArray
from plan import BUNDLE, cohort_of

from volseg.cohort import Cohort, Fold, write_splits
from volseg.datasets import LABELS, phantom_case
from volseg.inference import array_predictor
from volseg.inference.arrays.predictor import ArrayPredictor
from volseg.metrics import dice
from volseg.volume import read_volume, write_volume

WINDOWS = Measure("windows", "Windows", "", 0)
EVERY, CROPPED = "every window", "crop first"
COHORTS = ("hippocampus_wide", "pet_body", "hippocampus", "phantom", "lungs")
TRAINED = 20  # made cases that the network is trained on
FIRST = 100  # number of the first made case that is predicted
EQUAL = 0.001  # Dice


@dataclass(frozen=True)
class Subject:
    """What is predicted.

    Attributes:
        cohort: Cohort.
        keys: Its cases in their order.
        package: Packed network.
    """

    cohort: Cohort
    keys: Sequence[str]
    package: Path


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


def subject(name: str, given: argparse.Namespace) -> Subject:
    """A cohort of these and its network; what has to be made is made once.

    Raises:
        LeftOut: something that it needs is not there.
    """
    place: Path = given.output / name
    bundles, checkpoint = measurement.ROOT / "bundles", given.checkpoint.get(name)
    if name == "hippocampus_wide":
        source = Cohort.open(cohort_of("hippocampus", given.output / "cohorts", data=given.data, cases=None))
        # The held-out cases first, so that fewer cases are unseen ones.
        keys = [*source.part("validation"), *source.part("training")]
        wide = place / "cohort"
        write_wide_cohort(source, wide, keys=keys, shape=given.shape, validated=4)
        settings = {"roi_size": given.window, "max_epochs": given.epochs, "val_interval": given.epochs}
        start = ["--weights", str((bundles / "hippocampus").resolve())]
        run = trained(given.bundle, wide, place / "run", spacing_mm=1, settings=settings, start=start)
        return Subject(Cohort.open(wide), keys, packed(given.bundle, run, place))
    if name == "pet_body":
        folders = [(place / "trained_on", TRAINED, 0), (place / f"cohort_{given.cases}", given.cases, FIRST)]
        for folder, cases, first in folders:
            if not (folder / "splits.json").is_file():
                write_made_cohort(name, folder, cases=cases, first=first)
        settings = {"roi_size": "[24,24,24]", "max_minutes": 5, "val_interval": 1000, "batch_size": 2}
        settings |= {"normalisation": json.dumps([{"scheme": "pet"}])}
        run = trained(str(bundles / BUNDLE), folders[0][0], place / "run", spacing_mm=4, settings=settings)
        cohort = Cohort.open(folders[1][0])
        return Subject(cohort, cohort.keys, packed(bundles / BUNDLE, run, place))
    if name == "phantom":
        folder = place / "cohort"
        write_phantom_cohort(folder)
        return Subject(Cohort.open(folder), Cohort.open(folder).keys, packed(bundles / "phantom", None, place))
    if name != "hippocampus" and checkpoint is None:
        raise measurement.LeftOut(f"--checkpoint {name}=FILE is not given")
    cohort = Cohort.open(cohort_of(name, given.output / "cohorts", data=given.data, cases=None))
    if name == "hippocampus":
        return Subject(cohort, cohort.keys[::5], packed(bundles / "hippocampus", None, place))
    return Subject(cohort, cohort.part("validation"), packed(bundles / BUNDLE, checkpoint, place))


def trained(
    bundle: str, cohort: Path, run: Path, *, spacing_mm: int, settings: dict[str, Any], start: Sequence[str] = ()
) -> Path:
    """The checkpoint of a network that is trained on a cohort, once."""
    if not (run / "model.pt").exists():
        recipe = {"spacing_mm": [spacing_mm] * 3, "seed": 0, "device": "cpu"} | settings
        words = [word for name, value in recipe.items() for word in (f"--{name}", str(value))]
        folders = ["--dataset_dir", str(cohort.resolve()), "--output_dir", str(run.resolve())]
        volseg_command.run("train", bundle, *folders, *words, *start)
    return run / "model.pt"


def packed(bundle: str | Path, checkpoint: Path | None, place: Path) -> Path:
    """The folder of a network that is packed for OpenVINO."""
    package = (place / "package").resolve()
    if not package.exists():
        words: list[str | Path] = [] if checkpoint is None else ["--checkpoint", checkpoint.resolve()]
        volseg_command.run("pack", bundle, *words, "-o", package, "--openvino")
    return package


def write_phantom_cohort(folder: Path) -> None:
    """Three days of three patients of the phantom as a cohort."""
    cases = [phantom_case(patient=patient, day=day) for patient in (201, 202, 203) for day in range(3)]
    for case in cases:
        if case.label is None:
            raise ValueError(f"{case.key} has no label")
        write_volume(folder / "imagesTr" / f"{case.key}_0000.nii.gz", case.channels[0])
        write_volume(folder / "labelsTr" / f"{case.key}.nii.gz", case.label)
    dataset = {
        "channel_names": {"0": "MR"},
        **LABELS.to_dataset_json(),
        "numTraining": len(cases),
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(dataset, indent=1))
    write_splits(folder, [Fold((cases[0].key,), tuple(case.key for case in cases[1:]))])


def predicted(
    predictor: ArrayPredictor, engine: Counted, images: Sequence[Path], key: str
) -> tuple[Values, Any, dict[str, Any]]:
    """One case from file to label map: what it took, the prediction, and what was kept of the logits' stage."""
    engine.windows = 0
    begun, begun_cpu = time.perf_counter(), time.process_time()
    item = predictor.infer(predictor.preprocess(images, key=key))
    found = predictor.postprocess(item)
    used = {"wall_s": time.perf_counter() - begun, "cpu_s": time.process_time() - begun_cpu}
    return {**used, "windows": engine.windows}, found, {name: item.get(name) for name in ("crop", "known", "grid")}


def known_of(kept: dict[str, Any], shape: Sequence[int]) -> NDArray[np.bool_]:
    """The voxels of the file about which windows have decided."""
    if kept["crop"] is None:
        return np.ones(shape, bool)
    part = kept["grid"].whole(kept["known"].astype(np.float32)) > 1 / 2
    found: NDArray[np.bool_] = kept["crop"].paste(part)
    return found


def measured(made: Subject, overlap: float, kept: Path, most: int) -> list[dict[str, Any]]:
    """What each case gave, both ways; cases that a former run kept are not predicted again."""
    members, overrides = [(str(made.package), made.package / "models" / "model.pt")], {"overlap": overlap}
    both: dict[str, ArrayPredictor] = {}
    for name in (EVERY, CROPPED):
        way = array_predictor(members, device="cpu", overrides=overrides, crop_first=name == CROPPED)
        both[name] = way or sys.exit(f"{made.package} needs the steps of MONAI, which have no coarse pass")
    engine = Counted(both[EVERY].with_engine("openvino").engine)
    tell(f"{engine.name} in {engine.precision}")
    before = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    done = {row["key"]: row for row in before}
    keys = made.keys[:most]
    for number, key in enumerate(keys):
        if key in done:
            continue
        row = done[key] = compared(made, both, engine, key, swapped=number % 2 == 1)
        with kept.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        ran = ", ".join(f"{n} {r['cpu_s']:.2f} s {r['windows']:.0f} windows" for n, r in row["rounds"].items())
        tell(f"{key}: {ran}, {row['differing']} voxels differ, Dice {np.mean(row['dice'][CROPPED]):.3f}")
    return [done[key] for key in keys]


def compared(
    made: Subject, both: dict[str, ArrayPredictor], engine: Counted, key: str, *, swapped: bool
) -> dict[str, Any]:
    """One case both ways."""
    labels = made.cohort.labels
    reference = read_volume(made.cohort.label_path(key) or sys.exit(f"{key} has no label")).voxels
    truth = labels.masks(reference)
    row: dict[str, Any] = {"key": key, "rounds": {}, "dice": {}, "cut": [], "outside": 0, "outside_found": 0}
    maps, known = {}, np.ones(reference.shape, bool)
    for name in (CROPPED, EVERY) if swapped else (EVERY, CROPPED):
        predictor = replace(both[name], windows=engine)
        row["rounds"][name], found, kept = predicted(predictor, engine, made.cohort.image_paths(key), key)
        maps[name] = found.label_map.voxels
        masks = labels.masks(maps[name])
        # A region that is neither there nor found is right.
        each = [dice(mask, true) if mask.any() or true.any() else 1.0 for mask, true in zip(masks, truth, strict=True)]
        row["dice"][name] = each
        if name == CROPPED:
            row["whole"] = found.note.partition("the whole grid was predicted: ")[2] or None
            known = known_of(kept, reference.shape)
    for region, true, by_every in zip(labels.names, truth, labels.masks(maps[EVERY]), strict=True):
        outside = true & ~known
        if outside.any():
            row["cut"].append(f"{key} {region}")
            row["outside"] += int(outside.sum())
            row["outside_found"] += int((outside & by_every).sum())
    apart = maps[EVERY] != maps[CROPPED]
    row |= {"differing": int(apart.sum()), "differing_known": int((apart & known).sum())}
    row |= {"share": float((reference > 0).mean()), "known": float(known.mean())}
    return row


def told(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The lines below the table."""
    each = {name: np.array([row["dice"][name] for row in rows]) for name in (EVERY, CROPPED)}
    change = (each[CROPPED] - each[EVERY]).mean(axis=1)
    totals = {name: sum(row["rounds"][name]["cpu_s"] for row in rows) for name in (EVERY, CROPPED)}
    cut = [organ for row in rows for organ in row["cut"]]
    reasons = [row["whole"] for row in rows if row["whole"]]
    median = {
        name: statistics.median(row[name] for row in rows)
        for name in ("differing", "differing_known", "share", "known")
    }
    lines = [
        f"All {len(rows)} cases together: {totals[EVERY]:.0f} s of processor time by every window, "
        f"{totals[CROPPED]:.0f} s with a coarse pass, {totals[EVERY] / totals[CROPPED]:.2f} times as fast.",
        f"Dice by every window {each[EVERY].mean():.4f}; with a coarse pass it changes by {change.mean():+.5f}, the "
        f"case that falls most by {change.min():+.4f}, the one that rises most by {change.max():+.4f}. It falls by "
        f"more than {EQUAL} in {(change < -EQUAL).sum()} cases and rises by more in {(change > EQUAL).sum()}.",
        f"The label maps are equal in {sum(not row['differing'] for row in rows)} cases, and in "
        f"{sum(not row['differing_known'] for row in rows)} where windows decide. In the median "
        f"{median['differing']:.0f} voxels differ, {median['differing_known']:.0f} of them where windows decide.",
        f"In the median organs fill {100 * median['share']:.2g} % of a scan, and windows decide about "
        f"{100 * median['known']:.2g} %. Organs cut: {len(cut)} of {each[EVERY].size}, by "
        f"{sum(row['outside'] for row in rows)} voxels in all, of which every window finds "
        f"{sum(row['outside_found'] for row in rows)}" + (f" ({', '.join(cut[:8])})." if cut else "."),
    ]
    for why in dict.fromkeys(reasons):
        lines.append(f"The whole grid was predicted in {reasons.count(why)} cases: {why}.")
    return lines


def main() -> None:
    """Parse, make, predict, write."""
    parser = measurement.options("crop_first", __doc__)
    parser.add_argument("cohorts", nargs="+", choices=COHORTS, metavar="COHORT", help=", ".join(COHORTS))
    parser.add_argument("--data", type=Path, default=measurement.ROOT.parent / "shared" / "data", help="public data")
    parser.add_argument("--checkpoint", action="append", default=[], metavar="COHORT=FILE", help="its trained network")
    parser.add_argument("--bundle", default="dense_unet", help="the network of hippocampus_wide")
    parser.add_argument("--window", default="[32,48,40]", help="of hippocampus_wide")
    parser.add_argument("--epochs", type=int, default=3, help="of hippocampus_wide")
    parser.add_argument("--shape", type=json.loads, default=[96, 128, 96], help="voxels of hippocampus_wide")
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--overlap", type=float, default=0.5)
    given = parser.parse_args()
    given.checkpoint = {name: Path(file) for name, _, file in (one.partition("=") for one in given.checkpoint)}
    machine, tables, notes = measurement.machine(), [], []
    for name in COHORTS:
        kept = given.output / name / f"cases_{given.overlap:g}.jsonl"
        if name not in given.cohorts:
            continue
        try:
            made = subject(name, given)
        except measurement.LeftOut as reason:
            tell(f"{name} is left out: {reason}")
            continue
        rows = measured(made, given.overlap, kept, 2 if given.quick else given.cases)
        ways = {way: [row["rounds"][way] for row in rows] for way in (EVERY, CROPPED)}
        title = f"{name}: {len(rows)} scans; a case is a round"
        tables.append(measurement.table(title, [CPU, WALL, WINDOWS], ways, reference=EVERY))
        notes += [f"{name}: {line}" for line in told(rows)]
    versions = measurement.versions("volseg", "numpy", "torch", "openvino")
    measurement.write(
        measurement.result("crop_first", tables, quick=given.quick, machine=machine, versions=versions, notes=notes)
    )


if __name__ == "__main__":
    main()
