"""Lists, folders and folds as others write them: nothing left out without a word, no patient on both sides."""

from __future__ import annotations

import json
import logging
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from volseg.cli import main
from volseg.cohort import Cohort, inspect_cohort, patient_of, write_cohort
from volseg.cohort.layouts import layout_note
from volseg.cohort.patients import patients_note
from volseg.dicom import Dicom
from volseg.errors import CohortError, GeometryError, LabelError, SourceError, UsageError
from volseg.formats import ClassMasks, Decathlon, Images
from volseg.formats.datalist import channels_of, listed_cases
from volseg.volume import Volume, read_volume, write_volume

SHAPE = (6, 5, 4)
AFFINE = np.diag([-1.5, -1.5, 3.0, 1.0])


def put(path: Path, voxels: np.ndarray | int = 0) -> None:
    voxels = np.full(SHAPE, voxels, np.uint8) if isinstance(voxels, int) else voxels
    write_volume(path, Volume(voxels, AFFINE))


def describe(raw: Path, **entries: object) -> None:
    raw.mkdir(parents=True, exist_ok=True)
    content = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "organ"}, **entries}
    (raw / "dataset.json").write_text(json.dumps(content))


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    return int(left.value.code or 0)


def folds_of(cohort: Path) -> list[dict[str, list[str]]]:
    return json.loads((cohort / "splits.json").read_text())


def listed(raw: Path, names: list[str], **more: object) -> list[dict[str, object]]:
    for name in names:
        put(raw / f"img/{name}.nii.gz", 7)
        put(raw / f"lab/{name}.nii.gz", 1)
    return [{"image": f"./img/{name}.nii.gz", "label": f"./lab/{name}.nii.gz", **more} for name in names]


# --- lists


def test_a_validation_list_is_the_fold(tmp_path):
    raw = tmp_path / "raw"
    put(raw / "img/t.nii.gz")
    lists = {"training": listed(raw, ["a", "b", "c"]), "validation": listed(raw, ["d", "e"]), "test": ["img/t.nii.gz"]}
    describe(raw, **lists)
    assert run("convert", "decathlon", raw, tmp_path / "c") == 0
    assert folds_of(tmp_path / "c") == [{"train": ["a", "b", "c"], "val": ["d", "e"]}]
    assert Cohort.open(tmp_path / "c").labelled == {"a", "b", "c", "d", "e"}
    assert run("convert", "decathlon", raw, tmp_path / "d", "--folds", "2") == 0
    assert [len(fold["val"]) for fold in folds_of(tmp_path / "d")] == [3, 2]


def test_fold_numbers_of_a_list_are_the_folds(tmp_path):
    raw = tmp_path / "raw"
    describe(raw, training=[*listed(raw, ["a", "b"], fold=0), *listed(raw, ["c"], fold=1), *listed(raw, ["d"])])
    assert run("convert", "decathlon", raw, tmp_path / "c") == 0
    assert folds_of(tmp_path / "c") == [
        {"train": ["c", "d"], "val": ["a", "b"]},
        {"train": ["a", "b", "d"], "val": ["c"]},
    ]


def test_labelled_test_cases_keep_their_labels_and_stay_out_of_the_given_fold(tmp_path):
    raw = tmp_path / "raw"
    describe(raw, training=listed(raw, ["a", "b"]), validation=listed(raw, ["c"]), test=listed(raw, ["t"]))
    source = Decathlon(raw)
    assert source.labelled("t")
    assert source.folds[0].training == ("a", "b")


@pytest.mark.parametrize("words", [(), ("--folds", "2")])
def test_labelled_test_cases_are_in_no_fold(tmp_path, words):
    raw = tmp_path / "raw"
    describe(raw, training=listed(raw, ["a", "b", "c"]), test=listed(raw, ["t"]))
    for part, key in (("Tr", "a"), ("Tr", "b"), ("Ts", "t")):
        put(tmp_path / f"nnunet/images{part}/{key}_0000.nii.gz")
        put(tmp_path / f"nnunet/labels{part}/{key}.nii.gz", 1)
    describe(tmp_path / "nnunet", channel_names={"0": "CT"})
    for name, folder in (("one", raw), ("two", tmp_path / "nnunet")):
        assert run("convert", "decathlon", folder, tmp_path / name, *words) == 0
        assert all("t" not in (*fold["train"], *fold["val"]) for fold in folds_of(tmp_path / name))
        assert Cohort.open(tmp_path / name).part("test") == ("t",)


def test_fold_numbers_and_a_validation_list_contradict_each_other(tmp_path):
    raw = tmp_path / "raw"
    describe(raw, training=listed(raw, ["a", "b"], fold=0), validation=listed(raw, ["c"]))
    with pytest.raises(SourceError, match="fold numbers and a validation list without them"):
        Decathlon(raw)


def test_a_fold_without_training_is_told(tmp_path, caplog):
    raw = tmp_path / "raw"
    describe(raw, training=listed(raw, ["a", "b"], fold=0))
    assert Decathlon(raw).folds == ()
    assert "a fold with no case to train on" in caplog.text


