"""A simulated clinic: which cases to correct first, counted in mm redrawn, and what the next network learns from them.

    python benchmarks/loop.py data/hippocampus data/loop --minutes 20 --rounds 5 --seeds 0,1,2
    python benchmarks/loop.py data/hippocampus data/loop --steps 100 --rounds 3 --seeds 0 --set growth_rate=4

COHORT is labelled and has folds: the validation of fold 0 is the fixed test, never corrected and never trained on. Of
the other cases `--start` are labelled at first, and up to `--pool` lie there without a label. In each round a strategy
chooses `--budget` cases of the pool. Their correction is the reference: `volseg adopt` takes it home and counts the
added path in mm between the network's contour and the reference's. `volseg train --corrections` goes on from the
network of the round before. Strategies:

- review: `volseg review`, with its one case in five at random;
- random: any cases;
- foreground: by lot, a case as likely as the number of voxels that are predicted as a region;
- entropy: the cases of the largest mean entropy per voxel;
- none: no case is corrected, and the training goes on with the first labels: what the steps alone bring.

What is finished is not done again, and a training that was cut off goes on, so the command can be repeated, with more
seeds or rounds too. Rounds come before strategies, so that a run that is cut off compares what it has. `loop.json` in
the folder has a record for each seed, strategy and round, with the Dice of each test case; `table.md` has the table,
`rounds.html` the curves.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from harness.clinic import dump, table, write_page

from volseg.cohort import FILE_ENDING, Cohort, Prediction, read_corrections, write_labels, write_uncertainty
from volseg.cohort import write_prediction as write
from volseg.deploy.corrections import adopt, read_todo, review
from volseg.files import link_or_copy
from volseg.formats import SEGMENTATION_SUFFIX, write_segmentation
from volseg.inference import Predictor
from volseg.metrics import dice
from volseg.training import train
from volseg.volume import read_volume

ROOT = Path(__file__).resolve().parents[1]
STRATEGIES = ("random", "review", "foreground", "entropy")
CONTROL = "none"
NEVER = 100_000  # epochs between validations: there is none, the network of the last step is taken


@dataclass(frozen=True)
class Plan:
    """What the options say.

    Attributes:
        cohort: Folder of the labelled cohort.
        folder: Folder of everything that is written.
        bundle: Name of the bundle.
        start, budget, pool: Number of cases that are labelled at first, are corrected in a round, and may be.
        steps, first_steps: Steps of a round's training and of the first one; 0 for minutes.
        minutes: Minutes of each training, if there are no steps.
        batch: Windows of a step.
        times: Number of times that an epoch takes a corrected case.
        settings: Further settings of train.json.
        first_kind: Kind of the cases that are labelled at first, by `kinds.csv` of the cohort; empty for all kinds.
    """

    cohort: Path
    folder: Path
    bundle: str
    start: int
    budget: int
    pool: int
    steps: int
    first_steps: int
    minutes: float
    batch: int
    times: int
    settings: Mapping[str, Any]
    first_kind: str = ""


def tell(line: str) -> None:
    """Write a line at once."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stdout.flush()


def cases_of(plan: Plan, seed: int) -> tuple[list[str], list[str], list[str]]:
    """Keys that are labelled at first, keys of the pool, and keys of the fixed test."""
    fold = Cohort.open(plan.cohort).fold(0)
    keys = np.random.default_rng(seed).permutation(sorted(fold.training)).tolist()
    if plan.first_kind:
        kinds = kinds_of(plan.cohort)
        usual = [key for key in keys if kinds[key] == plan.first_kind]
        keys = [*usual[: plan.start], *(key for key in keys if key not in usual[: plan.start])]
    return keys[: plan.start], keys[plan.start : plan.start + plan.pool], sorted(fold.validation)


def kinds_of(cohort: Path) -> dict[str, str]:
    """The kind of each case, where the cohort tells it."""
    path = cohort / "kinds.csv"
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["key"]: row["kind"] for row in csv.DictReader(file)}


