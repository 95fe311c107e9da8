"""Dice + HD95 + surface Dice of three organs: volseg beside MONAI, surface-distance and scipy, paired in one run.

    python scripts/benchmarks/metrics.py -o data/metrics_benchmark --surface-distance SITE_PACKAGES

surface-distance is no dependency: install it into an environment of its own, `pip install surface-distance`, and name
that environment's site-packages; without the option, its lines are left out. Single-thread CPU time, the methods in
turn, several rounds, the lowest of each; peak memory is of one call in a fresh fork.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from volseg.metrics.overlap import dice
from volseg.metrics.surface import bounding_box, surface_distances

SHAPE = (266, 266, 144)
SPACING_MM = (1.5, 1.5, 3.0)
TOLERANCE_MM = 3.2  # no distance on this grid, so that rounding decides nothing

Masks = list[np.ndarray]
Values = list[tuple[float, float, float]]  # Dice, HD95 in mm, surface Dice, an organ each


def blob(centre: tuple[float, ...], radii: tuple[float, ...], roughness: float, seed: int) -> np.ndarray:
    """A rough ellipsoid, with X fastest in memory, as NIfTI files give it."""
    generator = np.random.default_rng(seed)
    axes = [(np.arange(side) - c) / r for side, c, r in zip(SHAPE, centre, radii, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    waves = np.zeros(SHAPE)
    for _ in range(6):
        a, b, c = generator.normal(size=3) * 3
        waves += np.sin(a * x + b * y + c * z + generator.uniform(0, 6))
    return np.asfortranarray(np.sqrt(x * x + y * y + z * z) < 1 + roughness * waves / np.sqrt(6))


ORGANS = [
    ((120, 130, 70), (36.5, 28.8, 21.2)),
    ((160, 110, 60), (36, 26, 14)),
    ((100, 170, 90), (28.5, 22.7, 14.2)),
]


def good() -> tuple[Masks, Masks]:
    """Predictions with a Dice of about 0.92, wrong near the surface only."""
    references = [blob(centre, radii, 0.18, seed) for seed, (centre, radii) in enumerate(ORGANS)]
    predictions = [blob((x + 2, y - 1, z + 1), radii, 0.2, seed) for seed, ((x, y, z), radii) in enumerate(ORGANS)]
    return predictions, references


def poor() -> tuple[Masks, Masks]:
    """The same with a half missed, a part invented far away, and islands all over the image."""
    predictions, references = good()
    predictions[0][120:] = False
    predictions[1] |= blob((40, 40, 20), (12, 12, 8), 0.2, 9)
    islands = np.random.default_rng(0).integers(0, SHAPE, (400, 3))
    predictions[2][tuple(islands.T)] = True
    return predictions, references


def by_volseg(reading: str) -> Callable[[Masks, Masks], Values]:
    """The functions of volseg with a reading of HD95."""

    def run(predictions: Masks, references: Masks) -> Values:
        values = []
        for prediction, reference in zip(predictions, references, strict=True):
            box = bounding_box(prediction, reference)
            a, b = prediction[box], reference[box]
            found = surface_distances(a, b, SPACING_MM, reading=reading)
            values.append((dice(a, b), found.hausdorff_mm(95), found.surface_dice(TOLERANCE_MM)))
        return values

    return run


def by_scipy(predictions: Masks, references: Masks) -> Values:
    """The plain way: two distance transforms of the whole image an organ."""
    from scipy import ndimage

    values = []
    for a, b in zip(predictions, references, strict=True):
        edges = [mask & ~ndimage.binary_erosion(mask) for mask in (a, b)]
        to_a, to_b = (ndimage.distance_transform_edt(~edge, sampling=SPACING_MM) for edge in edges)
        there, back = to_b[edges[0]], to_a[edges[1]]
        near = np.count_nonzero(there <= TOLERANCE_MM) + np.count_nonzero(back <= TOLERANCE_MM)
        hd95 = max(np.percentile(there, 95), np.percentile(back, 95))
        values.append((2 * np.count_nonzero(a & b) / (a.sum() + b.sum()), hd95, near / (len(there) + len(back))))
    return values


def by_monai(predictions: Masks, references: Masks) -> Values:
    """MONAI's functions on tensors of one channel an organ."""
    import torch
    from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice

    a, b = (torch.from_numpy(np.stack(masks))[None] for masks in (predictions, references))
    overlap = compute_dice(a, b, include_background=True)
    hd95 = compute_hausdorff_distance(a, b, include_background=True, percentile=95, spacing=SPACING_MM)
    near = compute_surface_dice(a, b, [TOLERANCE_MM] * len(predictions), include_background=True, spacing=SPACING_MM)
    return [tuple(map(float, one)) for one in zip(overlap[0], hd95[0], near[0], strict=True)]


def by_monai_in_double(predictions: Masks, references: Masks) -> Values:
    """MONAI's distances with numpy's percentile: torch.quantile finds the rank in single precision. Not timed."""
    import torch
    from monai.metrics.utils import get_edge_surface_distance

    values = by_monai(predictions, references)
    for organ, pair in enumerate(zip(predictions, references, strict=True)):
        masks = [torch.from_numpy(np.ascontiguousarray(mask)) for mask in pair]
        _, found, _ = get_edge_surface_distance(*masks, spacing=SPACING_MM, symmetric=True)
        hd95 = max(float(np.percentile(one.numpy().astype(float), 95)) for one in found)
        values[organ] = (values[organ][0], hd95, values[organ][2])
    return values


