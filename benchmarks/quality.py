"""Which numbers, known without a reference, order predictions by their true Dice?

    python benchmarks/quality.py data/hippocampus data/runs/hippocampus/model.pt -o data/quality_benchmark

The held-out cases are predicted as they are, and damaged on purpose: not at all, noise, blur, bias field, rotation, an
empty slab by turns, with a strength drawn by a fixed seed. For each measure Spearman's rho with the true mean Dice is
printed, a 95 % interval (percentile bootstrap over cases), and its p-value; positive is right. For images as they are,
some measures need the network again: for the input mirrored right to left (it must have been trained so, as in
`benchmarks/hippocampus.sh`), shifted by two voxels, with noise, and with other gamma. `cases.csv` in the output
holds every number.

To choose a measure use another fold than the one to report on: `--fold 1` with a network that was trained on fold 1.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness.damage import DAMAGES, damaged
from harness.measurement import tell
from numpy.typing import NDArray
from scipy import ndimage, special, stats

from volseg.cohort import FILE_ENDING, Cohort
from volseg.evaluation import evaluate, rank
from volseg.inference import Predictor
from volseg.labels import LabelTable
from volseg.metrics import dice, expected_dice
from volseg.volume import Volume, read_volume, write_volume

DRAWS, SEED = 2000, 0
SHIFT = 2  # voxels

Probabilities = NDArray[np.float64]  # (R, X, Y, Z)
Masks = NDArray[np.bool_]
# (probabilities and masks of the input as it is, the same of each perturbed input) to the number of a case
Measure = Callable[[Probabilities, Masks, Mapping[str, tuple[Probabilities, Masks]]], float]


# --- images


def perturbed(image: torch.Tensor) -> dict[str, tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]]:
    """Inputs (C, X, Y, Z) of a network by name, and what brings its output back."""

    def same(logits: torch.Tensor) -> torch.Tensor:
        return logits

    def gamma(power: float) -> torch.Tensor:
        low, high = image.min(), image.max()
        bent = ((image - low) / (high - low)) ** power
        return (bent - bent.mean()) / bent.std()

    def shifted(by: int) -> torch.Tensor:
        return image.roll((by, by, by), (1, 2, 3))

    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(SEED))
    return {
        "as it is": (image, same),
        "mirrored": (image.flip(1), lambda logits: logits.flip(1)),
        "shifted": (shifted(SHIFT), lambda logits: logits.roll((-SHIFT,) * 3, (1, 2, 3))),
        "shifted back": (shifted(-SHIFT), lambda logits: logits.roll((SHIFT,) * 3, (1, 2, 3))),
        "noise": (image + 0.15 * noise, same),
        "gamma 0.7": (gamma(0.7), same),
        "gamma 1.5": (gamma(1.5), same),
    }


def outputs(
    predictor: Predictor, path: Path, labels: LabelTable, *, more: bool
) -> dict[str, tuple[Probabilities, Masks]]:
    """Probabilities and decision of each region on the image's own grid, by the name of the input."""
    item = predictor.preprocessing({"key": path.name, "image": [str(path)]})
    inputs = perturbed(item["image"].as_tensor())
    found = {}
    with torch.inference_mode():
        for name, (image, back) in inputs.items() if more else list(inputs.items())[:1]:
            logits = back(predictor.inferer(image[None].to(predictor.device), predictor.network)[0].cpu())
            output = {**item, "pred": logits}
            for step in predictor.postprocessing.transforms[:-1]:  # without the decision
                output = step(output)
            probabilities = output["pred"].numpy().astype(np.float64)
            found[name] = probabilities[-len(labels.names) :], labels.masks(labels.decide(probabilities))
    return found


# --- measures: one number per case, higher for a better prediction


def mean(values: Sequence[float]) -> float:
    """Of the defined values; NaN where there is none."""
    held = [value for value in values if not np.isnan(value)]
    return float(np.mean(held)) if held else float("nan")


def agreement(one: Masks, other: Masks) -> float:
    """Mean Dice over regions."""
    return mean([dice(a, b) for a, b in zip(one, other, strict=True)])


def expected(probabilities: Probabilities, masks: Masks) -> float:
    """Mean expected Dice over regions."""
    return mean([expected_dice(p, mask) for p, mask in zip(probabilities, masks, strict=True)])


def entropy(probabilities: Probabilities) -> Probabilities:
    """Of each voxel and region, in nats."""
    return np.asarray(special.entr(probabilities) + special.entr(1 - probabilities))


def at_surface(probabilities: Probabilities, masks: Masks) -> float:
    """Mean entropy within a voxel of each region's surface."""
    bands = [ndimage.binary_dilation(mask) & ~ndimage.binary_erosion(mask) for mask in masks]
    return mean([float(h[band].mean()) for h, band in zip(entropy(probabilities), bands, strict=True) if band.any()])


