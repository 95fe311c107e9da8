"""A predicted case, and the files that it becomes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.probabilities import write_probabilities
from volseg.recipe import Recipe
from volseg.uncertainty import Uncertainty
from volseg.volume import Volume, atomic, write_volume

PROBABILITIES = "probabilities"  # the folder, inside that of the predictions


@dataclass(frozen=True, eq=False)
class Prediction:
    """One predicted case.

    Attributes:
        label_map: uint8, on the very grid of the image's files.
        uncertainty: the Dice that the network expects of it, by region.
        probabilities: (channels, X, Y, Z) on the same grid, where they were asked for.
        note: what a reader must know of it; mostly empty.
    """

    label_map: Volume
    uncertainty: Uncertainty
    probabilities: NDArray[np.floating[Any]] | None = None
    note: str = ""


def write_prediction(path: Path, prediction: Prediction) -> None:
    """Write the label map, and the probabilities where there are some; those of an earlier run go.

    Args:
        path: `FOLDER/KEY.nii.gz` for the label map; probabilities are `FOLDER/probabilities/KEY.nii.gz`.
        prediction: of the case.
    """
    probable = path.parent / PROBABILITIES / path.name
    if prediction.probabilities is not None:
        write_probabilities(probable, prediction.probabilities, prediction.label_map.affine_ras)
    else:
        probable.unlink(missing_ok=True)
    write_volume(path, prediction.label_map)


def write_labels(output_dir: Path, recipe: Recipe, *, made_with: Mapping[str, Any] | None = None) -> None:
    """Write the `dataset.json` that tells readers of the predictions what the values mean.

    Args:
        output_dir: of the predictions.
        recipe: of the network.
        made_with: options that changed the label maps, such as the clean-up; kept under `volseg`.
    """
    entries = {
        "channel_names": {str(i): name for i, name in enumerate(recipe.channel_names)},
        **recipe.labels.to_dataset_json(),
        "file_ending": ".nii.gz",
    }
    entries["volseg"] |= dict(made_with or {})
    with atomic(output_dir / "dataset.json") as partial:
        partial.write_text(json.dumps(entries, indent=1) + "\n")
