"""Edits come home: every kind of edit, every kind of bad input, a kill at every step, and back again."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from dicom_series import grid, noise, save, series
from edited_cohort import (
    AFFINE,
    SHAPE,
    SIMPLE,
    TABLE,
    cohort_of,
    edited,
    label_of,
    nifti,
    seg_nrrd,
    segments_of,
    state,
    voxels,
)

from volseg.cli import main
from volseg.cohort import Cohort, adoption, read_corrections
from volseg.deploy.corrections import Answers, Naming, OpenQuestionError, adopt, undo
from volseg.deploy.corrections.edits import find_edits
from volseg.dicom import object_masks, place, read_stack, scan, write_dicom_seg, write_rtstruct
from volseg.errors import CohortError, UsageError
from volseg.formats import write_segmentation
from volseg.labels import LabelTable
from volseg.volume import Volume, read_volume, write_volume

# --- the twelve kinds of edit: what was not touched is the same to the bit

CODE = "Segmentation category and type~SCT^123037004^Anatomical Structure~SCT^{}^{}~^^~Anatomic codes~^^~^^"


def rename(masks, _):
    masks["Magen"] = masks.pop("stomach")
    return masks, {"tags": {"Magen": f"TerminologyEntry:{CODE.format('69695003', 'Stomach structure')}|"}}


def recolour(masks, _):
    return masks, {"tags": {"stomach": "Segmentation.Status:completed|"}}


def reorder(masks, _):
    return dict(reversed(masks.items())), {}


def respell(masks, _):
    return {name.replace("_", " ").title(): mask for name, mask in masks.items()}, {}


def crop(masks, affine):
    moved = affine.copy()
    moved[:3, 3] = (affine @ [1, 0, 1, 1])[:3]
    return {name: mask[1:, :, 1:-1] for name, mask in masks.items()}, {"affine": moved}


def pad(masks, affine):
    moved = affine.copy()
    moved[:3, 3] = (affine @ [-2, -1, 0, 1])[:3]
    return {name: np.pad(mask, ((2, 3), (1, 0), (0, 4))) for name, mask in masks.items()}, {"affine": moved}


def flip(masks, affine):
    turned = affine @ np.array([[-1, 0, 0, SHAPE[0] - 1], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
    return {name: mask[::-1].transpose(0, 2, 1) for name, mask in masks.items()}, {"affine": turned}


@pytest.mark.parametrize("kind", [rename, recolour, reorder, respell, crop, pad, flip])
def test_a_segmentation_comes_home_by_name_and_place(tmp_path, kind):
    cohort = cohort_of(tmp_path / "cohort")
    old = label_of(cohort, "c0")
    new = edited(old)
    if kind is crop:  # what is cut off is empty
        new[:1], new[..., :1], new[..., -1:] = 0, 0, 0
    masks, options = kind(segments_of(new), AFFINE)
    seg_nrrd(tmp_path / "home" / "c0.seg.nrrd", masks, **options)
    found = adopt(tmp_path / "home", cohort)
    assert found.failed == {}
    np.testing.assert_array_equal(label_of(cohort, "c0"), new)
    stomach = {row.region: row for row in read_corrections(cohort.folder)}["stomach"]
    changed = (new & 4) != (old & 4)
    assert stomach.voxels == changed.sum()
    assert stomach.slices == changed.any(axis=(0, 1)).sum()
    assert stomach.changed_ml == pytest.approx(changed.sum() * 6.75 / 1000)
    assert stomach.before == "label"
    again = adopt(tmp_path / "home", cohort)
    assert not again.adopted["c0"].changed
    assert len(read_corrections(cohort.folder)) == 3


def test_slicerio_and_our_own_writer_are_read_alike(tmp_path):
    slicerio = pytest.importorskip("slicerio")
    cohort = cohort_of(tmp_path / "cohort", SIMPLE)
    new = label_of(cohort, "c0").copy()
    new[0, 0] = 2
    write_segmentation(tmp_path / "a.seg.nrrd", Volume(new, AFFINE), SIMPLE)
    segmentation = slicerio.read_segmentation(str(tmp_path / "a.seg.nrrd"))
    places = [("spleen", 41), ("liver", 5)]
    kept = slicerio.extract_segments(segmentation, places)
    (tmp_path / "home").mkdir()
    slicerio.write_segmentation(str(tmp_path / "home" / "c0.seg.nrrd"), kept)
    assert adopt(tmp_path / "home", cohort).failed == {}
    np.testing.assert_array_equal(label_of(cohort, "c0"), new)


def test_a_region_moved_to_another_layer_keeps_its_overlaps(tmp_path):
    cohort = cohort_of(tmp_path / "cohort")
    new = edited(label_of(cohort, "c0"))
    write_segmentation(tmp_path / "home" / "c0.seg.nrrd", Volume(new, AFFINE), TABLE)
    assert adopt(tmp_path / "home", cohort).failed == {}
    np.testing.assert_array_equal(label_of(cohort, "c0"), new)


def test_a_deleted_region_is_asked_about_and_a_cleared_one_is_told(tmp_path):
    cohort = cohort_of(tmp_path / "cohort")
    old = label_of(cohort, "c0")
    masks = segments_of(old)
    cleared = {**masks, "stomach": np.zeros(SHAPE, bool)}
    del masks["stomach"]
    before = state(cohort.folder)
    path = seg_nrrd(tmp_path / "home" / "c0.seg.nrrd", masks)
    error = adopt(path, cohort).failed["c0"]
    assert isinstance(error, OpenQuestionError)
    assert error.missing == ("stomach",)
    assert error.message == (
        "there is no segment of stomach; say --missing keep (as it was) or --missing empty (there is none)"
    )
    assert state(cohort.folder) == before
    assert not adopt(path, cohort, answers=Answers(missing="keep")).adopted["c0"].changed
    seg_nrrd(path, cleared)
    found = adopt(path, cohort).adopted["c0"]
    assert found.notes == (f"stomach is empty now; it had {((old & 4) > 0).sum() * 6.75 / 1000:.3g} ml",)
    np.testing.assert_array_equal(label_of(cohort, "c0"), old & 3)


def test_a_new_segment_is_asked_about_in_one_line(tmp_path):
    cohort = cohort_of(tmp_path / "cohort")
    masks = segments_of(label_of(cohort, "c0"))
    extra = np.zeros(SHAPE, bool)
    extra[0, 0, 0] = True
    path = seg_nrrd(tmp_path / "home" / "c0.seg.nrrd", {**masks, "Segment_4": extra})
    assert str(adopt(path, cohort).failed["c0"]) == (
        'Segment_4 is no region of the cohort; say --take "Segment_4"=REGION or --drop "Segment_4"'
    )
    assert not adopt(path, cohort, answers=Answers(drop=["segment 4"])).adopted["c0"].changed
    del masks["stomach"]
    seg_nrrd(path, {**masks, "Segment_4": extra})
    error = adopt(path, cohort).failed["c0"]
    assert "there is no segment of stomach, and Segment_4 is no region" in str(error)
    assert adopt(path, cohort, answers=Answers(take={"Segment_4": "stomach"})).adopted["c0"].changed
    assert (label_of(cohort, "c0") & 4 > 0).sum() == 1
    with pytest.raises(UsageError, match="--take Segment_4=colon: the cohort has no region colon"):
        adopt(path, cohort, answers=Answers(take={"Segment_4": "colon"}))


def call(*words):
    """The exit code of `volseg WORDS`."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return ended.value.code