def test_labels_as_a_list(tmp_path, caplog):
    raw = tmp_path / "raw"
    for labels, value in ((["bg", "liver"], 1), (["BACKGROUND", "liver"], 1), (["spleen", "liver"], 2)):
        caplog.clear()
        describe(raw, labels=labels, training=listed(raw, ["a"]))
        table = Decathlon(raw).labels
        assert table.regions[-1].values == (value,)
        assert ("taken for the value 1" in caplog.text) == (value == 2)
    describe(raw, labels=["a", "b", "a"], training=listed(raw, ["a"]))
    with pytest.raises(SourceError, match="one of them twice"):
        Decathlon(raw)


def test_numbers_from_0000_are_patients_where_others_follow(tmp_path):
    raw = tmp_path / "raw"
    describe(raw, training=listed(raw, ["amos_0000", "amos_0001", "x_0000"]))
    assert Decathlon(raw).keys() == ["amos_0000", "amos_0001", "x"]


def test_a_given_split_with_a_patient_on_both_sides_is_not_taken(tmp_path, caplog):
    raw = tmp_path / "raw"
    names = [f"patient{p}_frame{f}" for p in (1, 2, 3) for f in (1, 2)]
    describe(raw, training=listed(raw, names[:3]), validation=listed(raw, names[3:]))
    source = Decathlon(raw)
    with caplog.at_level(logging.WARNING):
        write_cohort(source, tmp_path / "c", given=source.folds)
    assert "has patient patient2 on both sides" in caplog.text
    for fold in folds_of(tmp_path / "c"):
        assert not {key[:8] for key in fold["train"]} & {key[:8] for key in fold["val"]}


@pytest.mark.parametrize(
    ("images", "key"),
    [
        (["case_00001/imaging.nii.gz"], "case_00001"),
        (["sub1/CT.nrrd"], "sub1"),
        (["img/amos_0004.nii.gz"], "amos_0004"),
        (["a/BraTS_001_t1.nii.gz", "a/BraTS_001_flair.nii.gz"], "BraTS_001"),
        (["b/x-t1c.nii.gz", "b/x-t1n.nii.gz"], "x"),
        (["c/t1.nii.gz", "c/flair.nii.gz"], "c"),
        (["img/k_0000.nii.gz", "img/k_0001.nii.gz"], "k"),
        (["img/k_0000.nii.gz"], "k"),
    ],
)
def test_the_key_of_a_listed_case(tmp_path, images, key):
    cases = listed_cases({"training": [{"image": images, "label": ["l.nii.gz"]}]}, tmp_path, channels=len(images))
    assert [case.key for case in cases] == [key]
    assert cases[0].label == tmp_path / "l.nii.gz"


def test_kits_is_not_listed_twice(tmp_path):
    raw = tmp_path / "raw"
    entries = []
    for number in range(3):
        put(raw / f"case_{number:05d}/imaging.nii.gz", 5)
        put(raw / f"case_{number:05d}/segmentation.nii.gz", 1)
        entries.append({part: f"case_{number:05d}/{name}.nii.gz" for part, name in _KITS.items()})
    describe(raw, modality=["CT"], labels=["background", "kidney"], training=entries)
    assert run("convert", "decathlon", raw, tmp_path / "c") == 0
    cohort = Cohort.open(tmp_path / "c")
    assert cohort.keys == ("case_00000", "case_00001", "case_00002")
    assert (cohort.channel_names, cohort.labels.names) == (("CT",), ("kidney",))


_KITS = {"image": "imaging", "label": "segmentation"}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"image": "a.nii.gz", "label": ["x.nii.gz", "y.nii.gz"]}, "lists 2 label files .* class_masks"),
        ({"image": "a.nii.gz", "label": "b.nii.gz", "fold": "first"}, "gives a.nii.gz the fold 'first'"),
        ({"image": "a.nii.gz", "label": "b.nii.gz", "fold": -1}, "gives a.nii.gz the fold -1"),
        ({"image": "a.nii.gz", "label": "b.nii.gz", "fold": 0.5}, "gives a.nii.gz the fold 0.5"),
        ({"image": "a.nii.gz", "mask": "b.nii.gz"}, "a file under 'mask' and none under 'label'; call it label"),
        ({"image": "a.nii.gz"}, "lists .*a.nii.gz for training, expected an image and a label"),
        ({"image": "D:\\data\\imagesTr\\a.nii.gz", "label": "b.nii.gz"}, "Windows; .* such as imagesTr/a.nii.gz"),
        ({"image": "a.nii.gz", "label": r"\\server\share\b.nii.gz"}, "a path of a computer with Windows"),
        ({"image": [], "label": "b.nii.gz"}, "expected an image and a label"),
        ({"image": ["a.nii.gz", 3], "label": "b.nii.gz"}, "expected an image and a label"),
    ],
)
def test_an_entry_that_cannot_be_meant(tmp_path, entry, message):
    with pytest.raises(SourceError, match=message):
        listed_cases({"training": [entry]}, tmp_path, channels=1)


