"""Every network, the same recipe and the same minutes: trains, and compares the runs.

    python benchmarks/networks.py COHORT FOLDER [--minutes 20] [--networks unet,swinunetr] [--sensitivity unet]

A job is one training in a folder of its own, with --max_minutes, so that its schedule ends when the minutes do. A job
whose run.json says finished is not done again, and one that was interrupted is resumed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.measurement import tell

ROOT = Path(__file__).resolve().parents[1]
# Left and right hippocampi are mirror images of each other, so flips along the first axis are fair.
RECIPE = {"device": "cpu", "batch_size": 4, "crops_per_case": 1, "flip_axes": "[0]", "seed": 0}
VAL_INTERVAL = 5
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "unet": ("unet", {}),
    "dense_unet": ("dense_unet", {}),
    "swinunetr": ("swinunetr", {}),
    "unetr": ("unetr", {}),
    "segformer": ("segformer", {}),
}


@dataclass(frozen=True)
class Job:
    """One training: the name of its folder, the bundle, and settings beside the recipe."""

    name: str
    bundle: str
    settings: dict[str, Any] = field(default_factory=dict)

    def train(self, cohort: Path, folder: Path, *, minutes: float) -> None:
        """Train with `volseg train`, resuming what is there."""
        values = {**RECIPE, "max_minutes": minutes, "val_interval": VAL_INTERVAL, **self.settings}
        words = [word for name, value in values.items() for word in (f"--{name}", str(value))]
        places = ["--dataset_dir", str(cohort), "--output_dir", str(folder)]
        subprocess.run(
            ["volseg", "train", str(ROOT / "bundles" / self.bundle), *places, "--resume", *words], check=True
        )


def read(folder: Path) -> dict[str, Any]:
    """run.json of a folder; nothing where there is none."""
    path = folder / "run.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def run(job: Job, cohort: Path, place: Path, *, minutes: float) -> Path:
    """Do a job, or what is left of it; its folder."""
    folder = place / job.name
    if read(folder).get("status") == "finished":
        tell(f"{job.name}: finished before")
    else:
        tell(f"\n== {job.name}: {minutes:g} minutes")
        (place / f"{job.name}.json").write_text(json.dumps({"minutes": minutes}) + "\n")
        job.train(cohort, folder, minutes=minutes)
    return folder


def sensitivity(network: str) -> list[Job]:
    """One setting changed at a time, around the recipe."""
    bundle, settings = NETWORKS[network]
    train = json.loads((ROOT / "bundles" / bundle / "train.json").read_text())
    rate = float(str(train["learning_rate"]).split("else")[-1])
    changes: list[dict[str, Any]] = [
        {},
        *({"learning_rate": rate * factor} for factor in (0.25, 0.5, 2, 4)),
        *({"batch_size": size} for size in (1, 2, 8)),
        *({"roi_voxels": voxels} for voxels in (16 * 32 * 32, 32**3)),  # the recipe's holds a whole hippocampus
    ]
    names = ["_".join(f"{key}={value:g}" for key, value in change.items()) or "recipe" for change in changes]
    return [
        Job(f"{network}_{name}", bundle, {**settings, **change}) for name, change in zip(names, changes, strict=True)
    ]


def main() -> None:
    """Parse, do the jobs one after another, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--sensitivity", choices=list(NETWORKS))
    arguments = parser.parse_args()
    names = arguments.networks.split(",")
    if unknown := [name for name in names if name not in NETWORKS]:
        parser.error(f"there is no network {', '.join(unknown)}; there are {', '.join(NETWORKS)}")
    jobs = (
        sensitivity(arguments.sensitivity) if arguments.sensitivity else [Job(name, *NETWORKS[name]) for name in names]
    )
    minutes = arguments.minutes or (3 if arguments.sensitivity else 20)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    folders = [run(job, arguments.cohort, arguments.folder, minutes=minutes) for job in jobs]
    if len(folders) > 1:
        output = arguments.folder / (f"sensitivity_{arguments.sensitivity}" if arguments.sensitivity else "comparison")
        subprocess.run(["volseg", "compare", *map(str, folders), "-o", str(output)], check=True)


if __name__ == "__main__":
    sys.exit(main())
