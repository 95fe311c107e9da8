"""What goes into `predict` and `watch`: cases and channels by name, no two cases into one file, no mask for a scan."""

from __future__ import annotations

import json
import unicodedata
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from command import told
from dicom_series import noise, save, series
from monai.bundle import ConfigParser
from tiny_bundle import ROI, network, write_bundle, write_checkpoint
from watch_stub import Clock, watch

import volseg.inference.outputs
from volseg.bundle import Recipe
from volseg.cohort import write_labels
from volseg.deploy.watch import Inbox
from volseg.deploy.watch.inbox import nifti_key
from volseg.errors import CheckpointError, UsageError
from volseg.inference import Predictor, channel_order, check_output, find_inputs, fold_channel, is_segmentation
from volseg.labels import LabelTable
from volseg.transforms import ReadVolumesd
from volseg.volume import Volume, read_volume, write_volume

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])
SHAPE = (24, 20, 10)


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def found(folder: Path, channels: int | list[str] = 1, **options: object) -> list[tuple[str, list[str]]]:
    cases = find_inputs(folder, channels=channels, **options)  # type: ignore[arg-type]
    return [(key, [file.name for file in files]) for key, files in cases]


# --- numbers


@pytest.mark.parametrize("name", ["amos_0001", "word_0002", "PANCREAS_0003", "FLARE22_Tr_0001"])
def test_a_number_without_a_first_channel_beside_it_is_a_name(tmp_path: Path, name: str) -> None:
    other = name[:-1] + "7"
    touch(tmp_path, f"{name}.nii.gz", f"{other}.nii.gz")
    assert found(tmp_path) == [(name, [f"{name}.nii.gz"]), (other, [f"{other}.nii.gz"])]
    assert [key for key, _ in found(tmp_path, 2)] == [name, other]  # one file each, which reading refuses
    assert find_inputs(tmp_path / f"{other}.nii.gz") == [(other, [tmp_path / f"{other}.nii.gz"])]
    assert nifti_key(f"{name}.nii.gz") == name


def test_channels_are_counted_from_the_first_one_beside_them(tmp_path: Path) -> None:
    touch(
        tmp_path, "a_0000.nii.gz", "a_0001.nii.gz", "b_0000.nii.gz", "b_0002.nii.gz", "c_0001.nii.gz", "c_0002.nii.gz"
    )
    assert found(tmp_path, 2) == [
        ("a", ["a_0000.nii.gz", "a_0001.nii.gz"]),
        ("b", ["b_0000.nii.gz", "b_0001.nii.gz", "b_0002.nii.gz"]),  # the second is not there, and is named
        ("c_0001", ["c_0001.nii.gz"]),
        ("c_0002", ["c_0002.nii.gz"]),
    ]
    touch(tmp_path / "nested", "FLARE22_Tr_0001_0000.nii.gz", "FLARE22_Tr_0002_0000.nii.gz")
    assert [key for key, _ in found(tmp_path / "nested")] == ["FLARE22_Tr_0001", "FLARE22_Tr_0002"]


def test_files_are_grouped_by_the_names_of_the_channels(tmp_path: Path) -> None:
    brats = ["BraTS-GLI-00000-000", "BraTS-GLI-00002-001"]
    touch(tmp_path, *(f"{key}-{word}.nii.gz" for key in brats for word in ("t1c", "t1n", "t2f", "t2w", "seg")))
    cases = found(tmp_path, ["FLAIR", "T1w", "t1gd", "T2w"])
    assert [key for key, _ in cases] == brats
    assert cases[0][1] == [f"{brats[0]}-{word}.nii.gz" for word in ("t2f", "t1n", "t1c", "t2w")]


def test_a_name_that_ends_in_a_mark_names_no_channel(tmp_path: Path) -> None:
    """dcm2niix leaves an empty field as `scan_`; of a network with several channels it was an AttributeError."""
    touch(tmp_path, "scan_.nii.gz", "scan_t1.nii.gz", "scan_t2.nii.gz")
    assert found(tmp_path, ["T1", "T2"]) == [
        ("scan", ["scan_t1.nii.gz", "scan_t2.nii.gz"]),
        ("scan_", ["scan_.nii.gz"]),
    ]