@pytest.mark.parametrize("name", ["a\0.nii.gz", "a" * 300 + ".nii.gz", "\ud800.nii.gz"])
@pytest.mark.parametrize("nnunet", [False, True])
def test_what_is_no_name_of_a_file_is_told(tmp_path, name, nnunet):
    put(tmp_path / "a.nii.gz")
    for image, label in ((name, "a.nii.gz"), ("a.nii.gz", name)):
        if nnunet:
            describe(tmp_path, dataset={"a": {"images": [image], "label": label}})
        else:
            describe(tmp_path, training=[{"image": image, "label": label}])
        with pytest.raises(SourceError, match=r"dataset.json lists .*, which is no name of a file \(.*\); correct it"):
            Decathlon(tmp_path)


@pytest.mark.parametrize("head", ["case_id,age,name", "key,age,name", "case_id;age;name"])
def test_a_table_of_patients_that_others_call_cases_csv_is_left_aside(tmp_path, head, caplog):
    raw = tmp_path / "raw"
    describe(raw, training=listed(raw, ["a", "b", "c"]))
    (raw / "cases.csv").write_bytes(f"{head}\na,50,M\xfcller\nb,60,X\n".encode("latin-1"))
    assert run("convert", "decathlon", raw, tmp_path / "cohort") == 0
    assert "cases.csv in the raw folder is no table of volseg's and was left aside" in caplog.text
    assert Cohort.open(tmp_path / "cohort").labelled == {"a", "b", "c"}
    (tmp_path / "cohort/cases.csv").write_bytes((raw / "cases.csv").read_bytes())
    with pytest.raises(CohortError, match="it is another table, so give it another name"):
        Cohort.open(tmp_path / "cohort")


@pytest.mark.parametrize("fold", ["1", " 1 ", 1, 1.0, "fold_1", "Fold 1"])
def test_the_number_of_a_fold_as_tables_write_it(tmp_path, fold):
    entry = {"image": "a.nii.gz", "label": "b.nii.gz"}
    one, other, none = listed_cases(
        {"training": [{**entry, "fold": fold}, {**entry, "image": "c.nii.gz", "fold": ""},
                      {**entry, "image": "d.nii.gz", "fold": float("nan")}]}, tmp_path, channels=1)  # fmt: skip
    assert (one.fold, other.fold, none.fold) == (1, None, None)


@pytest.mark.parametrize("nnunet", [False, True])
def test_paths_as_windows_writes_them(tmp_path, nnunet):
    raw = tmp_path / "raw"
    for key in ("a", "b"):
        put(raw / f"imagesTr/{key}.nii.gz", 5)
        put(raw / f"labelsTr/{key}.nii.gz", 1)
    if nnunet:
        files = {k: {"images": [f".\\imagesTr\\{k}.nii.gz"], "label": f"labelsTr\\{k}.nii.gz"} for k in "ab"}
        describe(raw, dataset=files)
    else:
        describe(raw, training=[{"image": rf"imagesTr\{k}.nii.gz", "label": rf".\labelsTr\{k}.nii.gz"} for k in "ab"])
    assert run("convert", "decathlon", raw, tmp_path / "c") == 0
    assert Cohort.open(tmp_path / "c").labelled == {"a", "b"}


@pytest.mark.parametrize("rest", [{}, {"label": None}, {"label": "", "fold": 0}, None])
def test_a_training_case_without_a_label_is_kept_without_one_and_named(tmp_path, rest, caplog):
    bare = "imagesTr/c.nii.gz" if rest is None else {"image": "imagesTr/c.nii.gz", **rest}
    raw = tmp_path / "raw"
    for key in "abc":
        put(raw / f"imagesTr/{key}.nii.gz", 5)
        put(raw / f"labelsTr/{key}.nii.gz", 1)
    entries = [{"image": f"imagesTr/{k}.nii.gz", "label": f"labelsTr/{k}.nii.gz"} for k in "ab"]
    describe(raw, training=[*entries, bare])
    source = Decathlon(raw)
    assert [source.labelled(key) for key in "abc"] == [True, True, False]
    assert "1 of 3 training cases are listed without a label" in caplog.text
    assert "imagesTr/c.nii.gz" in caplog.text


def test_a_case_in_two_lists_is_named_with_both(tmp_path):
    entry = {"image": "a.nii.gz", "label": "b.nii.gz"}
    with pytest.raises(SourceError, match=r"twice \(.*a.nii.gz in validation, .*a.nii.gz in training\)"):
        listed_cases({"training": [entry], "validation": [entry]}, tmp_path, channels=1)


def test_channels_in_any_form(tmp_path):
    for names in ({"1": "T2", "0": "T1"}, ["T1", "T2"]):
        assert channels_of({"modality": names}, tmp_path) == ("T1", "T2")
    assert channels_of({"modality": "CT"}, tmp_path) == ("CT",)


# --- nnU-Net


