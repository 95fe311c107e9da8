"""Two steps: the answer within a region is that of its crop predicted by hand, and lies where the image lies."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from affines import AFFINES
from command import told
from job_report import contents, report
from tiny_bundle import LABELS, write_bundle, write_checkpoint
from two_steps import LUNGS, SHAPE, image, lungs, write_lungs

from volseg.bundle import Recipe
from volseg.cohort import read_uncertainty
from volseg.errors import CheckpointError, VolsegError
from volseg.inference import CascadePredictor, Predictor, RegionOfInterest, load_predictor
from volseg.inference.cascade import channels_of
from volseg.labels import prior_channels
from volseg.volume import Volume, grown, read_volume, write_volume

AFFINE = np.diag([-2.0, 2.0, 3.0, 1.0])
SETTINGS = {"precision": "fp32", "save_probabilities": True}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles for both steps; two images with lungs and one without; the label maps of their lungs."""
    folder = tmp_path_factory.mktemp("steps")
    write_lungs(folder / "lungs")
    write_bundle(folder / "bundle")
    write_checkpoint(folder / "model.pt", flip_axes=[0])
    for key, blocks in (("case0", True), ("case1", True), ("other", False)):
        write_volume(folder / "images" / f"{key}.nii.gz", Volume(image(len(key), blocks=blocks), AFFINE))
        label_map = lungs() if blocks else np.zeros(SHAPE, np.uint8)
        write_volume(folder / "maps" / f"{key}.nii.gz", Volume(label_map, AFFINE))
    (folder / "maps" / "dataset.json").write_text(json.dumps(LUNGS.to_dataset_json()))
    return folder


@pytest.fixture(scope="module")
def second(place: Path) -> Predictor:
    return Predictor.from_bundle(
        place / "bundle", checkpoint=place / "model.pt", device="cpu", overrides={**SETTINGS, "skip_empty": False}
    )


@pytest.fixture(scope="module")
def first(place: Path) -> Predictor:
    return Predictor.from_bundle(
        place / "lungs", checkpoint=place / "lungs/model.pt", device="cpu", overrides={"precision": "fp32"}
    )


