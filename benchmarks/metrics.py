"""Dice + HD95 + surface Dice of three organs: volseg beside MONAI, surface-distance and scipy, paired in one run.

    sh benchmarks/run.sh metrics

surface-distance is no dependency and comes from an environment of its own, which run.sh makes; without it, its lines
are left out. Single-thread CPU time, the methods in turn; peak memory is of one call in a fresh fork.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from harness import measurement
from harness.measurement import Measure

from volseg.metrics import bounding_box, dice, surface_distances

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


CPU = Measure("cpu_ms", "CPU time", "ms", 1)
PEAK = Measure("peak_mib", "Peak memory", "MiB", 0, compared=False)
# The readings of HD95 differ: a method is compared with volseg's of the same definition.
OURS = {"MONAI": "volseg", "scipy distance transform": "volseg", "surface-distance": "volseg, surfel reading"}


def timed(
    method: Callable[[Masks, Masks], Values], masks: tuple[Masks, Masks], memory: measurement.Values | None
) -> dict[str, float]:
    """One call."""
    start = time.process_time()
    method(*masks)
    found = {"cpu_ms": 1000 * (time.process_time() - start)}
    return found if memory is None else found | {"peak_mib": memory["peak"]}


def benchmark(
    title: str, masks: tuple[Masks, Masks], methods: dict[str, Callable[[Masks, Masks], Values]], rounds: int
) -> tuple[dict, str]:
    """The table of one pair of predictions and references, and how far the values differ."""
    memory = {name: measurement.memory_of(partial(method, *masks)) for name, method in methods.items()}
    values = {name: method(*masks) for name, method in methods.items()}  # warm, too
    ways = {name: partial(timed, method, masks, memory[name]) for name, method in methods.items()}
    found, _ = measurement.paired(ways, rounds=rounds)
    distances = {name: {"HD95 (mm)": ", ".join(f"{one[1]:.2f}" for one in values[name])} for name in methods}
    stated = "; ".join(f"{pair} {value:.1g}" for pair, value in differences(values, masks).items())
    table = measurement.table(
        title,
        [CPU, PEAK],
        found,
        way="Method",
        reference={name: OURS[name] for name in OURS if name in found},
        facts=distances,
    )
    return table, f"{title}: largest relative difference in any of the nine values: {stated}."


def differences(found: dict[str, Values], masks: tuple[Masks, Masks]) -> dict[str, float]:
    """The largest relative difference in any of the nine values between methods of one definition."""
    values: dict[str, Any] = {**found, "MONAI, percentile in double": by_monai_in_double(*masks)}
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


def main() -> None:
    """Parse, run, write."""
    parser = measurement.options("metrics", __doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--surface-distance", type=Path, help="site-packages that hold it; those of data/peers/metrics")
    options = parser.parse_args()
    machine = measurement.machine()
    warnings.simplefilter("ignore")  # the peers' own affairs
    import monai.metrics  # noqa: F401 - imported before any clock runs
    import torch

    torch.set_num_threads(1)
    methods: dict[str, Callable[[Masks, Masks], Values]] = {
        "volseg": by_volseg("directed"),
        "volseg, surfel reading": by_volseg("surfel"),
        "MONAI": by_monai,
        "scipy distance transform": by_scipy,
    }
    packages = options.surface_distance or next(
        (measurement.ROOT / "data" / "peers" / "metrics").glob("lib/python*/site-packages"), None
    )
    left_out = {}
    if packages:
        sys.path.append(str(packages))  # at the end: numpy and scipy stay this environment's
    try:
        import surface_distance.metrics  # noqa: F401 - likewise

        methods["surface-distance"] = by_surface_distance
    except ImportError:
        left_out["surface-distance"] = "not installed"
    cases = {"Good predictions": good, "Poor predictions, with far islands": poor}
    if options.quick:
        del cases["Poor predictions, with far islands"]
    found = [benchmark(title, make(), methods, 1 if options.quick else options.rounds) for title, make in cases.items()]
    tables = [{**table, "left_out": left_out} for table, _ in found]
    versions = measurement.versions("volseg", "numpy", "scipy", "torch", "monai", "surface-distance")
    measurement.write(
        measurement.result(
            "metrics",
            tables,
            quick=options.quick,
            machine=machine,
            versions=versions,
            notes=[note for _, note in found],
        )
    )


if __name__ == "__main__":
    main()
