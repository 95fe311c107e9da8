"""`volseg pack --int8`: what INT8 may cost, and a real network that is quantised and predicts."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tiny_bundle import LABELS, write_bundle, write_checkpoint

from volseg.bundle import read_recipe
from volseg.cohort import Cohort, Prediction
from volseg.deploy.pack import int8, pack
from volseg.deploy.pack.file_digest import sha256
from volseg.deploy.pack.int8 import EXPORTED, _cohort, _layers, _middle, _parts, _single_precision, _some
from volseg.deploy.pack.paired import Change, PairedCases, _changes, _lost
from volseg.deploy.pack.window_seconds import window_seconds
from volseg.errors import UsageError
from volseg.inference import Predictor, array_predictor, installed
from volseg.labels import LabelTable
from volseg.volume import Volume, read_volume, write_volume

NNCF = importlib.util.find_spec("nncf") is not None and installed()


@pytest.mark.parametrize(
    ("mean", "worst", "lost", "told"),
    [
        (-0.001, -0.01, 0, ""),
        (0.002, 0.001, 0, ""),
        (-0.0011, -0.002, 0, "the mean Dice falls by 0.0011"),
        (0.0, -0.0101, 0, "the Dice of a case falls by 0.0101"),
        (0.0, 0.0, 1, "regions that fp32 finds are lost: 1"),
    ],
)
def test_what_int8_may_cost(mean, worst, lost, told):
    reason = Change(9, 0.9, mean, worst, "", lost).reason
    assert reason.startswith(told) if told else not reason


def test_changes_are_of_cases_and_lost_regions_are_counted():
    nan = np.nan
    exact = np.array([[0.9, 0.8], [0.5, nan], [nan, nan]])
    other = np.array([[0.9, 0.7], [0.0, nan], [nan, 0.0]])
    # By hand: (0 - 0.1) / 2; (-0.5 + 0) / 2; what is absent and invented falls from right to wrong.
    assert _changes(exact, other).tolist() == pytest.approx([-0.05, -0.25, -0.5])
    assert _lost(exact, other) == 1


def test_keys_are_spread_and_the_middle_is_that_of_the_regions(tmp_path):
    assert _some([f"{n:02d}" for n in range(10)], 4) == ["00", "03", "06", "09"]
    assert _some(["b", "a"], 4) == ["a", "b"]
    voxels = np.zeros((8, 8, 8), np.uint8)
    voxels[2:5, 4, 6] = 1
    write_volume(tmp_path / "label.nii.gz", Volume(voxels, np.eye(4)))
    matrix = np.diag([2.0, 1.0, 1.0, 1.0])
    matrix[1, 3] = 5
    assert _middle(tmp_path / "label.nii.gz", matrix).tolist() == [6, 9, 6]
    write_volume(tmp_path / "empty.nii.gz", Volume(voxels * 0, np.eye(4)))
    assert _middle(tmp_path / "empty.nii.gz", matrix) is None


def test_ways_are_timed_in_turn():
    calls = []
    seconds = window_seconds({"a": lambda _: calls.append("a"), "b": lambda _: calls.append("b")}, [np.zeros(1)])
    assert set(seconds) == {"a", "b"}
    assert calls == ["a", "b"] * 6


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Four cases whose labels are what the network of the tiny bundle finds; two of them validate."""
    folder = tmp_path_factory.mktemp("int8")
    write_bundle(folder / "bundle")
    place = folder / "cohort"
    checkpoint = write_checkpoint(folder / "model.pt", cohort=str(place), fold=0)
    predictor = array_predictor([(str(folder / "bundle"), checkpoint)], device="cpu", overrides={"precision": "fp32"})
    for number in range(4):
        voxels = np.random.default_rng(number).normal(500, 90, (34, 30, 22)).astype(np.int16)
        image = place / "imagesTr" / f"c{number}_0000.nii.gz"
        write_volume(image, Volume(voxels, np.diag([2.0, 2.0, 3.0, 1.0])))
        write_volume(place / "labelsTr" / f"c{number}.nii.gz", predictor.predict([image], key="c").label_map)
    dataset = LABELS.to_dataset_json() | {"channel_names": {"0": "MR"}, "numTraining": 4, "file_ending": ".nii.gz"}
    (place / "dataset.json").write_text(json.dumps(dataset))
    (place / "splits.json").write_text(json.dumps([{"train": ["c0", "c1"], "val": ["c2", "c3"]}]))
    return place