class Terminal(io.StringIO):
    """A person at the keyboard."""

    def isatty(self):
        return True


def test_a_terminal_is_asked_about_each_case_and_all_is_one_round(tmp_path, monkeypatch, capsys):
    cohort = cohort_of(tmp_path / "cohort", unlabelled=True)
    olds = {key: label_of(cohort, key) for key in ("c0", "c1")}
    for key, region in (("c0", "stomach"), ("c1", "small_bowel")):
        masks = segments_of(edited(olds[key]))
        masks["Segment_4"] = masks.pop(region)
        seg_nrrd(tmp_path / "home" / f"{key}.seg.nrrd", masks)
    seg_nrrd(tmp_path / "home" / "c2.seg.nrrd", segments_of(voxels(5)))
    monkeypatch.setattr("sys.stdin", Terminal("colon\nstomach\nsmall_bowel\n"))
    assert call("adopt", tmp_path / "home", cohort.folder) == 0
    told = capsys.readouterr().out
    assert "the cohort has no region colon: large_bowel, small_bowel, stomach" in told
    assert "adopted 3 cases" in told
    for key, old in olds.items():
        np.testing.assert_array_equal(label_of(cohort, key), edited(old))
    assert {row.round for row in read_corrections(cohort.folder)} == {1}
    assert call("adopt", "--undo", cohort.folder) == 0
    for key, old in olds.items():
        np.testing.assert_array_equal(label_of(cohort, key), old)
    assert read_corrections(cohort.folder) == []