def test_files_of_version_1_are_found_behind_their_names(tmp_path):
    raw = tmp_path / "raw"
    for key in ("a", "b"):
        for channel in range(2):
            put(raw / f"imagesTr/{key}_{channel:04d}.nii.gz", channel + 1)
        put(raw / f"labelsTr/{key}.nii.gz", 1)
    training = [{"image": f"./imagesTr/{key}.nii.gz", "label": f"./labelsTr/{key}.nii.gz"} for key in "ab"]
    describe(raw, modality={"0": "T1", "1": "T2"}, training=training, test=[])
    assert run("convert", "decathlon", raw, tmp_path / "c") == 0
    assert [read_volume(path).voxels.max() for path in Cohort.open(tmp_path / "c").image_paths("a")] == [1, 2]
    with pytest.raises(CohortError, match=r"version 1 of nnU-Net does; make a cohort of it with `volseg convert"):
        Cohort.open(raw)


def test_only_what_the_dataset_entry_lists_is_of_the_data_set(tmp_path):
    raw = tmp_path / "raw"
    for key in ("a", "b"):
        put(raw / f"imagesTr/{key}_0000.nii.gz", 3)
        put(raw / f"labelsTr/{key}.nii.gz", 1)
    put(raw / "elsewhere/c.nii.gz", 4)
    dataset = {
        "a": {"images": ["imagesTr/a_0000.nii.gz"], "label": "labelsTr/a.nii.gz"},
        "c": {"images": ["elsewhere/c.nii.gz"], "label": "labelsTr/b.nii.gz"},
    }
    describe(raw, channel_names={"0": "CT"}, dataset=dataset, file_ending=".nii.gz")
    assert Decathlon(raw).keys() == ["a", "c"]
    with pytest.raises(CohortError, match=r"lists its files, and a cohort has files \.nii\.gz"):
        Cohort.open(raw)


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".nii"])
def test_other_endings_are_converted(tmp_path, ending):
    itk = pytest.importorskip("itk")
    raw = tmp_path / "raw"
    for folder, name, value in (("imagesTr", "a_0000", 9), ("labelsTr", "a", 1)):
        (raw / folder).mkdir(parents=True)
        itk.imwrite(itk.image_from_array(np.full(SHAPE[::-1], value, np.uint8)), str(raw / folder / f"{name}{ending}"))
    describe(raw, channel_names={"0": "CT"}, labels={"Background": 0, "organ": 1}, file_ending=ending)
    assert run("convert", "decathlon", raw, tmp_path / "c") == 0
    cohort = Cohort.open(tmp_path / "c")
    assert cohort.labels.names == ("organ",)
    assert read_volume(cohort.image_paths("a")[0]).voxels.max() == 9
    with pytest.raises(CohortError, match=rf"has the file ending '{ending}'"):
        Cohort.open(raw)


def test_an_unknown_ending_is_named(tmp_path):
    describe(tmp_path, channel_names={"0": "CT"}, file_ending=".tif")
    with pytest.raises(SourceError, match=r"has the file_ending '\.tif', expected one of \.nii\.gz"):
        Decathlon(tmp_path)


def test_a_data_set_of_images_is_told_the_command_that_reads_it(tmp_path):
    raw = tmp_path / "raw"
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True)
    for key in ("a", "b"):
        Image.fromarray(np.arange(60, dtype=np.uint8).reshape(4, 5, 3)).save(raw / f"imagesTr/{key}_0000.png")
        Image.fromarray(np.array([[0, 1, 2, 2, 0]] * 4, np.uint8)).save(raw / f"labelsTr/{key}.png")
    labels = {"background": 0, "open road": 1, "car": 2}
    describe(raw, channel_names={"0": "R", "1": "G", "2": "B"}, labels=labels, file_ending=".png")
    with pytest.raises(SourceError) as refusal:
        Decathlon(raw)
    command = str(refusal.value).partition("read by: volseg ")[2]
    words = shlex.split(command.replace("RAW", str(raw)).replace("COHORT", str(tmp_path / "cohort")))
    with pytest.raises(SystemExit, match=r"^0$"):
        main(words)
    cohort = Cohort.open(tmp_path / "cohort")
    assert cohort.labels.names == ("open road", "car")
    assert read_volume(cohort.label_path("a")).voxels[:, 0, 0].tolist() == [0, 1, 2, 2, 0]


def test_labels_of_test_cases_count(tmp_path):
    for part, key in (("Tr", "a"), ("Ts", "b"), ("Ts", "c")):
        put(tmp_path / f"images{part}/{key}_0000.nii.gz")
    put(tmp_path / "labelsTr/a.nii.gz")
    put(tmp_path / "labelsTs/b.nii.gz")
    describe(tmp_path, channel_names={"0": "CT"})
    source = Decathlon(tmp_path)
    assert [source.labelled(key) for key in "abc"] == [True, True, False]


def test_labels_must_be_there(tmp_path):
    describe(tmp_path, channel_names={"0": "CT"}, labels=[])
    with pytest.raises(LabelError, match='has no "labels" object'):
        Decathlon(tmp_path)


def test_background_must_be_0(tmp_path):
    describe(tmp_path, channel_names={"0": "CT"}, labels={"Background": 1, "organ": 2})
    with pytest.raises(LabelError, match="label 'Background' must have the value 0, got 1"):
        Decathlon(tmp_path)