def test_predictions_are_no_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_labels(tmp_path, LabelTable.of({"liver": 1}), channel_names=["MR"])
    touch(tmp_path, "a.nii.gz")
    assert found(tmp_path, 1) == [("a", ["a.nii.gz"])]
    assert f"{tmp_path} holds predictions of volseg; are these images?" in caplog.text


def test_a_pattern_is_told_as_one(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii.gz")
    with pytest.raises(UsageError, match=r"one file or one folder, got the pattern .*\*\.nii\.gz; name the folder"):
        find_inputs(tmp_path / "*.nii.gz")


# --- one output each


def test_two_inputs_never_write_one_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for names in (("a.nii", "a.nii.gz"), ("a.nii.gz", "a_0000.nii.gz"), ("a.nii.gz", "a.nrrd")):
        folder = touch(tmp_path / "_".join(names), *names)
        with pytest.raises(UsageError, match=r"would both be written to a\.nii\.gz"):
            check_output(tmp_path / "out", find_inputs(folder))
    two = [("x", [tmp_path / "one/x.nii.gz"]), ("x", [tmp_path / "two/x.nii.gz"])]  # a list made by hand
    with pytest.raises(UsageError, match=r"one/x\.nii\.gz and .*two/x\.nii\.gz would both"):
        check_output(tmp_path / "out", two)
    capitals = find_inputs(touch(tmp_path / "capitals", "Case.nii.gz", "case.nii.gz"))
    accents = [(unicodedata.normalize(form, "é"), [tmp_path / f"{form}.nii.gz"]) for form in ("NFC", "NFD")]
    check_output(tmp_path / "out", capitals)
    check_output(tmp_path / "out", accents)
    monkeypatch.setattr(volseg.inference.outputs, "ignores_case", lambda _: True)
    for cases in (capitals, accents):
        with pytest.raises(UsageError, match="would both be written"):
            check_output(tmp_path / "out", cases)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a checkpoint of one channel and one of two, and an image of two channels as files and in 4D."""
    folder = tmp_path_factory.mktemp("place")
    write_bundle(folder / "bundle")
    write_checkpoint(folder / "one.pt", source={})
    write_two(folder / "two.pt", ["T1", "T2"])
    draw = np.random.default_rng(0)
    for key in ("p", "q"):
        both = [draw.integers(0, 900, SHAPE).astype(np.int16) for _ in range(2)]
        for number, voxels in enumerate(both):
            write_volume(folder / f"files/{key}_{number:04d}.nii.gz", Volume(voxels, AFFINE))
        write_4d(folder / f"imagesTr/{key}.nii.gz", both)
    return folder


def write_two(path: Path, names: list[str], labels: LabelTable | None = None, *, turned: bool = False) -> None:
    """A checkpoint of two channels; turned, its first layer takes them the other way round."""
    table = labels or LabelTable.overlapping(["large_bowel", "small_bowel", "stomach"])
    state = network(table, channels=2).state_dict()
    if turned:
        state = {k: v.flip(1) if v.ndim == 5 and v.shape[1] == 2 and v.shape[0] == 4 else v for k, v in state.items()}
    recipe = Recipe(table, names, [2, 2, 3], list(ROI), {"feature_size": 12, "window_size": 4}, {"source": {}})
    torch.save({"model": state, "recipe": recipe.state_dict()}, path)


def write_4d(path: Path, channels: list[np.ndarray]) -> None:
    import nibabel

    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.stack(channels, -1), AFFINE), path)


def predictor(place: Path, checkpoint: str) -> Predictor:
    settings = {"precision": "fp32", "save_probabilities": True}
    return Predictor.from_bundle(place / "bundle", checkpoint=place / checkpoint, device="cpu", overrides=settings)


def predict(capsys: pytest.CaptureFixture[str], place: Path, images: Path, out: Path, *more: object) -> tuple[int, str]:
    checkpoint = () if "--checkpoint" in more else ("--checkpoint", place / "one.pt")
    words = (*checkpoint, "-o", out, "--device", "cpu", "--engine", "torch", *more)
    return told(capsys, "predict", place / "bundle", images, *words)


def check_kept(capsys: pytest.CaptureFixture[str], place: Path, first: Path, second: Path, written: Path) -> None:
    """The prediction of one folder is not replaced by that of another with a file of the same name."""
    assert predict(capsys, place, first, written.parent)[0] == 0
    before = written.read_bytes()
    code, text = predict(capsys, place, second, written.parent)
    assert code != 0
    assert "of another file of the same name" in text
    assert written.read_bytes() == before


def test_the_second_file_of_a_name_does_not_replace_the_first(
    capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path
) -> None:
    for number in (0, 1):  # KiTS: case_00000/imaging.nii.gz
        voxels = read_volume(place / f"files/p_000{number}.nii.gz")
        write_volume(tmp_path / f"case_0000{number}/imaging.nii.gz", voxels)
    out = tmp_path / "out"
    check_kept(capsys, place, tmp_path / "case_00000", tmp_path / "case_00001", out / "imaging.nii.gz")
    (tmp_path / "case_00000").rename(tmp_path / "moved")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "moved").rename(tmp_path / "elsewhere/case_00000")  # a folder that was moved is the same
    assert predict(capsys, place, tmp_path / "elsewhere/case_00000", out)[0] == 0
    write_4d(tmp_path / "case_00001/imaging.nii.gz", [voxels.voxels])
    (out / "imaging.nii.gz").unlink()
    assert predict(capsys, place, tmp_path / "case_00001", out)[0] == 0


def test_the_second_uncompressed_file_of_a_name_does_not_replace_the_first(
    capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path
) -> None:
    """`A/nifti/ct.nii` and `B/nifti/ct.nii` have one size: the prediction of the first patient was lost."""
    for number, patient in enumerate("AB"):
        (tmp_path / patient / "nifti").mkdir(parents=True)
        nibabel.load(place / f"files/p_000{number}.nii.gz").to_filename(tmp_path / patient / "nifti" / "ct.nii")
    out = tmp_path / "out"
    check_kept(capsys, place, tmp_path / "A/nifti", tmp_path / "B/nifti", out / "ct.nii.gz")
    (tmp_path / "A").rename(tmp_path / "moved")
    assert predict(capsys, place, tmp_path / "moved/nifti", out)[0] == 0


def test_predictions_of_another_table_that_would_stay_are_not_made_untrue(place: Path, tmp_path: Path) -> None:
    write_labels(tmp_path, LabelTable.of({"liver": 1}), channel_names=["MR"])
    touch(tmp_path, "old.nii.gz")
    cases = [("new", [place / "files/p_0000.nii.gz"])]
    check_output(tmp_path, cases, labels=LabelTable.of({"liver": 1}))
    check_output(tmp_path, [("old", cases[0][1])], labels=LabelTable.of({"liver": 2}))
    with pytest.raises(UsageError, match="other labels"):
        check_output(tmp_path, cases, labels=LabelTable.of({"liver": 2}))


# --- channels by name


def test_channel_names_in_other_spellings_and_orders() -> None:
    assert channel_order(["MRI"], ["MR"], source="it") == [0]
    assert channel_order(["t2w", "T1-w"], ["T1", "T2"], source="it") == [1, 0]
    assert channel_order(["FLAIR", "T1w", "t1gd", "T2w"], ["t1c", "t1n", "t2f", "t2w"], source="it") == [2, 1, 0, 3]
    assert channel_order(["T1", "T2", "FLAIR"], ["T2"], source="it") == [1]
    assert channel_order(["0", "1"], ["T1", "T2"], source="it") == [0, 1]
    assert channel_order(["R", "G", "B"], ["red", "green", "blue"], source="it") == [0, 1, 2]
    for given in (["T1", "FLAIR"], ["CT", "PT"], ["T1"], ["T1", "T2c"]):
        with pytest.raises(UsageError, match=r"takes the channels T1, T2, .* --channels T1,T2"):
            channel_order(given, ["T1", "T2"], source="it")
    assert fold_channel("T1ce") == fold_channel("t1gd") != fold_channel("T1")


def test_a_cohort_in_another_order_is_read_by_name(
    place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number, _name in enumerate(("T2", "T1")):
        volume = read_volume(place / f"files/p_000{1 - number}.nii.gz")
        write_volume(tmp_path / f"imagesTs/p_{number:04d}.nii.gz", volume)
    entries = {"channel_names": {"0": "T2", "1": "T1"}, "labels": {"background": 0, "a": 1}, "file_ending": ".nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps(entries))
    for folder in (tmp_path, tmp_path / "imagesTs"):
        assert found(folder, ["T1", "T2"]) == [("p", ["p_0001.nii.gz", "p_0000.nii.gz"])]
    assert "by name" in caplog.text
    assert found(tmp_path, ["T1w"]) == [("p", ["p_0001.nii.gz"])]
    with pytest.raises(UsageError, match=r"takes the channels T1, CT, and the cohort"):
        find_inputs(tmp_path, channels=["T1", "CT"])
    assert found(tmp_path, ["T1", "CT"], given=["CT", "T1"]) == [("p", ["p_0001.nii.gz", "p_0000.nii.gz"])]
    two = predictor(place, "two.pt")
    plain = two.predict([place / "files/p_0000.nii.gz", place / "files/p_0001.nii.gz"], key="p")
    by_name = two.predict(find_inputs(tmp_path, channels=["T1", "T2"])[0][1], key="p")
    np.testing.assert_array_equal(plain.label_map.voxels, by_name.label_map.voxels)


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["T2w", "T1"], "10"),  # the other way round
        (["t1", "T2"], "01"),  # another spelling
        (["CT", "T2", "T1"], "210"),  # one more
    ],
)
def test_the_inference_of_monai_bundle_run_goes_by_name_as_predict_does(
    place: Path, tmp_path: Path, names: list[str], order: str, caplog: pytest.LogCaptureFixture
) -> None:
    sources = {"T1": 0, "t1": 0, "T2": 1, "T2w": 1, "CT": 1}
    for number, name in enumerate(names):
        volume = read_volume(place / f"files/p_{sources[name]:04d}.nii.gz")
        write_volume(tmp_path / f"cohort/imagesTs/p_{number:04d}.nii.gz", volume)
    entries = {"channel_names": dict(enumerate(names)), "labels": {"background": 0, "a": 1}, "file_ending": ".nii.gz"}
    (tmp_path / "cohort/dataset.json").write_text(json.dumps(entries))
    parser = ConfigParser()
    parser.read_config(str(place / "bundle/inference.json"))
    settings = {"dataset_dir": tmp_path / "cohort", "output_dir": tmp_path / "out", "checkpoint": place / "two.pt"}
    parser.update({name: str(path) for name, path in settings.items()})
    parser.get_parsed_content("run")
    two = predictor(place, "two.pt")
    plain = two.predict([place / "files/p_0000.nii.gz", place / "files/p_0001.nii.gz"], key="p")
    assert plain.label_map.voxels.any()
    np.testing.assert_array_equal(plain.label_map.voxels, read_volume(tmp_path / "out/p.nii.gz").voxels)
    assert ("by name" in caplog.text) == (order != "01")


def test_the_inference_of_monai_bundle_run_refuses_other_channels(place: Path, tmp_path: Path) -> None:
    reader = ReadVolumesd("image", channels=2, names=["T1", "T2"])
    files = [str(place / f"files/p_000{number}.nii.gz") for number in (0, 1)]
    with pytest.raises(UsageError, match="takes the channels T1, T2, and the cohort holds T1, CT"):
        reader({"key": "p", "image": files, "channel_names": ("T1", "CT")})
    assert "channel_names" not in reader({"key": "p", "image": files, "channel_names": ("T1", "T2")})


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["T2", "T1"], "volseg evaluate`, which go by name"),
        (["T1", "CT"], "takes the channels T1, T2, and this cohort"),
        (["T1w", "T2w"], ""),
        (["T1", "T2", "CT"], "volseg evaluate`, which go by name"),
    ],
)
def test_an_evaluation_with_a_cohort_of_channels_in_another_order_is_refused(names: list[str], says: str) -> None:
    trained = Recipe(LabelTable.of({"a": 1}), ["T1", "T2"], [1, 1, 1], [8, 8, 8], {})
    of_cohort = Recipe(LabelTable.of({"a": 1}), names, [1, 1, 1], [8, 8, 8], {})
    with pytest.raises(CheckpointError, match=says) if says else nullcontext():
        of_cohort.load_state_dict(trained.state_dict())


def test_members_with_other_orders_of_channels_and_regions_have_one_mean(place: Path, tmp_path: Path) -> None:
    files = [place / "files/p_0000.nii.gz", place / "files/p_0001.nii.gz"]
    one = predictor(place, "two.pt")
    table = LabelTable.of({"Stomach": [1, 3, 5, 7], "large bowel": [2, 3, 6, 7], "small-bowel": [4, 5, 6, 7]})
    write_two(tmp_path / "turned.pt", ["T2w", "T1w"], table, turned=True)
    state = torch.load(tmp_path / "turned.pt", weights_only=True)
    for name, value in state["model"].items():  # the last layer: stomach, large bowel, small bowel
        last = [key for key in state["model"] if state["model"][key].ndim and state["model"][key].shape[0] == 3]
        if name in last:
            state["model"][name] = value[[2, 0, 1]]
        if value.ndim == 5 and value.shape[1] == 3:
            state["model"][name] = state["model"][name][:, [2, 0, 1]]
    torch.save(state, tmp_path / "turned.pt")
    settings = {"precision": "fp32", "save_probabilities": True}
    other = Predictor.from_bundle(place / "bundle", checkpoint=tmp_path / "turned.pt", device="cpu", overrides=settings)
    alone = one.predict(files, key="p").probabilities
    theirs = other.predict(files[::-1], key="p").probabilities
    both = one.with_members([other]).predict(files, key="p").probabilities
    assert alone is not None and theirs is not None and both is not None  # noqa: PT018 - for mypy
    expected = (alone + theirs[[1, 2, 0]]) / 2
    assert np.abs(alone - theirs).max() > 0.05
    np.testing.assert_allclose(both, expected, atol=1e-5)


# --- one file for all channels


def test_a_fourth_axis_has_the_channels(capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path) -> None:
    two = predictor(place, "two.pt")
    plain = two.predict([place / "files/p_0000.nii.gz", place / "files/p_0001.nii.gz"], key="p")
    whole = two.predict([place / "imagesTr/p.nii.gz"], key="p")
    np.testing.assert_array_equal(plain.label_map.voxels, whole.label_map.voxels)
    assert find_inputs(place / "imagesTr/p.nii.gz", channels=2)[0][0] == "p"
    with pytest.raises(UsageError, match="must have the network's 2 channels"):
        find_inputs(place / "files/p_0000.nii.gz", channels=2)
    code, text = predict(capsys, place, place / "imagesTr", tmp_path / "out")
    assert code == 1
    assert "p.nii.gz holds 2 channels or points in time along its fourth axis, the network takes 1 channel" in text


def test_a_folder_of_the_decathlon(place: Path, tmp_path: Path) -> None:
    write_4d(tmp_path / "imagesTr/p.nii.gz", [np.zeros(SHAPE, np.int16)] * 2)
    entries = {"modality": {"0": "T1w", "1": "T2w"}, "labels": {"0": "background", "1": "a"}}
    (tmp_path / "dataset.json").write_text(json.dumps(entries))
    with pytest.raises(UsageError, match=r"laid out as the decathlon is; name its images, such as .*imagesTr"):
        find_inputs(tmp_path, channels=["T1", "T2"])
    assert found(tmp_path / "imagesTr", ["T1", "T2"]) == [("p", ["p.nii.gz"])]
    for names in (["T2", "T1"], ["T1"]):  # the file cannot be put in order by its name
        with pytest.raises(UsageError, match="must have the network's channels in its order, got T1w, T2w"):
            find_inputs(tmp_path / "imagesTr", channels=names)


def test_incomplete_cases_are_named_one_by_one(capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path) -> None:
    image = read_volume(place / "files/p_0000.nii.gz")
    for name in ("amos_0001", "amos_0004", "a_0000", "a_0002", "b_0000"):
        write_volume(tmp_path / f"in/{name}.nii.gz", image)
    code, text = predict(capsys, place, tmp_path / "in", tmp_path / "out", "--checkpoint", place / "two.pt")
    assert code == 1
    assert "amos_0001.nii.gz holds one channel, the network takes 2 channels" in text
    assert "amos_0004.nii.gz holds one channel, the network takes 2 channels" in text
    for name in ("a_0001", "b_0001"):
        assert f"{name}.nii.gz is not there: the network takes T1, T2, one file each" in text
    assert not list((tmp_path / "out").glob("*.nii.gz"))


# --- other formats


def test_other_formats_are_read_or_named(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, place: Path, tmp_path: Path
) -> None:
    import itk
    import nibabel

    images, out = tmp_path / "in", tmp_path / "out"
    volume = read_volume(place / "files/p_0000.nii.gz")
    write_volume(images / "nifti.nii.gz", volume)
    read = itk.image_from_array(np.ascontiguousarray(volume.voxels.T))  # ITK's arrays are [Z, Y, X], its frame is LPS
    read.SetSpacing([2.0, 2.0, 3.0])
    read.SetDirection(itk.matrix_from_array(np.diag([-1.0, -1.0, 1.0])))
    for ending in ("nrrd", "mha", "mhd", "nhdr"):
        itk.imwrite(read, str(images / f"{ending}.{ending}"))
    nibabel.save(nibabel.MGHImage(volume.voxels.astype(np.float32), AFFINE), images / "mgz.mgz")
    itk.imwrite(read, str(images / "organs.seg.nrrd"))
    touch(images, "packed.nii.zst", "analyze.hdr", "notes.txt")
    code, text = predict(capsys, place, images, out)
    assert code == 1
    assert "6 predicted, 2 failed" in text
    assert "packed.nii.zst is packed with Zstandard" in text
    assert "analyze.hdr is of no format that is read" in text
    assert "cut short" not in text
    assert "left out as segmentations, by their names: organs.seg.nrrd" in caplog.text
    expected = read_volume(out / "nifti.nii.gz")
    assert expected.voxels.any()
    for name in ("nrrd", "mha", "mhd", "nhdr", "mgz"):
        found = read_volume(out / f"{name}.nii.gz")
        assert expected.grid.difference(found.grid) is None
        np.testing.assert_array_equal(found.voxels, expected.voxels)


# --- masks


@pytest.mark.parametrize(
    "name",
    [
        "patient001_frame01_gt",
        "case-seg",
        "BraTS-GLI-00000-000-seg",
        "sub-01_dseg",
        "sub-01_label-GM_probseg",
        "segmentation",
        "volume_label",
        "brain_mask",
        "segmentation-12",
        "label0001",
        "aparc+aseg",
        "desc-brain_mask",
        "scan_Mask",
        "liver_segmentations",
        "p.ground_truth",
    ],
)
def test_names_of_masks(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    assert is_segmentation(f"{name}.nii.gz")
    touch(tmp_path, f"{name}.nii.gz", "scan.nii.gz")
    assert [key for key, _ in found(tmp_path)] == ["scan"]
    assert caplog.text.count("left out as segmentations") == 1
    assert [key for key, _ in found(tmp_path / f"{name}.nii.gz")] == [name]
    assert "is called as a segmentation is" in caplog.text
    (tmp_path / "scan.nii.gz").unlink()
    with pytest.raises(UsageError, match="only files that are called as segmentations"):
        find_inputs(tmp_path)


def test_names_of_scans_are_no_masks() -> None:
    for name in [
        "imaging",
        "volume-12",
        "ct",
        "T1w_masked",
        "amos_0001",
        "p_segm",
        "label_free",
        "mask_rcnn_input",
        "0001",
        "gtv_ct",
        "aseg_free",
    ]:
        assert not is_segmentation(f"{name}.nii.gz"), name


def test_a_folder_of_masks_or_of_folders_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "s0001/ct.nii.gz", "s0001/segmentations/liver.nii.gz")
    assert [key for key, _ in found(tmp_path / "s0001")] == ["ct"]
    assert not caplog.text
    find_inputs(tmp_path / "s0001/segmentations")
    assert "called as a folder of segmentations" in caplog.text
    with pytest.raises(UsageError, match=r"folders that do, such as s0001/ct\.nii\.gz"):
        find_inputs(tmp_path)
    with pytest.raises(UsageError, match="an image must be DICOM or"):
        find_inputs(touch(tmp_path, "notes.txt") / "notes.txt")


# --- watch


def nifti(path: Path, seed: int) -> None:
    voxels = np.random.default_rng(seed).integers(0, 99, (4, 3, 2)).astype(np.int16)
    write_volume(path, Volume(voxels, np.diag([1.0, 1, 2, 1])))


def outputs(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir() if path.is_dir() and not path.name.startswith("."))


def test_watch_takes_patients_for_patients(tmp_path: Path) -> None:
    inbox, out = tmp_path / "in", tmp_path / "out"
    for number, name in enumerate(("amos_0001", "amos_0004", "c_0000", "c_0001", "c_0001_seg")):
        nifti(inbox / f"{name}.nii.gz", number)
    box = Inbox(inbox, settle_s=0, clock=Clock())
    assert sorted([path.name for path in one.files] for one in box.look()) == [
        ["amos_0001.nii.gz"],
        ["amos_0004.nii.gz"],
        ["c_0000.nii.gz", "c_0001.nii.gz"],
        ["c_0001_seg.nii.gz"],
    ]
    touch(inbox, "organs.seg.nrrd", "two_files.mhd", "scan.mha")
    told = watch(inbox, out)
    assert (told.done, told.failed) == (4, {})
    assert outputs(out) == ["amos_0001", "amos_0004", "c", "scan"]
    nifti(inbox / "amos_0001.nii.gz", 9)  # really a new version of the first
    watch(inbox, out)
    assert outputs(out) == ["amos_0001", "amos_0001_v2", "amos_0004", "c", "scan"]


def test_watch_tells_files_of_one_name_apart(tmp_path: Path) -> None:
    inbox, out = tmp_path / "in", tmp_path / "out"
    for number, name in enumerate(("one/imaging", "two/imaging", "imaging_v2")):
        nifti(inbox / f"{name}.nii.gz", number)
    assert watch(inbox, out).done == 3
    names = outputs(out)
    assert len(names) == 3
    assert {"imaging", "imaging_v2"} < set(names)
    assert watch(inbox, out).done == 0
    kept = {name: sorted(path.read_bytes() for path in (out / name).iterdir()) for name in names}
    for folder in ("one", "two"):  # each is a version of its own file, and none replaces the file that is called so
        nifti(inbox / f"{folder}/imaging.nii.gz", 7)
    nifti(inbox / "two/imaging.nii.gz", 8)
    assert watch(inbox, out).done == 2
    assert len(outputs(out)) == 5
    assert kept == {name: sorted(path.read_bytes() for path in (out / name).iterdir()) for name in names}
    for folder in ("one", "two"):  # moved within the inbox, a file is the same
        (inbox / f"done_{folder}").mkdir()
        (inbox / f"{folder}/imaging.nii.gz").rename(inbox / f"done_{folder}/imaging.nii.gz")
    assert watch(inbox, out).done == 0


def test_watch_names_a_channel_that_is_not_there(place: Path, tmp_path: Path) -> None:
    from volseg.deploy.watch import Segmenting
    from volseg.deploy.watch.item import Item
    from volseg.errors import SourceError

    touch(tmp_path, "p_0000.nii.gz", "p_0002.nii.gz")
    segmenting = Segmenting(None, None, None, channel_names=("T1", "T2"))  # type: ignore[arg-type]
    with pytest.raises(SourceError, match="the file _0001 is not there"):
        segmenting(Item("p", tuple(sorted(tmp_path.iterdir()))), tmp_path / "out", "p")


# --- a checkpoint of another bundle


@pytest.mark.parametrize(
    ("bundle", "settings", "said"),
    [
        (
            "unet",
            {"feature_size": 12, "window_size": 4},
            "filters, kernel_size, strides: it is of the bundle swinunetr",
        ),
        ("swinunetr", {"feature_size": 8, "hidden_size": 9, "mlp_dim": 9, "num_heads": 3}, "window_size.*bundle unetr"),
        ("unet", {"my_width": 3}, "has the settings my_width; name the bundle that it was trained with"),
    ],
)
def test_a_checkpoint_says_whose_it_is(tmp_path: Path, bundle: str, settings: dict[str, int], said: str) -> None:
    table = LabelTable.exclusive(["a"])
    recipe = Recipe(table, ["MR"], [1, 1, 1], [32, 32, 32], settings, {"source": {}})
    torch.save({"model": {}, "recipe": recipe.state_dict()}, tmp_path / "model.pt")
    folder = Path(__file__).resolve().parents[2] / "bundles" / bundle
    with pytest.raises(CheckpointError, match=said):
        Predictor.from_bundle(folder, checkpoint=tmp_path / "model.pt", device="cpu")


# --- what is of another kind


def test_a_series_of_another_modality_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, modality in (("a", "PT"), ("b", "PT"), ("c", "MR")):
        save(tmp_path / name, series(noise((8, 8, 4), seed=ord(name)), modality=modality, series=str(ord(name))))
    find_inputs(tmp_path, channels=["MR"], modality="PT")
    (record,) = caplog.records
    line = record.getMessage()
    assert "a PT series, and the network was trained with MR; its predictions mean nothing" in line
    assert line.partition(": a PT")[0].count(", ") == 1, "both are named"
    caplog.clear()
    find_inputs(tmp_path, channels=["T1w"], modality="MR")
    find_inputs(tmp_path / "a", channels=["image"])
    find_inputs(tmp_path / "a", channels=["PET"])
    find_inputs(tmp_path / "c", channels=1)
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("photo.jpg", "holds pictures such as photo.jpg and no volume; make a cohort of them with `volseg convert im"),
        ("sub/slice.PNG", "holds pictures such as sub/slice.PNG and no volume"),
        ("notes.txt", "holds no .nii or .nii.gz file and no DICOM series"),
        ("", "is an empty folder; name the folder that holds the images"),
    ],
)
def test_a_folder_without_an_image_says_what_it_holds(tmp_path: Path, name: str, told: str) -> None:
    if name:
        touch(tmp_path, name)
    with pytest.raises(UsageError, match=told):
        find_inputs(tmp_path)


def test_a_series_in_time_beside_its_frames_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """ACDC keeps `patient001_4d` beside the frames that were outlined; a network of volumes takes the frames."""
    touch(tmp_path, "patient001_4d.nii.gz", "patient001_frame01.nii.gz", "patient001_frame12.nii.gz")
    touch(tmp_path, "patient002_4d.nii.gz", "scan_4d.nii.gz", "scan_frame.nii.gz")
    kept = ["patient001_frame01", "patient001_frame12", "patient002_4d", "scan_4d", "scan_frame"]
    assert [key for key, _ in found(tmp_path)] == kept
    assert "left out as series in time, whose frames lie beside them: patient001_4d.nii.gz" in caplog.text
    assert [key for key, _ in found(tmp_path / "patient001_4d.nii.gz")] == ["patient001_4d"]


@pytest.mark.parametrize("chosen", [{"choice": {"echo": "1"}}, {"given": ["MR=*t1*"]}])
def test_a_choice_of_series_among_nifti_files_says_that_it_is_for_dicom(tmp_path: Path, chosen: dict[str, Any]) -> None:
    (tmp_path / "a.nii.gz").write_bytes(b"no DICOM")
    for path in (tmp_path, tmp_path / "a.nii.gz"):
        with pytest.raises(UsageError, match=r"DICOM files where series are chosen, got .*a\.nii\.gz; leave out"):
            find_inputs(path, channels=["MR"], **chosen)