def test_who_answers_no_further_question_is_told_what_was_taken(tmp_path, monkeypatch, capsys):
    cohort = cohort_of(tmp_path / "cohort", unlabelled=True)
    for key in ("c0", "c1"):
        masks = segments_of(label_of(cohort, key))
        del masks["stomach"]
        seg_nrrd(tmp_path / "home" / f"{key}.seg.nrrd", masks)
    seg_nrrd(tmp_path / "home" / "c2.seg.nrrd", segments_of(voxels(5)))
    monkeypatch.setattr("sys.stdin", Terminal("empty\nstop\n"))
    assert call("adopt", tmp_path / "home", cohort.folder) == 1
    told = capsys.readouterr()
    assert "adopted 2 cases" in told.out
    assert "c1: there is no segment of stomach" in told.err
    assert not (label_of(cohort, "c0") & 4).any()
    assert (label_of(cohort, "c1") & 4).any()


def test_a_segment_of_a_combination_is_a_part_of_each_of_its_regions(tmp_path):
    """As Slicer has them, if a label map was given out whose combinations are named."""
    cohort = cohort_of(tmp_path / "cohort")
    new = edited(label_of(cohort, "c0"))
    held = {value: [region.name for region in TABLE.regions if value in region.values] for value in TABLE.values[1:]}
    masks = {"+".join(names): new == value for value, names in held.items()}
    masks["Small Bowel"] = masks.pop("small_bowel")
    seg_nrrd(tmp_path / "home" / "c0.seg.nrrd", masks)
    assert adopt(tmp_path / "home", cohort).failed == {}
    np.testing.assert_array_equal(label_of(cohort, "c0"), new)
    seg_nrrd(tmp_path / "home" / "c0.seg.nrrd", {**masks, "stomach+spleen": np.zeros(SHAPE, bool)})
    assert "stomach+spleen is no region" in str(adopt(tmp_path / "home", cohort).failed["c0"])


def test_a_label_map_comes_home_by_its_table_alone(tmp_path):
    cohort = cohort_of(tmp_path / "cohort", SIMPLE)
    new = label_of(cohort, "c0").copy()
    new[0, 0] = 2
    path = nifti(tmp_path / "home" / "c0.nii.gz", np.array([0, 4, 9], np.uint8)[new])
    assert "does not say what its values mean" in str(adopt(tmp_path / "home", cohort).failed["c0"])
    (tmp_path / "home" / "names.csv").write_text("LabelValue,Name\n9,Liver\n4,spleen\n")
    assert adopt(tmp_path / "home", cohort).failed == {}
    np.testing.assert_array_equal(label_of(cohort, "c0"), new)
    nifti(path, new)
    (tmp_path / "home" / "names.csv").unlink()
    assert not adopt(path, cohort, naming=Naming(values_as=SIMPLE)).adopted["c0"].changed
    (tmp_path / "home" / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "spleen": 2, "liver": 1}}))
    assert adopt(path, cohort).adopted["c0"].changed
    np.testing.assert_array_equal(label_of(cohort, "c0"), np.array([0, 2, 1])[new])


