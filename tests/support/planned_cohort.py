"""Small cohort folders for plans: any grids, labels and images, written as nnU-Net's raw layout."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.cohort import Cohort
from volseg.labels import LabelTable
from volseg.volume import Volume, write_volume


def write_planned_cohort(
    folder: Path,
    labels: Mapping[str, NDArray[Any]],
    *,
    names: Sequence[str] = ("organ", "lesion"),
    images: Mapping[str, Sequence[NDArray[Any]]] | None = None,
    channels: Sequence[str] = ("MR",),
    spacing_mm: Mapping[str, Sequence[float]] | Sequence[float] = (1.0, 1.0, 1.0),
    folds: Sequence[tuple[Sequence[str], Sequence[str]]] = (),
) -> Cohort:
    """A cohort of label maps by key; images are noise unless they are given."""
    generator = np.random.default_rng(0)
    for key, label in labels.items():
        mm = spacing_mm[key] if isinstance(spacing_mm, Mapping) else spacing_mm
        affine = np.diag([*mm, 1.0])
        given = images[key] if images else [generator.normal(100, 20, label.shape) for _ in channels]
        for number, image in enumerate(given):
            write_volume(
                folder / "imagesTr" / f"{key}_{number:04d}.nii.gz", Volume(np.asarray(image, np.float32), affine)
            )
        write_volume(folder / "labelsTr" / f"{key}.nii.gz", Volume(label.astype(np.uint8), affine))
    dataset = {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        **LabelTable.exclusive(list(names)).to_dataset_json(),
        "numTraining": len(labels),
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(dataset))
    if folds:
        sides = [{"train": list(train), "val": list(check)} for train, check in folds]
        (folder / "splits.json").write_text(json.dumps(sides))
    return Cohort.open(folder)


def box(shape: Sequence[int], low: Sequence[int], high: Sequence[int], value: int = 1) -> NDArray[np.uint8]:
    """A label map with one box."""
    label = np.zeros(shape, np.uint8)
    label[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = value
    return label