def clinic(plan: Plan, seed: int, strategy: str) -> Path:
    """The cohort of one strategy: some cases labelled, the pool without labels, and no test case."""
    folder = plan.folder / f"seed_{seed}" / strategy / "cohort"
    if (folder / "dataset.json").is_file():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    whole = Cohort.open(plan.cohort)
    labelled, pool, _ = cases_of(plan, seed)
    for key in (*labelled, *pool):
        part = "imagesTr" if key in labelled else "imagesTs"
        for path in whole.image_paths(key):
            link_or_copy(path, folder / part / path.name)
    for key in labelled:
        link_or_copy(_reference(whole, key), folder / "labelsTr" / f"{key}{FILE_ENDING}")
    if (plan.cohort / "cases.csv").is_file():
        shutil.copyfile(plan.cohort / "cases.csv", folder / "cases.csv")
    shutil.copyfile(plan.cohort / "dataset.json", folder / "dataset.json")  # last: it says that the folder is whole
    return folder


def _reference(cohort: Cohort, key: str) -> Path:
    path = cohort.label_path(key)
    if path is None:
        raise SystemExit(f"{key} of {cohort.folder} has no label; the clinic needs a cohort whose cases all have one")
    return path


def train_on(plan: Plan, seed: int, cohort: Path, run: Path, before: Path | None) -> dict[str, Any]:
    """Train from scratch, or from the network of the round before with the corrected cases; what run.json says.

    A training that was cut off goes on where it was, and ends with the weights of one that was not.
    """
    if not (run / "last.pt").is_file():
        shutil.rmtree(run, ignore_errors=True)
    settings: dict[str, Any] = {"dataset_dir": str(cohort), "output_dir": str(run), "device": "cpu", "fold": "all"}
    settings |= {"resume": True, "batch_size": plan.batch, "crops_per_case": 1, "seed": seed, "val_interval": NEVER}
    count = plan.start
    corrected = {row.key for row in read_corrections(cohort)}
    if before is not None:
        settings["weights"] = str(before)
    if corrected:
        settings["train#dataset#data"] = f"$volseg.training.corrected_datalist(@cohort, fold=@fold, times={plan.times})"
        count += plan.times * len(corrected)
    steps = plan.steps if before is not None else plan.first_steps
    if steps:
        settings["max_epochs"] = max(1, round(steps * plan.batch / count))
    else:
        settings["max_minutes"] = plan.minutes
    train(ROOT / "bundles" / plan.bundle, overrides={**settings, **plan.settings})
    found: dict[str, Any] = json.loads((run / "run.json").read_text())
    return found


def predict(plan: Plan, run: Path, cohort: Cohort, keys: Sequence[str], out: Path) -> dict[str, float]:
    """Predict cases, and write them as `volseg predict` does; the mean entropy per voxel of each."""
    predictor = Predictor.from_bundle(ROOT / "bundles" / plan.bundle, checkpoint=run / "model.pt", device="cpu")
    write_labels(out, predictor.recipe.labels, channel_names=predictor.recipe.channel_names)
    entropies, uncertainty = {}, {}
    for key in keys:
        item = predictor.infer(predictor.preprocess(cohort.image_paths(key), key=key))
        logits = item["pred"].as_tensor() if hasattr(item["pred"], "as_tensor") else item["pred"]
        if cohort.labels.overlap:
            share = logits.sigmoid().clamp(1e-6, 1 - 1e-6)
            entropy = -(share * share.log() + (1 - share) * (1 - share).log()).sum(0)
        else:
            entropy = -(logits.softmax(0) * logits.log_softmax(0)).sum(0)
        entropies[key] = float(entropy.mean())
        found: Prediction = predictor.postprocess(item)
        write(out / f"{key}{FILE_ENDING}", found)
        uncertainty[key] = found.uncertainty
    write_uncertainty(out, uncertainty)
    return entropies


