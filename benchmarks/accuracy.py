"""The same minutes of training for each: the bundles of volseg, nnU-Net v2, and MONAI's plain recipe; scored alike.

    sh benchmarks/run.sh accuracy --minutes 20 40

Fold 0 of the hippocampus cohort. What a budget counts is training, from the first step to the last, with the
validations that a recipe makes on the way; preparing data does not count. Everyone hands in the weights of the last
step, never a choice made on the held-out cases; these are predicted on their native grids and scored by
`volseg evaluate`.

- volseg: the recipe of networks.py with --max_minutes, so that the schedule ends in time, and one validation, after the
  last epoch; unet also with a batch of 2.
- nnU-Net: 3d_fullres with the plans that it makes, its own augmentation, loss, optimizer and polynomial schedule, which
  ends with the minutes by a trial; mirror images at prediction, as it does by default. See nnunet_train.py. Once as it
  plans by default, and once as it plans for a small GPU: fewer windows per step, so that more steps fit.
- MONAI: zoo.py, with the zoo's learning rate of 1e-4 and with 1e-3; it has no schedule and stops when the time is over.
  So one training serves all minutes that are asked for at once: the shorter take its state at that time.

What is finished is not done again, so the command can be repeated, and minutes or competitors added. The
record of a competitor holds the Dice of each case, so that differences can be computed without the predictions:
--finished makes the tables of all records, those here and those of docs/benchmarks/accuracy for what was not measured
here. What fits into minutes depends on the machine, so a record also says how fast that was.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import networks
from harness import measurement, rendering, volseg_command
from harness.matrix_product import gigaflops
from harness.measurement import Measure, tell
from peers.nnunet import NnUNet, schedule

from volseg.cohort import Cohort
from volseg.evaluation import RegionScores, compare

# The bundles with the recipe of networks.py, and one with the batch that the sensitivity of five minutes had ahead.
BUNDLES = {**networks.NETWORKS, "unet batch 2": ("unet", {"batch_size": 2})}
RATES = {"MONAI zoo 1e-4": 1e-4, "MONAI zoo 1e-3": 1e-3}
# What nnU-Net plans for, in GB: its default (8), and so little that a batch is two windows, the least it takes.
NNUNET: dict[str, float | None] = {"nnU-Net v2": None, "nnU-Net v2 batch 2": 0.3}
COMPETITORS = (*BUNDLES, *NNUNET, *RATES)
TOLERANCE_MM = 1.0  # of surface Dice: a voxel
ONCE = 100_000  # epochs between validations, so that only the last epoch has one
MINUTES = Measure("minutes", "Minutes of training", "", 1, compared=False)
MILLIONS = Measure("million_parameters", "Million weights", "", 1, compared=False)
DICE = Measure("dice", "Dice", "", 3, compared=False)
SURFACE = Measure("surface_dice", f"Surface Dice at {TOLERANCE_MM:g} mm", "", 3, compared=False)

Facts = dict[str, Any]


# --- the competitors: train for the minutes, write predictions, say how it went


def with_volseg(name: str, cohort: Path, place: Path, *, minutes: float, device: str, runs: Path | None) -> Facts:
    """A bundle; what its run folder holds is gone on with, and a training of networks.py is taken as it is."""
    bundle, settings = BUNDLES[name]
    job = networks.Job(folder_of(name), bundle, {**settings, "device": device, "val_interval": ONCE})
    if runs is None or not trained_before(runs, name, minutes=minutes, cohort=cohort):
        runs = place / "runs"
        runs.mkdir(parents=True, exist_ok=True)
    run = networks.run(job, cohort, runs, minutes=minutes)
    content = networks.read(run)
    final = place / "final" / f"{folder_of(name)}.pt"
    volseg_command.write_final(run, final)
    folder = measurement.ROOT / "bundles" / bundle
    target = place / "predictions" / folder_of(name)
    shutil.rmtree(target, ignore_errors=True)
    words = ["--part", "validation", "--checkpoint", final, "--device", device, "-o", target]
    volseg_command.show("predict", folder, cohort, *words)
    return {
        "minutes": content["history"][-1]["elapsed_s"] / 60,
        "million_parameters": content["network"]["parameters"] / 1e6,
        "steps": content["timing"]["iterations"],
        "settings": f"{len(content['history'])} epochs",
    }


def trained_before(runs: Path, name: str, *, minutes: float, cohort: Path) -> bool:
    """Whether a finished training of networks.py is there, for as many minutes on the same cohort."""
    plan, content = runs / f"{folder_of(name)}.json", networks.read(runs / folder_of(name))
    if not plan.is_file() or content.get("status") != "finished":
        return False
    same = Path(content["cohort"]["folder"]).resolve() == cohort
    return same and json.loads(plan.read_text())["minutes"] == minutes


def with_nnunet(name: str, cohort: Path, place: Path, *, minutes: float, device: str) -> Facts:
    """nnU-Net."""
    peer = NnUNet(place.parent / folder_of(name), device, NNUNET[name])
    peer.prepare(cohort)
    workers, iteration_s = peer.faster()
    epochs, iterations = schedule(60 * minutes, iteration_s)
    facts = peer.train(epochs=epochs, iterations=iterations, predict=True, workers=workers)
    target = place / "predictions" / folder_of(name)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for path in peer.predictions.glob("*.nii.gz"):
        shutil.copy(path, target / path.name)
    patch = " x ".join(map(str, facts["patch"]))
    return {
        "minutes": facts["seconds"] / 60,
        "million_parameters": facts["parameters"] / 1e6,
        "steps": len(facts["steps_s"]),
        "settings": f"{epochs} epochs of {iterations}, batch {facts['batch_size']}, window {patch}, "
        f"{workers} augmenting process{'es' if workers > 1 else ''}",
    }


def with_monai(name: str, cohort: Path, place: Path, *, minutes: float, device: str, budgets: Sequence[float]) -> Facts:
    """MONAI's plain recipe: the state after these minutes of one training for the most of all budgets.

    That training is done at the first of the budgets, and taken for the others.
    """
    folder = place.parent / "monai" / f"{device}_{folder_of(name)}"
    state = folder / f"{minutes:g}_minutes"
    if not (state / "predictions").is_dir():
        shutil.rmtree(folder, ignore_errors=True)
        places = {more: place.parent / f"{device}_{more:g}_minutes" for more in budgets}
        coming = [more for more, other in places.items() if not record_of(name, other).is_file()]
        words = ["--minutes", *map(str, coming), "--rate", str(RATES[name]), "--device", device, "--predict"]
        workers = "0" if device == "cpu" else "4"
        script = Path(__file__).with_name("peers") / "zoo.py"
        words = [sys.executable, script, cohort, folder, *words, "--workers", workers]
        subprocess.run(words, check=True, env=measurement.environment_of_peers())
    target = place / "predictions" / folder_of(name)
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    (state / "predictions").rename(target)
    facts = json.loads((state / "result.json").read_text())
    return {
        "minutes": facts["seconds"] / 60,
        "million_parameters": facts["parameters"] / 1e6,
        "steps": len(facts["steps_s"]),
        "settings": f"batch {facts['batch_size']}, window {' x '.join(map(str, facts['patch']))}",
    }


def folder_of(name: str) -> str:
    """A name as a folder's.

    >>> folder_of("nnU-Net v2")
    'nnU-Net_v2'
    """
    return name.replace(" ", "_")


def record_of(name: str, place: Path) -> Path:
    """Where the record of a competitor lies, in the folder of a device and minutes."""
    return place / f"{folder_of(name)}.json"


def way(name: str, runs: Path | None, budgets: Sequence[float]) -> Callable[..., Facts]:
    """What trains and predicts for a competitor."""
    if name in NNUNET:
        return partial(with_nnunet, name)
    if name in RATES:
        return partial(with_monai, name, budgets=budgets)
    return partial(with_volseg, name, runs=runs)


# --- scores


def scored(name: str, cohort: Path, place: Path) -> Facts:
    """Dice and surface Dice of the predictions with intervals, those of each region, and the Dice of each case."""
    report = place / "reports" / folder_of(name)
    words = ["--part", "validation", "-o", report, "--no-html", "--title", name, "--tolerance-mm", str(TOLERANCE_MM)]
    volseg_command.show("evaluate", place / "predictions" / folder_of(name), cohort, *words)
    content = json.loads((report / "summary.json").read_text())
    if content["cases"]["failed"]:
        raise RuntimeError(f"{content['cases']['failed']} predictions could not be scored; see {report}")
    means = content["mean_of_regions"]
    return {
        **{metric: means[metric]["mean"] for metric in ("dice", "surface_dice")},
        "intervals": {metric: means[metric]["interval"] for metric in ("dice", "surface_dice")},
        "regions": {region: values["dice"]["mean"] for region, values in content["regions"].items()},
        "cases": dice_of_cases(report / "cases.csv"),
    }


def dice_of_cases(path: Path) -> dict[str, dict[str, float | None]]:
    """Region to key to Dice, from the table that `volseg evaluate` writes; None where it is undefined."""
    found: dict[str, dict[str, float | None]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["region"], {})[row["key"]] = round(float(row["dice"]), 6) if row["dice"] else None
    return found


def compete(
    name: str,
    cohort: Path,
    place: Path,
    *,
    minutes: float,
    device: str,
    budgets: Sequence[float],
    runs: Path | None,
    only: Sequence[Path] | None,
) -> Facts:
    """One competitor, or what it came to before.

    Args:
        name: Name of the competitor.
        cohort: folder of the cohort.
        place: folder of the records, trainings and predictions of these minutes.
        minutes: Minutes of training.
        device: that trains.
        budgets: all minutes that are asked for.
        runs: trainings of networks.py that are taken as they are.
        only: measure nothing, take the first record in these folders; None to measure what has no record in `place`.

    Raises:
        LeftOut: it was not measured before, and only what was is asked for.
    """
    for folder in (place,) if only is None else only:
        record = record_of(name, folder)
        if record.is_file():
            tell(f"{name}, {minutes:g} minutes: finished before")
            done: Facts = json.loads(record.read_text())
            return done
    if only is not None:
        raise measurement.LeftOut("not measured")
    tell(f"\n== {name}, {minutes:g} minutes")
    commit = measurement.commit()
    before = gigaflops(device)
    facts = way(name, runs, budgets)(cohort, place, minutes=minutes, device=device)
    facts["gigaflops"] = [round(before), round(gigaflops(device))]
    facts["machine"] = measurement.machine()
    facts["measured"] = f"{datetime.now(timezone.utc):%Y-%m-%d}"
    if commit:
        facts["measured"] += f", {commit['id']}" + (" with changes" if commit["changed"] else "")
    facts |= scored(name, cohort, place)
    record_of(name, place).write_text(json.dumps(facts, indent=1) + "\n")
    return facts


def against(best: str, found: Mapping[str, Facts], patients: Mapping[str, str]) -> dict[str, str]:
    """The paired differences of Dice to the best, a text for each other one; p by Holm over all pairs and regions."""
    rows = {
        name: [
            RegionScores(key, patients[key], region, dice=dice)
            for region, cases in facts["cases"].items()
            for key, dice in cases.items()
        ]
        for name, facts in found.items()
    }
    texts: dict[str, list[str]] = {}
    for one in compare(rows).differences:
        if best not in (one.first, one.second) or one.mean is None:
            continue
        other, sign = (one.first, -1) if one.second == best else (one.second, 1)
        span = ""
        if one.low is not None and one.high is not None:
            low, high = sorted((sign * one.low, sign * one.high))
            span = f" [{low:+.3f}, {high:+.3f}]"
        p = one.p_holm
        chance = "" if p is None else ", p < 0.001" if p < 0.001 else f", p {p:.3f}"
        texts.setdefault(other, []).append(f"{one.region} {sign * one.mean:+.3f}{span}{chance}")
    return {name: "; ".join(parts) for name, parts in texts.items()}


def budgets_in(folders: Iterable[Path]) -> list[tuple[str, float]]:
    """Device and minutes of the folders of records, in order.

    >>> budgets_in([Path("cpu_40_minutes"), Path("quick"), Path("cpu_20_minutes"), Path("cpu_20_minutes")])
    [('cpu', 20.0), ('cpu', 40.0)]
    """
    names = [re.fullmatch(r"(.+)_([\d.]+)_minutes", folder.name) for folder in folders]
    return sorted({(name[1], float(name[2])) for name in names if name})


def table(title: str, found: Mapping[str, Facts], left_out: Mapping[str, str], differences: Mapping[str, str]) -> Any:  # noqa: ANN401 - JSON
    """The competitors of one budget, the best first."""
    order = sorted(found, key=lambda name: -found[name]["dice"])
    facts = {}
    for name in order:
        one = found[name]
        low, high = one["intervals"]["dice"] or (float("nan"), float("nan"))
        near = one["intervals"]["surface_dice"] or (float("nan"), float("nan"))
        facts[name] = {
            "Dice, 95 % CI": f"[{low:.3f}, {high:.3f}]",
            "Surface Dice, 95 % CI": f"[{near[0]:.3f}, {near[1]:.3f}]",
            ", ".join(one["regions"]): ", ".join(f"{value:.3f}" for value in one["regions"].values()),
            "Difference of Dice to the first, paired": differences.get(name, ""),
            "Steps": f"{one['steps']:,} ({one['settings']})",
            "Measured": one["measured"],
            "GFLOP/s of the machine, before and after": ", ".join(f"{value:,}" for value in one["gigaflops"]),
        }
    return measurement.table(
        title,
        [DICE, SURFACE, MINUTES, MILLIONS],
        {
            name: [{key: found[name][key] for key in ("dice", "surface_dice", "minutes", "million_parameters")}]
            for name in order
        },
        way="Trained by",
        facts=facts,
        left_out=left_out,
    )


def main() -> None:
    """Parse, let everyone compete for each budget, write."""
    parser = measurement.options("accuracy", __doc__)
    parser.add_argument("--cohort", type=Path, default=measurement.ROOT / "data" / "hippocampus")
    parser.add_argument("--minutes", type=float, nargs="+", help="20, or with --finished all that were measured")
    parser.add_argument("--competitors", default=",".join(COMPETITORS), help="some of these, by commas")
    parser.add_argument("--device", help="cpu, or with --finished all that were measured")
    parser.add_argument("--runs", type=Path, help="trainings of networks.py with the same minutes, not to be repeated")
    parser.add_argument(
        "--finished", action="store_true", help="train nothing: tables of all records, published ones too"
    )
    given = parser.parse_args()
    names = given.competitors.split(",")
    if unknown := [name for name in names if name not in COMPETITORS]:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(COMPETITORS)}")
    machine, output, cohort = measurement.machine(), given.output.resolve(), given.cohort.resolve()
    published = rendering.PUBLISHED / "accuracy"
    budgets = [(given.device or "cpu", minutes) for minutes in given.minutes or [20.0]]
    if given.finished:
        budgets = [
            (device, minutes)
            for device, minutes in budgets_in([*output.glob("*"), *published.glob("*")])
            if device == (given.device or device) and minutes in (given.minutes or [minutes])
        ]
    if given.quick:
        from harness.material import write_subset

        output = output / "quick"
        shutil.rmtree(output, ignore_errors=True)
        write_subset(cohort, output / "cohort", training=8, validation=3)
        cohort, budgets = output / "cohort", [(given.device or "cpu", 0.2)]
    patients = {key: row.patient for key, row in Cohort.open(cohort).rows.items()}
    tables = []
    for device, minutes in budgets:
        place = output / f"{device}_{minutes:g}_minutes"
        place.mkdir(parents=True, exist_ok=True)
        only = [place, published / place.name] if given.finished else None
        asked = [more for other, more in budgets if other == device]
        found: dict[str, Facts] = {}
        left_out: dict[str, str] = {}
        for name in names:
            try:
                found[name] = compete(
                    name, cohort, place, minutes=minutes, device=device, budgets=asked, runs=given.runs, only=only
                )
            except measurement.LeftOut as reason:
                left_out[name] = str(reason)
            except Exception as error:  # noqa: BLE001 - whoever fails does not stop the others, hours into the run
                left_out[name] = (str(error).strip() or type(error).__name__).splitlines()[0]
                tell(f"{name} failed: {error}")
        differences = {}
        if len(found) > 1:
            best = max(found, key=lambda name: found[name]["dice"])
            differences = against(best, found, patients)
        title = f"{minutes:g} minutes of training each" + ("" if device == "cpu" else f", {device}")
        tables.append(table(title, found, left_out, differences))
    splits = json.loads((cohort / "splits.json").read_text())[0]
    notes = [
        f"{len(splits['training'])} cases to train on, {len(splits['validation'])} held out; intervals by bootstrap "
        "over cases, one seed each; paired differences with Wilcoxon's p, Holm over all pairs and regions.",
    ]
    versions = measurement.versions("volseg", "torch", "monai", "numpy")
    if NNUNET.keys() & set(names):
        try:
            versions |= measurement.versions("nnunetv2", python=measurement.peer("nnunet"))
        except measurement.LeftOut as reason:
            tell(str(reason))
    measurement.write(
        measurement.result("accuracy", tables, quick=given.quick, machine=machine, versions=versions, notes=notes)
    )


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    main()
