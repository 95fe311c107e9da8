"""Prediction: grids, orders, bad input, checkpoints. The network has random weights; training is in test_walk.py."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.networks.nets import SwinUNETR

from volseg.bundle import Recipe
from volseg.cohort import read_uncertainty, write_labels
from volseg.errors import BundleError, CheckpointError, UsageError, VolsegError
from volseg.inference import MixedPrecision, Predictor, check_output, find_inputs, write_prediction
from volseg.labels import LabelTable
from volseg.transforms.decision import SaveLabelMapd
from volseg.transforms.reading import ReadVolumesd
from volseg.volume import Crop, Volume, read_volume, write_volume

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "swinunetr"
LABELS = LabelTable.overlapping(["large_bowel", "small_bowel", "stomach"])
AFFINE = np.diag([-2.0, -2.0, 3.0, 1.0])


def write_checkpoint(path: Path, *, channels: int = 1, **facts: object) -> Path:
    """A Swin UNETR of random weights whose outputs are far from zero, so that decisions are firm."""
    torch.manual_seed(0)
    network = SwinUNETR(in_channels=channels, out_channels=3, feature_size=12, window_size=4)
    with torch.no_grad():
        network.out.conv.conv.weight *= 20
    recipe = Recipe(LABELS, ["MR"] * channels, [2, 2, 3], [64, 32, 32], {"feature_size": 12, "window_size": 4}, facts)
    torch.save({"model": network.state_dict(), "recipe": recipe.state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    checkpoint = write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "model.pt")
    return Predictor.from_bundle(BUNDLE, checkpoint=checkpoint, overrides={"precision": "fp32"})


def image(seed: int, shape: tuple[int, int, int] = (70, 40, 33)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0, 1, [n // 8 + 2 for n in shape])
    fine = np.kron(coarse, np.ones((8, 8, 8)))[: shape[0], : shape[1], : shape[2]]
    return (2000 + 400 * fine + rng.normal(0, 50, shape)).clip(0, 65535).astype(np.uint16)


def test_a_prediction_lies_on_the_grid_of_its_input_whatever_its_axes(predictor: Predictor, tmp_path: Path) -> None:
    voxels = image(0)
    turn = np.diag([-1.0, -1.0, 1.0, 1.0])
    turn[:2, 3] = voxels.shape[0] - 1, voxels.shape[1] - 1
    write_volume(tmp_path / "lps_day0.nii.gz", Volume(voxels, AFFINE))
    write_volume(tmp_path / "ras_day0.nii.gz", Volume(np.ascontiguousarray(voxels[::-1, ::-1]), AFFINE @ turn))
    turned = np.ascontiguousarray(voxels.transpose(2, 0, 1))  # axes: superior, left, posterior
    write_volume(tmp_path / "slp_day0.nii.gz", Volume(turned, AFFINE[:, [2, 0, 1, 3]]))
    assert not predictor.predict_to(find_inputs(tmp_path), tmp_path / "out")
    lps, ras, slp = (read_volume(tmp_path / "out" / f"{name}_day0.nii.gz") for name in ("lps", "ras", "slp"))
    for name, volume in (("lps", lps), ("ras", ras), ("slp", slp)):
        source = nib.load(tmp_path / f"{name}_day0.nii.gz")
        assert volume.shape == source.shape
        assert np.array_equal(volume.affine_ras, source.affine)
        assert volume.voxels.dtype == np.uint8
    assert len(np.unique(lps.voxels)) > 1
    assert np.array_equal(lps.voxels, ras.voxels[::-1, ::-1])
    assert np.array_equal(lps.voxels.transpose(2, 0, 1), slp.voxels)


def test_a_prediction_has_the_forms_of_its_image_and_its_note_says_what_was_decided(
    predictor: Predictor, tmp_path: Path
) -> None:
    scanner, moved = np.diag([-2.0, -2, 3, 1]), np.diag([-2.0, -2, 3, 1])
    moved[:3, 3] = 4, -6, 8
    coregistered = nib.Nifti1Image(image(0, (20, 18, 9)), moved)
    coregistered.set_sform(moved, 2)
    coregistered.set_qform(scanner, 1)
    nib.save(coregistered, tmp_path / "a.nii.gz")
    prediction = predictor.predict([tmp_path / "a.nii.gz"], key="a")
    assert prediction.note.startswith("qform and sform place voxels more than a tenth of a voxel apart")
    write_prediction(tmp_path / "out" / "a.nii.gz", prediction)
    item = ReadVolumesd("image", channels=1)({"key": "b", "image": str(tmp_path / "a.nii.gz")})
    SaveLabelMapd("pred", output_dir=tmp_path / "out")({**item, "pred": item["image"] * 0})
    for name in "ab":
        header = nib.load(tmp_path / "out" / f"{name}.nii.gz").header
        assert (int(header["qform_code"]), int(header["sform_code"])) == (1, 2)
        assert np.array_equal(header.get_qform(), scanner)
        assert np.array_equal(header.get_sform(), moved)
    box = Crop((1, 2, 3), (20, 18, 9), (20, 18, 9)).cut(read_volume(tmp_path / "a.nii.gz"))
    assert not predictor.predict([box], key="box").note


def test_the_order_of_inputs_does_not_matter(predictor: Predictor, tmp_path: Path) -> None:
    for seed in range(3):
        write_volume(tmp_path / f"case{seed}_day0.nii.gz", Volume(image(seed, (40, 36, 32)), AFFINE))
    cases = find_inputs(tmp_path)
    predictor.predict_to(cases, tmp_path / "forth")
    predictor.predict_to(cases[::-1], tmp_path / "back")
    for key, _ in cases:
        name = f"{key}.nii.gz"
        assert (tmp_path / "forth" / name).read_bytes() == (tmp_path / "back" / name).read_bytes()
    written = {path.read_bytes() for path in (tmp_path / "forth").glob("case*")}
    assert len(written) == 3


def test_bad_input_is_a_row_and_the_others_go_on(predictor: Predictor, tmp_path: Path) -> None:
    good = image(0, (40, 36, 32))
    write_volume(tmp_path / "good.nii.gz", Volume(good, AFFINE))
    broken = good.astype(np.float32)
    broken[0, 0, 0] = np.nan
    write_volume(tmp_path / "nan.nii.gz", Volume(broken, AFFINE))
    (tmp_path / "short.nii.gz").write_bytes((tmp_path / "good.nii.gz").read_bytes()[:5000])
    (tmp_path / "empty.nii.gz").touch()
    bare = nib.Nifti1Image(good, None)
    bare.header["qform_code"] = bare.header["sform_code"] = 0
    nib.save(bare, tmp_path / "unoriented.nii.gz")
    nib.save(nib.Nifti1Image(np.stack([good, good], -1), AFFINE), tmp_path / "two.nii.gz")
    flat = nib.Nifti1Image(good, AFFINE)
    flat.header["sform_code"] = 1
    for row in ("srow_x", "srow_y", "srow_z"):
        flat.header[row] = 0
    flat.to_filename(tmp_path / "flat.nii.gz")
    content = bytearray(flat.to_bytes())
    content[280:328] = bytes(48)  # srow_x, srow_y, srow_z
    (tmp_path / "flat.nii").write_bytes(content)
    (tmp_path / "flat.nii.gz").unlink()
    failed = predictor.predict_to(find_inputs(tmp_path), tmp_path / "out")
    assert sorted(failed) == ["empty", "flat", "nan", "short", "two", "unoriented"]
    assert "NaN" in failed["nan"]
    assert "cut short" in failed["short"]
    assert "no orientation" in failed["unoriented"]
    assert "channels" in failed["two"]
    assert "singular" in failed["flat"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["good.nii.gz", "uncertainty.csv"]
    assert list(read_uncertainty(tmp_path / "out")) == ["good"]
    (tmp_path / "good.nii.gz").write_bytes(b"")
    predictor.predict_to(find_inputs(tmp_path / "good.nii.gz"), tmp_path / "out")
    assert read_uncertainty(tmp_path / "out") == {}  # what was known of the earlier prediction is gone


def test_the_network_says_how_sure_it_is_of_each_region(predictor: Predictor, tmp_path: Path) -> None:
    write_volume(tmp_path / "a.nii.gz", Volume(image(0, (40, 36, 32)), AFFINE))
    prediction = predictor.predict([tmp_path / "a.nii.gz"], key="a")
    masks = LABELS.masks(prediction.label_map.voxels)
    assert list(prediction.uncertainty) == list(LABELS.names)
    for mask, expected in zip(masks, prediction.uncertainty.values(), strict=True):
        assert (expected is None) == (not mask.any())
        assert expected is None or 0.5 < expected < 1  # inside, each probability is above one half
    predictor.predict_to(find_inputs(tmp_path), tmp_path / "out")
    written = read_uncertainty(tmp_path / "out")["a"]
    assert written == {name: pytest.approx(value, rel=1e-5) for name, value in prediction.uncertainty.items()}


def test_inputs_are_found_by_key(tmp_path: Path) -> None:
    for name in ("a_0000.nii.gz", "a_0001.nii.gz", "b.nii", ".hidden.nii.gz", "notes.txt"):
        (tmp_path / name).touch()
    found = find_inputs(tmp_path)
    assert [(key, [path.name for path in paths]) for key, paths in found] == [
        ("a", ["a_0000.nii.gz", "a_0001.nii.gz"]),
        ("b", ["b.nii"]),
    ]
    assert find_inputs(tmp_path / "b.nii") == [("b", [tmp_path / "b.nii"])]
    with pytest.raises(UsageError, match="must be a file or a folder"):
        find_inputs(tmp_path / "c.nii")
    with pytest.raises(UsageError, match="must be all if the input is no cohort"):
        find_inputs(tmp_path, part="validation")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="is an empty folder"):
        find_inputs(tmp_path / "empty")


def test_a_device_that_is_not_there_is_refused(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "model.pt")
    with pytest.raises(UsageError, match="must be a device such as cpu"):
        Predictor.from_bundle(BUNDLE, checkpoint=checkpoint, device="gpu")
    with pytest.raises(UsageError, match="CUDA devices"):
        Predictor.from_bundle(BUNDLE, checkpoint=checkpoint, device="cuda:99")
    with pytest.raises(VolsegError, match="fp16"):
        Predictor.from_bundle(BUNDLE, checkpoint=checkpoint, overrides={"precision": "fp16"})


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle"):
        Predictor.from_bundle("swinuntr", checkpoint="x")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        Predictor.from_bundle(BUNDLE, checkpoint=tmp_path / "absent.pt")
    path = write_checkpoint(tmp_path / "model.pt")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="cannot be loaded: it is cut off"):
        Predictor.from_bundle(BUNDLE, checkpoint=path)
    path.write_bytes(content)
    state = torch.load(path, weights_only=True)
    state["model"].pop(next(iter(state["model"])))
    torch.save(state, path)
    with pytest.raises(CheckpointError, match="the weights must be those of the network"):
        Predictor.from_bundle(BUNDLE, checkpoint=path)


def test_predictions_never_replace_images(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.nii.gz").touch()
    (tmp_path / "cohort" / "imagesTr").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "images")
    cases = find_inputs(tmp_path / "images")
    check_output(tmp_path / "predictions", cases)
    for place in ("images", "link"):
        with pytest.raises(UsageError, match="would replace"):
            check_output(tmp_path / place, cases)
    with pytest.raises(UsageError, match="must be no cohort"):
        check_output(tmp_path / "cohort", cases)


def test_predictions_never_replace_label_maps_of_others(tmp_path: Path) -> None:
    """References and drawings of a person were removed before the first case was predicted."""
    cohort, drawn = tmp_path / "cohort", tmp_path / "drawn"
    for folder in (cohort / "imagesTr", cohort / "labelsTr", drawn):
        folder.mkdir(parents=True)
    for file in (cohort / "imagesTr" / "a_0000.nii.gz", cohort / "labelsTr" / "a.nii.gz", drawn / "a.nii.gz"):
        file.touch()
    stated = {"channel_names": {"0": "MR"}, **LABELS.to_dataset_json(), "numTraining": 1, "file_ending": ".nii.gz"}
    (cohort / "dataset.json").write_text(json.dumps(stated))
    cases = [("a", [cohort / "imagesTr" / "a_0000.nii.gz"])]
    for place in ("labelsTr", "labelsTs"):
        with pytest.raises(UsageError, match="must be no folder of a cohort"):
            check_output(cohort / place, cases)
    told = r"must hold no label maps that volseg did not predict.*\(a\.nii\.gz\)"
    with pytest.raises(UsageError, match=told):
        check_output(drawn, cases)
    shutil.copy(cohort / "dataset.json", drawn)  # nnU-Net and people copy that of the cohort
    with pytest.raises(UsageError, match=told):
        check_output(drawn, cases)
    check_output(drawn, [("b", cases[0][1])])
    write_labels(drawn, LABELS, channel_names=["MR"])
    check_output(drawn, cases)


def test_predictions_carry_their_label_table(tmp_path: Path) -> None:
    from volseg.cohort import read_dataset_json

    write_labels(tmp_path, LABELS, channel_names=["MR"])
    assert LabelTable.from_dataset_json(read_dataset_json(tmp_path)) == LABELS


def test_mixed_precision_is_asked_for_by_name() -> None:
    network = torch.nn.Conv3d(1, 1, 1)
    seen = []

    def call(inputs: torch.Tensor, network: torch.nn.Module) -> torch.Tensor:
        seen.append(network(inputs).dtype)
        return network(inputs)

    for precision in ("fp32", "bf16"):
        out = MixedPrecision(call, precision=precision)(torch.ones(1, 1, 2, 2, 2), network)
        assert out.dtype == torch.float32
    assert seen == [torch.float32, torch.bfloat16]
    with pytest.raises(VolsegError, match="fp16"):
        MixedPrecision(call, precision="fp16")
