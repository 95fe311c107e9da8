"""What `scripts/infer.py` of a template gives: the probabilities of an image, for the ensembles of Auto3DSeg."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor

from volseg.deploy.auto3dseg.training import MODEL, algorithm_folder, hyper_parameters
from volseg.errors import UsageError
from volseg.inference import Predictor, image_stem
from volseg.volume import read_image_file

# What an ensemble hands on that is not for the network.
_OF_ENSEMBLES = {"rank", "n_best", "output_dir", "image_save_func"}


class ProbabilityInferer:
    """A trained fold that predicts probabilities.

    Args:
        config_file: `configs/hyper_parameters.yaml`, or a list that holds it.
        override: Settings of the bundle's inference.json, such as `overlap`, and `device`.

    Raises:
        UsageError: The fold is not trained.
    """

    def __init__(self, config_file: str | Sequence[str], **override: object) -> None:
        folder = algorithm_folder(config_file)
        self._regions = bool(hyper_parameters(folder)["regions"])
        checkpoint = folder / MODEL / "model.pt"
        if not checkpoint.is_file():
            raise UsageError(f"there is no {checkpoint}; train this fold first")
        (bundle,) = (folder / "bundle").iterdir()
        own = tuple(sorted((name, value) for name, value in override.items() if name not in _OF_ENSEMBLES))
        self._predictor = _predictor(str(bundle), str(checkpoint), checkpoint.stat().st_mtime_ns, own)

    def infer(self, image_file: str | Path | Mapping[str, Any]) -> MetaTensor:
        """Predict one image, on its own grid.

        Args:
            image_file: A path, or an entry of a data list; `image` may be a list with a file per channel.

        Returns:
            (channels, X, Y, Z), float32: background, then the classes in the order of their values (softmax); or, where
            class_names gave each region its values, a channel per region, to be taken with `sigmoid=True`. The
            affine is RAS, in mm.

        Raises:
            VolsegError: The image cannot be read or used.
        """
        given = image_file["image"] if isinstance(image_file, Mapping) else image_file
        paths = [Path(one) for one in given] if isinstance(given, list | tuple) else [Path(given)]
        channels = [channel for path in paths for channel in read_image_file(path)]
        prediction = self._predictor.predict(channels, key=image_stem(paths[0].name) or paths[0].name)
        if prediction.probabilities is None:
            raise UsageError("the network gave no probabilities; leave save_probabilities alone")
        probabilities = torch.from_numpy(prediction.probabilities).float()
        if self._regions:  # a softmax has the background before them
            probabilities = probabilities[-len(self._predictor.recipe.labels.names) :]
        affine = torch.from_numpy(prediction.label_map.affine_ras)
        meta = {
            "filename_or_obj": str(paths[0]),
            "original_affine": affine,
            "affine": affine,
            "spatial_shape": prediction.label_map.voxels.shape,
            "space": "RAS",
        }
        return MetaTensor(probabilities, meta=meta)


@functools.lru_cache(maxsize=8)  # an ensemble makes an inferer per image and network
def _predictor(bundle: str, checkpoint: str, _changed: int, override: tuple[tuple[str, Any], ...]) -> Predictor:
    settings = dict(override)
    device = settings.pop("device", None)
    return Predictor.from_bundle(
        bundle,
        checkpoint=checkpoint,
        device=None if device is None else str(device),
        overrides={**settings, "save_probabilities": True},
    )
