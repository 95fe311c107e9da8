"""How fast each engine of `volseg predict` is on a CPU, and what it changes.

    sh scripts/benchmarks/run.sh engines swinunetr data/hippocampus data/runs/hippocampus/model.pt

Held-out cases of a cohort are predicted, from file to label map, by PyTorch, PyTorch compiled and OpenVINO in single
precision and in bfloat16, one engine after the other for each case. A case is a round. `OMP_NUM_THREADS=1` gives the
times of one thread. Agreement is with PyTorch in single precision; Dice is volumetric, the mean over cases and regions.
What the CPU cannot do is left out and named.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import measurement
import numpy as np
import torch
from measurement import CPU, WALL, tell

from volseg.cohort import Cohort
from volseg.inference import Predictor
from volseg.labels import LabelMap
from volseg.metrics.overlap import dice
from volseg.volume import read_volume

WAYS = ("torch fp32", "torch bf16", "compiled fp32", "compiled bf16", "openvino fp32", "openvino bf16")


@dataclass
class Tally:
    """Sums over the cases of one engine."""

    start_s: float
    predictor: Predictor
    rounds: list[dict[str, float]] = field(default_factory=list)
    differing: int = 0
    dices: list[float] = field(default_factory=list)


def started(way: str, bundle: str, checkpoint: Path) -> Tally:
    """A predictor with that engine, and the processor time that the engine alone took to get ready."""
    name, precision = way.split()
    predictor = Predictor.from_bundle(bundle, checkpoint=checkpoint, device="cpu", overrides={"precision": precision})
    begun = time.process_time()
    return Tally(predictor=predictor.with_engine(name), start_s=time.process_time() - begun)


def main() -> None:
    """Parse, predict and print the table."""
    parser = measurement.options("engines", __doc__)
    parser.add_argument("bundle", nargs="?", default="swinunetr")
    parser.add_argument("cohort", type=Path, nargs="?", default=measurement.ROOT / "data" / "hippocampus")
    run = measurement.ROOT / "data" / "runs" / "hippocampus"  # which hippocampus.sh trains
    parser.add_argument("checkpoint", type=Path, nargs="?", default=run / "model.pt")
    parser.add_argument("--cases", type=int, default=8)
    parser.add_argument("--leave-out", action="append", default=[], choices=WAYS[1:])
    options = parser.parse_args()
    machine, count = measurement.machine(), 1 if options.quick else options.cases
    if not options.checkpoint.is_file():
        sys.exit(f"there is no {options.checkpoint}; sh scripts/benchmarks/hippocampus.sh trains it, or name another")
    cohort = Cohort.open(options.cohort)
    tallies: dict[str, Tally] = {}
    left_out = dict.fromkeys(options.leave_out, "not asked for")
    for way in WAYS:
        if way in options.leave_out:
            continue
        tally = started(way, options.bundle, options.checkpoint)
        if tally.predictor.engine.precision == way.split()[1]:
            tallies[way] = tally
        else:
            left_out[way] = f"this CPU computes {tally.predictor.engine.precision} instead"
    voxels = 0
    keys = cohort.part("validation")[:count]
    for key in keys:
        images = cohort.image_paths(key)
        reference = read_volume(cohort.label_path(key) or sys.exit(f"{key} has no label"))
        plain: LabelMap | None = None
        for way, tally in tallies.items():
            begun, begun_cpu = time.perf_counter(), time.process_time()
            label_map = tally.predictor.predict(images, key=key).label_map.voxels
            used = {"wall_s": time.perf_counter() - begun, "cpu_s": time.process_time() - begun_cpu}
            tally.rounds.append(used)
            tell(f"{key}, {way}: {used['wall_s']:.2f} s, CPU {used['cpu_s']:.2f} s")
            plain = label_map if plain is None else plain
            tally.differing += int((label_map != plain).sum())
            masks = zip(cohort.labels.masks(label_map), cohort.labels.masks(reference.voxels), strict=True)
            tally.dices += [dice(mask, truth) for mask, truth in masks]
        voxels += reference.voxels.size
    first = tallies[WAYS[0]]
    roi = " x ".join(map(str, first.predictor.recipe.roi_size))
    facts = {}
    for way, tally in tallies.items():
        change = f" ({np.mean(tally.dices) - np.mean(first.dices):+.5f})" if tally is not first else ""
        facts[way] = {
            "Ready (s)": f"{tally.start_s:.1f}",
            "Voxels that differ": f"{tally.differing / voxels:.1e}",
            "Dice": f"{np.mean(tally.dices):.4f}{change}",
        }
    table = measurement.table(
        f"{options.bundle}, window {roi}, {torch.get_num_threads()} threads; a case is a round",
        [WALL, CPU],
        {way: tally.rounds for way, tally in tallies.items()},
        way="Engine",
        reference=WAYS[0],
        facts=facts,
        left_out=left_out,
    )
    versions = measurement.versions("volseg", "torch", "openvino", "numpy")
    measurement.write(measurement.result("engines", [table], quick=options.quick, machine=machine, versions=versions))


if __name__ == "__main__":
    main()
