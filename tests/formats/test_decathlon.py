"""Decathlon and nnU-Net folders: both forms, their damages, and the real hippocampus set against nibabel."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from volseg.cohort import Cohort, write_cohort
from volseg.cohort.table import read_table, write_table
from volseg.errors import GeometryError, LabelError, SourceError, VolumeError
from volseg.formats import Decathlon
from volseg.volume import Volume, read_volume, write_volume

SHAPE = (6, 5, 4)
AFFINE = np.diag([1.0, 1, 2, 1])


def image(path, *, seed=0, channels=0, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(seed).integers(0, 999, (*SHAPE, channels) if channels else SHAPE).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)
    return voxels


def label(path, *, seed=0, values=3, affine=AFFINE, shape=SHAPE):
    voxels = np.random.default_rng(seed).integers(0, values, shape).astype(np.uint8)
    write_volume(path, Volume(voxels, affine))
    return voxels


def describe(folder, **entries):
    (folder / "dataset.json").write_text(
        json.dumps({"labels": {"0": "background", "1": "Anterior", "2": "Posterior"}} | entries)
    )


@pytest.fixture
def listed(tmp_path):
    """The decathlon's form: files listed, channels as a fourth axis, one case of the test set."""
    for seed, key in enumerate(("a", "b", "c")):
        image(tmp_path / ("imagesTs" if key == "c" else "imagesTr") / f"{key}.nii.gz", seed=seed, channels=2)
        if key != "c":
            label(tmp_path / "labelsTr" / f"{key}.nii.gz", seed=seed)
    describe(
        tmp_path,
        modality={"1": "ADC", "0": "T2"},
        training=[{"image": f"./imagesTr/{key}.nii.gz", "label": f"./labelsTr/{key}.nii.gz"} for key in "ab"],
        test=["./imagesTs/c.nii.gz"],
    )
    return tmp_path


@pytest.fixture
def found(tmp_path):
    """nnU-Net's form: one file a channel, nothing listed; one file not compressed."""
    for seed, name in enumerate(("imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "imagesTr/b_1_0000.nii")):
        image(tmp_path / name, seed=seed)
    image(tmp_path / "imagesTr/b_1_0001.nii", seed=3)
    image(tmp_path / "imagesTs/c_0000.nii.gz", seed=4)
    image(tmp_path / "imagesTs/c_0001.nii.gz", seed=5)
    label(tmp_path / "labelsTr/a.nii.gz")
    label(tmp_path / "labelsTr/b_1.nii")
    describe(tmp_path, channel_names={"0": "T2", "1": "ADC"}, labels={"background": 0, "Anterior": 1, "Posterior": 2})
    return tmp_path


def test_a_listed_case_is_split_into_its_channels(listed):
    source = Decathlon(listed)
    assert source.keys() == ["a", "b", "c"]
    assert source.channel_names == ("T2", "ADC")
    assert source.labels.names == ("Anterior", "Posterior")
    assert [source.labelled(key) for key in "abc"] == [True, True, False]
    case = source.load("b")
    voxels = np.asanyarray(nibabel.load(listed / "imagesTr" / "b.nii.gz").dataobj)
    for channel, volume in enumerate(case.channels):
        np.testing.assert_array_equal(volume.voxels, voxels[..., channel])
        np.testing.assert_array_equal(volume.affine_ras, AFFINE)
    np.testing.assert_array_equal(case.label.voxels, read_volume(listed / "labelsTr" / "b.nii.gz").voxels)
    assert (case.key, case.patient, case.source) == ("b", "b", "b.nii.gz")
    assert source.load("c").label is None


def test_a_found_case_has_one_file_a_channel(found):
    source = Decathlon(found)
    keys = source.keys()
    assert keys == ["a", "b_1", "c"]
    assert [source.labelled(key) for key in keys] == [True, True, False]
    case = source.load("b_1")
    for channel, volume in enumerate(case.channels):
        stored = read_volume(found / "imagesTr" / f"b_1_000{channel}.nii")
        np.testing.assert_array_equal(volume.voxels, stored.voxels)
    assert case.label is not None


def test_a_cohort_is_a_source_of_itself(found, tmp_path):
    assert not write_cohort(Decathlon(found), tmp_path / "one").failed
    assert not write_cohort(Decathlon(tmp_path / "one"), tmp_path / "two").failed
    one, two = Cohort.open(tmp_path / "one"), Cohort.open(tmp_path / "two")
    assert (one.keys, one.labels, one.labelled) == (two.keys, two.labels, two.labelled)
    for key in one.keys:
        for a, b in zip(one.image_paths(key), two.image_paths(key), strict=True):
            assert a.read_bytes() == b.read_bytes()


def test_files_of_the_operating_system_are_passed_over(found):
    for name in ("._a_0000.nii.gz", "a_0000.nii.gz.part", "a_0000.nii.json"):
        (found / "imagesTr" / name).write_text("not a volume")
    assert Decathlon(found).keys() == ["a", "b_1", "c"]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, "names no channel"),
        ({"modality": []}, "names no channel"),
        ({"modality": ["T2"]}, "holds no case"),
        ({"modality": {"T2": "0"}}, "names the channels"),
        ({"modality": {"0": "T2"}, "training": []}, "holds no case"),
        ({"modality": {"0": "T2"}}, "holds no case"),
        ({"modality": {"0": "T2"}, "training": ["a.nii.gz"]}, "expected an image and a label"),
        ({"modality": {"0": "T2"}, "training": [{"image": "a.nii.gz"}]}, "expected an image and a label"),
        ({"modality": {"0": "T2"}, "training": [{"image": 1, "label": "a"}]}, "expected an image and a label"),
        ({"modality": {"0": "T2"}, "training": [], "test": [1]}, "expected an image"),
    ],
)
def test_a_wrong_dataset_json_is_told(tmp_path, entries, message):
    describe(tmp_path, **entries)
    with pytest.raises(SourceError, match=message):
        Decathlon(tmp_path)


