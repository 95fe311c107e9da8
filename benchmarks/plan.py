"""Seven unlike cohorts, the same minutes for each: the plan, the recipe from before there was one, and nnU-Net's plan.

    python benchmarks/plan.py [--minutes 20] [--cohorts ct,pet] [--arms plan,recipe,nnunet] [--seeds 0]

- hippocampus, phantom, lungs (X-ray), nuclei, and three cohorts that this script makes with their ground truth:
  CT-like and anisotropic with a lesion of one or two slices, PET-like with a hot lesion of 0.2 %, and MR-like with four
  channels of which one shows the lesion; see harness/made_cohorts.py.
- plan: `volseg plan --minutes`, then the U-Net's bundle with its plan.json. recipe: the same bundle as it was before,
  of the commit named by --baseline, with --max_minutes. nnunet: nnU-Net v2 with the plan that it makes, its epochs set
  by a trial so that they end with the minutes.
- Everyone hands in the weights of the last step; the held-out cases of fold 0 are predicted on their own grids and
  scored by `volseg evaluate` of this checkout.

An arm on a cohort that is finished is not done again, so the command can be repeated, and arms, cohorts or seeds added.
The folder of a job keeps what its programs wrote in log.txt. results.json and results.md in the output folder hold
everything that is finished.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from io import BytesIO
from pathlib import Path
from typing import Any

from harness import measurement, volseg_command
from harness.made_cohorts import MADE, write_made_cohort
from harness.measurement import tell
from peers.nnunet import NnUNet, schedule

BASELINE = "9b7ba5f"  # the last commit before the plan
COHORTS = ("hippocampus", "phantom", "lungs", "nuclei", *MADE)
ARMS = ("plan", "recipe", "nnunet")
BUNDLE = "unet"
FLAT = ("lungs", "nuclei")

_CONVERT = {
    "hippocampus": ["decathlon"],
    "lungs": [
        *("images", "--colour", "grey", "--images", "*/images/{key}.jpg", "--masks", "lung=*/masks/{key}.jpg"),
        *("--validation", "valid/**", "--validation", "test/**"),
    ],
    "nuclei": [
        *("images", "--colour", "rgb", "--images", "{key}/images/*.png", "--masks", "nucleus={key}/masks/*.png"),
        *("--objects", "files", "--validation", "2*/**", "--validation", "3*/**"),
    ],
}

Facts = dict[str, Any]


def main() -> None:
    """Parse, make the cohorts, let each arm train, write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=measurement.RESULTS / "plan", metavar="FOLDER")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--cohorts", default=",".join(COHORTS), help="some of these, by commas")
    parser.add_argument("--arms", default=",".join(ARMS), help="some of these, by commas")
    parser.add_argument("--seeds", default="0", help="by commas; nnU-Net has none, and is trained once per seed")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--baseline", default=BASELINE, help="commit whose recipe is compared")
    parser.add_argument(
        "--data", type=Path, default=measurement.ROOT.parent / "shared" / "data", help="where the public data lie"
    )
    parser.add_argument("--nnunet-python", type=Path, help="Python of nnU-Net; data/peers/nnunet of run.sh by default")
    parser.add_argument("--cases", type=int, help="cases of a made cohort, for a trial")
    parser.add_argument("--table", action="store_true", help="train nothing, write the tables of what is finished")
    given = parser.parse_args()
    names, arms = given.cohorts.split(","), given.arms.split(",")
    for asked, known in ((names, COHORTS), (arms, ARMS)):
        if unknown := [one for one in asked if one not in known]:
            parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(known)}")
    place = given.output.resolve() / f"{given.device}_{given.minutes:g}_minutes"
    place.mkdir(parents=True, exist_ok=True)
    for name in names if not given.table else ():
        try:
            cohort = cohort_of(name, given.output.resolve() / "cohorts", data=given.data, cases=given.cases)
        except measurement.LeftOut as reason:
            tell(f"{name} is left out: {reason}")
            continue
        for seed in given.seeds.split(","):
            for arm in arms:
                job = Job(name, arm, int(seed), cohort, place / f"{name}_{arm}_{seed}")
                try:
                    job.do(given)
                except measurement.LeftOut as reason:
                    tell(f"{name}, {arm} is left out: {reason}")
                except Exception as error:  # noqa: BLE001 - one that fails does not stop the others, hours into the run
                    tell(f"{name}, {arm} failed: {str(error).strip().splitlines()[-1] if str(error) else error!r}")
    write_tables(place)