def test_values_above_255_get_new_ones_in_their_order_and_the_old_are_kept(tmp_path):
    raw = tmp_path / "raw"
    values = {"background": 0, "ctx-rh-insula": 2035, "Left-Thalamus": 10, "wm-lh": 3035}
    rng = np.random.default_rng(0)
    stored = rng.choice(np.array([0, 10, 2035, 3035], np.int32), SHAPE)
    for key in "ab":
        put(raw / f"imagesTr/{key}_0000.nii.gz", 5)
        put(raw / f"labelsTr/{key}.nii.gz", stored)
    describe(raw, channel_names={"0": "T1"}, labels=values)
    assert run("convert", "decathlon", raw, tmp_path / "c", "--patient-pattern", ".") == 0
    cohort = Cohort.open(tmp_path / "c")
    assert cohort.labels.names == ("Left-Thalamus", "ctx-rh-insula", "wm-lh")
    label = read_volume(cohort.label_path("a")).voxels
    assert np.array_equal(np.array([0, 10, 2035, 3035])[label], stored)
    kept = json.loads((tmp_path / "c/dataset.json").read_text())["volseg"]["original_values"]
    assert kept == {"Left-Thalamus": 10, "ctx-rh-insula": 2035, "wm-lh": 3035}
    put(raw / "labelsTr/a.nii.gz", stored.astype(np.float32) * np.float32(1 + 1e-7))  # as programs that resample write
    assert np.array_equal(Decathlon(raw).load("a").label.voxels, label)
    put(raw / "labelsTr/a.nii.gz", np.full(SHAPE, 77, np.int32))
    with pytest.raises(SourceError, match=r"the label map holds 77, dataset\.json declares 3 values from 10 to 3035"):
        Decathlon(raw).load("a")
    describe(raw, channel_names={"0": "T1"}, labels={str(n): n for n in range(1, 300)} | {"x": 301})
    with pytest.raises(SourceError, match="declares 300 label values"):
        Decathlon(raw)


def test_a_case_is_converted_again_after_a_correction_of_values_above_255(tmp_path):
    """The new values were the same, so what had been converted by the wrong ones stayed."""
    raw, out = tmp_path / "raw", tmp_path / "c"
    stored = np.random.default_rng(0).choice(np.array([0, 1002, 2002, 2003], np.int32), SHAPE)
    stored[0] = 0
    first = np.where(stored == 2003, 0, stored)
    for key, label in (("a", first), ("b", first)):
        put(raw / f"imagesTr/{key}_0000.nii.gz", 5)
        put(raw / f"labelsTr/{key}.nii.gz", label)
    describe(raw, channel_names={"0": "T1"}, labels={"background": 0, "left": 1002, "right": 2002})
    assert run("convert", "decathlon", raw, out, "--patient-pattern", ".") == 0
    assert Cohort.open(out).keys == ("a", "b")
    describe(raw, channel_names={"0": "T1"}, labels={"background": 0, "left": 1002, "right": 2003})
    put(raw / "labelsTr/b.nii.gz", np.where(stored == 2002, 0, stored))
    assert run("convert", "decathlon", raw, out, "--patient-pattern", ".") == 1, "a holds 2002, which is no region now"
    assert Cohort.open(out).keys == ("b",)


# --- folds of nnU-Net


def test_splits_final_counts_where_there_is_no_other(tmp_path):
    for key in ("a", "b"):
        put(tmp_path / f"imagesTr/{key}_0000.nii.gz")
        put(tmp_path / f"labelsTr/{key}.nii.gz")
    describe(tmp_path, channel_names={"0": "CT"}, labels={"background": 0, "organ": 1})
    (tmp_path / "splits_final.json").write_text('[{"train": ["b"], "val": ["a"]}]')
    assert Cohort.open(tmp_path).fold(0).validation == ("a",)
    (tmp_path / "splits.json").write_text('[{"training": ["a"], "validation": ["b"]}]')
    assert Cohort.open(tmp_path).fold(0).validation == ("b",)


# --- patients


@pytest.mark.parametrize(
    ("key", "patient", "session"),
    [
        ("patient001_frame01", "patient001", "frame01"),
        ("case123_day20", "case123", "day20"),
        ("sub-01_ses-02_T1w", "sub-01", "ses-02"),
        ("sub-ABC", "sub-ABC", ""),
        ("P12-Visit-3", "P12", "Visit-3"),
        ("hn_017_fraction2", "hn_017", "fraction2"),
        ("hippocampus_001", "hippocampus_001", ""),
        ("Prostate_01_t2", "Prostate_01_t2", ""),
        ("case_00001", "case_00001", ""),
        ("genius_0801", "genius_0801", ""),
        ("BraTS-GLI-00001-000", "BraTS-GLI-00001", "000"),
        ("frame01", "frame01", ""),
        ("patient001_ses1_frame02", "patient001", "ses1_frame02"),
        ("center1_scan001", "center1_scan001", ""),
        ("site2_t01", "site2_t01", ""),
        ("patient_2019_001", "patient_2019_001", ""),
    ],
)
def test_what_a_key_tells_of_the_patient(key, patient, session):
    assert patient_of(key) == (patient, session)


