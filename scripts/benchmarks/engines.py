"""How fast each engine of `volseg predict` is on a CPU, and what it changes.

    python scripts/benchmarks/engines.py swinunetr data/hippocampus data/runs/hippocampus/model.pt --cases 8

Held-out cases of a cohort are predicted, from file to label map, by PyTorch, PyTorch compiled and OpenVINO in single
precision and in bfloat16, one engine after the other for each case. Times are sums over the cases: on the wall, and of
the processor, which counts less of what else runs on the machine. `OMP_NUM_THREADS=1` gives those of one thread.
Agreement is with PyTorch in single precision; Dice is volumetric, the mean over cases and regions. What the CPU cannot
do is left out and named.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

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
    wall_s: float = 0.0
    cpu_s: float = 0.0
    differing: int = 0
    dices: list[float] = field(default_factory=list)


def tell(line: str) -> None:
    """Write one line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def started(way: str, bundle: str, checkpoint: Path) -> Tally:
    """A predictor with that engine, and the processor time that the engine alone took to get ready."""
    name, precision = way.split()
    predictor = Predictor.from_bundle(bundle, checkpoint=checkpoint, device="cpu", overrides={"precision": precision})
    begun = time.process_time()
    return Tally(predictor=predictor.with_engine(name), start_s=time.process_time() - begun)


def main() -> None:
    """Parse, predict and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("bundle")
    parser.add_argument("cohort", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--cases", type=int, default=8)
    parser.add_argument("--leave-out", action="append", default=[], choices=WAYS[1:])
    options = parser.parse_args()
    cohort = Cohort.open(options.cohort)
    tallies: dict[str, Tally] = {}
    for way in WAYS:
        if way in options.leave_out:
            continue
        tally = started(way, options.bundle, options.checkpoint)
        if tally.predictor.engine.precision == way.split()[1]:
            tallies[way] = tally
        else:
            tell(f"{way}: this CPU computes {tally.predictor.engine.precision} instead")
    voxels = 0
    keys = cohort.part("validation")[: options.cases]
    for key in keys:
        images = cohort.image_paths(key)
        reference = read_volume(cohort.label_path(key) or sys.exit(f"{key} has no label"))
        plain: LabelMap | None = None
        for tally in tallies.values():
            begun, begun_cpu = time.perf_counter(), time.process_time()
            label_map = tally.predictor.predict(images, key=key).label_map.voxels
            tally.wall_s += time.perf_counter() - begun
            tally.cpu_s += time.process_time() - begun_cpu
            plain = label_map if plain is None else plain
            tally.differing += int((label_map != plain).sum())
            masks = zip(cohort.labels.masks(label_map), cohort.labels.masks(reference.voxels), strict=True)
            tally.dices += [dice(mask, truth) for mask, truth in masks]
        voxels += reference.voxels.size
    first = tallies["torch fp32"]
    roi = " x ".join(map(str, first.predictor.recipe.roi_size))
    tell(f"\n{len(keys)} cases, window {roi}, {torch.get_num_threads()} threads of {os.cpu_count()} cores\n")
    tell("| Engine | Ready (s) | Wall (s a case) | CPU (s a case) | Times as fast (CPU) | Voxels that differ | Dice |")
    tell("| --- | --- | --- | --- | --- | --- | --- |")
    for way, tally in tallies.items():
        change = f" ({np.mean(tally.dices) - np.mean(first.dices):+.5f})" if tally is not first else ""
        tell(
            f"| {way} | {tally.start_s:.1f} | {tally.wall_s / len(keys):.2f} | {tally.cpu_s / len(keys):.2f} "
            f"| {first.cpu_s / tally.cpu_s:.2f} | {tally.differing / voxels:.2e} | {np.mean(tally.dices):.4f}{change} |"
        )


if __name__ == "__main__":
    main()