def test_the_cohort_is_that_of_the_training(cohort, tmp_path):
    recipe = read_recipe(cohort.parent / "model.pt")
    opened = _cohort(None, recipe)
    assert _parts(opened, recipe) == (["c0", "c1"], ["c2", "c3"], "validation of fold 0")
    on_all = type(recipe)(recipe.labels, ["MR"], [2, 2, 3], [32, 16, 16], {}, {"fold": "all"})
    training, compared, part = _parts(opened, on_all)
    assert (len(training), len(compared), part) == (4, 4, "training")
    with pytest.raises(UsageError, match="name its folder with --cohort"):
        _cohort(None, on_all)
    other = read_recipe(write_checkpoint(tmp_path / "model.pt", channels=2))
    with pytest.raises(UsageError, match="must be the one that the network was trained on"):
        _cohort(cohort, other)


def test_a_change_is_paired_with_single_precision(cohort):
    bundle, checkpoint = cohort.parent / "bundle", cohort.parent / "model.pt"
    predictor = array_predictor([(str(bundle), checkpoint)], device="cpu", overrides={"precision": "fp32"})
    opened = Cohort.open(cohort)
    exact = predictor.with_engine("torch").engine
    cases = PairedCases(
        predictor, [(key, opened.image_paths(key), opened.label_path(key)) for key in opened.keys], LABELS, exact=exact
    )
    same = cases.change(exact)
    assert (same.cases, same.dice, same.mean_change, same.worst_change, same.reason) == (4, 1.0, 0.0, 0.0, "")
    assert cases.badness(exact, [0, 2]) == (0.0, [0.0, 0.0])

    class Blind:
        name, precision, windows_at_once = "openvino", "int8", 1

        def __call__(self, windows):
            return exact(windows) - np.float32(1e6)

    blind = cases.change(Blind())
    assert blind.regions_lost > 0
    assert "are lost" in blind.reason
    assert cases.badness(Blind(), [1])[0] > 1


@dataclass(frozen=True)
class Same:
    """A predictor that finds the same label map in every image."""

    voxels: np.ndarray
    windows: object = None

    def preprocess(self, images, *, key):
        return {"image": self.voxels}

    def infer(self, item):
        return item

    def postprocess(self, item):
        return Prediction(Volume(self.voxels, np.eye(4)), {})


def test_what_nobody_looked_at_counts_in_no_dice(tmp_path):
    found = np.ones((4, 4, 4), np.uint8)
    reference = np.where(np.arange(4) < 2, found, 3).astype(np.uint8)
    write_volume(tmp_path / "case.nii.gz", Volume(reference, np.eye(4)))
    labels = LabelTable.from_dataset_json({"labels": {"background": 0, "a": 1, "b": 2, "ignore": 3}})
    cases = PairedCases(Same(found), [("case", [tmp_path / "case.nii.gz"], tmp_path / "case.nii.gz")], labels, exact=0)
    assert cases.change(0).dice == 1.0


@pytest.mark.skipif(not installed(), reason="needs openvino")
@pytest.mark.parametrize("rounded", [2, 1, 0])
def test_layers_of_images_have_weights_that_are_constants_and_are_counted(tmp_path, rounded):
    """A layer of a network for images takes a slice of its weights; a layer of the decoder takes two joined inputs."""
    import openvino
    from openvino import opset13

    def in_8_bits(node):
        return opset13.fake_quantize(node, *map(np.float32, (-1, 1, -1, 1)), 256)

    image = opset13.parameter([1, 2, 8, 8, 1], np.float32)
    inputs = [in_8_bits(image) if number < rounded else image for number in range(2)]
    flat = opset13.squeeze(opset13.concat(inputs, 1), np.array([4]))
    drawn = np.random.default_rng(0).normal(size=(3, 4, 3, 3, 3)).astype(np.float32)
    weights = opset13.gather(opset13.constant(drawn), np.array(1), np.array(4))
    layer = opset13.convolution(flat, weights, [1, 1], [1, 1], [1, 1], [1, 1])
    path = tmp_path / EXPORTED
    path.parent.mkdir()
    openvino.save_model(openvino.Model([layer], [image]), path, compress_to_fp16=False)
    read = [op for op in _single_precision(tmp_path).get_ops() if op.get_type_name() == "Convolution"]
    assert [op.input(1).get_source_output().get_node().get_type_name() for op in read] == ["Constant"]
    left, every = _layers(path)
    assert (len(left), every) == (int(rounded < 2), 1)


@pytest.mark.skipif(NNCF, reason="NNCF is installed")
def test_without_nncf_the_extra_is_named(cohort, tmp_path, monkeypatch):
    monkeypatch.setattr("volseg.deploy.pack.exports.openvino", None)  # which is not asked before
    with pytest.raises(UsageError, match=r"pip install 'volseg\[int8\]'"):
        pack(cohort.parent / "bundle", checkpoint=cohort.parent / "model.pt", output=tmp_path / "p", int8=True)
    assert not list(tmp_path.iterdir()), "nothing half-written stays"