def score(cohort: Cohort, keys: Sequence[str], predictions: Path) -> dict[str, dict[str, float]]:
    """Dice of each region of each case."""
    found = {}
    for key in keys:
        guess = read_volume(predictions / f"{key}{FILE_ENDING}").voxels
        truth = read_volume(_reference(cohort, key)).voxels
        pairs = zip(cohort.labels.names, cohort.labels.each_mask(guess), cohort.labels.each_mask(truth), strict=True)
        found[key] = {name: dice(one, other) for name, one, other in pairs}
    return found


def choose(plan: Plan, strategy: str, seed: int, cohort: Cohort, run: Path, place: Path) -> list[str]:
    """The cases that are corrected in a round; their predictions are in `place/predictions`."""
    keys = sorted(set(cohort.keys) - cohort.labelled)
    lot = np.random.default_rng([seed, len(keys)])
    out = place / "predictions"
    if strategy == "random":
        chosen: list[str] = lot.permutation(keys)[: plan.budget].tolist()
        predict(plan, run, cohort, chosen, out)
        return chosen
    entropies = predict(plan, run, cohort, keys, out)
    if strategy == "review":
        todo, _ = review(out, cohort, place / "todo", budget=plan.budget, seed=seed)
        return [row.key for row in todo.rows]
    if strategy == "entropy":
        return sorted(keys, key=lambda key: -entropies[key])[: plan.budget]
    voxels = [np.count_nonzero(read_volume(out / f"{key}{FILE_ENDING}").voxels) + 1.0 for key in keys]
    drawn: list[str] = lot.choice(keys, plan.budget, replace=False, p=np.array(voxels) / sum(voxels)).tolist()
    return drawn