def softened(probabilities: Probabilities, temperature: float) -> Probabilities:
    """Probabilities at a temperature, each region for itself."""
    return np.asarray(special.expit(special.logit(np.clip(probabilities, 1e-9, 1 - 1e-9)) / temperature))


MEASURES: dict[str, Measure] = {
    "expected Dice": lambda p, m, _: expected(p, m),
    "expected Dice, temperature 2": lambda p, m, _: expected(softened(p, 2), m),
    "mean probability inside": lambda p, m, _: mean([float(q[k].mean()) for q, k in zip(p, m, strict=True) if k.any()]),
    "- entropy a predicted voxel": lambda p, m, _: -float(entropy(p).sum() / max(m.sum(), 1)),
    "- entropy at the surface": lambda p, m, _: -at_surface(p, m),
}
PERTURBED: dict[str, Measure] = {
    "Dice with the mirrored": lambda _, m, more: agreement(m, more["mirrored"][1]),
    "expected Dice, mean with the mirrored": lambda p, m, more: expected((p + more["mirrored"][0]) / 2, m),
    "Dice with 6 perturbed": lambda _, m, more: mean([agreement(m, k) for _, k in more.values()]),
    "expected Dice, mean of 7": lambda p, m, more: expected(np.mean([p, *(q for q, _ in more.values())], axis=0), m),
}


# --- cases


def measured(cohort: Cohort, predictor: Predictor, folder: Path, *, fold: int, damage: bool) -> list[dict[str, Any]]:
    """One row a held-out case: key, true Dice, every measure, and place in the list of `volseg quality`."""
    keys = cohort.part("validation", fold=fold)
    images, first = folder / "images", folder / "predictions"
    for number, key in enumerate(keys):
        volume = read_volume(cohort.image_paths(key)[0])
        if damage:
            kind = DAMAGES[number % len(DAMAGES)]
            volume = Volume(damaged(volume.voxels, kind, 1000 + number), volume.affine_ras)
        write_volume(images / "imagesTs" / f"{key}_0000{FILE_ENDING}", volume)
    (images / "dataset.json").write_text((cohort.folder / "dataset.json").read_text())
    paths = {key: images / "imagesTs" / f"{key}_0000{FILE_ENDING}" for key in keys}
    failed = predictor.predict_to([(key, [path]) for key, path in paths.items()], first)
    if failed:
        sys.exit(f"not predicted: {failed}")
    scores = evaluate(first, cohort, keys=keys)
    listed = rank(first, cohort.labels, cohort=cohort, images=Cohort.open(images))
    place = {case.key: (number, case) for number, case in enumerate(listed)}
    rows = []
    for key in keys:
        more = outputs(predictor, paths[key], cohort.labels, more=not damage)
        probabilities, masks = more.pop("as it is")
        measures = MEASURES if damage else {**MEASURES, **PERTURBED}
        number, case = place[key]
        rows.append(
            {
                "key": key,
                "dice": np.mean([row.dice for row in scores if row.key == key and row.dice is not None]),
                **{name: measure(probabilities, masks, more) for name, measure in measures.items()},
                "- score of the checks": -case.score,
                "place in the list": number,
                "alarm": case.alarm,
            }
        )
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rho, p and the interval of each measure."""
    true = np.array([row["dice"] for row in rows])
    tell(f"  {len(rows)} cases, Dice {true.min():.2f} to {true.max():.2f}, median {np.median(true):.2f}")
    draws = np.random.default_rng(SEED).integers(0, len(rows), (DRAWS, len(rows)))
    for name in rows[0]:
        if name in ("key", "dice", "alarm"):
            continue
        values = np.nan_to_num([float(row[name]) for row in rows], nan=-np.inf)  # nothing predicted is the worst
        found = stats.spearmanr(values, true)
        again = [stats.spearmanr(values[draw], true[draw]).statistic for draw in draws]
        low, high = np.nanquantile(again, (0.025, 0.975))
        tell(f"  | {name} | {found.statistic:+.2f} [{low:+.2f}, {high:+.2f}] | {found.pvalue:.2g} |")
    alarms = np.array([row["alarm"] for row in rows])
    means = [f"{true[which].mean():.2f}" if which.any() else "-" for which in (alarms, ~alarms)]
    tell(f"  {alarms.sum()} alarms, mean Dice {means[0]}; the others {means[1]}")


def main() -> None:
    """Parse and run both rounds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cohort", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--bundle", default="swinunetr")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--fold", type=int, default=0)
    options = parser.parse_args()
    cohort = Cohort.open(options.cohort)
    predictor = Predictor.from_bundle(options.bundle, checkpoint=options.checkpoint, device=options.device)
    for name, damage in (("as they are", False), ("damaged", True)):
        folder = options.output / ("damaged" if damage else "plain")
        rows = measured(cohort, predictor, folder, fold=options.fold, damage=damage)
        with (folder / "cases.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        tell(f"{name}:")
        table(rows)


if __name__ == "__main__":
    main()