def cohort_of(name: str, place: Path, *, data: Path, cases: int | None) -> Path:
    """The folder of a cohort, made at first use.

    Raises:
        LeftOut: its data are not there.
    """
    folder = place / (name if cases is None or name not in MADE else f"{name}_{cases}")
    if (folder / "splits.json").is_file():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    raw = place / f"raw_{name}"
    if name in MADE:
        write_made_cohort(name, folder, **({} if cases is None else {"cases": cases}))
    elif name == "phantom":
        volseg_command.show("phantom", raw)
        volseg_command.show("convert", "uw_madison", raw, folder)
    else:
        source = data / {"hippocampus": "Task04_Hippocampus", "lungs": "lungs_xray", "nuclei": "tissue_nuclei"}[name]
        if not source.is_dir():
            raise measurement.LeftOut(f"{source} is not there; name its folder with --data")
        kind, *options = _CONVERT[name]
        volseg_command.show("convert", kind, source, folder, *options)
    if not (folder / "splits.json").is_file():
        volseg_command.show("split", folder)
    return folder


class Job:
    """One arm on one cohort.

    Args:
        name: Name of the cohort.
        arm: how it is trained.
        seed: Seed of the training.
        cohort: its folder.
        place: folder of this job; record.json in it says that it is finished.
    """

    def __init__(self, name: str, arm: str, seed: int, cohort: Path, place: Path) -> None:
        self.name, self.arm, self.seed, self.cohort, self.place = name, arm, seed, cohort, place

    def do(self, given: argparse.Namespace) -> None:
        """Train, predict, score and write the record, unless it is there."""
        if (self.place / "record.json").is_file():
            tell(f"{self.name}, {self.arm}, seed {self.seed}: finished before")
            return
        tell(f"\n== {self.name}, {self.arm}, seed {self.seed}, {given.minutes:g} minutes")
        self.place.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        facts = {"plan": self._plan, "recipe": self._recipe, "nnunet": self._nnunet}[self.arm](given)
        facts |= {
            "cohort": self.name,
            "arm": self.arm,
            "seed": self.seed,
            "wall_s": time.perf_counter() - began,
            "machine": measurement.machine(),
            "measured": f"{datetime.now(timezone.utc):%Y-%m-%d}",
            "commit": measurement.commit(),
            **self._scores(),
        }
        (self.place / "record.json").write_text(json.dumps(facts, indent=1) + "\n")
        told = ", ".join(f"{region} {dice:.3f}" for region, dice in facts["regions"].items())
        tell(f"{self.name}, {self.arm}: Dice {facts['dice']:.3f} ({told})")

    def _plan(self, given: argparse.Namespace) -> Facts:
        bundle = measurement.ROOT / "bundles" / BUNDLE
        words = ["--minutes", given.minutes, "--device", given.device, "--bundle", bundle, "-o", self.place]
        self._run(["plan", self.cohort, *words])
        plan = json.loads((self.place / "plan.json").read_text())
        self._train(given, measurement.ROOT, ["--plan_file", self.place / "plan.json"])
        return {"settings": plan["bundles"][BUNDLE]["settings"], **self._steps()}

    def _recipe(self, given: argparse.Namespace) -> Facts:
        checkout = checkout_of(given.baseline, given.output.resolve() / f"recipe_{given.baseline}")
        self._train(given, checkout, ["--max_minutes", given.minutes])
        return {"settings": {"commit": given.baseline}, **self._steps()}

    def _train(self, given: argparse.Namespace, checkout: Path, settings: Sequence[object]) -> None:
        """Train the bundle of a checkout with its own code, and predict with the weights of the last step."""
        bundle, run = checkout / "bundles" / BUNDLE, self.place / "run"
        words = ["--dataset_dir", self.cohort, "--output_dir", run, "--device", given.device, "--seed", self.seed]
        self._run(["train", bundle, *words, *settings, "--resume"], checkout=checkout)
        final = self.place / "final.pt"
        volseg_command.write_final(run, final)
        shutil.rmtree(self._predictions, ignore_errors=True)
        words = ["--checkpoint", final, "--device", given.device, "--part", "validation", "-o", self._predictions]
        self._run(["predict", bundle, self.cohort, *words], checkout=checkout)

    def _nnunet(self, given: argparse.Namespace) -> Facts:
        configuration = "2d" if self.name in FLAT else "3d_fullres"
        peer = NnUNet(self.place / "nnunet", given.device, configuration=configuration, python=given.nnunet_python)
        peer.prepare(self.cohort)
        workers, iteration_s = peer.faster()
        epochs, iterations = schedule(60 * given.minutes, iteration_s)
        facts = peer.train(epochs=epochs, iterations=iterations, predict=True, workers=workers)
        shutil.rmtree(self._predictions, ignore_errors=True)
        self._predictions.mkdir(parents=True)
        for path in peer.predictions.glob("*.nii.gz"):
            shutil.copy(path, self._predictions / path.name)
        settings = {"batch_size": facts["batch_size"], "window": facts["patch"], "epochs": epochs}
        return {"settings": settings, "steps": len(facts["steps_s"]), "minutes": facts["seconds"] / 60}

    @property
    def _predictions(self) -> Path:
        return self.place / "predictions"

    def _steps(self) -> Facts:
        content = json.loads((self.place / "run" / "run.json").read_text())
        return {"steps": content["timing"]["iterations"], "minutes": content["history"][-1]["elapsed_s"] / 60}

    def _scores(self) -> Facts:
        report = self.place / "report"
        self._run(["evaluate", self._predictions, self.cohort, "--part", "validation", "-o", report, "--no-html"])
        content = json.loads((report / "summary.json").read_text())
        if content["cases"]["failed"]:
            raise RuntimeError(f"{content['cases']['failed']} cases could not be scored; see {report}")
        regions = {name: one["dice"]["mean"] for name, one in content["regions"].items()}
        known = [dice for dice in regions.values() if dice is not None]
        return {"regions": regions, "dice": sum(known) / len(known)}

    def _run(self, words: Sequence[object], *, checkout: Path = measurement.ROOT) -> None:
        """A command of volseg of a checkout; what it writes goes into log.txt."""
        code = "import sys; from volseg.cli import main; main(sys.argv[1:])"
        environment = {**os.environ, "PYTHONPATH": str(checkout)}
        with (self.place / "log.txt").open("a", encoding="utf-8") as log:
            log.write(f"$ volseg {' '.join(map(str, words))}\n")
            log.flush()
            done = subprocess.run(
                [sys.executable, "-c", code, *map(str, words)], env=environment, stdout=log, stderr=log, check=False
            )
        if done.returncode:
            last = (self.place / "log.txt").read_text(encoding="utf-8").strip().splitlines()[-1]
            raise RuntimeError(f"volseg {words[0]} ended with {done.returncode}: {last}")