def test_no_dataset_json_and_no_labels_are_told(tmp_path):
    with pytest.raises(SourceError, match=r"has no dataset\.json"):
        Decathlon(tmp_path)
    describe(tmp_path, labels=None, modality={"0": "T2"})
    with pytest.raises(LabelError, match='no "labels" object'):
        Decathlon(tmp_path)


@pytest.mark.parametrize("test", [["./imagesTr/a.nii.gz"], [{"image": "elsewhere/a.nii"}]])
def test_a_case_listed_twice_is_told(listed, test):
    describe(listed, **(json.loads((listed / "dataset.json").read_text()) | {"test": test}))
    with pytest.raises(SourceError, match=r"^a: dataset\.json lists the case twice"):
        Decathlon(listed)


def test_a_case_found_twice_is_told(found):
    image(found / "imagesTs" / "a_0000.nii.gz")
    with pytest.raises(SourceError, match=r"^a: .* holds the case twice"):
        Decathlon(found)


def test_a_channel_too_many_is_told(found):
    image(found / "imagesTr" / "a_0002.nii.gz")
    with pytest.raises(SourceError, match=r"^a: there are more files than the 2 channels"):
        Decathlon(found)


def failed(source, tmp_path):
    """The one failed case of a conversion, and its message."""
    result = write_cohort(source, tmp_path / "cohort")
    assert len(result.written) == 2
    return result.failed


@pytest.mark.parametrize("name", ["imagesTr/a.nii.gz", "labelsTr/a.nii.gz"])
def test_a_file_that_is_listed_and_absent_fails_its_case_only(listed, tmp_path, name):
    (listed / name).unlink()
    assert "is not there" in failed(Decathlon(listed), tmp_path)["a"]


@pytest.mark.parametrize("name", ["imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz"])
def test_a_file_that_is_expected_and_absent_fails_its_case_only(found, tmp_path, name):
    (found / name).unlink()
    assert "is not there" in failed(Decathlon(found), tmp_path)["a"]