def test_a_label_map_without_the_overlaps_that_were_there_is_refused(tmp_path):
    cohort = cohort_of(tmp_path / "cohort")
    flat = np.array([0, 1, 2, 2, 3, 3, 3, 3], np.uint8)[label_of(cohort, "c0")]
    path = nifti(tmp_path / "c0.nii.gz", flat)
    table = tmp_path / "names.csv"
    table.write_text("LabelValue,Name\n1,large_bowel\n2,small_bowel\n3,stomach\n")
    message = str(adopt(path, cohort, naming=Naming(table)).failed["c0"])
    assert "a label map holds no overlap, and" in message
    assert adopt(path, cohort, naming=Naming(table), answers=Answers(flat=True)).adopted["c0"].changed


def test_the_final_labels_of_monai_label_have_their_names_beside_them(tmp_path):
    """Folder and file as MONAI Label 0.8.5 leaves them; the names are those that 3D Slicer sent."""
    cohort = cohort_of(tmp_path / "cohort", SIMPLE)
    new = label_of(cohort, "c1").copy()
    new[0, 0] = 1
    studies = tmp_path / "studies"
    nifti(studies / "labels" / "final" / "c1.nii.gz", np.array([0, 2, 1], np.uint8)[new])
    info = {"label_info": [{"name": "liver", "idx": 1}, {"name": "spleen", "idx": 2}], "client_id": "user-xyz"}
    label = {"ext": ".nii.gz", "info": {"ts": 1, "name": "c1.nii.gz", "params": info}}
    objects = {"c1": {"image": {"ext": ".nii.gz", "info": {}}, "labels": {"final": label}}}
    (studies / "datastore_v2.json").write_text(json.dumps({"name": "x", "objects": objects}))
    assert adopt(studies, cohort).failed == {}
    np.testing.assert_array_equal(label_of(cohort, "c1"), new)
    label["info"] = {"ts": 1, **info}
    (studies / "datastore_v2.json").write_text(json.dumps({"name": "x", "objects": objects}))
    assert not adopt(studies, cohort).adopted["c1"].changed


@pytest.mark.parametrize("write", [write_dicom_seg, write_rtstruct], ids=["seg", "rtstruct"])
def test_dicom_objects_come_home(tmp_path, write):
    """Made on the series that the cohort was converted from; named after nothing, they are known by the series."""
    images = tmp_path / "images"
    save(images, series(noise(SHAPE), grid(SHAPE, angles=(0.1, 0, 0.2))))
    stack = read_stack(scan(images).series[0])
    block = np.zeros(SHAPE, np.uint8)
    block[2:6, 2:6, 1:4] = 1
    new = block.copy()
    new[3:8, 3:7, 2:5] |= 2
    two = LabelTable.overlapping(["liver", "spleen"])
    write_dicom_seg(images / "first.dcm", place(Volume(new, stack.affine_ras), stack), two)
    main_of("convert", "dicom", images, tmp_path / "cohort")
    (images / "first.dcm").unlink()
    cohort = Cohort.open(tmp_path / "cohort")
    (key,) = cohort.keys
    new[0:2, 0:2, 0] = 1
    (tmp_path / "home").mkdir()
    write(tmp_path / "home" / "edited.dcm", place(Volume(new, stack.affine_ras), stack), two)
    found = adopt(tmp_path / "home", cohort)
    assert found.failed == {}
    np.testing.assert_array_equal(label_of(cohort, key), new)
    other = tmp_path / "other"
    save(other, series(noise(SHAPE), grid(SHAPE, angles=(0.1, 0, 0.2)), study="1.2.3.4"))
    theirs = read_stack(scan(other).series[0])
    write(tmp_path / f"{key}.dcm", place(Volume(block, theirs.affine_ras), theirs), two)
    assert "of another study than the image" in str(adopt(tmp_path / f"{key}.dcm", cohort).failed[key])