def checkout_of(commit: str, folder: Path) -> Path:
    """The files of a commit in a folder, unpacked once."""
    if not (folder / "bundles").is_dir():
        words = ["git", "-C", str(measurement.ROOT), "archive", commit, "volseg", "bundles", "setup.cfg"]
        packed = subprocess.run(words, capture_output=True, check=False)
        if packed.returncode:
            raise measurement.LeftOut(f"git has no commit {commit} here ({packed.stderr.decode().strip()})")
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        with tarfile.open(fileobj=BytesIO(packed.stdout)) as archive:
            archive.extractall(partial, filter="data")
        partial.rename(folder)
    return folder


def write_tables(place: Path) -> None:
    """Write results.json and results.md from the records of finished jobs, and show the table."""
    records = [json.loads(path.read_text()) for path in sorted(place.glob("*/record.json"))]
    (place / "results.json").write_text(json.dumps(records, indent=1) + "\n")
    lines = as_markdown(records)
    (place / "results.md").write_text("\n".join(lines) + "\n")
    tell("\n" + "\n".join(lines))
    tell(f"\nwrote {place / 'results.json'}")


def as_markdown(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """A row per cohort and region: the mean Dice over seeds of each arm, and the plan's lead.

    >>> one = {"cohort": "ct", "seed": 0, "steps": 10, "minutes": 1.0}
    >>> found = [("plan", 0.8), ("recipe", 0.7)]
    >>> rows = [{**one, "arm": arm, "dice": dice, "regions": {"a": dice}} for arm, dice in found]
    >>> as_markdown(rows)[2:]
    ['| ct, mean | 0.800 | 0.700 | – | +0.100 | – | 10, 10, – |', '| ct, a | 0.800 | 0.700 | – | +0.100 | – | |']
    """
    head = ["Cohort, region", *ARMS, "plan - recipe", "plan - nnunet", "steps"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name in [name for name in COHORTS if any(one["cohort"] == name for one in records)]:
        own = {arm: [one for one in records if one["cohort"] == name and one["arm"] == arm] for arm in ARMS}
        regions = list(dict.fromkeys(region for ones in own.values() for one in ones for region in one["regions"]))
        steps = ", ".join(f"{ones[0]['steps']:,}" if ones else "–" for ones in own.values())
        lines.append(
            _row(f"{name}, mean", {arm: [one["dice"] for one in ones] for arm, ones in own.items()}, f" {steps} ")
        )
        for region in regions:
            found = {arm: [one["regions"].get(region) for one in ones] for arm, ones in own.items()}
            lines.append(_row(f"{name}, {region}", found, " "))
    return lines


def _row(name: str, found: Mapping[str, Sequence[float | None]], last: str) -> str:
    means = {}
    for arm, values in found.items():
        known = [value for value in values if value is not None]
        means[arm] = sum(known) / len(known) if known else None
    cells = [_cell(means[arm]) for arm in ARMS]
    for other in ARMS[1:]:
        plan, value = means["plan"], means[other]
        cells.append("–" if plan is None or value is None else f"{plan - value:+.3f}")
    return f"| {name} | {' | '.join(cells)} |{last}|"


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    main()
