"""`export --labels COHORT`: the table pairs with the predictions' own by name, values are translated, lies refused."""

from __future__ import annotations

import json

import highdicom
import nibabel as nib
import numpy as np
import pytest
import slicerio
from dicom_series import grid, noise, save, series

from volseg.cli import main
from volseg.labels import LabelTable
from volseg.volume import ras_to_lps

AFFINE = grid()
OWN = LabelTable.of({"liver": 1, "spleen": 2, "aorta": 3})
BOXES = {"liver": np.s_[1:3, 1:3, 1:3], "spleen": np.s_[4:6, 1:4, 1:3], "aorta": np.s_[1:3, 4:6, 3:5]}


def table_in(folder, table):
    folder.mkdir(exist_ok=True)
    facts = {"channel_names": {"0": "CT"}, "numTraining": 0, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps({**facts, **table.to_dataset_json()}))
    return folder


@pytest.fixture
def predictions(tmp_path):
    voxels = np.zeros((7, 6, 5), np.uint8)
    for value, box in enumerate(BOXES.values(), start=1):
        voxels[box] = value
    folder = table_in(tmp_path / "pred", OWN)
    nib.save(nib.Nifti1Image(voxels, ras_to_lps(AFFINE)), folder / "k1.nii.gz")
    return folder


def export(tmp_path, capsys, kind, predictions, labels):
    """Exit code, stderr, and where each region lies by what was written."""
    words = ["export", kind, str(predictions), "-o", str(tmp_path / "out"), "--labels", str(labels)]
    if kind != "slicer":
        slices = series(noise(), AFFINE)
        save(tmp_path / "dicom", slices)
        words[2] = str(predictions / "k1.nii.gz")
        words += ["--dicom", str(tmp_path / "dicom"), "--for-series", slices[0].SeriesInstanceUID]
    with pytest.raises(SystemExit) as end:
        main(words)
    code = end.value.code
    told = " ".join(capsys.readouterr().err.split())
    if code:
        return code, told, {}
    if kind == "slicer":
        found = slicerio.read_segmentation(str(tmp_path / "out/k1.seg.nrrd"))
        return code, told, {s["name"]: (s["labelValue"], found["voxels"] == s["labelValue"]) for s in found["segments"]}
    read = highdicom.seg.segread(tmp_path / "out/k1.seg.dcm")
    held = {}
    for number in read.segment_numbers:
        array = read.get_volume(segment_numbers=[number], combine_segments=True, relabel=True).array
        held[read.get_segment_description(number).segment_label] = (number, int((array > 0).sum()))
    return code, told, held


@pytest.mark.parametrize(
    "stated",
    [
        {"liver": 3, "spleen": 1, "aorta": 2},  # other values
        {"aorta": 1, "liver": 2, "spleen": 3},  # another order
        {"Liver": 5, "SPLEEN": 6, "aorta": 9},  # another spelling
    ],
)
def test_the_same_names_with_other_values_are_translated(tmp_path, capsys, predictions, stated):
    cohort = table_in(tmp_path / "cohort", LabelTable.of(stated))
    code, _, found = export(tmp_path, capsys, "slicer", predictions, cohort)
    assert code == 0
    for name, value in stated.items():
        at = np.zeros((7, 6, 5), bool)
        at[BOXES[name.lower()]] = True
        assert found[name][0] == value
        assert np.array_equal(found[name][1], at), name
    code, _, counts = export(tmp_path, capsys, "dicom-seg", predictions, cohort)
    assert code == 0
    assert {name.lower(): count for name, (_, count) in counts.items()} == {"liver": 8, "spleen": 12, "aorta": 8}


@pytest.mark.parametrize("kind", ["slicer", "dicom-seg", "rtstruct"])
@pytest.mark.parametrize(
    "stated",
    [
        {"kidney": 1, "colon": 2, "vein": 3},  # other organs under the same values: silently wrong before
        {"liver": 1, "spleen": 2},  # one fewer
        {"liver": 1, "spleen": 2, "aorta": 3, "colon": 4},  # one more, which would look as if it were absent
    ],
)
def test_another_set_of_regions_is_refused(tmp_path, capsys, predictions, kind, stated):
    code, told, _ = export(tmp_path, capsys, kind, predictions, table_in(tmp_path / "cohort", LabelTable.of(stated)))
    assert code == 2
    assert "names liver, spleen, aorta" in told
    assert ", ".join(stated) in told
    assert "they are not the same; leave --labels" in told
    assert not (tmp_path / "out").exists()


def test_a_combination_that_the_table_has_no_value_for_is_refused(tmp_path, capsys, predictions):
    table_in(predictions, LabelTable.overlapping(["liver", "spleen"]))
    cohort = table_in(tmp_path / "cohort", LabelTable.of({"liver": 1, "spleen": 2}))
    code, told, _ = export(tmp_path, capsys, "slicer", predictions, cohort)
    assert code == 2
    assert "no value for two of them in one voxel" in told


def test_predictions_without_a_table_take_that_of_the_option(tmp_path, capsys, predictions):
    (predictions / "dataset.json").unlink()
    cohort = table_in(tmp_path / "cohort", LabelTable.of({"a": 1, "b": 2, "c": 3}))
    code, _, found = export(tmp_path, capsys, "slicer", predictions, cohort)
    assert code == 0
    assert {name: value for name, (value, _) in found.items()} == {"a": 1, "b": 2, "c": 3}
