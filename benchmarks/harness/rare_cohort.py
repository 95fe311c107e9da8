"""A made cohort in which some kinds of cases are rare: what a choice by lot seldom meets, and a good one looks for.

Each case is a small volume with one organ, a brighter vessel beside it, and two other bodies. Of fourteen cases

- eleven are usual: the organ is brighter than what surrounds it;
- one is dark: the contrast medium is missing, and the organ is darker than what surrounds it;
- one is gassy: the upper half of the organ is filled with gas, which belongs to it;
- one is large: a usual organ of 1.5 times the size, which takes much contour and teaches little.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from volseg.cohort import Fold, write_splits
from volseg.labels import LabelTable
from volseg.volume import Volume, write_volume

KINDS = {3: "dark", 6: "large", 9: "gassy"}
"""Kind by the number of the case modulo `PERIOD`; the others are usual."""
PERIOD, FOLDS = 14, 4
CASES = 3 * PERIOD * FOLDS
SHAPE, SPACING_MM = (40, 36, 20), (2.0, 2.0, 3.0)


def kind_of(number: int) -> str:
    """The kind of a case by its number.

    >>> [kind_of(number) for number in (0, 3, 20)]
    ['usual', 'dark', 'large']
    """
    return KINDS.get(number % PERIOD, "usual")


def write_rare_cohort(folder: Path, *, cases: int = CASES) -> None:
    """Write the cohort with folds, and `kinds.csv`; the same cases at each call.

    Args:
        folder: Folder of the cohort.
        cases: Number of cases, each of a patient of its own.
    """
    kinds = []
    for number in range(cases):
        key = f"case{number:03d}"
        image, label = _case(np.random.default_rng([number, 12]), kind_of(number))
        affine = np.diag([*SPACING_MM, 1.0])
        write_volume(folder / "imagesTr" / f"{key}_0000.nii.gz", Volume(image, affine))
        write_volume(folder / "labelsTr" / f"{key}.nii.gz", Volume(label, affine))
        kinds.append((key, kind_of(number)))
    dataset = {
        "channel_names": {"0": "MR"},
        **LabelTable.exclusive(["organ"]).to_dataset_json(),
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(dataset, indent=1))
    with (folder / "kinds.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("key", "kind"), *kinds])
    keys = [key for key, _ in kinds]
    folds = []
    for fold in range(FOLDS):  # each has as many cases of each kind
        held = [key for number, key in enumerate(keys) if number // PERIOD % FOLDS == fold]
        folds.append(Fold([key for key in keys if key not in held], held))
    write_splits(folder, folds)


def _case(generator: np.random.Generator, kind: str) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    steps = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(SHAPE, SPACING_MM, strict=True)]
    grid = np.stack(np.meshgrid(*steps, indexing="ij"))

    def ellipsoid(centre: NDArray[np.float64], radii: NDArray[np.float64]) -> NDArray[np.bool_]:
        along = [(grid[axis] - centre[axis]) / radii[axis] for axis in range(3)]
        waves = sum(np.sin(generator.uniform(2, 4) * one + generator.uniform(0, 6)) for one in along) / 25
        inside: NDArray[np.bool_] = sum(one**2 for one in along) < (1 + waves) ** 2
        return inside

    body = ellipsoid(np.zeros(3), np.array([38.0, 34, 60]))
    image = np.where(body, 100.0, 10.0)
    for centre in ((-18, 14, 6), (18, 16, -8)):  # bodies that are no organ, one darker and one a little brighter
        spot = ellipsoid(np.array(centre) + generator.uniform(-3, 3, 3), generator.uniform(5, 9, 3)) & body
        image[spot] = 60 if centre[0] < 0 else 120
    size = generator.uniform(0.85, 1.15) * (1.5 if kind == "large" else 1.0)
    centre = np.array([-2.0, -8, 0]) + generator.uniform(-6, 6, 3)
    organ = ellipsoid(centre, np.array([13.0, 10, 14]) * size) & body
    vessel = ellipsoid(centre + np.array([17 * size, 2, 0]), np.array([4.0, 4, 40])) & body & ~organ
    image[vessel] = 190
    image[organ] = 60 if kind == "dark" else 145
    if kind == "gassy":
        image[organ & (grid[1] > centre[1] + generator.uniform(-1, 1))] = 12
    image = ndimage.gaussian_filter(image, (0.6, 0.6, 0.3)) + generator.normal(0, 9, SHAPE)
    return np.rint(image.clip(0, 400)).astype(np.float32), organ.astype(np.uint8)
