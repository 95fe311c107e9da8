"""The networks that take single slices, on the image cohorts of a folder, each the same minutes.

    python benchmarks/images.py FOLDER [--minutes 15] [--networks unet,segformer] [--data lungs,nuclei]

FOLDER holds NAME/cohort for each of the data. A network is validated once, after its last epoch, so nothing is chosen
on the validation images and their scores are those of a test. They are predicted at full size, with the mirror images
that training showed, evaluated, and drawn.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from harness.measurement import tell
from networks import ROOT, Job, read, run

from volseg.cohort import Cohort
from volseg.pictures import illustrate, read_screen

NETWORKS = ("unet", "segformer")
ONCE = {"val_interval": 1_000_000}  # and after the last epoch
# Where the lungs are one region, the mirror image of a chest shows lungs too. Tissue has no upper side.
DATA: dict[str, dict[str, Any]] = {
    "lungs": {"batch_size": 2, "flip_axes": "[0]"},
    "nuclei": {"batch_size": 1, "crops_per_case": 2, "flip_axes": "[0,1]"},
}
TOLERANCES_PX = {"lungs": 3, "nuclei": 1}  # of surface Dice; the spacing is unknown, so a pixel is 1 mm
COLUMNS = {
    "Dice": "dice",
    "Surface Dice": "surface_dice",
    "HD95 (mm)": "hd95_mm",
    "Objects an image, reference": "reference_objects",
    "Predicted": "predicted_objects",
    "Object F1": "object_f1",
}


def assess(job: Job, cohort: Path, place: Path) -> Path:
    """Predict the validation images, score and draw them; the folder of the report."""
    predictions, report, pictures = (place / f"{job.name}_{what}" for what in ("predictions", "report", "pictures"))
    held_out = [cohort, "--part", "validation"]
    network = [ROOT / "bundles" / job.bundle, "--checkpoint", place / job.name / "model.pt", "--device", "cpu"]
    method = ["--objects", "--tolerance-mm", TOLERANCES_PX[place.name], "--title", f"{place.name}, {job.name}"]
    for words in (
        ["predict", *network, *held_out, "--flips", "trained", "-o", predictions],
        ["evaluate", predictions, *held_out, *method, "-o", report],
    ):
        subprocess.run(["volseg", *map(str, words)], check=True)
    opened = Cohort.open(cohort)
    pictures.mkdir(exist_ok=True)
    for key in opened.fold(0).validation:
        screen = read_screen(opened, key, predictions=predictions)
        illustrate(screen, pictures / f"{key}.png", style="overlay", scale=1)
    return report


def lines(job: Job, place: Path, report: Path) -> list[str]:
    """The rows of the table: one per region of the report."""
    trained = read(place / job.name)
    run_of = f"{job.name} | {trained['timing']['seconds'] / 60:.1f} | {len(trained['history'])}"
    regions = json.loads((report / "summary.json").read_text())["regions"]
    return [
        f"| {place.name}, {name} | {run_of} | {' | '.join(cell(region[column]) for column in COLUMNS.values())} |"
        for name, region in regions.items()
    ]


def cell(spread: dict[str, Any]) -> str:
    """A mean with its interval."""
    if spread["mean"] is None:
        return "–"
    low_high = f" [{', '.join(f'{end:.3g}' for end in spread['interval'])}]" if spread["interval"] else ""
    return f"{spread['mean']:.3g}{low_high}"


def main() -> None:
    """Parse, train one after another, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--data", default=",".join(DATA))
    arguments = parser.parse_args()
    networks, sets = arguments.networks.split(","), arguments.data.split(",")
    if unknown := [*({*networks} - {*NETWORKS}), *({*sets} - {*DATA})]:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join([*NETWORKS, *DATA])}")
    head = ["Data", "Network", "Minutes", "Epochs", *COLUMNS]
    table = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    for data in sets:
        place = arguments.folder / data
        for network in networks:
            job = Job(network, network, {**DATA[data], **ONCE})
            run(job, place / "cohort", place, minutes=arguments.minutes)
            table += lines(job, place, assess(job, place / "cohort", place))
    text = "\n".join(table) + "\n"
    (arguments.folder / "table.md").write_text(text)
    tell(f"\n{text}")


if __name__ == "__main__":
    sys.exit(main())
