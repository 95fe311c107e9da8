"""What the decisions cost: processor time and memory from probabilities to masks, of made volumes and of predictions.

    python benchmarks/decision_cost.py
    volseg predict hippocampus data/hippocampus --save-probabilities --no-calibration -o data/soft
    python benchmarks/decision_cost.py data/soft

Without a folder three volumes are made by code, of three regions that exclude each other, with smooth noise on their
borders: `sharp`, as a trained network gives (4 % of the voxels above 0.001), `soft` (a quarter of them), and `flooded`,
in which every voxel may belong to a region. The decisions alternate, and the best of some rounds counts. To compare two
versions run it with each in turns, with PYTHONPATH.
"""

from __future__ import annotations

import argparse
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from decision import ways_of
from harness.measurement import tell
from numpy.typing import NDArray
from scipy import ndimage

from volseg.cohort import Predictions
from volseg.labels import LabelTable
from volseg.metrics import Scaling
from volseg.volume import read_probabilities

MADE = {  # shape, width of the border over half of the volume's side, log odds far from the region
    "sharp": ((160, 160, 120), 0.02, -12.0),
    "soft": ((160, 160, 120), 0.08, -7.0),
    "flooded": ((96, 96, 64), 0.2, -3.0),
}
RADII = (0.45, 0.18, 0.06)


def made(shape: tuple[int, int, int], width: float, floor: float) -> NDArray[np.float32]:
    """Probabilities (4, X, Y, Z) of the background and three balls."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, side) for side in shape], indexing="ij")).astype(np.float32)
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=shape).astype(np.float32), 3)
    noise /= noise.std()
    logits = np.zeros((len(RADII) + 1, *shape), np.float32)
    for number, radius in enumerate(RADII):
        centre = np.array([0.4 * number - 0.4, 0.2 * number - 0.2, 0.1 * number], np.float32)
        outside = np.sqrt(((grid - centre[:, None, None, None]) ** 2).sum(axis=0)) - radius
        logits[number + 1] = np.clip(noise - outside / width, floor, 12)
    odds = np.exp(logits)
    return np.asarray(odds / odds.sum(axis=0), np.float32)


def cases(folder: Path | None, most: int) -> Iterator[tuple[str, LabelTable, NDArray[np.float32]]]:
    """Name, labels and the probabilities of all channels of each case."""
    if folder is None:
        labels = LabelTable.exclusive(["liver", "kidney", "lesion"])
        for name, given in MADE.items():
            yield name, labels, made(*given)
        return
    there = Predictions.open(folder)
    labels = there.labels(option="predictions")
    keys = there.keys()
    for key in [key for key in keys if there.probabilities_path(key).is_file()][:most]:
        yield key, labels, read_probabilities(there.probabilities_path(key))


def cost(labels: LabelTable, given: Any, rounds: int) -> list[str]:  # noqa: ANN401 - an array
    """Cells of the table: seconds per million voxels of each way, and the peak of memory with the probabilities."""
    ways = ways_of(labels, Scaling(0.8, -0.5))
    million = given[0].size / 1e6
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(max(3, min(rounds, int(rounds / million)))):
        for way, decide in ways.items():
            begun = time.process_time()
            decide(given)
            best[way] = min(best[way], (time.process_time() - begun) / million)
    peaks = {}
    for way, decide in ways.items():
        tracemalloc.start()
        decide(given)
        peaks[way] = given.nbytes + tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    told = [f"{best['threshold']:.4f}"]
    for way in ("dice", "scaled"):
        times, memory = best[way] / best["threshold"], peaks[way] / peaks["threshold"]
        told.append(f"{best[way]:.4f}, {times:.2f} times, memory {memory:.2f} times")
    return told


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", type=Path, nargs="?", help="folder with probabilities; made volumes without it")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--cases", type=int, default=4)
    given = parser.parse_args()
    tell("| probabilities | million voxels, channels | 0.5 | `dice` | scaled |\n|---|---|---|---|---|")
    found = 0
    for name, labels, probabilities in cases(given.predictions, given.cases):
        found += 1
        size = f"{probabilities[0].size / 1e6:.2f}, {len(probabilities)}"
        tell(f"| {name} | {size} | {' | '.join(cost(labels, probabilities, given.rounds))} |")
    if not found:
        sys.exit(f"{given.predictions} has no probabilities; predict with --save-probabilities")


if __name__ == "__main__":
    main()
