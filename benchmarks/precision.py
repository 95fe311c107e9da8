"""bfloat16 beside single precision in training: the time of a step, and Dice after as many steps, of every network.

    python benchmarks/precision.py --cohort COHORT [--rounds 1] [--networks unet,unetr]

Part of the hippocampus cohort on a grid of 2 mm, one window per step, 32 x 32 x 32 (swinunetr: twice as long), one
thread. Each way is a program of its own, `volseg train --precision`; they alternate, and a round has another seed. The
first and the last epoch do not count for the time.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

from harness import measurement
from harness.measurement import PEAK, Measure, Values

NETWORKS = ["unet", "dense_unet", "unetr", "swinunetr", "segformer"]
PRECISIONS = {"fp32": "single precision", "bf16": "bfloat16"}
CASES, VALIDATED, EPOCHS = 50, 20, 4
STEP = Measure("step_ms", "A step", "ms", 0)
DICE = Measure("dice", "Dice", "", 3, compared=False)
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def training(network: str, precision: str, cohort: Path, folder: Path, *, seed: int, epochs: int) -> Values:
    """Train once: milliseconds of a step, the last Dice, the most memory held."""
    shutil.rmtree(folder, ignore_errors=True)
    settings = {"device": "cpu", "precision": precision, "seed": seed, "max_epochs": epochs, "val_interval": epochs}
    window = "[64,32,32]" if network == "swinunetr" else "[32,32,32]"  # the smallest that it takes
    settings |= {"spacing_mm": "[2,2,2]", "roi_size": window, "batch_size": 1, "crops_per_case": 1}
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    program, bundle = Path(sys.executable).with_name("volseg"), measurement.ROOT / "bundles" / network
    places = ["--dataset_dir", cohort, "--output_dir", folder]
    ran = measurement.run([program, "train", bundle, *places, *words], env=ONE_THREAD)
    run = json.loads((folder / "run.json").read_text())
    ended = [epoch["elapsed_s"] for epoch in run["history"]]
    steps = run["timing"]["iterations"] / epochs * (epochs - 2)
    return {
        "step_ms": 1000 * (ended[-2] - ended[0]) / steps,
        "dice": run["history"][-1]["dice"],
        "peak_mib": ran["peak_mib"],
    }


def main() -> None:
    """Parse, measure, write."""
    parser = measurement.options("precision", __doc__)
    parser.add_argument("--cohort", type=Path, default=measurement.ROOT / "data" / "hippocampus")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    cases, epochs, rounds = (4, 3, 1) if given.quick else (CASES, EPOCHS, given.rounds)
    machine, place = measurement.machine(), given.output.resolve()
    shutil.rmtree(place, ignore_errors=True)
    code = "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); from harness import material as m; "
    code += (
        "m.write_subset(Path(sys.argv[2]), Path(sys.argv[3]), training=int(sys.argv[4]), validation=int(sys.argv[5]))"
    )
    words = [Path(__file__).parent, given.cohort.resolve(), place / "cohort", str(cases), str(min(cases, VALIDATED))]
    measurement.run([sys.executable, "-c", code, *words])
    seeds: dict[str, int] = {}

    def way(network: str, precision: str) -> Callable[[], Values]:
        def once() -> Values:
            name = f"{network}_{precision}"
            seeds[name] = seeds.get(name, -1) + 1
            return training(network, precision, place / "cohort", place / name, seed=seeds[name], epochs=epochs)

        return once

    names = {
        f"{network}, {told}": (network, key)
        for network in given.networks.split(",")
        for key, told in PRECISIONS.items()
    }
    found, left_out = measurement.paired({name: way(*what) for name, what in names.items()}, rounds=rounds)
    reference = {name: f"{what[0]}, {PRECISIONS['fp32']}" for name, what in names.items()}
    title = f"{cases * epochs} steps of one window of 32 x 32 x 32 on one thread"
    table = measurement.table(title, [STEP, DICE, PEAK], found, reference=reference, left_out=left_out, way="Network")
    apart = [
        abs(statistics.median(r["dice"] for r in found[name]) - statistics.median(r["dice"] for r in found[other]))
        for name, other in reference.items()
        if name in found and other in found and name != other
    ]
    notes = [f"Largest difference of a network's Dice between the two: {max(apart, default=0):.3f}."]
    versions = measurement.versions("volseg", "torch", "monai", "numpy")
    measurement.write(
        measurement.result("precision", [table], quick=given.quick, machine=machine, versions=versions, notes=notes)
    )


if __name__ == "__main__":
    main()