def correct(plan: Plan, cohort: Path, chosen: Sequence[str], place: Path) -> float:
    """Take the references of cases home as if someone had drawn them; the mm of contour that this took."""
    whole, opened = Cohort.open(plan.cohort), Cohort.open(cohort)
    todo = read_todo(place / "todo") if (place / "todo").is_dir() else None
    edits = place / "edits" if todo is None else todo.folder
    for key in chosen:
        path = (
            edits / f"{key}{SEGMENTATION_SUFFIX}" if todo is None else todo.place(key) / f"{key}{SEGMENTATION_SUFFIX}"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        write_segmentation(path, read_volume(_reference(whole, key)), opened.labels)
    found = adopt(edits, opened, predictions=place / "predictions")
    for error in found.failed.values():
        raise error
    rows = [row for row in read_corrections(cohort) if row.key in chosen]
    return sum(row.added_path_mm for row in rows)


def step(plan: Plan, seed: int, strategy: str, number: int) -> dict[str, Any]:
    """One round of one strategy; round 0 is the network of the first labels, which all strategies share."""
    place = plan.folder / f"seed_{seed}" / strategy / f"round_{number}"
    record = place / "record.json"
    if record.is_file():
        done: dict[str, Any] = json.loads(record.read_text())
        return done
    shared = plan.folder / f"seed_{seed}" / "start"
    began, processor = time.perf_counter(), time.process_time()
    mm, chosen = 0.0, []
    run = place / "run"
    if number == 0:
        facts = train_on(plan, seed, clinic(plan, seed, strategy), run, None)
    else:
        former = (
            plan.folder / f"seed_{seed}" / strategy / f"round_{number - 1}" / "run" if number > 1 else shared / "run"
        )
        cohort = clinic(plan, seed, strategy)
        told = place / "chosen.json"
        if strategy == CONTROL:
            chosen = []
        elif told.is_file():
            chosen = json.loads(told.read_text())
        else:
            shutil.rmtree(place, ignore_errors=True)
            chosen = choose(plan, strategy, seed, Cohort.open(cohort), former, place)
            told.write_text(json.dumps(chosen))
        mm = correct(plan, cohort, chosen, place) if chosen else 0.0
        facts = train_on(plan, seed, cohort, run, former)
    whole = Cohort.open(plan.cohort)
    _, _, test = cases_of(plan, seed)
    predict(plan, run, whole, test, place / "test")
    done = {
        "seed": seed,
        "strategy": strategy,
        "round": number,
        "cases": len(chosen),
        "mm": mm,
        "steps": facts["timing"]["iterations"],
        "training_s": facts["timing"]["seconds"],
        "seconds": time.perf_counter() - began,
        "processor_s": time.process_time() - processor,
        "chosen": list(chosen),
        "dice": score(whole, test, place / "test"),
    }
    record.write_text(json.dumps(done, indent=1) + "\n")
    return done


def start(plan: Plan, seed: int) -> dict[str, Any]:
    """The first network, which all strategies go on from."""
    place = plan.folder / f"seed_{seed}" / "start"
    if not (place / "record.json").is_file():
        done = step(plan, seed, "random", 0)
        shutil.rmtree(place, ignore_errors=True)
        shutil.move(plan.folder / f"seed_{seed}" / "random" / "round_0", place)
        return done
    found: dict[str, Any] = json.loads((place / "record.json").read_text())
    return found


def main() -> None:
    """Parse, go through seeds, rounds and strategies, and write the tables after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bundle", default="dense_unet")
    parser.add_argument("--start", type=int, default=20, help="cases labelled at first")
    parser.add_argument("--first-kind", default="", help="kind of these cases, by kinds.csv of the cohort")
    parser.add_argument("--rounds", type=int, default=5, help="0 for the first network alone")
    parser.add_argument("--budget", type=int, default=10, help="cases corrected in a round")
    parser.add_argument("--pool", type=int, default=10_000, help="cases that may be corrected; all others by default")
    parser.add_argument("--minutes", type=float, default=20.0, help="minutes of a training")
    parser.add_argument("--steps", type=int, default=0, help="steps of a round's training, instead of minutes")
    parser.add_argument("--first-steps", type=int, default=0, help="steps of the first training; as many by default")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--times", type=int, default=3, help="how often an epoch takes a corrected case")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    parser.add_argument("--set", action="append", default=[], metavar="NAME=JSON", help="a setting of train.json")
    given = parser.parse_args()
    strategies = given.strategies.split(",")
    if unknown := [name for name in strategies if name not in (*STRATEGIES, CONTROL)]:
        parser.error(f"there is no strategy {', '.join(unknown)}; there are {', '.join((*STRATEGIES, CONTROL))}")
    settings = {name: json.loads(value) for name, _, value in (text.partition("=") for text in given.set)}
    logging.getLogger().setLevel(logging.WARNING)
    plan = Plan(
        given.cohort.resolve(),
        given.folder.resolve(),
        given.bundle,
        given.start,
        given.budget,
        given.pool,
        given.steps,
        given.first_steps or given.steps,
        given.minutes,
        given.batch,
        given.times,
        settings,
        given.first_kind,
    )
    plan.folder.mkdir(parents=True, exist_ok=True)
    told = {**{name: value for name, value in asdict(plan).items() if name not in ("cohort", "folder")}}
    records: list[dict[str, Any]] = []
    for seed in map(int, given.seeds.split(",")):
        records.append({**start(plan, seed), "strategy": "start"})
        for number in range(1, given.rounds + 1):
            for strategy in strategies:
                records.append(step(plan, seed, strategy, number))
                last = records[-1]
                mean = np.mean([value for case in last["dice"].values() for value in case.values()])
                tell(f"seed {seed} round {number} {strategy}: Dice {mean:.4f}, {last['mm']:.0f} mm")
                (plan.folder / "loop.json").write_text(dump(told, records))
                (plan.folder / "table.md").write_text("\n".join(table(records)) + "\n")
                write_page(records, plan.folder, details={name: str(value) for name, value in told.items()})
    if given.rounds:
        sys.stdout.write((plan.folder / "table.md").read_text())


if __name__ == "__main__":
    main()
