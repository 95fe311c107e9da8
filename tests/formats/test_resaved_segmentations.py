"""Our `.seg.nrrd` files edited and saved again by slicerio and by SimpleITK: `evaluate` finds what the cohort holds.

SimpleITK is no dependency of the tests: `VOLSEG_SIMPLEITK_PYTHON` names a Python that has it (2.5.7 was run).
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import textwrap
from pathlib import Path

import numpy as np
import pytest
import slicerio
from command import told

from volseg.formats import export_slicer
from volseg.labels import LabelTable
from volseg.volume import Volume, write_volume

SHAPE = (12, 11, 9)
C, S = np.cos(0.1), np.sin(0.1)
TURNED = np.array([[0, -1.4 * C, 3 * S, 20], [-1.5, 0, 0, 30], [0, 1.4 * S, 3 * C, -40], [0, 0, 0, 1]])
LAYERS = LabelTable.overlapping(["large_bowel", "small_bowel", "stomach"])
BARE = LabelTable.exclusive(["lesion", "cyst"])  # without codes of their own
LAYER = LabelTable.of({"stomach": 2, "large_bowel": 1})
EDITS = ("untouched", "renamed", "reordered", "cropped", "grown", "empty")
PYTHON = os.environ.get("VOLSEG_SIMPLEITK_PYTHON", "")

BY_SIMPLEITK = """
    import sys
    import SimpleITK as sitk
    path, edit = sys.argv[1:]
    image = sitk.ReadImage(path)
    keys = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    if edit == "cropped":
        image = image[2:-2, 2:-1, 1:-2]
    if edit == "grown":  # which SimpleITK does for one component alone
        count = image.GetNumberOfComponentsPerPixel()
        layers = [sitk.VectorIndexSelectionCast(image, n) for n in range(count)] if count > 1 else [image]
        layers = [sitk.ConstantPad(layer, [1, 0, 2], [0, 3, 1], 0) for layer in layers]
        image = sitk.Compose(layers) if len(layers) > 1 else layers[0]
    if edit == "renamed":
        keys["Segment0_Name"] = "corrected by hand"
    if edit == "reordered":
        facts = [{k.split("_", 1)[1]: v for k, v in keys.items() if k.startswith(f"Segment{n}_")} for n in (0, 1)]
        keys.update({f"Segment{1 - n}_{fact}": value for n in (0, 1) for fact, value in facts[n].items()})
    for key, value in keys.items():
        image.SetMetaData(key, value)
    sitk.WriteImage(image, path, True)
"""


def by_slicerio(path: Path, edit: str) -> None:
    read = slicerio.read_segmentation(str(path))
    voxels, grid, segments = read["voxels"], np.array(read["ijkToLPS"]), read["segments"]
    space = slice(voxels.ndim - 3, None)
    low, high = (np.zeros(3, int), np.zeros(3, int))
    if edit == "cropped":
        low, high = np.array([-2, -2, -1]), np.array([-2, -1, -2])
    if edit == "grown":
        low, high = np.array([1, 0, 2]), np.array([0, 3, 1])
    size = voxels.shape[space]
    kept = tuple(slice(max(-a, 0), n - max(-b, 0)) for a, b, n in zip(low, high, size, strict=True))
    voxels = voxels[(..., *kept)]
    around = [(max(a, 0), max(b, 0)) for a, b in zip(low, high, strict=True)]
    read["voxels"] = np.pad(voxels, [(0, 0)] * (voxels.ndim - 3) + around)
    grid[:3, 3] = (grid @ [*-low, 1])[:3]
    read["ijkToLPS"] = grid
    if edit == "renamed":
        segments[0]["name"] = "corrected by hand"
    if edit == "reordered":
        segments.reverse()
    slicerio.write_segmentation(str(path), read)


def by_simpleitk(path: Path, edit: str) -> None:
    if not PYTHON:
        pytest.skip("VOLSEG_SIMPLEITK_PYTHON names no Python with SimpleITK")
    subprocess.run([PYTHON, "-c", textwrap.dedent(BY_SIMPLEITK), str(path), edit], check=True, env={})


def label(table: LabelTable, seed: int, *, empty: bool) -> np.ndarray:
    """Regions away from the border, so that a file can be cropped without a loss."""
    voxels = np.zeros(SHAPE, np.uint8)
    if not empty:
        inner = voxels[3:-3, 3:-3, 2:-3]
        inner[...] = np.random.default_rng(seed).choice(np.array([0, *table.values[1:]], np.uint8), inner.shape)
    return voxels


@pytest.mark.parametrize("save", [by_slicerio, pytest.param(by_simpleitk, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("table", "edit"),
    [(table, edit) for table in (LAYER, LAYERS) for edit in EDITS] + [(BARE, "renamed"), (BARE, "reordered")],
    ids=lambda part: part if isinstance(part, str) else ", ".join(part.names),
)
def test_a_file_that_a_program_edited_is_known_by_name_code_and_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], table: LabelTable, edit: str, save: object
) -> None:
    cohort, home = tmp_path / "cohort", tmp_path / "home"
    for number in range(2):
        voxels = label(table, number, empty=edit == "empty" and number == 0)
        write_volume(cohort / "imagesTr" / f"c{number}_0000.nii.gz", Volume(voxels.astype(np.int16) * 50, TURNED))
        write_volume(cohort / "labelsTr" / f"c{number}.nii.gz", Volume(voxels, TURNED))
    entries = {"channel_names": {"0": "MR"}, "numTraining": 2, "file_ending": ".nii.gz", **table.to_dataset_json()}
    (cohort / "dataset.json").write_text(json.dumps(entries))
    export_slicer(cohort / "labelsTr", home, table)
    for number in range(2):
        save(home / f"c{number}.seg.nrrd", edit)  # type: ignore[operator]
    code, text = told(capsys, "evaluate", str(home), str(cohort), "-o", str(tmp_path / "report"), "--no-html")
    assert code == 0, text
    with (tmp_path / "report/cases.csv").open(newline="") as file:
        found = {(row["key"], row["region"]): row["dice"] for row in csv.DictReader(file)}
    assert len(found) == 2 * len(table.regions)
    for (case, _), dice in found.items():
        assert dice in ({"", "1.0"} if edit == "empty" and case == "c0" else {"1.0"})
