"""Seconds per step and the share spent waiting for data: `volseg train`, MONAI's plain recipe, nnU-Net.

    sh benchmarks/run.sh training

Part of the hippocampus cohort; each way is a program of its own and they alternate round by round. volseg and MONAI
train the same network (the bundle unet without deep supervision) on windows and batches of the same size; volseg with
its own augmentation, MONAI with flips and shifts of intensity. nnU-Net trains the network of its own plans on its own
windows and batches, so its steps compare by the voxels in them. The first steps are not counted: the first epoch of
volseg, three steps of the others.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import measurement
from harness.measurement import PEAK, Measure, Values
from peers.nnunet import NnUNet

WARM = 3  # steps of the others; of volseg the first epoch
EPOCHS = 3
STEP = Measure("step_s", "A step", "s", 3)
VOXELS = Measure("mvoxel_s", "A million voxels", "s", 2)
WAIT = Measure("wait_percent", "Waiting for data", "%", 1, compared=False)


def values_of(facts: dict[str, Any], ran: Values) -> Values:
    """Of the times of steps and waits, without the first."""
    steps, waits = facts["steps_s"][WARM:], facts["waits_s"][WARM:]
    voxels = facts["batch_size"] * facts["patch"][0] * facts["patch"][1] * facts["patch"][2]
    step_s = (sum(steps) + sum(waits)) / len(steps)
    return {
        "step_s": step_s,
        "mvoxel_s": step_s / voxels * 1e6,
        "wait_percent": 100 * sum(waits) / (sum(steps) + sum(waits)),
        "peak_mib": ran["peak_mib"],
    }


def ways(cohort: Path, place: Path, *, steps: int, device: str) -> dict[str, Callable[[], Values]]:
    """What each way is timed at."""

    def volseg() -> Values:
        folder = place / "volseg"
        shutil.rmtree(folder, ignore_errors=True)
        program, bundle = Path(sys.executable).with_name("volseg"), measurement.ROOT / "bundles" / "unet"
        settings = {"device": device, "batch_size": 4, "crops_per_case": 1, "flip_axes": "[0]", "max_epochs": EPOCHS}
        settings |= {"val_interval": EPOCHS, "deep_supervision": "false"}
        words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        ran = measurement.run([program, "train", bundle, "--dataset_dir", cohort, "--output_dir", folder, *words])
        content = json.loads((folder / "run.json").read_text())
        timing, window = content["timing"], content["network"]["roi_size"]
        first, second = (epoch["elapsed_s"] for epoch in content["history"][:2])
        step_s = (second - first) / steps  # without the first steps, and without the validation of the last epoch
        return {
            "step_s": step_s,
            "mvoxel_s": step_s / (4 * window[0] * window[1] * window[2]) * 1e6,
            "wait_percent": 100 * timing["data_wait_share"],
            "peak_mib": ran["peak_mib"],
        }

    def monai(workers: int) -> Callable[[], Values]:
        def once() -> Values:
            folder = place / f"monai{workers}"
            words = ["--steps", str(steps + WARM), "--like", place / "volseg", "--workers", str(workers)]
            script = Path(__file__).with_name("peers") / "zoo.py"
            ran = measurement.run([sys.executable, script, cohort, folder, "--device", device, *words], peer=True)
            return values_of(json.loads((folder / "result.json").read_text()), ran)

        return once

    def nnunet() -> Values:
        peer = NnUNet(place / "nnunet", device)
        peer.prepare(cohort)
        facts = peer.train(epochs=1, iterations=steps + WARM, predict=False, workers=1)
        return {**values_of(facts, {"peak_mib": 0.0})}

    made: dict[str, Callable[[], Values]] = {"volseg unet": volseg}
    made |= {"MONAI plain recipe": monai(0), "MONAI plain recipe, 2 loader workers": monai(2)}
    return made | {"nnU-Net, its own plans": nnunet}


def main() -> None:
    """Parse, measure, write."""
    parser = measurement.options("training", __doc__)
    parser.add_argument("--cohort", type=Path, default=measurement.ROOT / "data" / "hippocampus")
    parser.add_argument("--cases", type=int, default=80, help="to train on; a step takes 4 of them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    cases, rounds = (8, 1) if given.quick else (given.cases, given.rounds)
    machine, place = measurement.machine(), given.output.resolve()
    shutil.rmtree(place, ignore_errors=True)
    code = "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); from harness import material as m; "
    code += "m.write_subset(Path(sys.argv[2]), Path(sys.argv[3]), training=int(sys.argv[4]), validation=2)"
    words = [Path(__file__).parent, given.cohort.resolve(), place / "cohort", str(cases)]
    measurement.run([sys.executable, "-c", code, *words])
    steps = cases // 4
    found, left_out = measurement.paired(ways(place / "cohort", place, steps=steps, device=given.device), rounds=rounds)
    for rounds_of in found.values():
        for values in rounds_of:
            if not values["peak_mib"]:  # of a program that starts others, which nnU-Net's is
                del values["peak_mib"]  # type: ignore[attr-defined]
    table = measurement.table(
        f"{steps} steps on {cases} hippocampus volumes, {given.device}",
        [STEP, VOXELS, WAIT, PEAK],
        found,
        reference="volseg unet",
        left_out=left_out,
    )
    versions = measurement.versions("volseg", "torch", "monai", "numpy")
    if not left_out:
        versions |= measurement.versions("nnunetv2", python=measurement.peer("nnunet"))
    notes = ["A million voxels: of the windows in a batch. nnU-Net with one augmenting process, which runs beside it."]
    measurement.write(
        measurement.result("training", [table], quick=given.quick, machine=machine, versions=versions, notes=notes)
    )


if __name__ == "__main__":
    main()