def by_surface_distance(predictions: Masks, references: Masks) -> Values:
    """DeepMind's functions, one set of distances an organ."""
    from surface_distance import metrics as peer

    values = []
    for a, b in zip(predictions, references, strict=True):
        found = peer.compute_surface_distances(b, a, SPACING_MM)
        values.append(
            (
                peer.compute_dice_coefficient(b, a),
                peer.compute_robust_hausdorff(found, 95),
                peer.compute_surface_dice_at_tolerance(found, TOLERANCE_MM),
            )
        )
    return values


def peak_mib(method: Callable[[Masks, Masks], Values], masks: tuple[Masks, Masks]) -> float | None:
    """What one call adds to the resident memory at its peak, in a fresh fork; None where Linux's /proc is not there."""

    def measure(pipe: multiprocessing.connection.Connection) -> None:
        def read(name: str) -> int:
            status = Path("/proc/self/status").read_text()
            return int(next(line for line in status.splitlines() if line.startswith(name)).split()[1])

        try:
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
            before = read("VmRSS")
            method(*masks)
            pipe.send((read("VmHWM") - before) / 1024)
        except OSError:
            pipe.send(None)

    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=measure, args=(theirs,))
    process.start()
    peak: float | None = ours.recv()
    process.join()
    return peak


def benchmark(masks: tuple[Masks, Masks], methods: dict[str, Callable[[Masks, Masks], Values]], rounds: int) -> dict:
    """Values, times and memory of each method on one pair of predictions and references."""
    memory = {name: peak_mib(method, masks) for name, method in methods.items()}
    values = {name: method(*masks) for name, method in methods.items()}  # warm, too
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(rounds):
        for name, method in methods.items():
            start = time.process_time()
            method(*masks)
            seconds[name].append(time.process_time() - start)
    return {
        name: {
            "cpu_s": min(seconds[name]),
            "cpu_s_median": float(np.median(seconds[name])),
            "peak_mib": memory[name],
            "dice_hd95_mm_surface_dice": values[name],
        }
        for name in methods
    }


def differences(result: dict, masks: tuple[Masks, Masks]) -> dict[str, float]:
    """The largest relative difference in any of the nine values between methods of one definition."""
    values = {name: found["dice_hd95_mm_surface_dice"] for name, found in result.items()}
    values["MONAI, percentile in double"] = by_monai_in_double(*masks)
    pairs = [
        ("volseg", "scipy distance transform"),
        ("volseg", "MONAI"),
        ("volseg", "MONAI, percentile in double"),
        ("volseg, surfel reading", "surface-distance"),
    ]
    return {
        f"{one} and {other}": float(np.abs(np.divide(values[one], values[other]) - 1).max())
        for one, other in pairs
        if other in values
    }


def ratios(result: dict) -> dict[str, float]:
    """How many times the CPU time of volseg's reading of the same definition a method takes."""
    pairs = {"MONAI": "volseg", "scipy distance transform": "volseg", "surface-distance": "volseg, surfel reading"}
    return {name: result[name]["cpu_s"] / result[ours]["cpu_s"] for name, ours in pairs.items() if name in result}


def as_markdown(report: dict) -> str:
    """The tables of docs/BENCHMARKS.md."""
    lines = []
    for case in report["cases"].values():
        lines += [f"**{case['title']}**", ""]
        lines += ["| Method | CPU time (ms) | Times volseg's, same definition | Peak memory (MiB) | HD95 (mm) |"]
        lines += ["| --- | --- | --- | --- | --- |"]
        for method, found in case["methods"].items():
            distances = ", ".join(f"{values[1]:.2f}" for values in found["dice_hd95_mm_surface_dice"])
            memory = "–" if found["peak_mib"] is None else f"{found['peak_mib']:.0f}"
            ratio = case["times_of_the_same_definition"].get(method)
            times = "" if ratio is None else f"{ratio:.1f}"
            lines += [f"| {method} | {1000 * found['cpu_s']:.1f} | {times} | {memory} | {distances} |"]
        stated = "; ".join(f"{title} {value:.1g}" for title, value in case["largest_relative_difference"].items())
        lines += ["", f"Largest relative difference in any of the nine values: {stated}.", ""]
    return "\n".join(lines)


def main() -> None:
    """Parse, run, write `metrics.json` and `metrics.md`."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for metrics.json and metrics.md")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--surface-distance", type=Path, help="site-packages that hold surface-distance")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # the peers' own affairs
    import monai
    import monai.metrics  # imported before any clock runs
    import torch

    torch.set_num_threads(1)
    methods: dict[str, Callable[[Masks, Masks], Values]] = {
        "volseg": by_volseg("directed"),
        "volseg, surfel reading": by_volseg("surfel"),
        "MONAI": by_monai,
        "scipy distance transform": by_scipy,
    }
    if options.surface_distance:
        sys.path.append(str(options.surface_distance))  # at the end: numpy and scipy stay this environment's
        import surface_distance.metrics  # noqa: F401 - likewise

        methods["surface-distance"] = by_surface_distance
    cases = {"good": ("Good predictions", good()), "poor": ("Poor predictions, with far islands", poor())}
    report = {
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "torch": torch.__version__,
            "monai": monai.__version__,
        },
        "grid": {"shape": SHAPE, "spacing_mm": SPACING_MM, "tolerance_mm": TOLERANCE_MM},
        "rounds": options.rounds,
        "cases": {},
    }
    for name, (title, masks) in cases.items():
        result = benchmark(masks, methods, options.rounds)
        report["cases"][name] = {
            "title": title,
            "reference_voxels": [int(mask.sum()) for mask in masks[1]],
            "methods": result,
            "largest_relative_difference": differences(result, masks),
            "times_of_the_same_definition": ratios(result),
        }
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "metrics.json").write_text(json.dumps(report, indent=1) + "\n")
    text = as_markdown(report)
    (options.output / "metrics.md").write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
