"""Damaged images of held-out cases: what they are, and what a network and its calibration say of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from volseg.calibration import Calibration, HeldOut, MeasuredCase, measure_cases
from volseg.cohort import FILE_ENDING, Cohort, Predictions, read_uncertainty, write_uncertainty
from volseg.inference import Predictor
from volseg.metrics import dice
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
    return np.asarray(low + image * (high - low), np.float32)


def turned(case: MeasuredCase, cohort: Cohort, folder: Path, seed: int) -> MeasuredCase:
    """A case whose Dice is that with a reference which was turned as its image was; the other numbers stay."""
    path = cohort.label_path(case.key)
    if path is None:
        sys.exit(f"{case.key} has no reference")
    angle = 90 * np.random.default_rng(seed).random()  # the first number that `damaged` draws
    reference = ndimage.rotate(read_volume(path).voxels, angle, axes=(1, 2), reshape=False, order=0, mode="constant")
    guess = read_volume(folder / "predictions" / f"{case.key}{FILE_ENDING}").voxels
    pairs = zip(cohort.labels.names, cohort.labels.masks(guess), cohort.labels.masks(reference), strict=True)
    dices = {name: dice(one, other) for name, one, other in pairs}
    return replace(case, regions={name: replace(one, dice=dices[name]) for name, one in case.regions.items()})


def predict_damaged(
    cohort: Cohort, keys: Sequence[str], checkpoint: Path, bundle: str, folder: Path, calibration: Calibration
) -> list[MeasuredCase]:
    """Damage the images, predict them with their probabilities, and measure them; bounds go beside the predictions."""
    keys = sorted(keys)
    images, out = folder / "images", folder / "predictions"
    (images / "imagesTs").mkdir(parents=True, exist_ok=True)
    (images / "dataset.json").write_text((cohort.folder / "dataset.json").read_text())
    paths = {}
    for number, key in enumerate(keys):
        paths[key] = images / "imagesTs" / f"{key}_0000{FILE_ENDING}"
        volume = read_volume(cohort.image_paths(key)[0])
        kind = DAMAGES[number % len(DAMAGES)]
        write_volume(paths[key], Volume(damaged(volume.voxels, kind, 1000 + number), volume.affine_ras))
    predictor = Predictor.from_bundle(bundle, checkpoint=checkpoint, overrides={"save_probabilities": True})
    there = {path.name for path in out.glob(f"*{FILE_ENDING}")}
    failed = predictor.predict_to(
        [(key, [path]) for key, path in paths.items() if f"{key}{FILE_ENDING}" not in there], out
    )
    if failed:
        sys.exit(f"not predicted: {failed}")
    held = HeldOut(Predictions(out), _Damaged(cohort, paths), keys)  # type: ignore[arg-type]
    cases = measure_cases(held, [None] * len(cohort.labels.names), calibration.temperatures)
    bounds = {
        case.key: calibration.bounds({name: one.features for name, one in case.regions.items()}, case.scan)
        for case in cases
    }
    write_uncertainty(out, read_uncertainty(out), bounds=bounds)
    return cases


class _Damaged:
    """A cohort whose images are those of other files."""

    def __init__(self, cohort: Cohort, paths: dict[str, Path]) -> None:
        self._cohort, self._paths = cohort, paths

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a cohort has
        return getattr(self._cohort, name)

    def image_paths(self, key: str) -> list[Path]:
        """The damaged image."""
        return [self._paths[key]]
