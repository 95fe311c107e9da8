"""What nobody looked at, nnU-Net's label `ignore`, in every format that is written: said, or refused; never empty."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from dicom_series import grid, noise, save, series

from volseg.calibration import HeldOut
from volseg.cli import main
from volseg.cohort import Cohort, Predictions, read_translated
from volseg.deploy.corrections import Answers, adopt
from volseg.dicom import place, read_stack, scan, write_dicom_seg
from volseg.errors import LabelError
from volseg.formats import read_segmentation, write_segmentation
from volseg.labels import LabelTable, match_labels
from volseg.pictures import read_review_case
from volseg.volume import Volume, read_volume, write_volume

SHAPE = (9, 8, 6)
AFFINE = np.diag([-1.5, -1.5, 3.0, 1.0])
TABLES = [LabelTable.of({"liver": 2, "spleen": 1}), LabelTable.overlapping(["liver", "spleen"])]
tables = pytest.mark.parametrize("table", TABLES, ids=["exclusive", "overlapping"])


def cohort_of(folder, table):
    """Two cases of which the last two slices of the second were not looked at."""
    ignoring = replace(table, ignore=table.values[-1] + 1)
    for number, key in enumerate(("case1_day0", "case2_day0")):
        label = np.random.default_rng(number).choice(np.array(table.values, np.uint8), SHAPE)
        label[..., 4:] = ignoring.ignore if number else 0
        write_volume(folder / "imagesTr" / f"{key}_0000.nii.gz", Volume(label.astype(np.int16) * 9, AFFINE))
        write_volume(folder / "labelsTr" / f"{key}.nii.gz", Volume(label, AFFINE))
    entries = {"channel_names": {"0": "MR"}, "numTraining": 2, "file_ending": ".nii.gz", **ignoring.to_dataset_json()}
    (folder / "dataset.json").write_text(json.dumps(entries))
    return Cohort.open(folder)


def run(*words):
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    return int(left.value.code or 0)


def test_slices_refuse_what_run_lengths_cannot_say(tmp_path, capsys):
    cohort = cohort_of(tmp_path / "cohort", TABLES[0])
    assert run("export", "slices", cohort.folder, tmp_path / "raw") == 2
    told = capsys.readouterr().err
    assert "case2_day0: 144 voxels have the label 'ignore': nobody looked at them, and train.csv cannot say so" in told
    assert "--ignored-as-empty" in told
    assert not (tmp_path / "raw").exists()
    assert run("export", "slices", cohort.folder, tmp_path / "raw", "--ignored-as-empty") == 0
    lines = (tmp_path / "raw" / "train.csv").read_text().splitlines()
    assert sum(line.startswith("case2_day0_slice_0006") and line.endswith(",") for line in lines) == 2


@tables
def test_slicer_gets_a_segment_of_it_which_adopt_takes_back(tmp_path, table):
    cohort = cohort_of(tmp_path / "cohort", table)
    labels = cohort.folder / "labelsTr"
    assert run("export", "slicer", labels, "--labels", cohort.folder, "-o", tmp_path / "out") == 0
    written = read_segmentation(tmp_path / "out" / "case2_day0.seg.nrrd")
    assert [segment.name for segment in written.segments] == ["liver", "spleen", "ignore"]
    label = read_volume(labels / "case2_day0.nii.gz").voxels
    np.testing.assert_array_equal(written.mask(written.segments[2]), label == cohort.labels.ignore)
    for segment, mask in zip(
        written.segments[:2], table.masks(np.where(label > table.values[-1], 0, label)), strict=True
    ):
        np.testing.assert_array_equal(written.mask(segment), mask)
    whole = read_segmentation(tmp_path / "out" / "case1_day0.seg.nrrd")
    assert [segment.name for segment in whole.segments] == ["liver", "spleen"]
    write_volume(labels / "case2_day0.nii.gz", Volume(np.where(label > 1, 0, label).astype(np.uint8), AFFINE))
    assert adopt(tmp_path / "out", Cohort.open(cohort.folder), answers=Answers()).failed == {}
    np.testing.assert_array_equal(read_volume(labels / "case2_day0.nii.gz").voxels, label)


def test_a_value_of_its_own_stays_free_of_that_of_a_made_up_one(tmp_path):
    """`tumour` has no value that is its own, so that its segment gets one above the table: not that of `ignore`."""
    table = replace(LabelTable.of({"tumour": [1, 2], "core": 2, "rim": 1}), ignore=3)
    label = np.array([[[0, 1, 2, 3]]], np.uint8)
    write_segmentation(tmp_path / "a.seg.nrrd", Volume(label, AFFINE), table)
    written = read_segmentation(tmp_path / "a.seg.nrrd")
    masks = {segment.name: written.mask(segment).ravel().tolist() for segment in written.segments}
    assert masks["tumour"] == [False, True, True, False]
    assert masks["ignore"] == [False, False, False, True]


@pytest.mark.parametrize("kind", ["dicom-seg", "rtstruct"])
def test_objects_for_the_archive_refuse_it(tmp_path, capsys, kind):
    images = tmp_path / "images"
    save(images, series(noise(SHAPE), grid(SHAPE)))
    stack = read_stack(scan(images).series[0])
    block = np.zeros(SHAPE, np.uint8)
    block[2:6, 2:6, 1:4] = 1
    write_dicom_seg(
        images / "first.dcm", place(Volume(block, stack.affine_ras), stack), LabelTable.exclusive(["liver"])
    )
    assert run("convert", "dicom", images, tmp_path / "cohort") == 0
    cohort = Cohort.open(tmp_path / "cohort")
    (key,) = cohort.keys
    path = cohort.label_path(key)
    label = read_volume(path)
    block[..., 5] = 2
    write_volume(path, Volume(block, label.affine_ras))
    entries = json.loads((cohort.folder / "dataset.json").read_text())
    entries["labels"]["ignore"] = 2
    (cohort.folder / "dataset.json").write_text(json.dumps(entries))
    capsys.readouterr()
    words = ["export", kind, path, "--dicom", images, "--labels", cohort.folder, "-o", tmp_path / "out"]
    assert run(*words) == 1
    assert "72 voxels have the label 'ignore': nobody looked at them, and a DICOM object" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True


def test_values_of_another_table_keep_it_or_refuse_it(tmp_path):
    ours, theirs = TABLES[0], replace(LabelTable.of({"Liver": 1, "Spleen": 2}), ignore=3)
    path = tmp_path / "a.nii.gz"
    write_volume(path, Volume(np.array([[[0, 1, 2, 3]]], np.uint8), AFFINE))
    kept = read_translated(path, match_labels(replace(ours, ignore=9), theirs), target="a format")
    assert kept.voxels.ravel().tolist() == [0, 2, 1, 9]
    with pytest.raises(LabelError, match="1 voxels have the label 'ignore'"):
        read_translated(path, match_labels(ours, theirs), target="a format")


def test_cases_that_were_seen_in_part_do_not_calibrate_and_are_drawn_as_they_are_scored(tmp_path, caplog):
    cohort = cohort_of(tmp_path / "cohort", TABLES[0])
    folder = tmp_path / "predictions"
    for key in cohort.keys:
        write_volume(folder / f"{key}.nii.gz", Volume(np.full(SHAPE, 2, np.uint8), AFFINE))
    (folder / "dataset.json").write_text(json.dumps(TABLES[0].to_dataset_json()))
    held = HeldOut(Predictions(folder), cohort, list(cohort.keys)).seen()
    assert held.keys == ["case1_day0"]
    assert "1 cases have voxels of the label 'ignore'" in caplog.text
    drawn = read_review_case("case2_day0", folder, cohort)
    assert not drawn.prediction.voxels[..., 4:].any()
    assert not drawn.reference.voxels[..., 4:].any()
    assert drawn.prediction.voxels[..., :4].all()
