"""Prediction on arrays: the results of MONAI's steps, whole and in slabs, on straight, turned and tilted volumes."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_bundle import ROI, network, write_bundle

from volseg.bundle import Recipe, write_safetensors
from volseg.cli import main
from volseg.errors import UsageError
from volseg.inference import ArrayPredictor, Predictor, array_predictor, parse_bytes
from volseg.inference.arrays.memory import GIB, Size, Way, way_of
from volseg.inference.arrays.settings import own_settings
from volseg.inference.arrays.window_sum import gaussian
from volseg.inference.arrays.windows import starts
from volseg.inference.sliding import gaussian as weights_of_monai
from volseg.inference.sliding import positions
from volseg.labels import LabelTable
from volseg.volume import Volume, write_volume

EXCLUSIVE, OVERLAPPING = LabelTable.exclusive(["a", "b"]), LabelTable.overlapping(["a", "b", "c"])
SCHEMES = {
    "percentiles": None,
    "mr": [{"scheme": "mr"}],
    "ct": [{"scheme": "ct", "lower": 300.0, "upper": 700.0, "mean": 500.0, "std": 100.0}],
    "pet": [{"scheme": "pet", "std": 200.0}],
    "rgb": [{"scheme": "rgb", "upper": 255.0}],
    "zscore": [{"scheme": "zscore"}],
    "rescale": [{"scheme": "rescale_to_0_1"}],
}
_TURN = np.array([[np.cos(0.3), -np.sin(0.3), 0], [np.sin(0.3), np.cos(0.3), 0], [0, 0, 1]])


def affine(axes, origin=(5.0, -7.0, 11.0)):
    made = np.eye(4)
    made[:3, :3], made[:3, 3] = axes, origin
    return made


AFFINES = {
    "straight": affine(np.diag([2.0, 2.0, 3.0])),
    "finer": affine(np.diag([-1.4, -1.4, 2.0])),
    "permuted": affine(np.array([[0, 0, -2.5], [1.7, 0, 0], [0, -2.0, 0]])),
    "oblique": affine(_TURN @ np.diag([1.5, -2.2, 2.5])),
    "tilted": affine(np.array([[1.5, 0, 0], [0, 1.5, 0.6], [0, 0, 3.0]])),
    "coarser": affine(np.diag([3.1, 2.9, 5.0])),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arrays")
    write_bundle(folder / "bundle")
    return folder


def checkpoint(folder, labels, scheme, **facts):
    path = folder / f"{labels.activation}_{scheme}.pt"
    settings = {"feature_size": 12, "window_size": 4}
    recipe = Recipe(labels, ["MR"], [2, 2, 3], list(ROI), settings, {"source": {}, **facts}, SCHEMES[scheme])
    torch.save({"model": network(labels).state_dict(), "recipe": recipe.state_dict()}, path)
    return path


def image(folder, name, *, shape=(30, 26, 22)):
    draw = np.random.default_rng(len(name))
    coarse = np.kron(draw.normal(0, 1, [-(-n // 4) for n in shape]), np.ones((4, 4, 4)))
    voxels = (500 + 100 * coarse + draw.normal(0, 10, coarse.shape)).astype(np.int16)[tuple(map(slice, shape))]
    path = folder / f"{name}.nii.gz"
    write_volume(path, Volume(voxels, AFFINES[name]))
    return path


def both(folder, path, **overrides):
    settings = {"precision": "fp32", **overrides}
    arrays = array_predictor([(str(folder / "bundle"), path)], device="cpu", overrides=settings)
    assert isinstance(arrays, ArrayPredictor)
    return arrays, Predictor.from_bundle(folder / "bundle", checkpoint=path, device="cpu", overrides=settings)


@pytest.mark.parametrize("name", AFFINES)
@pytest.mark.parametrize("labels", [EXCLUSIVE, OVERLAPPING], ids=["exclusive", "overlapping"])
def test_results_are_those_of_monai(folder, name, labels):
    file = image(folder, name)
    scheme = list(SCHEMES)[list(AFFINES).index(name)]
    arrays, steps = both(folder, checkpoint(folder, labels, scheme), save_probabilities=True)
    ours, theirs = arrays.preprocess([file], key="k"), steps.preprocess([file], key="k")
    np.testing.assert_allclose(ours["image"], theirs["image"].numpy(), atol=1e-5, rtol=1e-5)
    one, other = arrays.postprocess(arrays.infer(ours)), steps.postprocess(steps.infer(theirs))
    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=2e-5)
    sure = np.abs(np.sort(other.probabilities, axis=0)[-1] - 0.5) > 1e-3
    assert (one.label_map.voxels == other.label_map.voxels)[sure].mean() > 0.9999
    assert np.array_equal(one.label_map.affine_ras, other.label_map.affine_ras)
    assert one.uncertainty == pytest.approx(other.uncertainty, abs=1e-4)


@pytest.mark.parametrize("scheme", ["rgb", "zscore", "rescale"])
def test_each_scheme_of_normalisation_is_that_of_the_transforms(folder, scheme):
    file = image(folder, "finer")
    arrays, steps = both(folder, checkpoint(folder, EXCLUSIVE, scheme))
    ours, theirs = arrays.preprocess([file], key="k"), steps.preprocess([file], key="k")
    np.testing.assert_allclose(ours["image"], theirs["image"].numpy(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["straight", "permuted", "oblique", "coarser"])
@pytest.mark.parametrize("labels", [EXCLUSIVE, OVERLAPPING], ids=["exclusive", "overlapping"])
def test_slabs_decide_as_the_whole(folder, name, labels):
    file = image(folder, name, shape=(34, 40, 50))
    arrays, steps = both(folder, checkpoint(folder, labels, "mr"))
    item = arrays.preprocess([file], key="k")
    whole = arrays.postprocess(arrays.infer(item))
    slabs = arrays.postprocess(arrays.infer({**item, "way": Way(slabs=True)}))
    half = arrays.postprocess(arrays.infer({**item, "way": Way(slabs=True, half=True)}))
    assert (whole.label_map.voxels != slabs.label_map.voxels).sum() <= 1  # a tie, by the order of a sum
    assert slabs.uncertainty == pytest.approx(whole.uncertainty, abs=1e-5)
    assert (whole.label_map.voxels == half.label_map.voxels).mean() > 0.995
    assert whole.uncertainty == pytest.approx(steps.predict([file], key="k").uncertainty, abs=1e-4)


def test_cleanup_dice_and_air_are_those_of_monai(folder):
    file = image(folder, "straight")
    path = checkpoint(folder, EXCLUSIVE, "mr")
    for overrides in ({"cleanup": {"keep_largest": ["a"]}}, {"decision": "dice"}, {"skip_empty": False}):
        arrays, steps = both(folder, path, **overrides)
        one, other = arrays.predict([file], key="k"), steps.predict([file], key="k")
        assert (one.label_map.voxels == other.label_map.voxels).mean() > 0.9999, overrides
        assert one.uncertainty == pytest.approx(other.uncertainty, abs=1e-4), overrides


def test_an_image_of_one_slice_and_one_that_is_constant(folder):
    voxels = np.random.default_rng(0).normal(500, 50, (40, 44, 1)).astype(np.float32)
    flat = Volume(voxels, np.diag([0.9, 0.8, 3.0, 1.0]))
    arrays, steps = both(folder, checkpoint(folder, EXCLUSIVE, "mr"))
    ours, theirs = arrays.preprocess([flat], key="k"), steps.preprocess([flat], key="k")
    np.testing.assert_allclose(ours["image"], theirs["image"].numpy(), atol=1e-5, rtol=1e-5)
    constant = Volume(np.full((20, 20, 20), 7, np.int16), np.diag([2.0, 2.0, 3.0, 1.0]))
    one, other = arrays.predict([constant], key="k"), steps.predict([constant], key="k")
    assert one.note == other.note != ""
    assert np.array_equal(one.label_map.voxels, other.label_map.voxels)


def test_windows_and_weights_are_those_of_monai():
    for shape, roi, overlap in (((33, 48, 40), (32, 48, 40), 0.5), ((70, 41, 17), (32, 16, 8), 0.25)):
        found = [starts(n, r, overlap=overlap if n > r else 0) for n, r in zip(shape, roi, strict=True)]
        boxes = [(x, y, z) for x in found[0] for y in found[1] for z in found[2]]
        assert boxes == [tuple(axis.start for axis in box) for box in positions(shape, roi, overlap=overlap)]
        np.testing.assert_allclose(gaussian(roi), weights_of_monai(roi, torch.device("cpu")).numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"preprocessing": "$monai.transforms.Compose([])"},
        {"inferer": {"_target_": "SimpleInferer"}},
        {"network": "@network_def"},
        {"overlap": "$0.25"},
        {"checkpoint": "$str(@data_dir)"},
    ],
)
def test_a_bundle_of_the_users_own_takes_the_steps_of_monai(folder, tmp_path, change):
    bundle = write_bundle(tmp_path / "own")
    content = json.loads((bundle / "inference.json").read_text())
    (bundle / "inference.json").write_text(json.dumps({**content, **change}))
    assert own_settings(bundle) is None
    assert own_settings(folder / "bundle") is not None
    assert own_settings(folder / "bundle", overrides={"inferer": "$None"}) is None


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_takes_the_steps_of_monai(folder, device):
    assert array_predictor([(str(folder / "bundle"), folder / "x.pt")], device=device) is None
    assert array_predictor([(str(folder / "bundle"), None)] * 2, device="cpu") is None


def test_the_way_follows_the_memory():
    size = Size((512, 512, 600), (512, 512, 600), 1, 105, (96, 96, 96))
    assert way_of(size, None, key="k") == Way()
    assert way_of(size, 200 * GIB, key="k") == Way()
    assert way_of(size, 20 * GIB, key="k") == Way(slabs=True)
    assert way_of(size, 8 * GIB, key="k") == Way(slabs=True, half=True)
    with pytest.raises(UsageError, match=r"k has 512 x 512 x 600 voxels.* takes \d.\d GiB, and 2.0 GiB .*--memory"):
        way_of(size, 2 * GIB, key="k")
    with pytest.raises(UsageError, match="leave out --save-probabilities"):
        way_of(replace(size, whole=True), 8 * GIB, key="k")
    one = Size((512, 512, 1000), (512, 512, 1000), 1, 2, (96, 96, 96))
    assert way_of(one, 3 * GIB, key="k").slabs


@pytest.mark.parametrize("text", ["8", "eight", "100MB", "-3GiB", "8GiB more"])
def test_memory_must_be_an_amount(text):
    with pytest.raises(UsageError, match="--memory must be an amount"):
        parse_bytes(text)


def test_a_prediction_that_does_not_fit_is_refused_before_anything_is_written(folder, tmp_path, monkeypatch, capsys):
    path, file = checkpoint(folder, EXCLUSIVE, "mr"), image(folder, "straight")
    monkeypatch.setattr(ArrayPredictor, "check_network", lambda _: pytest.fail("the network was built"))
    words = ["predict", str(folder / "bundle"), str(file), "-o", str(tmp_path / "out"), "--checkpoint", str(path)]
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--device", "cpu", "--memory", "256MiB"])
    assert stopped.value.code
    assert "GiB are allowed or free" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_image_much_longer_than_those_of_the_training_is_told(folder, tmp_path, monkeypatch, caplog):
    """Along the body's axes, whatever the order of the voxels is; a network of before does not know it."""
    path = checkpoint(folder, EXCLUSIVE, "mr", longest_image_mm=[60.0, 52.0, 66.0])
    turned = np.diag([1.0, 1.0, 1.0, 1.0])[[1, 2, 0, 3]] * 3.0  # the first axis of voxels runs from feet to head
    turned[3, 3] = 1.0
    draw = np.random.default_rng(0)
    shapes = {"usual": (30, 17, 20), "long": (34, 17, 20)}
    for name, shape in shapes.items():
        voxels = draw.integers(0, 100, shape).astype(np.int16)
        write_volume(tmp_path / "in" / f"{name}.nii.gz", Volume(voxels, turned))
    told = "102 mm long from head to feet, and the longest image of the training 66 mm"
    for predictor in both(folder, path):
        assert told in predictor.predict([tmp_path / "in" / "long.nii.gz"], key="long").note
        assert not predictor.predict([tmp_path / "in" / "usual.nii.gz"], key="usual").note

    monkeypatch.setattr(ArrayPredictor, "check_sizes", lambda *_: pytest.fail("here the work begins"))
    words = ["predict", str(folder / "bundle"), str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--device", "cpu"]
    with pytest.raises(pytest.fail.Exception):
        main([*words, "--checkpoint", str(path)])
    lines = [record.getMessage() for record in caplog.records if "longest image" in record.getMessage()]
    assert len(lines) == 1
    assert "long" in lines[0].partition(":")[2]
    assert "usual" not in lines[0]
    before, _ = both(folder, checkpoint(folder, EXCLUSIVE, "mr"))
    assert not before.predict([tmp_path / "in" / "long.nii.gz"], key="long").note


def test_an_image_far_from_the_network_s_grid_is_told_before_the_work_and_beside_the_result(
    folder, tmp_path, monkeypatch, caplog
):
    """Lengths in metres, in micrometres and in centimetres; slices of 12 mm are nothing to tell."""
    path, voxels = checkpoint(folder, EXCLUSIVE, "mr"), np.zeros((16, 16, 8), np.int16)
    voxels[4:9] = 100
    spacings = {"metres": (0.002, 0.002, 0.003), "um": (2e3, 2e3, 3e3), "cm": (0.2, 0.2, 0.3), "thick": (1, 1, 12)}
    told = {"metres": "none of a patient", "um": "none of a patient", "cm": "up to 10 times finer than the 2 x 2 x 3"}
    for name, spacing in spacings.items():
        write_volume(tmp_path / "in" / f"{name}.nii.gz", Volume(voxels, np.diag([*spacing, 1.0])))
    (tmp_path / "in" / "detached.mha").write_bytes(
        b"NDims = 3\nDimSize = 16 16 8\nElementType = MET_UCHAR\nElementSpacing = 0.001 0.001 0.003\n"
        b"TransformMatrix = 1 0 0 0 1 0 0 0 1\nElementDataFile = LOCAL\n" + bytes(16 * 16 * 8)
    )
    monkeypatch.setattr(ArrayPredictor, "check_sizes", lambda *_: pytest.fail("here the work begins"))
    words = ["predict", str(folder / "bundle"), str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--device", "cpu"]
    with pytest.raises(pytest.fail.Exception):
        main([*words, "--checkpoint", str(path)])
    lines = [record.getMessage() for record in caplog.records]
    for name, words_of in {**told, "detached": "none of a patient"}.items():
        assert any(name in line and words_of in line for line in lines), (name, lines)
    assert not any("thick" in line for line in lines)
    for predictor in both(folder, path):
        for name in ("metres", "cm", "thick"):
            note = predictor.predict([tmp_path / "in" / f"{name}.nii.gz"], key=name).note
            assert told.get(name, "") in note
            assert bool(note) == (name != "thick")


def test_a_checkpoint_in_safetensors_predicts_as_that_of_the_training(folder, tmp_path):
    """It was loaded as a file of `torch.save`, and said to be that of another network."""
    weights = checkpoint(folder, OVERLAPPING, "percentiles")
    given = [image(tmp_path, "straight")]
    maps = []
    for path in (weights, write_safetensors(weights, tmp_path / "model.safetensors")):
        loaded = array_predictor([(str(folder / "bundle"), path)], device="cpu", overrides={"precision": "fp32"})
        maps.append(loaded.with_engine("torch").predict(given, key="a").label_map.voxels)
    np.testing.assert_array_equal(*maps)
    assert maps[0].any()
