"""A small cohort whose labels are corrected, and edits of it as 3D Slicer and other programs save them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import nibabel
import numpy as np

from volseg.cohort import Cohort
from volseg.labels import LabelTable
from volseg.volume import Volume, read_volume, write_volume

SHAPE = (9, 8, 6)
AFFINE = np.array([[-1.5, 0, 0, 20], [0, -1.5, 0, 30], [0, 0, 3, -40], [0, 0, 0, 1.0]])
TABLE = LabelTable.overlapping(["large_bowel", "small_bowel", "stomach"])
SIMPLE = LabelTable.of({"liver": 2, "spleen": 1})
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def voxels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 8, SHAPE).astype(np.uint8)


def cohort_of(folder: Path, table: LabelTable = TABLE, *, unlabelled: bool = False) -> Cohort:
    for number in range(2):
        label = voxels(number) if table.overlap else voxels(number) % 3
        image = Volume(label.astype(np.int16) * 50 + number, AFFINE)
        write_volume(folder / "imagesTr" / f"c{number}_0000.nii.gz", image)
        write_volume(folder / "labelsTr" / f"c{number}.nii.gz", Volume(label.astype(np.uint8), AFFINE))
    if unlabelled:
        write_volume(folder / "imagesTs" / "c2_0000.nii.gz", Volume(voxels(2).astype(np.int16), AFFINE))
    entries = {"channel_names": {"0": "MR"}, "numTraining": 2, "file_ending": ".nii.gz", **table.to_dataset_json()}
    (folder / "dataset.json").write_text(json.dumps(entries))
    return Cohort.open(folder)


def segments_of(label: np.ndarray, table: LabelTable = TABLE) -> dict[str, np.ndarray]:
    return dict(zip(table.names, table.masks(label), strict=True))


def seg_nrrd(
    path: Path, masks: dict[str, np.ndarray], *, affine: np.ndarray = AFFINE, tags: dict[str, str] | None = None
) -> Path:
    """A segmentation as 3D Slicer saves it, each segment in a layer of its own, numbered from 7 on."""
    shape = next(iter(masks.values())).shape
    lps = LPS @ affine
    axes = " ".join(f"({','.join(map(repr, lps[:3, n].tolist()))})" for n in range(3))
    lines = ["NRRD0004", "type: unsigned char", "dimension: 4", "space: left-posterior-superior"]
    lines += [f"sizes: {len(masks)} {' '.join(map(str, shape))}", f"space directions: none {axes}"]
    lines += ["kinds: list domain domain domain", "encoding: gzip"]
    lines += [f"space origin: ({','.join(map(repr, lps[:3, 3].tolist()))})"]
    lines += ["Segmentation_MasterRepresentation:=Binary labelmap"]
    for number, name in enumerate(masks):
        facts = {"ID": f"S{number}", "Name": name, "LabelValue": 7 + number, "Layer": number, "Color": "1 0 0"}
        facts["Tags"] = (tags or {}).get(name, "")
        lines += [f"Segment{number}_{fact}:={text}" for fact, text in facts.items()]
    layers = np.stack([np.uint8(7 + number) * mask for number, mask in enumerate(masks.values())])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\n".join([*lines, "", ""]).encode() + gzip.compress(layers.tobytes(order="F")))
    return path


def state(folder: Path) -> dict[str, bytes]:
    """The content of all that readers of a cohort see."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def label_of(cohort: Cohort, key: str) -> np.ndarray:
    path = Cohort.open(cohort.folder).label_path(key)
    assert path is not None
    return read_volume(path).voxels


def edited(label: np.ndarray) -> np.ndarray:
    """The label with a block of stomach more, over whatever is there."""
    new = label.copy()
    new[2:5, 2:5, 1:3] |= 4
    return new


def nifti(path: Path, label: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(label, AFFINE).to_filename(path)
    return path
