"""Does the rank of `volseg quality` follow the true Dice? Held-out volumes as they are, and damaged on purpose.

    python scripts/benchmarks/quality.py data/hippocampus data/runs/hippocampus/model.pt -o data/quality_benchmark

Each case is predicted twice: as it is and mirrored right to left (the network must have been trained with mirroring,
as `scripts/benchmarks/hippocampus.sh` does). The second round damages each image once, by turns: not at all, noise,
blur, bias field, rotation, an empty slab, with a strength drawn by a fixed seed. Spearman's rho of score and mean Dice
is printed with its p-value; it should be negative.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

from volseg.cohort import FILE_ENDING, Cohort
from volseg.evaluation import evaluate
from volseg.inference import Predictor
from volseg.quality import rank
from volseg.volume import Volume, read_volume, write_volume

DAMAGES = ("none", "noise", "blur", "bias field", "rotation", "empty slab")


def damaged(voxels: NDArray[Any], kind: str, seed: int) -> NDArray[np.float32]:
    """The image with one damage of a strength drawn from the seed."""
    generator = np.random.default_rng(seed)
    strength = generator.random()
    low, high = np.percentile(voxels, (0.5, 99.5))
    image = np.clip((voxels - low) / max(float(high - low), 1e-6), 0, 1)
    if kind == "noise":
        image = image + generator.normal(0, 0.5 * strength, image.shape)
    elif kind == "blur":
        image = ndimage.gaussian_filter(image, 3 * strength)
    elif kind == "bias field":
        image = image * np.exp(3 * strength * np.linspace(-1, 1, image.shape[1])[None, :, None])
    elif kind == "rotation":
        image = ndimage.rotate(image, 90 * strength, axes=(1, 2), reshape=False, order=1, mode="nearest")
    elif kind == "empty slab":
        width = int(0.6 * strength * image.shape[1])
        first = (image.shape[1] - width) // 2
        image[:, first : first + width] = 0
    return (low + image * (high - low)).astype(np.float32)


def tell(line: str) -> None:
    """Write one line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def mirrored(volume: Volume) -> Volume:
    """The voxels in the other order along X; the grid stays."""
    return Volume(np.ascontiguousarray(volume.voxels[::-1]), volume.affine_ras)


def round_of(name: str, cohort: Cohort, predictor: Predictor, folder: Path, *, damage: bool) -> None:
    """Predict, mirror, rank, score, and print rho without and with the mirrored prediction."""
    keys = cohort.part("validation")
    images = folder / "images"
    for i, key in enumerate(keys):
        volume = read_volume(cohort.image_paths(key)[0])
        if damage:
            volume = Volume(damaged(volume.voxels, DAMAGES[i % len(DAMAGES)], 1000 + i), volume.affine_ras)
        write_volume(images / "imagesTs" / f"{key}_0000{FILE_ENDING}", volume)
        write_volume(folder / "mirrored" / f"{key}{FILE_ENDING}", mirrored(volume))
    (images / "dataset.json").write_text((cohort.folder / "dataset.json").read_text())
    plain = [(key, [images / "imagesTs" / f"{key}_0000{FILE_ENDING}"]) for key in keys]
    turned = [(key, [folder / "mirrored" / f"{key}{FILE_ENDING}"]) for key in keys]
    failed = {**predictor.predict_to(plain, folder / "first"), **predictor.predict_to(turned, folder / "turned")}
    if failed:
        sys.exit(f"not predicted: {failed}")
    for key in keys:
        write_volume(
            folder / "second" / f"{key}{FILE_ENDING}", mirrored(read_volume(folder / "turned" / f"{key}{FILE_ENDING}"))
        )
    rows = evaluate(folder / "first", cohort, keys=keys)
    true = {key: np.mean([row.dice for row in rows if row.key == key and row.dice is not None]) for key in keys}
    spread = np.quantile(list(true.values()), [0, 0.5, 1])
    tell(f"{name}: {len(keys)} cases, Dice {spread[0]:.2f} to {spread[2]:.2f}, median {spread[1]:.2f}")
    for others in ([], [folder / "second"]):
        ranked = rank(folder / "first", cohort.labels, cohort=cohort, images=Cohort.open(images), others=others)
        rho = stats.spearmanr([case.score for case in ranked], [true[case.key] for case in ranked])
        tell(
            f"  {'with' if others else 'without'} a mirrored prediction: rho {rho.statistic:+.2f} (p {rho.pvalue:.2g})"
        )


def main() -> None:
    """Parse and run both rounds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cohort", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--bundle", default="swinunetr")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    cohort = Cohort.open(options.cohort)
    overrides = {"device": f"$torch.device('{options.device}')"}
    predictor = Predictor.from_bundle(options.bundle, checkpoint=options.checkpoint, overrides=overrides)
    round_of("as they are", cohort, predictor, options.output / "plain", damage=False)
    round_of("damaged", cohort, predictor, options.output / "damaged", damage=True)


if __name__ == "__main__":
    main()