def test_a_pattern_of_the_user(tmp_path):
    assert patient_of("BraTS-GLI-00001-000", pattern=r"(?P<patient>.*)-(?P<session>\d{3})$") == (
        "BraTS-GLI-00001",
        "000",
    )
    assert patient_of("genius_0801", pattern=r"genius_\d\d") == ("genius_08", "")
    with pytest.raises(SourceError, match="does not match the key"):
        patient_of("other", pattern="genius")
    with pytest.raises(UsageError, match="must be a regular expression"):
        patient_of("a", pattern="(")


def genius(folder: Path) -> None:
    for patient in range(8, 12):
        for day in range(3):
            voxels = (np.arange(np.prod(SHAPE)).reshape(SHAPE) + 3 * patient + day).astype(np.uint8)
            put(folder / f"imagesTr/genius_{patient:02d}{day:02d}_0000.nii.gz", voxels)
            put(folder / f"labelsTr/genius_{patient:02d}{day:02d}.nii.gz", 1)
    describe(folder, channel_names={"0": "MR"}, labels={"background": 0, "organ": 1}, file_ending=".nii.gz")


def test_time_points_in_numbers_are_warned_about_and_split_by_a_pattern(tmp_path, capsys):
    genius(tmp_path)
    assert run("check", tmp_path, "--strict") == 1
    said = capsys.readouterr().out
    assert (
        "12 cases look like visits or sides of 4 patients (genius_0800, genius_0801, genius_0802 of 'genius_08')"
        in said
    )
    assert run("split", tmp_path) == 0
    assert "warning: 12 cases look like visits or sides of 4 patients" in capsys.readouterr().err
    assert run("split", tmp_path, "--folds", "2", "--patient-pattern", r"genius_\d\d") == 0
    assert capsys.readouterr().err == ""
    for fold in folds_of(tmp_path):
        assert not {key[:9] for key in fold["train"]} & {key[:9] for key in fold["val"]}
    assert len({row.patient for row in Cohort.open(tmp_path).rows.values()}) == 4
    assert run("check", tmp_path, "--strict") == 0
    assert run("split", tmp_path, "--patient-pattern", "nobody") == 2


def test_a_pattern_holds_for_any_source(tmp_path):
    genius(tmp_path / "raw")
    assert run("convert", "decathlon", tmp_path / "raw", tmp_path / "c", "--patient-pattern", r"genius_(\d\d)") == 0
    rows = Cohort.open(tmp_path / "c").rows.values()
    assert {row.patient for row in rows} == {"08", "09", "10", "11"}


@pytest.mark.parametrize(
    "keys",
    [
        [f"amos_{n:04d}" for n in range(1, 240)],
        [f"hippocampus_{n:03d}" for n in range(1, 90)],
        [f"case_{n:05d}" for n in range(300)],
        [f"img{n:04d}" for n in (1, 2, 3, 21, 40)],
        ["a", "b"],
    ],
)
def test_numbers_of_patients_are_not_taken_for_visits(keys):
    from volseg.cohort import CaseRow

    rows = [CaseRow(key, key, "", (4, 4, 4), (1, 1, 1), "RAS", "", ()) for key in keys]
    assert patients_note(rows) is None


# --- one mask per class


@pytest.fixture
def masks(tmp_path):
    raw = tmp_path / "raw"
    for number in range(3):
        put(raw / f"s{number:04d}/ct.nii.gz", 40)
        liver, spleen = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
        liver[:2], spleen[3:] = 1, 255
        put(raw / f"s{number:04d}/segmentations/liver.nii.gz", liver)
        if number:
            put(raw / f"s{number:04d}/segmentations/spleen.nii.gz", spleen)
    return raw


def test_masks_per_class_become_a_label_map(masks, tmp_path):
    assert run("convert", "class_masks", masks, tmp_path / "c") == 0
    cohort = Cohort.open(tmp_path / "c")
    assert (cohort.labels.names, cohort.channel_names) == (("liver", "spleen"), ("CT",))
    label = read_volume(cohort.label_path("s0001")).voxels
    assert [int(label[n, 0, 0]) for n in range(6)] == [1, 1, 0, 2, 2, 2]
    assert cohort.rows["s0000"].warnings == ("no mask of spleen: taken for empty",)


def test_overlaps_are_refused_or_kept(masks, tmp_path, capsys):
    put(masks / "s0002/segmentations/spleen.nii.gz", 1)
    assert run("convert", "class_masks", masks, tmp_path / "c") == 1
    assert "s0002: 40 voxels belong to several classes; keep them with --overlaps" in capsys.readouterr().err
    assert run("convert", "class_masks", masks, tmp_path / "d", "--overlaps") == 0
    cohort = Cohort.open(tmp_path / "d")
    label = read_volume(cohort.label_path("s0002")).voxels
    assert cohort.labels.masks(label).sum(axis=(1, 2, 3)).tolist() == [40, 120]


