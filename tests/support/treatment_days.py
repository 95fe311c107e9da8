"""A small cohort of several days a patient: a ball in a body, shifted from day to day."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from volseg.cohort import CaseRow, Cohort, Fold, write_splits
from volseg.cohort.table import write_table
from volseg.volume import Volume, write_volume

SHAPE, SPACING = (40, 32, 20), 4.0


def scan(shift, *, seed, radius=6.0):
    """Image and label of one day; the texture of the body goes along with it."""
    x, y, z = np.meshgrid(*(np.arange(n, dtype=float) for n in SHAPE), indexing="ij")
    x, y = x - shift[0], y - shift[1]
    body = ((x - 20) / 14) ** 2 + ((y - 16) / 11) ** 2 < 1
    rng = np.random.default_rng(seed)
    waves = sum(
        np.sin(a * x + b * y + c * z + d)
        for a, b, c, d in zip(*rng.uniform(0.2, 0.7, (3, 6)), rng.uniform(0, 6, 6), strict=True)
    )
    ball = (x - 23) ** 2 + (y - 15) ** 2 + (z - 10) ** 2 < radius**2
    image = np.where(body, 400 + 60 * waves, 5.0) + 250 * ball
    return image.astype(np.float32), ball.astype(np.uint8)


def write_days(folder: Path, *, patients=("a", "b"), days=("day0", "day9", "day10"), twins=()) -> Cohort:
    """Write the cohort; `twins` names days with a second scan, KEYx."""
    affine = np.diag([SPACING, SPACING, SPACING, 1.0])
    rows = []
    for number, patient in enumerate(patients):
        for place, day in enumerate(days):
            for suffix in ("", "x") if day in twins else ("",):
                key = f"{patient}_{day}{suffix}"
                image, label = scan((2 * place, -place), seed=number, radius=6.0 - 0.4 * place)
                write_volume(folder / "imagesTr" / f"{key}_0000.nii.gz", Volume(image, affine))
                write_volume(folder / "labelsTr" / f"{key}.nii.gz", Volume(label, affine))
                rows.append(CaseRow(key, patient, day, SHAPE, (SPACING,) * 3, "RAS", "", ()))
    dataset = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "ball": 1}, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(dataset))
    write_table(folder / "cases.csv", rows)
    if len(patients) > 1:
        last = tuple(row.key for row in rows if row.patient == patients[-1])
        write_splits(folder, [Fold(tuple(row.key for row in rows if row.key not in last), last)])
    return Cohort.open(folder)