def by_hand(
    second: Predictor, volume: Volume, region: np.ndarray, *, margin_mm: float, keep_margin: bool, erase: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Label map and probabilities of the whole grid, with no code of the package but the prediction of a volume."""
    spacing = np.linalg.norm(volume.affine_ras[:3, :3], axis=0)
    near = grown(region, spacing_mm=tuple(spacing), margin_mm=margin_mm)
    held = np.argwhere(region)
    margin = np.ceil(margin_mm / spacing - 1e-9).astype(int)
    low = (held.min(axis=0) - margin).clip(0)
    high = np.minimum(held.max(axis=0) + margin + 1, volume.shape)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    moved = volume.affine_ras @ np.block([[np.eye(3), low[:, None]], [np.zeros(3), 1]])
    voxels = volume.voxels[box].copy()
    if erase:
        voxels[~near[box]] = voxels.min()
    part = second.predict([Volume(voxels, moved)], key="part")
    assert part.probabilities is not None
    probabilities = np.zeros((LABELS.channels, *volume.shape), np.float32)
    probabilities[(slice(None), *box)] = part.probabilities
    probabilities[:, ~(near if keep_margin else region)] = 0
    return LABELS.decide(probabilities), probabilities


@pytest.mark.parametrize("affine", [AFFINE, *AFFINES], ids=["mirrored", "plain", "thin", "turned", "oblique"])
@pytest.mark.parametrize("options", [{}, {"keep_margin": True, "outside": "erase"}], ids=["default", "margin"])
def test_it_is_the_crop_predicted_by_hand(
    place: Path, first: Predictor, second: Predictor, affine: np.ndarray, options: dict[str, object], tmp_path: Path
) -> None:
    path = tmp_path / "a.nii.gz"
    write_volume(path, Volume(image(1), affine))
    volume = read_volume(path)
    step = RegionOfInterest(members=((str(place / "lungs"), None),), margin_mm=4, **options)  # type: ignore[arg-type]
    got = CascadePredictor(second, step, first).predict([path], key="a")
    region = first.predict([path], key="a").label_map.voxels > 0
    assert region.any()
    label_map, probabilities = by_hand(
        second, volume, region, margin_mm=4, keep_margin="keep_margin" in options, erase="outside" in options
    )
    assert np.array_equal(got.label_map.affine_ras, volume.affine_ras)
    assert got.probabilities is not None
    assert np.allclose(got.probabilities, probabilities, atol=1e-6)
    assert np.mean(got.label_map.voxels == label_map) > 0.9999
    assert np.array_equal(LABELS.decide(got.probabilities), got.label_map.voxels)
    assert len(np.unique(label_map)) > 2
    # Label maps that were made before give the same.
    write_volume(tmp_path / "maps.nii.gz", Volume(region.astype(np.uint8), affine))
    made = CascadePredictor(second, RegionOfInterest(folder=tmp_path, labels=LUNGS, margin_mm=4, **options))  # type: ignore[arg-type]
    again = made.predict([path, tmp_path / "maps.nii.gz"], key="a")
    assert np.array_equal(again.label_map.voxels, got.label_map.voxels)
    assert again.uncertainty == got.uncertainty


def test_the_first_step_finds_what_it_was_made_to_find(place: Path, first: Predictor) -> None:
    found = first.predict([place / "images/case0.nii.gz"], key="case0").label_map.voxels
    assert np.array_equal(found, lungs())


def test_with_a_margin_over_all_edges_it_is_the_prediction_cut_to_the_region(place: Path, second: Predictor) -> None:
    path = place / "images/case0.nii.gz"
    whole = second.predict([path], key="a")
    for regions in ((), ("left",)):
        step = RegionOfInterest(folder=place, labels=LUNGS, regions=regions, margin_mm=1000)
        got = CascadePredictor(second, step).predict([path, place / "maps/case0.nii.gz"], key="a")
        region = lungs() == 1 if regions else lungs() > 0
        assert np.array_equal(got.label_map.voxels, np.where(region, whole.label_map.voxels, 0))
        assert got.label_map.voxels.any()


@pytest.mark.parametrize("shape", [(24, 20, 1), (1, 20, 10), (24, 20, 10)])
def test_single_slices_and_single_voxels(second: Predictor, shape: tuple[int, ...]) -> None:
    volume = Volume(image(1, blocks=False, shape=shape), AFFINE)
    one = np.zeros(shape, np.uint8)
    one[0, 7, 0] = 1
    for margin in (0, 5):
        step = RegionOfInterest(folder=Path(), labels=LUNGS, margin_mm=margin, keep_margin=True)
        got = CascadePredictor(second, step).predict([volume, Volume(one, AFFINE)], key="a")
        label_map, _ = by_hand(second, volume, one > 0, margin_mm=margin, keep_margin=True, erase=False)
        assert np.array_equal(got.label_map.voxels, label_map)


def test_without_a_region_the_case_fails_or_is_empty(place: Path, first: Predictor, second: Predictor) -> None:
    path = place / "images/other.nii.gz"
    step = RegionOfInterest(members=((str(place / "lungs"), None),), regions=("right",))
    with pytest.raises(VolsegError, match="other: no voxel of right was found in the image") as caught:
        CascadePredictor(second, step, first).predict([path], key="other")
    assert caught.value.case == "other"
    empty = RegionOfInterest(folder=place, labels=LUNGS, absent="empty")
    got = CascadePredictor(second, empty).predict([path, place / "maps/other.nii.gz"], key="other")
    assert not got.label_map.voxels.any()
    assert got.label_map.shape == SHAPE
    assert np.array_equal(got.label_map.affine_ras, AFFINE)
    assert got.uncertainty == dict.fromkeys(LABELS.names)
    assert got.note == "no voxel of left and right was found, so the label map is empty"
    assert got.probabilities is not None
    assert got.probabilities.shape == (LABELS.channels, *SHAPE)
    assert not got.probabilities.any()


def test_label_maps_must_be_those_of_the_image(place: Path, second: Predictor) -> None:
    made = CascadePredictor(second, RegionOfInterest(folder=place, labels=LUNGS))
    volume = read_volume(place / "images/case0.nii.gz")
    moved = AFFINE.copy()
    moved[0, 3] = 2
    for region, reason in (
        (
            Volume(lungs(), moved),
            "a: the label map of the region must be on the grid of the image, got another one: a corner",
        ),
        (
            Volume(lungs()[:-1], AFFINE),
            "a: the label map of the region must be on the grid of the image, got another one: shape",
        ),
        (Volume(3 * lungs(), AFFINE), "a: the label map holds 3, 6"),
        (place / "maps/absent.nii.gz", "a: the label map of the region must be there"),
    ):
        with pytest.raises(VolsegError, match=reason):
            made.predict([volume, region], key="a")


def test_a_channel_of_one_value_is_told_as_without_a_first_step(second: Predictor) -> None:
    volume, region = Volume(np.full(SHAPE, 7, np.int16), AFFINE), Volume(lungs(), AFFINE)
    told = second.predict([volume], key="a").note
    assert told == "MR has one value everywhere, so the network saw nothing in it"
    cascade = CascadePredictor(second, RegionOfInterest(labels=LUNGS, folder=Path()))
    assert cascade.predict([volume, region], key="a").note == told
    assert cascade.predict([Volume(image(1), AFFINE), region], key="a").note == ""


def test_channels_are_taken_by_name() -> None:
    def recipe(*names: str) -> Recipe:
        return Recipe(LUNGS, names, [1, 1, 1], [8, 8, 8], {})

    assert channels_of(recipe("CT"), among=recipe("PET", "CT")) == [1]
    assert channels_of(recipe("PET", "CT"), among=recipe("CT", "PET")) == [1, 0]
    assert channels_of(recipe("T1"), among=recipe("MR")) == [0]
    assert channels_of(recipe("MR", "MR"), among=recipe("MR", "MR")) == [0, 1]
    prior = prior_channels(["MR"], ["left"])  # which are no channels of the image
    for first in (recipe("MR"), recipe("T1"), recipe("MR", *prior)):
        assert channels_of(first, among=recipe("MR", *prior)) == [0]
    for first, second in ((["T1"], ["CT", "PET"]), (["CT", "PET"], ["CT"]), (["MR"], ["MR", "MR"])):
        with pytest.raises(CheckpointError, match="the channels of the first step must be those"):
            channels_of(recipe(*first), among=recipe(*second))


def test_the_first_step_has_no_part_in_the_clean_up(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Regions of the second step are unknown to the first one."""
    caplog.set_level(logging.WARNING)
    settings = {**SETTINGS, "cleanup": {"keep_largest": ["stomach"]}, "overlap": 0.25}
    step = RegionOfInterest(members=((str(place / "lungs"), place / "lungs/model.pt"),))
    members = [(str(place / "bundle"), place / "model.pt")]
    loaded = load_predictor(members, device="cpu", overrides=settings, flips=[0], step=step)
    assert isinstance(loaded, CascadePredictor)
    assert (loaded.flips, [one.flips for one in loaded.first_networks]) == ((0,), [()])
    assert loaded.predict([place / "images/case0.nii.gz"], key="a").label_map.voxels.any()
    assert not caplog.text


# --- the command


def run(capsys: pytest.CaptureFixture[str], place: Path, output: Path, *more: object) -> tuple[int, str]:
    words = ("-o", output, "--device", "cpu", "--engine", "torch", "--precision", "fp32")
    checkpoint = ("--checkpoint", place / "model.pt")
    return told(capsys, "predict", place / "bundle", place / "images", *checkpoint, *words, *map(str, more))


def test_the_command_with_a_bundle_and_with_its_label_maps(
    capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path
) -> None:
    within = ("--within", f"{place / 'lungs'}={place / 'lungs/model.pt'}")
    code, text = run(capsys, place, tmp_path / "out", *within, "--margin-mm", "4")
    assert code == 1
    assert "2 predicted, 1 failed (torch fp32)" in text
    assert "failed  other: no voxel of left and right was found in the image" in text
    found = read_volume(tmp_path / "out/case0.nii.gz")
    assert np.array_equal(found.affine_ras, AFFINE)
    assert found.voxels.any()
    assert not found.voxels[lungs() == 0].any()
    told_of = json.loads((tmp_path / "out/dataset.json").read_text())["volseg"]["within"]
    weights = told_of.pop("found_by")
    assert [one["bytes"] for one in weights] == [(place / "lungs/model.pt").stat().st_size]
    expected = {"regions": "all", "margin_mm": 4.0, "outside": "keep", "keep_margin": False, "absent": "fail"}
    assert told_of == expected
    assert report(tmp_path / "out")["options"]["within"] == {**expected, "found_by": weights}

    # The first step alone, then its label maps.
    words = ("-o", tmp_path / "maps", "--device", "cpu", "--engine", "torch", "--precision", "fp32")
    checkpoint = ("--checkpoint", place / "lungs/model.pt")
    assert told(capsys, "predict", place / "lungs", place / "images", *checkpoint, *words)[0] == 0
    code, text = run(capsys, place, tmp_path / "two", "--within", tmp_path / "maps", "--margin-mm", "4")
    assert (code, "2 predicted, 1 failed" in text) == (1, True)
    assert contents(tmp_path / "two") == contents(tmp_path / "out")
    assert report(tmp_path / "two")["options"]["within"]["found_by"] == "label maps"

    # Resumed: a label map that changes is other input, an option is other work.
    again = (tmp_path / "two", "--within", tmp_path / "maps", "--margin-mm", "4")
    assert "0 predicted, 2 finished before, 1 failed" in run(capsys, place, *again)[1]
    shutil.copy(place / "maps/other.nii.gz", tmp_path / "maps/case1.nii.gz")
    text = run(capsys, place, *again)[1]
    assert "0 predicted, 1 finished before, 2 failed" in text
    (tmp_path / "maps/case1.nii.gz").unlink()
    text = run(capsys, place, *again)[1]
    assert "failed  case1: the label map of the region must be there" in text
    for more in (
        ("--region", "left"),
        ("--margin-mm", "5"),
        ("--outside", "erase"),
        ("--keep-margin",),
        ("--absent", "empty", "--keep-margin"),
    ):
        assert "1 predicted, 2 failed" in run(capsys, place, *again, *more)[1].replace(
            "2 predicted, 1", "1 predicted, 2"
        )
    assert "1 predicted, 2 failed" in run(capsys, place, *again)[1], "of the first options again"
    assert "note" not in (tmp_path / "two/run_report.json").read_text().replace('"notes": []', "")


def test_everything_at_once(capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path) -> None:
    """An ensemble with mirror images, clean-up and probabilities, within the region of an ensemble."""
    (tmp_path / "folds/fold0").mkdir(parents=True)
    (tmp_path / "folds/fold1").mkdir()
    for fold in range(2):
        shutil.copy(place / "lungs/model.pt", tmp_path / f"folds/fold{fold}/model.pt")
    words = ("--within", f"{place / 'lungs'}={tmp_path / 'folds'}", "--region", "left,right", "--absent", "empty")
    more = ("--checkpoint", place / "model.pt", "--flips", "trained", "--keep-largest", "stomach")
    code, text = run(capsys, place, tmp_path / "out", *words, *more, "--save-probabilities", "--outside", "erase")
    assert code == 0, text
    assert "3 predicted, 0 failed" in text
    note = "no voxel of left and right was found, so the label map is empty"
    assert f"note  other: {note}" in text
    assert json.loads((tmp_path / "out/run_report.json").read_text())["notes"] == [{"key": "other", "note": note}]
    assert not read_volume(tmp_path / "out/other.nii.gz").voxels.any()
    assert read_uncertainty(tmp_path / "out")["other"] == dict.fromkeys(LABELS.names)
    for key in ("case0", "other"):
        saved = nib.load(tmp_path / f"out/probabilities/{key}.nii.gz")
        assert saved.shape == (*SHAPE, LABELS.channels)
        assert np.array_equal(saved.affine, AFFINE)
        assert not saved.get_fdata()[lungs() == 0].any()
    assert len(json.loads((tmp_path / "out/dataset.json").read_text())["volseg"]["within"]["found_by"]) == 2


def test_wrong_words_are_told_before_anything_is_written(
    capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path
) -> None:
    network = f"{place / 'lungs'}={place / 'lungs/model.pt'}"
    for words, cure in (
        (("--within", network, "--region", "kidney"), "the first step finds (left, right)"),
        (("--within", place / "maps", "--region", "kidney"), "the first step finds (left, right)"),
        (("--within", place / "images"), "must be a bundle, or a folder of label maps"),
        (("--within", "lung"), "--within lung: lung is no bundle"),
        (("--within", f"{place / 'lungs'}=no.pt"), "there is no checkpoint no.pt"),
        (("--within", network, "--outside", "hide"), "must be keep or erase, got hide"),
        (("--within", network, "--margin-mm", "-1"), "--margin-mm"),
        (("--region", "left"), "need --within"),
    ):
        code, text = run(capsys, place, tmp_path / "out", *words)
        assert (code, cure in " ".join(text.split())) == (2, True), text
    assert not (tmp_path / "out").exists()
    code, text = run(capsys, place, place / "maps", "--within", place / "maps")
    assert (code, "must be another folder than that of the label maps of --within" in text) == (2, True)


@pytest.mark.slow
def test_workers_make_what_one_process_makes(capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path) -> None:
    """Within a region that a network finds, and within label maps by an ensemble with mirror images and clean-up."""
    write_checkpoint(tmp_path / "finer.pt", spacing_mm=(1.5, 2, 3), flip_axes=[0])
    several = ("--checkpoint", tmp_path / "finer.pt", "--flips", "0", "--fill-holes", "small_bowel")
    for within, more_words in ((f"{place / 'lungs'}={place / 'lungs/model.pt'}", ()), (place / "maps", several)):
        words = ("--within", within, "--absent", "empty", "--save-probabilities", *more_words)
        for name, more in (("one", ()), ("two", ("--workers", "2"))):
            code, text = run(capsys, place, tmp_path / name, *words, *more)
            assert (code, "note  other" in text) == (0, True)
        assert contents(tmp_path / "one") == contents(tmp_path / "two")