def test_masks_beside_the_image_and_classes_that_are_chosen(tmp_path):
    for key in ("p1", "p2"):
        put(tmp_path / f"raw/{key}/image.nii.gz", 3)
        for name in ("tumour", "node", "notes"):
            put(tmp_path / f"raw/{key}/{name}.nii.gz", int(name == "node"))
    source = ClassMasks(tmp_path / "raw", classes=["tumour", "node"])
    assert source.labels.names == ("tumour", "node")
    assert source.load("p1").label.voxels.min() == 2
    with pytest.raises(SourceError, match="no case has a mask of liver; there are node, notes, tumour"):
        ClassMasks(tmp_path / "raw", classes=["liver"])


def test_the_overlaps_of_many_classes_are_those_that_occur(tmp_path, capsys):
    """A body that holds ten organs, and a lesion across two of them in one case and across others in the next."""
    raw, cases = tmp_path / "raw", {"p1": slice(1, 3), "p2": slice(6, 9)}
    for key, lesion in cases.items():
        put(raw / key / "ct.nii.gz", np.full((12, 4, 3), 40, np.uint8))
        drawn = {"body": slice(0, 11), "lesion": lesion, **{f"organ{n}": slice(n, n + 1) for n in range(10)}}
        for name, where in drawn.items():
            mask = np.zeros((12, 4, 3), np.uint8)
            mask[where, 1:3] = 1
            put(raw / key / "segmentations" / f"{name}.nii.gz", mask)
    assert run("convert", "class_masks", raw, tmp_path / "c", "--overlaps") == 0
    capsys.readouterr()
    cohort = Cohort.open(tmp_path / "c")
    assert (len(cohort.labels.names), cohort.labels.activation) == (12, "sigmoid")
    for key, lesion in cases.items():
        masks = cohort.labels.masks(read_volume(cohort.label_path(key)).voxels)
        found = {name: mask.sum() // 6 for name, mask in zip(cohort.labels.names, masks, strict=True)}
        organs = {f"organ{n}": 1 for n in range(10)}
        assert found == {"body": 11, "lesion": lesion.stop - lesion.start, **organs}
    assert run("convert", "class_masks", raw, tmp_path / "d") == 1
    assert "voxels belong to several classes; keep them with --overlaps" in capsys.readouterr().err


def test_what_is_wrong_with_a_folder_of_masks(masks, tmp_path):
    write_volume(masks / "s0001/segmentations/liver.nii.gz", Volume(np.ones((6, 5, 3), np.uint8), AFFINE))
    with pytest.raises(GeometryError, match=r"the mask liver\.nii\.gz is not on the image's grid"):
        ClassMasks(masks).load("s0001")
    put(masks / "s0002/mr.nii.gz")
    with pytest.raises(SourceError, match="must hold one image, got ct, mr; say which with --image"):
        ClassMasks(masks)
    assert ClassMasks(masks, image="ct").keys() == ["s0000", "s0001", "s0002"]
    with pytest.raises(SourceError, match="holds no case"):
        ClassMasks(tmp_path / "raw" / "s0000" / "segmentations")


def scalar(path: Path, voxels: np.ndarray) -> None:
    write_volume(path, Volume(voxels, AFFINE))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (np.float32(0.4), r"the mask liver\.nii\.gz: the label map holds 0\.4, expected whole numbers"),
        (np.float32(np.nan), r"the mask liver\.nii\.gz: the label map holds nan"),
        (np.int16(-1), r"the mask liver\.nii\.gz: it holds -1, expected 0 and one value above it"),
    ],
)
def test_masks_that_are_none_are_refused_by_case(masks, value, told):
    """What is not 0 would be marked: a probability of 0.001, NaN, -1 outside."""
    scalar(masks / "s0001/segmentations/liver.nii.gz", np.full(SHAPE, value))
    source = ClassMasks(masks)
    with pytest.raises(LabelError, match=told):
        source.load("s0001")
    assert source.load("s0002").label is not None


def test_masks_of_several_values_are_told(masks):
    scalar(masks / "s0000/segmentations/liver.nii.gz", np.arange(120, dtype=np.uint8).reshape(SHAPE) % 3)
    scalar(masks / "s0002/segmentations/liver.nii.gz", np.float32(0.9999) * (np.arange(120).reshape(SHAPE) < 5))
    source = ClassMasks(masks)
    told = "liver.nii.gz holds 1, 2, all taken for the class (a label map of several classes, or shares of voxels?)"
    assert source.load("s0000").warnings == ("no mask of spleen: taken for empty", told)
    assert source.load("s0002").warnings == ()
    assert np.count_nonzero(source.load("s0002").label.voxels == 1) == 5


def test_two_files_of_one_class_or_image_are_refused(masks):
    """Which of liver.nii and liver.nii.gz counts would be a matter of the alphabet."""
    for name in ("segmentations/liver.nii", "ct.nrrd"):
        (masks / "s0001" / name).write_bytes(b"whatever")
        with pytest.raises(SourceError, match=r"holds \w+\.\w+(\.gz)? and \w+\.\w+(\.gz)? for one; keep the one"):
            ClassMasks(masks)
        (masks / "s0001" / name).unlink()
    put(masks / "s0001/masks/liver.nii.gz", 1)
    assert ClassMasks(masks).warnings == ("files that belong to no case were left out: s0001/masks/",)


