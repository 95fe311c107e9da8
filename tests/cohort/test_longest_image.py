"""How long the images of a training are: along the body's axes, of the fold's training cases alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from volseg.cohort import Cohort
from volseg.labels import LabelTable
from volseg.volume import Volume, write_volume


def make(folder: Path, shapes: dict[str, tuple[int, int, int]], affine: np.ndarray) -> Cohort:
    table = LabelTable.exclusive(["liver"])
    for key, shape in shapes.items():
        write_volume(folder / "imagesTr" / f"{key}_0000.nii.gz", Volume(np.ones(shape, np.int16), affine))
        write_volume(folder / "labelsTr" / f"{key}.nii.gz", Volume(np.ones(shape, np.uint8), affine))
    content = {"channel_names": {"0": "CT"}, "numTraining": len(shapes), "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps({**content, **table.to_dataset_json()}))
    (folder / "splits.json").write_text(json.dumps([{"train": ["a", "b"], "val": ["c"]}]))
    return Cohort.open(folder)


def test_lengths_are_along_the_axes_of_the_body(tmp_path: Path) -> None:
    affine = np.zeros((4, 4))
    affine[2, 0], affine[0, 1], affine[1, 2], affine[3, 3] = 3.0, -2.0, 1.0, 1.0  # voxels: feet to head, left, front
    cohort = make(tmp_path / "cohort", {"a": (10, 8, 6), "b": (4, 9, 6), "c": (50, 50, 50)}, affine)
    assert cohort.longest_image_mm(fold=0) == [18.0, 6.0, 30.0]
    assert cohort.longest_image_mm(fold="all") == [100.0, 50.0, 150.0]
    assert cohort.longest_image_mm(fold=7) is None
    (cohort.folder / "splits.json").unlink()
    assert Cohort.open(cohort.folder).longest_image_mm(fold=0) is None