@pytest.mark.skipif(not NNCF, reason="needs NNCF: run it in an environment with volseg[int8]")
@pytest.mark.parametrize(
    ("limit_s", "told"),
    [
        (600.0, r"falls by .* on 2 validation cases: mean Dice .* regions lost; pack without --int8$"),
        (0.0, r"falls by .* has not found which operations must go back to bfloat16 \(\d+ trials, limit 0 s\)"),
    ],
)
def test_a_rough_int8_is_refused_with_the_figures(cohort, tmp_path, monkeypatch, limit_s, told):
    """Of random weights the label map is noise, which 8 bits change."""
    monkeypatch.setattr(int8, "_MOST_REVERTED", 1)
    monkeypatch.setattr(int8, "MAX_REVERTING_S", limit_s)
    monkeypatch.setattr(int8, "window_seconds", lambda *_: {"fp32": 3.0, "bf16": 2.0, "int8": 1.0})
    with pytest.raises(UsageError, match=rf"INT8 is not packed: .*{told}"):
        pack(cohort.parent / "bundle", checkpoint=cohort.parent / "model.pt", output=tmp_path / "p", int8=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not NNCF, reason="needs NNCF: run it in an environment with volseg[int8]")
def test_no_operation_goes_back_where_int8_is_no_faster(cohort, tmp_path, monkeypatch):
    monkeypatch.setattr(int8, "window_seconds", lambda *_: {"fp32": 3.0, "bf16": 2.0, "int8": 2.5})
    monkeypatch.setattr(int8, "_in_part", lambda *_: pytest.fail("operations went back"))
    with pytest.raises(UsageError, match=r"INT8 is not packed: it takes 2500.0 ms .* and bf16 2000.0"):
        pack(cohort.parent / "bundle", checkpoint=cohort.parent / "model.pt", output=tmp_path / "p", int8=True)


@pytest.mark.slow
@pytest.mark.skipif(not NNCF, reason="needs NNCF: run it in an environment with volseg[int8]")
@pytest.mark.parametrize("faster", [True, False])
def test_a_trained_network_in_int8(shared_data, tmp_path, monkeypatch, faster):
    seconds = {"fp32": 3.0, "bf16": 2.0, "int8": 1.0 if faster else 2.5}
    monkeypatch.setattr(int8, "window_seconds", lambda *_: seconds)
    monkeypatch.setattr(int8, "CALIBRATION_CASES", 4)
    place = tmp_path / "cohort"
    raw = shared_data / "Task04_Hippocampus"
    keys = sorted(path.name.removesuffix(".nii.gz") for path in (raw / "imagesTr").glob("h*.nii.gz"))[:8]
    for key in keys:
        write_volume(place / "imagesTr" / f"{key}_0000.nii.gz", read_volume(raw / "imagesTr" / f"{key}.nii.gz"))
        write_volume(place / "labelsTr" / f"{key}.nii.gz", read_volume(raw / "labelsTr" / f"{key}.nii.gz"))
    bundle = Path("bundles/hippocampus").resolve()
    labels = Predictor.from_bundle(bundle, device="cpu").recipe.labels
    (place / "dataset.json").write_text(json.dumps(labels.to_dataset_json() | {"channel_names": {"0": "MRI"}}))
    if not faster:
        with pytest.raises(UsageError, match=r"INT8 is not packed: it takes 2500.0 ms .* and bf16 2000.0"):
            pack(bundle, output=tmp_path / "p", int8=True, cohort=place)
        return
    package = pack(bundle, output=tmp_path / "p", int8=True, cohort=place)
    facts = json.loads((package / "configs" / "metadata.json").read_text())["volseg"]["int8"]
    images = {sha256(path) for path in (place / "imagesTr").iterdir()}
    assert len(facts["calibration"]["images_sha256"]) == 4
    assert set(facts["calibration"]["images_sha256"]) <= images
    assert facts["layers"]["int8"] > facts["layers"]["all"] / 2
    assert facts["validation"]["mean_change"] >= -0.001
    assert "## INT8" in (package / "docs" / "README.md").read_text()
    image = place / "imagesTr" / f"{keys[0]}_0000.nii.gz"
    maps = [
        array_predictor([(str(package), None)], device="cpu", overrides={"precision": precision})
        .with_engine("openvino")
        .predict([image], key="case")
        .label_map.voxels
        for precision in ("fp32", "int8")
    ]
    assert 0.99 < (maps[0] == maps[1]).mean() <= 1