def test_a_label_on_another_grid_fails_its_case_only(listed, tmp_path):
    label(listed / "labelsTr" / "a.nii.gz", affine=np.diag([1.0, 1, 3, 1]))
    label(listed / "labelsTr" / "b.nii.gz")
    source = Decathlon(listed)
    with pytest.raises(GeometryError, match=r"^a: the label is not on the image's grid: a corner .* is 3 mm away"):
        source.load("a")
    assert "not on the image's grid" in failed(source, tmp_path)["a"]
    label(listed / "labelsTr" / "a.nii.gz", shape=(6, 5, 3))
    with pytest.raises(GeometryError, match="shape 6 x 5 x 4 against 6 x 5 x 3"):
        source.load("a")


def test_an_undeclared_value_fails_its_case_only(listed, tmp_path):
    label(listed / "labelsTr" / "a.nii.gz", values=5)
    source = Decathlon(listed)
    with pytest.raises(LabelError, match=r"^a: the label map holds 3, 4; dataset.json declares \[0, 1, 2\]"):
        source.load("a")
    assert "the label map holds 3, 4" in failed(source, tmp_path)["a"]


def test_numbers_that_float32_does_not_tell_apart_are_structures_of_their_own(tmp_path):
    """Of the Allen mouse brain's atlas: MONAI 1.6.1 and antspyx 0.6.3 read them as float32, and as one structure."""
    numbers = {"16777217": "C", "312782546": "A", "312782550": "B"}
    image(tmp_path / "imagesTr" / "a.nii.gz")
    stored = np.random.default_rng(0).choice([0, *map(int, numbers)], SHAPE).astype(np.uint32)
    (tmp_path / "labelsTr").mkdir()
    nibabel.save(nibabel.Nifti1Image(stored, AFFINE), tmp_path / "labelsTr" / "a.nii.gz")
    case = {"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}
    describe(tmp_path, modality={"0": "MR"}, labels={"0": "background", **numbers}, training=[case], test=[])
    source = Decathlon(tmp_path)
    table, label_map = source.labels, source.load("a").label
    for number, name in numbers.items():
        (region,) = [region for region in table.regions if region.name == name]
        np.testing.assert_array_equal(np.isin(label_map.voxels, list(region.values)), stored == int(number))


def test_another_number_of_channels_fails_its_case_only(listed, tmp_path):
    image(listed / "imagesTr" / "a.nii.gz", channels=3)
    source = Decathlon(listed)
    with pytest.raises(VolumeError, match=r"^a: the image has 3 channels, dataset\.json names 2: T2, ADC"):
        source.load("a")
    assert "3 channels" in failed(source, tmp_path)["a"]


def test_a_damaged_file_fails_its_case_only(listed, tmp_path):
    content = (listed / "imagesTr" / "a.nii.gz").read_bytes()
    (listed / "imagesTr" / "a.nii.gz").write_bytes(content[: len(content) // 2])
    assert "a.nii.gz cannot be read as NIfTI" in failed(Decathlon(listed), tmp_path)["a"]


def test_the_digest_changes_with_any_file_of_the_case_and_with_no_other(listed):
    source = Decathlon(listed)
    keys = source.keys()
    before = {key: source.digest(key) for key in keys}
    assert len(set(before.values())) == 3
    for name in ("imagesTr/a.nii.gz", "labelsTr/a.nii.gz"):
        stat = (listed / name).stat()
        os.utime(listed / name, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
        assert source.digest("a") != before["a"]
        os.utime(listed / name, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert {key: Decathlon(listed).digest(key) for key in keys} == before
    describe(listed, **(json.loads((listed / "dataset.json").read_text()) | {"labels": {"0": "background", "1": "x"}}))
    assert Decathlon(listed).digest("a") != before["a"]


def test_the_hippocampus_set_is_listed(shared_data):
    source = Decathlon(shared_data / "Task04_Hippocampus")
    keys = source.keys()
    assert len(keys) == 200
    assert source.labels.names == ("Anterior", "Posterior")
    assert len({source.digest(key) for key in keys}) == 200


def test_hippocampus_cases_are_converted_as_nibabel_reads_them(shared_data, tmp_path):
    raw = shared_data / "Task04_Hippocampus"
    dataset = json.loads((raw / "dataset.json").read_text())
    dataset["training"] = dataset["training"][::40]
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "dataset.json").write_text(json.dumps(dataset))
    for part in ("imagesTr", "labelsTr"):
        (tmp_path / "raw" / part).symlink_to(raw / part)
    result = write_cohort(Decathlon(tmp_path / "raw"), tmp_path / "cohort")
    assert (len(result.written), result.failed) == (5, {})
    cohort = Cohort.open(tmp_path / "cohort")
    for key in cohort.keys:
        for path, part in ((cohort.image_paths(key)[0], "imagesTr"), (cohort.label_path(key), "labelsTr")):
            stored, oracle = nibabel.load(path), nibabel.load(raw / part / f"{key}.nii.gz")
            np.testing.assert_array_equal(np.asanyarray(stored.dataobj), np.asanyarray(oracle.dataobj))
            np.testing.assert_allclose(stored.affine, oracle.affine, atol=1e-5)
        assert cohort.rows[key].shape == oracle.shape
        assert cohort.rows[key].orientation == "RAS"
    assert cohort.median_spacing_mm() == [1, 1, 1]


def test_a_cohort_of_volseg_read_again_keeps_its_patients(tmp_path: Path) -> None:
    from volseg.datasets import write_phantom
    from volseg.formats import UwMadison

    write_phantom(tmp_path / "raw", patients=2, days=2)
    write_cohort(UwMadison(tmp_path / "raw"), tmp_path / "cohort")
    write_cohort(Decathlon(tmp_path / "cohort"), tmp_path / "again")
    tables = [(tmp_path / name / "splits.json").read_text() for name in ("cohort", "again")]
    assert tables[0] == tables[1]
    assert {row.patient for row in Cohort.open(tmp_path / "again").rows.values()} == {"case201", "case202"}


def test_a_cohort_of_volseg_read_again_keeps_units_and_days(found: Path, tmp_path: Path) -> None:
    write_cohort(Decathlon(found), tmp_path / "cohort")
    rows = read_table(tmp_path / "cohort/cases.csv")
    stated = [replace(row, units="BQML", day=20240103.0 + number) for number, row in enumerate(rows)]
    write_table(tmp_path / "cohort/cases.csv", stated)
    write_cohort(Decathlon(tmp_path / "cohort"), tmp_path / "again")
    again = read_table(tmp_path / "again/cases.csv")
    assert [(row.key, row.units, row.day) for row in again] == [(row.key, row.units, row.day) for row in stated]

    # Another day is another case for the conversion, which writes it.
    write_table(tmp_path / "cohort/cases.csv", [replace(row, day=7.0) for row in stated])
    write_cohort(Decathlon(tmp_path / "cohort"), tmp_path / "again")
    assert {row.day for row in read_table(tmp_path / "again/cases.csv")} == {7.0}


def test_a_cohort_of_volseg_read_again_keeps_its_objects(found: Path, tmp_path: Path) -> None:
    objects = np.zeros(SHAPE, np.uint16)
    objects[:2], objects[2:4] = 300, 2
    (found / "instancesTr").mkdir()
    write_volume(found / "instancesTr/a.nii.gz", Volume(objects, AFFINE))
    write_cohort(Decathlon(found), tmp_path / "again")
    again = Cohort.open(tmp_path / "again")
    assert again.instances_path("b_1") is None
    path = again.instances_path("a")
    assert path is not None
    np.testing.assert_array_equal(read_volume(path).voxels, objects)

    # Other objects are another case for the conversion, which writes them.
    write_volume(found / "instancesTr/a.nii.gz", Volume(objects.astype(np.float32) + 1, AFFINE))
    write_cohort(Decathlon(found), tmp_path / "again")
    np.testing.assert_array_equal(read_volume(path).voxels, objects + 1)