def test_masks_whose_axes_run_otherwise_are_turned_and_told(masks):
    before = ClassMasks(masks).load("s0001").label.voxels
    path = masks / "s0001/segmentations/liver.nii.gz"
    stored = read_volume(path)
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = stored.shape[0] - 1
    write_volume(path, Volume(np.ascontiguousarray(stored.voxels[::-1]), np.asarray(stored.affine_ras) @ flip))
    case = ClassMasks(masks).load("s0001")
    np.testing.assert_array_equal(case.label.voxels, before)
    assert "liver.nii.gz: its axes run otherwise than those of the image and were turned" in case.warnings


def test_folders_and_lists_without_cases_are_told_what_lacks(masks, tmp_path):
    for path in masks.rglob("segmentations/*"):
        path.unlink()
    with pytest.raises(SourceError, match=r"holds images and no mask; expected files such as s0001/segmentations"):
        ClassMasks(masks)
    entries = [{"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}]
    for lists, told in (
        ({"train": entries}, "has lists under train; the cases are looked for under 'training'"),
        ({"training": []}, "its dataset.json lists none; name image and label of each case under 'training'"),
        ({}, "the decathlon keeps them in imagesTr and labelsTr"),
    ):
        (tmp_path / "dataset.json").write_text(
            json.dumps({"labels": {"0": "background", "1": "liver"}, "modality": {"0": "CT"}, **lists})
        )
        with pytest.raises(SourceError, match=told):
            Decathlon(tmp_path)


def test_what_is_left_out_of_folders_of_masks_is_told(masks, tmp_path, caplog):
    put(masks / "loose.nii.gz")
    put(masks / "s0001/heart.nii.gz")
    put(masks / "s0000/segmentations/background.nii.gz", 1)
    (masks / "s0002/ct.nii.gz").unlink()
    told = "left out: loose.nii.gz, s0001/heart.nii.gz, s0002 (which has masks and no image)"
    with caplog.at_level(logging.WARNING):
        assert run("convert", "class_masks", masks, tmp_path / "c") == 0
    assert told in caplog.text
    cohort = Cohort.open(tmp_path / "c")
    assert (cohort.keys, cohort.labels.names) == (("s0000", "s0001"), ("liver", "spleen"))
    warnings = inspect_cohort(cohort).warnings
    assert any(told in warning for warning in warnings)
    assert "masks called background are left out: the background is what belongs to no class" in warnings


def test_names_that_differ_in_spelling_are_one_class(masks):
    (masks / "s0001/segmentations/liver.nii.gz").rename(masks / "s0001/segmentations/Liver.nii.gz")
    with pytest.raises(SourceError, match="the masks Liver and liver differ in spelling only"):
        ClassMasks(masks)
    put(masks / "s0000/segmentations/ignore.nii.gz", 1)
    with pytest.raises(LabelError, match="a region is called 'ignore'"):
        ClassMasks(masks, classes=["liver", "ignore"])


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (["s0/ct.nii.gz", "s0/segmentations/liver.nii.gz"], "volseg convert class_masks"),
        (["case_00000/imaging.nii.gz", "case_00000/segmentation.nii.gz"], "looks like KiTS"),
        (["B1/B1_t1.nii.gz", "B1/B1_seg.nii.gz"], "looks like BraTS"),
        (["patient001/patient001_frame01.nii.gz", "patient001/patient001_frame01_gt.nii.gz"], "looks like ACDC"),
        (["Training/img/img0001.nii.gz", "Training/label/label0001.nii.gz"], "looks like BTCV"),
        (["img/img0001.nii.gz", "label/label0001.nii.gz"], "looks like BTCV"),
    ],
)
def test_public_layouts_are_known(tmp_path, files, says):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert says in layout_note(tmp_path)
    with pytest.raises(CohortError, match=says):
        Cohort.open(tmp_path)
    (tmp_path / "plain").mkdir()
    assert layout_note(tmp_path / "plain") == ""


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (["s0001/ct.nii.gz", "s0001/segmentations/liver.nii.gz"], "`volseg convert class_masks"),
        (["p1/mri.nrrd", "p1/masks/node.nrrd"], "`volseg convert class_masks"),
        (["case_00000/imaging.nii.gz", "case_00000/segmentation.nii.gz"], "looks like KiTS"),
        (["dataset.json", "imagesTr/a_0000.nii.gz"], "`volseg convert decathlon"),
        (["p1/t1.mha", "p1/lesion.mha"], "it holds volumes such as p1/lesion.mha: `volseg convert decathlon`"),
        (["p1/0001.dcm"], "it holds DICOM files: run `volseg convert dicom"),
        (["scan/a.png"], "correct --images"),
    ],
)
def test_what_is_no_folder_of_pictures_is_sent_to_its_reader(tmp_path, files, says):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(SourceError, match=r"no image in .* matches '{key}/ct\.jpg'") as refused:
        Images(tmp_path, images="{key}/ct.jpg")
    assert says in str(refused.value)
    if not files[0].endswith((".dcm", ".png")):
        with pytest.raises(SourceError, match="holds no DICOM series") as refused:
            Dicom(tmp_path)
        assert says in str(refused.value)
