"""Ensembles, mirror images, probabilities and clean-up, from the command line to the files."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from command import told
from monai.transforms import Compose
from tiny_bundle import LABELS, write_bundle, write_checkpoint

from volseg.bundle import Recipe, members_of
from volseg.bundle.ensemble_members import find_checkpoints
from volseg.errors import CheckpointError, UsageError
from volseg.inference import Predictor, find_inputs, flip_axes
from volseg.inference.ensemble import mean_logits
from volseg.labels import Cleanup, LabelTable
from volseg.volume import Volume, read_volume, write_volume

AFFINE = np.diag([-2.0, 2.0, 3.0, 1.0])
EXCLUSIVE = LabelTable.exclusive(["a", "b"])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, three folds of different weights and two images."""
    folder = tmp_path_factory.mktemp("ensemble")
    write_bundle(folder / "bundle")
    for fold in range(3):
        path = write_checkpoint(folder / "runs" / f"fold{fold}" / "model.pt", flip_axes=[0], source={})
        state = torch.load(path, weights_only=True)
        torch.manual_seed(fold)
        state["model"] = {name: value + 0.3 * torch.randn_like(value) for name, value in state["model"].items()}
        torch.save(state, path)
    draw = np.random.default_rng(0)
    for number in range(2):
        coarse = np.kron(draw.normal(0, 1, (6, 5, 3)), np.ones((4, 4, 4)))
        voxels = (500 + 100 * coarse + draw.normal(0, 10, coarse.shape)).astype(np.int16)
        write_volume(folder / "images" / f"case{number}.nii.gz", Volume(voxels, AFFINE))
    return folder


def predictor(place: Path, fold: int, **overrides: object) -> Predictor:
    settings = {"precision": "fp32", "save_probabilities": True, **overrides}
    checkpoint = place / "runs" / f"fold{fold}" / "model.pt"
    return Predictor.from_bundle(place / "bundle", checkpoint=checkpoint, device="cpu", overrides=settings)


def probabilities(one: Predictor, place: Path) -> np.ndarray:
    found = one.predict([place / "images" / "case0.nii.gz"], key="case0").probabilities
    assert found is not None
    return found


def test_an_ensemble_is_the_mean_of_probabilities(place: Path) -> None:
    members = [predictor(place, fold) for fold in range(3)]
    alone = [probabilities(member, place) for member in members]
    joined = members[0].with_members(members[1:])
    got = joined.predict([place / "images" / "case0.nii.gz"], key="case0")
    assert np.abs(alone[0] - alone[1]).max() > 0.1
    assert got.probabilities is not None
    assert np.allclose(got.probabilities, np.mean(alone, axis=0), atol=1e-5)
    assert np.array_equal(got.label_map.voxels, LABELS.decide(got.probabilities))


def test_one_network_and_no_mirror_change_nothing(place: Path) -> None:
    one = predictor(place, 0)
    assert np.array_equal(probabilities(one, place), probabilities(one.with_members(), place))


def test_mirror_images_are_mirrored_back(place: Path, tmp_path: Path) -> None:
    one = predictor(place, 0)
    volume = read_volume(place / "images" / "case0.nii.gz")
    write_volume(tmp_path / "images" / "case0.nii.gz", Volume(volume.voxels[::-1].copy(), AFFINE))
    plain, mirrored = probabilities(one, place), probabilities(one, tmp_path)[:, ::-1]
    both = probabilities(one.with_members(flips=[0]), place)
    assert np.abs(plain - mirrored).max() > 0.01
    assert np.allclose(both, (plain + mirrored) / 2, atol=1e-4)


