"""How fast each engine of `volseg predict` is on a CPU, and what it changes.

    sh benchmarks/run.sh engines swinunetr=data/runs/hippocampus/model.pt

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
from typing import Any

import numpy as np
import torch
from harness import measurement
from harness.measurement import CPU, WALL, tell

from volseg.cohort import Cohort
from volseg.errors import VolsegError
from volseg.inference import Predictor
from volseg.labels import LabelMap
from volseg.metrics import dice
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


def compared(bundle: str, checkpoint: Path, cohort: Cohort, count: int, left_out: dict[str, str]) -> dict[str, Any]:
    """The table of one network.

    Args:
        bundle: its name or folder.
        checkpoint: its weights.
        cohort: Cohort of the held-out cases.
        count: so many of them.
        left_out: ways that are not measured, and why; those that the CPU cannot go are added.
    """
    tallies: dict[str, Tally] = {}
    for way in WAYS:
        if way in left_out:
            continue
        try:
            tally = started(way, bundle, checkpoint)
        except VolsegError as error:  # OpenVINO is not installed, or its logits are too far from those of PyTorch
            left_out[way] = str(error)
            continue
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
    millions = sum(weights.numel() for weights in first.predictor.network.parameters()) / 1e6
    facts = {}
    for way, tally in tallies.items():
        change = f" ({np.mean(tally.dices) - np.mean(first.dices):+.5f})" if tally is not first else ""
        facts[way] = {
            "Ready (CPU s)": f"{tally.start_s:.1f}",
            "Voxels that differ": f"{tally.differing / voxels:.1e}",
            "Dice": f"{np.mean(tally.dices):.4f}{change}",
        }
    return measurement.table(
        f"{Path(bundle).name}, {millions:.1f} million weights, window {roi}, {len(keys)} cases; a case is a round",
        [WALL, CPU],
        {way: tally.rounds for way, tally in tallies.items()},
        way="Engine",
        reference=WAYS[0],
        facts=facts,
        left_out=left_out,
    )


def main() -> None:
    """Parse, predict with each network, write."""
    parser = measurement.options("engines", __doc__)
    trained = f"swinunetr={measurement.ROOT / 'data' / 'runs' / 'hippocampus' / 'model.pt'}"  # by hippocampus.sh
    parser.add_argument("networks", nargs="*", default=[trained], metavar="BUNDLE=CHECKPOINT")
    parser.add_argument("--cohort", type=Path, default=measurement.ROOT / "data" / "hippocampus")
    parser.add_argument("--cases", type=int, default=8)
    parser.add_argument(
        "--leave-out", action="append", default=[], metavar="[BUNDLE:]WAY", help=f"one of {', '.join(WAYS[1:])}"
    )
    options = parser.parse_args()
    machine, count = measurement.machine(), 1 if options.quick else options.cases
    networks = [network.partition("=") for network in options.networks]
    absent = [checkpoint for _, _, checkpoint in networks if not Path(checkpoint).is_file()]
    if absent:
        parser.error(f"there is no {absent[0] or 'checkpoint'}; sh benchmarks/hippocampus.sh trains one")
    for name in options.leave_out:
        if name.rpartition(":")[2] not in WAYS[1:]:
            parser.error(f"there is no way {name}; there are {', '.join(WAYS[1:])}")
    cohort = Cohort.open(options.cohort)
    tables = []
    for bundle, _, checkpoint in networks:
        names = [name.rpartition(":") for name in options.leave_out]
        left_out = dict.fromkeys((way for of, _, way in names if of in ("", bundle)), "not asked for")
        tables.append(compared(bundle, Path(checkpoint), cohort, count, left_out))
    threads = f"{torch.get_num_threads()} threads" if torch.get_num_threads() > 1 else "One thread"
    notes = [f"{threads}. Voxels that differ, and the change of Dice in brackets: from {WAYS[0]}."]
    versions = measurement.versions("volseg", "torch", "openvino", "numpy")
    measurement.write(
        measurement.result("engines", tables, quick=options.quick, machine=machine, versions=versions, notes=notes)
    )


if __name__ == "__main__":
    main()
