"""A cohort of boxes whose scores can be worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from volseg.cohort import Cohort
from volseg.cohort.table import COLUMNS
from volseg.labels import LabelTable
from volseg.volume import Volume, write_volume

TABLE = LabelTable.overlapping(["large_bowel", "small_bowel", "stomach"])


AFFINE = np.diag([-1.5, -1.5, 3.0, 1.0])


SHAPE = (10, 9, 8)


def label_map(**boxes: tuple[slice, slice, slice]) -> np.ndarray:
    masks = np.zeros((3, *SHAPE), bool)
    for name, box in boxes.items():
        masks[TABLE.names.index(name)][box] = True
    return TABLE.encode(masks)


def box(*sides: int) -> tuple[slice, slice, slice]:
    """`box(1, 4, 2, 5, 0, 3)`: from and to along X, Y, Z."""
    return slice(*sides[:2]), slice(*sides[2:4]), slice(*sides[4:])


def write(path: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    write_volume(path, Volume(voxels, affine))


def make_cohort(folder: Path, labels: dict[str, np.ndarray | None]) -> Cohort:
    """A cohort in nnU-Net's layout; `None` is a case without a label. The patient is what stands before `_`."""
    counted = sum(label is not None for label in labels.values())
    dataset = {
        "channel_names": {"0": "MR"},
        "numTraining": counted,
        "file_ending": ".nii.gz",
        **TABLE.to_dataset_json(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(dataset))
    lines = [",".join(COLUMNS)]
    alike = {"shape": "10x9x8", "spacing_mm": "1.5x1.5x3", "orientation": "LPS", "source": "test"}
    for key, label in labels.items():
        image = np.zeros(SHAPE, np.uint16)
        write(folder / ("imagesTs" if label is None else "imagesTr") / f"{key}_0000.nii.gz", image)
        if label is not None:
            write(folder / "labelsTr" / f"{key}.nii.gz", label)
        row = {**alike, "key": key, "patient": key.partition("_")[0]}
        lines.append(",".join(row.get(column, "") for column in COLUMNS))
    (folder / "cases.csv").write_text("\n".join(lines) + "\n")
    return Cohort.open(folder)


REFERENCE = label_map(large_bowel=box(1, 5, 1, 5, 1, 5), small_bowel=box(3, 7, 3, 7, 1, 5))