@pytest.mark.parametrize("labels", [LabelTable.overlapping(["a", "b", "c"]), EXCLUSIVE], ids=["sigmoid", "softmax"])
def test_the_mean_is_over_looks_and_mirrors(labels: LabelTable) -> None:
    image = torch.randn(1, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    # Each look weighs by place, so that an answer that is not mirrored back differs.
    slope = torch.linspace(0, 1, 4).view(4, 1, 1)
    looks = [lambda seen, n=n: seen[0] * slope + n for n in range(2)]

    def certain(logits: torch.Tensor) -> torch.Tensor:
        return logits.sigmoid() if labels.overlap else logits.softmax(0)

    expected = torch.zeros(3, 4, 5, 6)
    for look in looks:
        for axes in ((), (1,), (3,), (1, 3)):
            expected += certain(look(image.flip([a + 1 for a in axes]))).flip(axes) / 8
    got = mean_logits(image, looks, labels, flips=[0, 2])
    assert torch.allclose(certain(got), expected, atol=1e-6)


def test_certainty_survives_the_mean() -> None:
    sure = torch.tensor([200.0, -200.0, -200.0]).view(3, 1, 1, 1)
    for labels in (EXCLUSIVE, LabelTable.overlapping(["a", "b", "c"])):
        got = mean_logits(torch.zeros(1, 1, 1, 1, 1), [lambda _: sure, lambda _: sure], labels)
        certain = got.sigmoid() if labels.overlap else got.softmax(0)
        assert certain.flatten().tolist() == [1, 0, 0]


def test_networks_that_do_not_go_together_are_refused(place: Path, tmp_path: Path) -> None:
    other = write_checkpoint(tmp_path / "model.pt", LabelTable.overlapping(["left", "right", "middle"]), source={})
    one = predictor(place, 0)
    with pytest.raises(CheckpointError, match="regions of an ensemble's networks must be the same"):
        one.with_members([Predictor.from_bundle(place / "bundle", checkpoint=other, device="cpu")])


def test_networks_of_other_spacings_meet_on_the_grid_of_the_file(place: Path, tmp_path: Path) -> None:
    members = []
    for number, spacing in enumerate([(2, 2, 3), (1.5, 2, 3), (2, 2, 3), (1.5, 2, 3), (4, 3, 3)]):
        path = write_checkpoint(tmp_path / f"{number}.pt", spacing_mm=spacing, source={})
        state = torch.load(path, weights_only=True)
        torch.manual_seed(number)
        state["model"] = {name: value + 0.3 * torch.randn_like(value) for name, value in state["model"].items()}
        torch.save(state, path)
        settings = {"precision": "fp32", "save_probabilities": True}
        members.append(Predictor.from_bundle(place / "bundle", checkpoint=path, device="cpu", overrides=settings))
    for flips in ((), (0,)):
        alone = [probabilities(member.with_members(flips=flips), place) for member in members]
        joined = members[0].with_members(members[1:], flips=flips)
        assert [len(grid) for grid in joined.grids] == [2, 2, 1]
        item = joined.infer(joined.preprocess([place / "images" / "case0.nii.gz"], key="case0"))
        got, again = joined.postprocess(item), joined.postprocess(item)
        assert got.probabilities is not None
        assert again.probabilities is not None
        assert np.allclose(got.probabilities, np.mean(alone, axis=0), atol=1e-5)
        assert np.array_equal(got.probabilities, again.probabilities)
        assert np.array_equal(got.label_map.voxels, LABELS.decide(got.probabilities))
        assert np.array_equal(got.label_map.affine_ras, AFFINE)


def test_other_spacings_need_the_way_back_of_this_package(place: Path, tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "model.pt", spacing_mm=(1, 1, 1), source={})
    one, other = predictor(place, 0), Predictor.from_bundle(place / "bundle", checkpoint=path, device="cpu")
    strange = replace(other, postprocessing=Compose(other.postprocessing.transforms[1:]))
    assert len(strange.with_members([strange]).grids) == 1
    with pytest.raises(CheckpointError, match=r"model\.pt makes an ensemble of several spacings"):
        one.with_members([strange])


def test_checkpoints_are_found(place: Path, tmp_path: Path) -> None:
    folds = [place / "runs" / f"fold{fold}" / "model.pt" for fold in range(3)]
    assert find_checkpoints([place / "runs"]) == folds
    assert find_checkpoints([place / "runs" / "fold1", folds[0]]) == [folds[1], folds[0]]
    with pytest.raises(CheckpointError, match="holds neither"):
        find_checkpoints([tmp_path])
    assert members_of("unet", folds[:1], ["other", f"third={place / 'runs'}"]) == [
        ("unet", folds[0]),
        ("other", None),
        *(("third", fold) for fold in folds),
    ]


def test_mirrors_are_those_of_the_training_unless_named(caplog: pytest.LogCaptureFixture) -> None:
    def recipe(*axes: int) -> Recipe:
        return Recipe(LABELS, ["MR"], [1, 1, 1], [8, 8, 8], {}, {"flip_axes": list(axes)} if axes else {})

    assert flip_axes("none", [recipe(0, 1)]) == ()
    assert flip_axes("trained", [recipe(0, 1), recipe(1, 2)]) == (1,)
    for recipes in ([recipe()], [recipe(0), recipe(1)]):
        with pytest.raises(UsageError, match="name the axes"):
            flip_axes("trained", recipes)
    assert not caplog.text
    assert flip_axes("1,0", [recipe(0)]) == (0, 1)
    assert "not trained with mirror images along axis 1 (front-back): look at the result" in caplog.text
    caplog.clear()
    assert flip_axes("1,0", [recipe(0)], tell=False) == (0, 1)
    assert not caplog.text
    for word in ("x", "3", "", "0,,1", "0 1"):
        with pytest.raises(UsageError, match="axes such as"):
            flip_axes(word, [recipe(0)])


# --- the command


def run(capsys: pytest.CaptureFixture[str], place: Path, output: Path, *more: object) -> tuple[int, str]:
    words = ("-o", output, "--device", "cpu", "--engine", "torch", "--precision", "fp32")
    return told(capsys, "predict", place / "bundle", place / "images", *words, *more)


def test_everything_at_once(
    capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    words = ("--checkpoint", place / "runs", "--flips", "trained", "--save-probabilities", "--keep-largest", "stomach")
    code, text = run(capsys, place, tmp_path, *words, "--min-ml", "large_bowel=0.05", "--no-skip-empty")
    assert (code, caplog.text) == (0, ""), text
    label_map = read_volume(tmp_path / "case0.nii.gz")
    saved = nib.load(tmp_path / "probabilities" / "case0.nii.gz")
    assert np.array_equal(saved.affine, AFFINE)
    read = np.moveaxis(saved.get_fdata(), -1, 0)
    joined = predictor(place, 0).with_members([predictor(place, 1), predictor(place, 2)], flips=[0])
    assert np.abs(read - probabilities(joined, place)).max() < 1e-5
    cleanup = Cleanup(min_ml={"large_bowel": 0.05}, keep_largest=["stomach"])
    expected = cleanup.apply(LABELS.decide(read), LABELS, voxel_ml=0.012)
    assert np.mean(label_map.voxels == expected) > 0.999
    assert not np.array_equal(expected, LABELS.decide(read))
    made = json.loads((tmp_path / "dataset.json").read_text())["volseg"]
    assert made["cleanup"] == cleanup.to_json()
    assert made["flips"] == [0]
    assert made["probabilities"] == list(LABELS.channel_names)
    report = json.loads((tmp_path / "run_report.json").read_text())
    assert report["options"]["cleanup"] == cleanup.to_json()
    assert report["options"]["flips"] == [0]
    assert report["options"]["skip_empty"] is False
    digests = {report["checkpoint"]["sha256"], *(one["sha256"] for one in report["ensemble"])}
    assert len(digests) == 3


def test_reading_ahead_changes_no_bit(capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path) -> None:
    assert run(capsys, place, tmp_path / "ahead", "--checkpoint", place / "runs" / "fold0")[0] == 0
    plain = predictor(place, 0, save_probabilities=False)
    assert not plain.predict_to(find_inputs(place / "images"), tmp_path / "plain")
    for file in ("case0.nii.gz", "case1.nii.gz", "uncertainty.csv"):
        assert (tmp_path / "ahead" / file).read_bytes() == (tmp_path / "plain" / file).read_bytes()


def test_each_option_is_other_work(capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path) -> None:
    one = ("--checkpoint", place / "runs" / "fold0")
    assert "2 predicted" in run(capsys, place, tmp_path, *one)[1]
    assert "0 predicted, 2 finished before" in run(capsys, place, tmp_path, *one)[1]
    first = (tmp_path / "case0.nii.gz").read_bytes()
    for more in (
        ("--checkpoint", place / "runs" / "fold1"),
        ("--with", f"{place / 'bundle'}={place / 'runs' / 'fold2' / 'model.pt'}"),
        ("--flips", "0"),
        ("--keep-largest", "stomach"),
        ("--fill-holes", "stomach"),
        ("--min-ml", "stomach=1"),
        ("--no-skip-empty",),
        ("--save-probabilities",),
    ):
        assert "2 predicted, 0 failed" in run(capsys, place, tmp_path, *one, *more)[1], more
    assert (tmp_path / "probabilities" / "case1.nii.gz").is_file()
    (tmp_path / "probabilities" / "case1.nii.gz").unlink()
    assert "1 predicted, 1 finished before" in run(capsys, place, tmp_path, *one, "--save-probabilities")[1]
    assert "2 predicted" in run(capsys, place, tmp_path, *one)[1]
    assert not list((tmp_path / "probabilities").iterdir())  # they would be those of another run
    assert (tmp_path / "case0.nii.gz").read_bytes() == first


def test_wrong_words_are_told_before_anything_is_written(
    capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path
) -> None:
    one = ("--checkpoint", place / "runs" / "fold0")
    for words, cure in (
        (("--keep-largest", "kidney"), "the network segments"),
        (("--min-ml", "stomach"), "NAME=ML"),
        (("--flips", "left"), "axes such as"),
        (("--checkpoint", place / "images"), "holds neither"),
    ):
        code, text = run(capsys, place, tmp_path / "out", *one, *words)
        assert code == 2
        assert cure in text
    assert not (tmp_path / "out").exists()


def test_a_bundle_of_before_says_which_setting_it_lacks(
    capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path
) -> None:
    shutil.copytree(place / "bundle", tmp_path / "bundle")
    path = tmp_path / "bundle" / "inference.json"
    content = json.loads(path.read_text())
    del content["cleanup"]
    content["postprocessing"] = "$volseg.transforms.postprocessing(@labels, @preprocessing, output_dir=@output_dir)"
    path.write_text(json.dumps(content))
    words = ("-o", tmp_path / "out", "--device", "cpu", "--checkpoint", place / "runs" / "fold0")
    code, text = told(capsys, "predict", tmp_path / "bundle", place / "images", *words, "--keep-largest", "stomach")
    assert code == 2
    assert "no setting cleanup" in text