def main_of(*words: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    return int(left.value.code or 0)


# --- bad input: one line, and the cohort as it was


def another_image(folder, cohort):
    """Drawn on the image of c1, which has one slice more."""
    longer = Volume(np.zeros((9, 8, 7), np.int16), AFFINE)
    write_volume(cohort.folder / "imagesTr" / "c1_0000.nii.gz", longer)
    write_volume(cohort.folder / "labelsTr" / "c1.nii.gz", Volume(np.zeros((9, 8, 7), np.uint8), AFFINE))
    mask = np.ones((9, 8, 7), bool)
    seg_nrrd(folder / "c0.seg.nrrd", dict.fromkeys(TABLE.names, mask))


def two_of_one_name(folder, _):
    path = seg_nrrd(folder / "c0.seg.nrrd", segments_of(voxels(3)))
    path.write_bytes(path.read_bytes().replace(b"Name:=small_bowel", b"Name:=stomach"))


def two_spelt_alike(folder, _):
    masks = segments_of(voxels(3))
    masks["Stomach"] = masks["STOMACH"] = masks.pop("stomach")
    seg_nrrd(folder / "c0.seg.nrrd", masks)


def empty(folder, _):
    seg_nrrd(folder / "c0.seg.nrrd", dict.fromkeys(TABLE.names, np.zeros(SHAPE, bool)))


def half_written(folder, _):
    path = seg_nrrd(folder / "c0.seg.nrrd", segments_of(voxels(3)))
    path.write_bytes(path.read_bytes()[:-40])


def half_a_nifti(folder, _):
    path = nifti(folder / "c0.nii.gz", voxels(3))
    path.write_bytes(path.read_bytes()[:-40])
    (folder / "names.csv").write_text("LabelValue,Name\n1,large_bowel\n")


def elsewhere(folder, _):
    moved = AFFINE.copy()
    moved[:3, 3] += 3000
    seg_nrrd(folder / "c0.seg.nrrd", segments_of(voxels(3)), affine=moved)


def between(folder, _):
    moved = AFFINE.copy()
    moved[0, 3] += 0.7
    seg_nrrd(folder / "c0.seg.nrrd", segments_of(voxels(3)), affine=moved)


def of_no_case(folder, _):
    seg_nrrd(folder / "Segmentation.seg.nrrd", segments_of(voxels(3)))


def two_edits(folder, _):
    seg_nrrd(folder / "c0.seg.nrrd", segments_of(voxels(3)))
    seg_nrrd(folder / "c0-final.seg.nrrd", segments_of(voxels(4)))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (another_image, "the grid of the image of c1, not on that of c0"),
        (two_of_one_name, "2 segments named 'stomach'"),
        (two_spelt_alike, "spelt alike"),
        (empty, "all its segments are empty"),
        (half_written, "c0.seg.nrrd"),
        (half_a_nifti, "c0.nii.gz"),
        (elsewhere, "outside the image"),
        (between, "off those of the image"),
        (of_no_case, "that of no case"),
        (two_edits, "several edits of it (c0-final.seg.nrrd, c0.seg.nrrd)"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_bad_input_is_told_in_a_line_and_changes_nothing(tmp_path, make, told):
    cohort = cohort_of(tmp_path / "cohort")
    (tmp_path / "home").mkdir()
    make(tmp_path / "home", cohort)
    before = state(cohort.folder)
    cohort = Cohort.open(cohort.folder)
    found = adopt(tmp_path / "home", cohort)
    (error,) = found.failed.values()
    assert told in str(error)
    assert "\n" not in str(error)
    assert found.adopted == {}
    assert state(cohort.folder) == before


def test_other_voxels_are_resampled_when_asked(tmp_path):
    cohort = cohort_of(tmp_path / "cohort")
    new = edited(label_of(cohort, "c0"))
    fine = AFFINE @ np.diag([0.5, 0.5, 1, 1])
    fine[:3, 3] = (AFFINE @ [-0.25, -0.25, 0, 1])[:3]
    masks = {name: mask.repeat(2, axis=0).repeat(2, axis=1) for name, mask in segments_of(new).items()}
    path = seg_nrrd(tmp_path / "c0.seg.nrrd", masks, affine=fine)
    assert "another spacing" in str(adopt(path, cohort).failed["c0"])
    assert adopt(path, cohort, answers=Answers(resample=True)).failed == {}
    np.testing.assert_array_equal(label_of(cohort, "c0"), new)


# --- slices that nobody looked at


def test_unseen_slices_are_marked_with_the_ignore_label_of_nnunet(tmp_path):
    cohort = cohort_of(tmp_path / "cohort")
    old = label_of(cohort, "c0")
    unseen = np.zeros(SHAPE, bool)
    unseen[..., 4:] = True
    path = seg_nrrd(tmp_path / "c0.seg.nrrd", {**segments_of(old), "Ignore": unseen})
    found = adopt(path, cohort)
    assert found.failed == {}
    expected = np.where(unseen, np.uint8(8), old)
    np.testing.assert_array_equal(label_of(cohort, "c0"), expected)
    again = Cohort.open(cohort.folder)
    assert json.loads((cohort.folder / "dataset.json").read_text())["labels"]["ignore"] == 8
    assert again.labels.ignore == 8
    assert sum(row.voxels for row in read_corrections(cohort.folder)) == 0  # nothing that was seen changed
    seg_nrrd(path, segments_of(old))
    assert adopt(path, again, ignore_slices=[5, 6]).adopted["c0"].rows == ()
    undo(again)
    np.testing.assert_array_equal(label_of(cohort, "c0"), old)


# --- undone, cut off, converted again


def test_undo_puts_everything_back(tmp_path):
    cohort = cohort_of(tmp_path / "cohort", unlabelled=True)
    before = state(cohort.folder)
    for key in cohort.keys:
        seg_nrrd(tmp_path / "home" / f"{key}.seg.nrrd", segments_of(voxels(9)))
    found = adopt(tmp_path / "home", cohort)
    assert sorted(found.adopted) == ["c0", "c1", "c2"]
    after = Cohort.open(cohort.folder)
    assert after.labelled == {"c0", "c1", "c2"}
    assert json.loads((cohort.folder / "dataset.json").read_text())["numTraining"] == 3
    assert {row.before for row in read_corrections(cohort.folder) if row.key == "c2"} == {"nothing"}
    (cohort.folder / "splits.json").write_text(json.dumps([{"training": ["c2"], "validation": ["c0"]}]))
    with pytest.raises(CohortError, match="the folds name it"):
        undo(after, case="c2")
    (cohort.folder / "splits.json").unlink()
    assert undo(after) == ("c0", "c1", "c2")
    again = state(cohort.folder)
    assert {name: content for name, content in again.items() if name != "dataset.json"} == {
        name: content for name, content in before.items() if name != "dataset.json"
    }
    assert json.loads(again["dataset.json"]) == json.loads(before["dataset.json"])
    with pytest.raises(UsageError, match="nothing to undo"):
        undo(Cohort.open(cohort.folder))


def test_a_case_that_cannot_be_put_back_leaves_the_others_of_its_round_alone(tmp_path):
    """The cases behind it in the alphabet were never put back, however often one asked."""
    cohort = cohort_of(tmp_path / "cohort", unlabelled=True)
    olds = {key: label_of(cohort, key) for key in ("c0", "c1")}
    for key in cohort.keys:
        seg_nrrd(tmp_path / "home" / f"{key}.seg.nrrd", segments_of(voxels(9)))
    adopt(tmp_path / "home", cohort)
    write_volume(cohort.folder / "labelsTr" / "c0.nii.gz", Volume(voxels(4), AFFINE))
    with pytest.raises(CohortError) as failed:
        undo(Cohort.open(cohort.folder))
    assert str(failed.value) == (
        "c0: its label was changed after it was adopted; undo what was done later first; the former labels of c1, c2 "
        "were put back"
    )
    np.testing.assert_array_equal(label_of(cohort, "c1"), olds["c1"])
    assert Cohort.open(cohort.folder).labelled == {"c0", "c1"}
    write_volume(cohort.folder / "labelsTr" / "c0.nii.gz", Volume(voxels(9), AFFINE))
    assert undo(Cohort.open(cohort.folder)) == ("c0",)


def test_a_label_that_was_changed_since_is_not_put_back(tmp_path):
    cohort = cohort_of(tmp_path / "cohort")
    seg_nrrd(tmp_path / "home" / "c0.seg.nrrd", segments_of(voxels(9)))
    adopt(tmp_path / "home", cohort)
    write_volume(cohort.folder / "labelsTr" / "c0.nii.gz", Volume(voxels(5), AFFINE))
    with pytest.raises(CohortError, match="changed after it was adopted"):
        undo(Cohort.open(cohort.folder))


class Killed(BaseException):
    pass


@pytest.mark.parametrize("undoing", [False, True])
def test_a_kill_at_any_step_leaves_the_former_cohort_or_the_new_one(tmp_path, monkeypatch, undoing):
    """Each step is cut off once; whoever opens the cohort next finds all of it or nothing."""
    steps = ("_write", "_move", "write_corrections", "_renew_dataset_json", "link_or_copy")
    home = tmp_path / "home"
    seg_nrrd(home / "c0.seg.nrrd", segments_of(voxels(9)))
    seg_nrrd(home / "c2.seg.nrrd", segments_of(voxels(8)))
    seen = set()
    for number in range(40):
        cohort = cohort_of(tmp_path / f"{undoing}{number}", unlabelled=True)
        former = state(cohort.folder)
        if undoing:
            adopt(home, cohort)
        calls = 0

        def dying(original, *, at=number):
            def step(*arguments):
                nonlocal calls
                calls += 1
                if calls == at + 1:
                    raise Killed
                return original(*arguments)

            return step

        with monkeypatch.context() as patched:
            for name in steps:
                patched.setattr(adoption, name, dying(getattr(adoption, name)))
            try:
                undo(Cohort.open(cohort.folder)) if undoing else adopt(home, cohort)
            except Killed:
                pass
            else:
                break
        opened = Cohort.open(cohort.folder)
        rows = {row.key for row in read_corrections(cohort.folder)}
        for key, seed in (("c0", 9), ("c2", 8)):
            path = opened.label_path(key)
            new = path is not None and np.array_equal(read_volume(path).voxels, voxels(seed))
            assert new == (key in rows)
            seen.add((key, new))
        assert not (cohort.folder / ".volseg" / "adopting.json").exists()
        if undoing:
            if rows:
                undo(opened)
            assert state(cohort.folder).keys() == former.keys()
        else:
            assert adopt(home, opened).failed == {}
            assert Cohort.open(cohort.folder).labelled == {"c0", "c1", "c2"}
    assert number > 8
    assert seen == {("c0", False), ("c0", True), ("c2", False), ("c2", True)}


def test_a_conversion_leaves_corrected_labels_alone(tmp_path):
    images = tmp_path / "images"
    save(images, series(noise(SHAPE), grid(SHAPE)))
    main_of("convert", "dicom", images, tmp_path / "cohort")
    folder = tmp_path / "cohort"
    entries = json.loads((folder / "dataset.json").read_text())
    cohort = Cohort.open(folder)
    (key,) = cohort.keys
    image = read_volume(cohort.image_paths(key)[0])
    new = np.zeros(image.shape, np.uint8)
    new[2:4, 2:4, 2:4] = 1
    seg_nrrd(
        tmp_path / "home" / f"{key}.seg.nrrd", dict.fromkeys(cohort.labels.names, new > 0), affine=image.affine_ras
    )
    assert adopt(tmp_path / "home", cohort).failed == {}
    assert main_of("convert", "dicom", images, folder) == 0
    np.testing.assert_array_equal(label_of(cohort, key), new)
    assert entries["labels"] == json.loads((folder / "dataset.json").read_text())["labels"]


def test_the_command_tells_what_changed_and_asks_in_one_line(tmp_path, capsys):
    cohort = cohort_of(tmp_path / "cohort")
    masks = segments_of(edited(label_of(cohort, "c0")))
    seg_nrrd(tmp_path / "home" / "c0.seg.nrrd", masks)
    assert main_of("adopt", tmp_path / "home", cohort.folder) == 0
    told = capsys.readouterr()
    assert "c0: stomach" in told.out
    assert "adopted 1 cases" in told.out
    with (cohort.folder / "corrections.csv").open() as file:
        assert [row["region"] for row in csv.DictReader(file)] == list(TABLE.names)
    seg_nrrd(tmp_path / "home" / "c0.seg.nrrd", {"colon": masks["stomach"]})
    assert main_of("adopt", tmp_path / "home", cohort.folder) == 1
    assert (
        "failed  c0: there is no segment of large_bowel, small_bowel, stomach, and colon is" in capsys.readouterr().err
    )
    assert main_of("adopt", "--undo", cohort.folder) == 0
    assert main_of("adopt", "--undo", cohort.folder) == 2
    assert main_of("adopt", cohort.folder) == 2


def test_a_file_of_a_case_may_bear_more_than_its_key(tmp_path):
    cohort = cohort_of(tmp_path / "cohort")
    new = edited(label_of(cohort, "c1"))
    seg_nrrd(tmp_path / "home" / "deep" / "c1-segmentation (2).seg.nrrd", segments_of(new))
    nifti(tmp_path / "home" / "c1_0000.nii.gz", voxels(1))  # the image beside it is none
    found = adopt(tmp_path / "home", cohort)
    assert list(found.adopted) == ["c1"]
    assert list(found.failed) == ["c1_0000.nii.gz"]


def test_a_further_edit_is_counted_from_the_one_before_and_keeps_what_that_changed(tmp_path):
    cohort = cohort_of(tmp_path / "cohort", unlabelled=True)
    predictions, home = tmp_path / "predictions", tmp_path / "home"
    write_volume(predictions / "c2.nii.gz", Volume(voxels(5), AFFINE))
    (predictions / "dataset.json").write_text((cohort.folder / "dataset.json").read_text())
    first = voxels(6)

    def sent(masks, **answers):
        seg_nrrd(home / "c2.seg.nrrd", masks)
        found = adopt(home, Cohort.open(cohort.folder), predictions=predictions, **answers)
        assert not found.failed, found.failed
        return found.adopted["c2"]

    drawn = sent(segments_of(first)).added_path_mm
    second = first.copy()
    second[4, 4, 3] ^= 1  # one voxel of the large bowel, in the same window of 3D Slicer
    again = sent(segments_of(second))
    assert 0 < again.added_path_mm < drawn / 20, "the mm of the first edit are not drawn twice"
    assert {row.before for row in again.rows} == {"label"}
    masks = segments_of(second)
    del masks["stomach"]
    kept = sent({**masks, "large_bowel": ~masks["large_bowel"]}, answers=Answers(missing="keep"))
    assert kept.changed
    assert np.array_equal(TABLE.masks(label_of(cohort, "c2"))[2], TABLE.masks(second)[2]), "not that of the prediction"
    for _ in range(3):
        undo(Cohort.open(cohort.folder))
    assert sent(segments_of(first)).added_path_mm == drawn
    another = sent(segments_of(second), anew=True)
    assert {row.before for row in another.rows} == {"prediction"}


def test_a_dicom_object_is_read_once_however_many_cases_there_are(tmp_path, monkeypatch):
    for study in ("1.2.1", "1.2.2", "1.2.3"):
        save(tmp_path / "images" / study, series(noise(SHAPE), grid(SHAPE), study=study, series=f"{study}.1"))
    main_of("convert", "dicom", tmp_path / "images", tmp_path / "cohort")
    cohort = Cohort.open(tmp_path / "cohort")
    assert len(cohort.keys) == 3
    stack = read_stack(scan(tmp_path / "images" / "1.2.2").series[0])
    block = np.zeros(SHAPE, np.uint8)
    block[2:6, 2:6, 1:4] = 1
    (tmp_path / "home").mkdir()
    for name in ("one.dcm", "two.dcm"):
        write_rtstruct(tmp_path / "home" / name, place(Volume(block, stack.affine_ras), stack), SIMPLE)
    read = []
    once = object_masks.read_drawing
    monkeypatch.setattr(object_masks, "read_drawing", lambda given: read.append(given) or once(given))
    edits = find_edits(tmp_path / "home", cohort)
    assert len(edits.failed) == 1
    assert "there are several edits of it (one.dcm, two.dcm)" in next(iter(edits.failed.values()))
    assert len(read) == 2
