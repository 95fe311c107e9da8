"""A package in the programs that it is for: monai.bundle.load, MONAI Label, MONAI Deploy, by the rules they read by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_bundle
import torch
from monai.bundle import ConfigParser, load, run
from monai.data import MetaTensor
from monai.transforms import Compose, SaveImaged
from monai.utils import set_determinism
from shipped_bundles import BUNDLES, NAMES, TINY

from volseg.bundle import read_recipe
from volseg.cohort import Cohort
from volseg.datasets import LABELS, PackageCohort, embedded
from volseg.deploy.pack import pack
from volseg.deploy.pack.metadata import value_names
from volseg.errors import CohortError, VolumeError
from volseg.inference import Predictor
from volseg.labels import LabelTable
from volseg.transforms import preprocessing
from volseg.volume import Volume, read_volume, write_volume

OTHERS = LabelTable.of({"liver": 2, "spleen": 5})
quiet = pytest.mark.filterwarnings("ignore")  # MONAI's own: of properties that it looks for


def packed(folder: Path, labels: LabelTable = tiny_bundle.LABELS, *, channels: int = 1) -> Path:
    bundle = tiny_bundle.write_bundle(folder / "tiny")
    checkpoint = tiny_bundle.write_checkpoint(folder / "model.pt", labels, channels=channels)
    return pack(bundle, checkpoint=checkpoint, output=folder / "mine")


def read(package: Path, name: str) -> Any:
    return json.loads((package / "configs" / f"{name}.json").read_text())


# --- monai.bundle.load


def check_load(package: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All tensors, whatever it is told of the checkpoint, and nothing left in the working directory or the package."""
    folder.mkdir()
    monkeypatch.chdir(folder)
    before = sorted(package.rglob("*"))
    stored = torch.load(package / "models" / "model.pt", weights_only=True)["model"]
    ways: list[dict[str, Any]] = [{}, {"key_in_ckpt": "model"}, {"workflow_type": "inference"}]
    for way in ways:
        network = load(name=package.name, bundle_dir=str(package.parent), device="cpu", **way)
        own = network.state_dict()
        assert own.keys() == stored.keys(), way
        assert all(torch.equal(own[name], stored[name]) for name in own), way
    assert list(folder.iterdir()) == []
    assert sorted(package.rglob("*")) == before


@quiet
@pytest.mark.parametrize(("labels", "channels"), [(tiny_bundle.LABELS, 1), (OTHERS, 2)])
def test_monai_loads_every_tensor_and_writes_nothing(
    labels: LabelTable, channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_load(packed(tmp_path, labels, channels=channels), tmp_path / "here", monkeypatch)


@quiet
@pytest.mark.parametrize(
    "name", [name if name in {"unet", "segformer"} else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_monai_loads_a_package_of_each_bundle(
    name: str, tiny_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With sizes that are not the bundle's own on this machine: they come from the checkpoint."""
    flat = BUNDLES / name
    parser = ConfigParser()
    parser.read_config(str(flat / "train.json"))
    parser.update({"bundle_root": str(flat), "dataset_dir": str(tiny_cohort), "device": "cpu", **TINY[name]})
    network, recipe = (parser.get_parsed_content(part) for part in ("network", "recipe"))
    checkpoint = tmp_path / "model.pt"
    torch.save({"model": network.state_dict(), "recipe": recipe.state_dict()}, checkpoint)
    check_load(pack(flat, checkpoint=checkpoint, output=tmp_path / "mine"), tmp_path / "here", monkeypatch)


@quiet
def test_a_network_of_ones_own_takes_the_tensors_too(tmp_path: Path) -> None:
    package = packed(tmp_path)
    network = tiny_bundle.network()
    for weight in network.parameters():
        weight.data.zero_()
    load(name="mine", bundle_dir=str(tmp_path), model=network, device="cpu")
    stored = torch.load(package / "models" / "model.pt", weights_only=True)["model"]
    assert all(torch.equal(value, stored[name]) for name, value in network.state_dict().items())


@quiet
def test_an_argument_given_to_load_counts(tmp_path: Path) -> None:
    packed(tmp_path)
    network = load(name="mine", bundle_dir=str(tmp_path), device="cpu", net_override={"dropout": 0.3})
    assert any(isinstance(layer, torch.nn.Dropout3d | torch.nn.Dropout) for layer in network.modules())


def test_the_tensors_are_stored_once(tmp_path: Path) -> None:
    package = packed(tmp_path)
    ratio = (package / "models" / "model.pt").stat().st_size / (tmp_path / "model.pt").stat().st_size
    assert ratio < 1.5, "names are there twice, numbers once"


def test_a_package_trains_on_the_cohort_that_is_named(tiny_cohort: Path, tmp_path: Path) -> None:
    package = packed(tmp_path, OTHERS, channels=2)
    parser = ConfigParser()
    parser.read_config(str(package / "configs" / "train.json"))
    parser.update({"bundle_root": str(package), "dataset_dir": str(tiny_cohort), "device": "cpu"})
    network = parser.get_parsed_content("network_def")
    assert network(torch.zeros(1, 1, 16, 16, 16)).shape[1] == 2
    assert list(parser.get_parsed_content("spacing_mm")) == [1.5, 1.5, 3.0]


def test_without_a_cohort_a_package_of_other_regions_says_what_to_do(
    tiny_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = PackageCohort(OTHERS, ["CT"], [64, 64, 1], embedded=tmp_path / "phantom")
    assert (cohort.flat, cohort.median_shape([1, 1, 1])) == (True, [64, 64, 1])
    with pytest.raises(CohortError, match=r"segments liver, spleen.*--dataset_dir"):
        cohort.datalist("training", fold=0)
    assert not (tmp_path / "phantom").exists()
    phantom = PackageCohort(LABELS, ["MR"], [64, 64, 32], embedded=tmp_path / "phantom")
    monkeypatch.setattr(embedded, "open_cohort", lambda folder, *, embedded: Cohort.open(tiny_cohort))
    assert len(phantom.rows) == 5, "that of the embedded phantom, for which a small cohort stands in"


# --- MONAI Label 0.8.5: channel_def names the values of the label map; transforms of the kind SaveImaged are left out


@pytest.mark.parametrize(
    "labels",
    [
        tiny_bundle.LABELS,
        OTHERS,
        LabelTable.of({"whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]}),
        LabelTable.of({"kidney": [1, 4], "cyst": 2}),
    ],
)
def test_monai_label_names_what_the_label_map_holds(labels: LabelTable, tmp_path: Path) -> None:
    package = packed(tmp_path, labels)
    pred = read(package, "metadata")["network_data_format"]["outputs"]["pred"]
    assert pred["num_channels"] == labels.channels
    named = {name.lower(): int(value) for value, name in pred["channel_def"].items() if name.lower() != "background"}
    probabilities = np.random.default_rng(0).random((labels.channels, 8, 8, 8), dtype=np.float32)
    for value in np.unique(labels.decide(probabilities)):
        regions = [region.name for region in labels.regions if value in region.values]
        assert value == 0 or named[" and ".join(regions)] == value
    assert read(package, "metadata")["volseg"]["channels"] == list(labels.channel_names)


def test_values_that_are_never_written_have_no_name() -> None:
    assert value_names(LabelTable.of({"kidney": [1, 4], "cyst": 2})) == {"0": "background", "1": "kidney", "2": "cyst"}


# --- both: who reads and who writes


def studies(folder: Path) -> list[dict[str, str]]:
    """Cases of two regions as MONAI Label hands them over: image and label, and no more."""
    items, random = [], np.random.default_rng(0)
    for number in range(3):
        label = np.zeros((40, 36, 20), np.uint8)
        label[4:20, 4:20, 4:12], label[22:34, 20:32, 6:16] = 2, 5
        voxels = (1000 + 100 * random.normal(size=label.shape) + 100 * label).astype(np.float32)
        item = {name: str(folder / name / f"case{number}.nii.gz") for name in ("image", "label")}
        for name, array in (("image", voxels), ("label", label)):
            write_volume(Path(item[name]), Volume(array, np.diag([-2.0, -2.0, 3.0, 1.0])))
        items.append(item)
    return items


@quiet
@pytest.mark.parametrize(("labels", "validated"), [(OTHERS, 1), (LABELS, 0)], ids=["others", "those of the phantom"])
def test_monai_label_trains_on_its_own_cases_and_nothing_else(
    labels: LabelTable, validated: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call of its BundleTrainTask, taken from 0.8.5; the server itself is in test_monai_label_server.py."""
    package = packed(tmp_path, labels)
    items = studies(tmp_path / "studies")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    model = package / "models" / "model.pt"
    weights = torch.load(model, weights_only=True)["model"]
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    handlers = read(package, "train")["train"]["handlers"]
    loader = {"_target_": "CheckpointLoader", "load_path": str(model), "load_dict": {"model": "$@network"}}
    try:
        run(
            run_id="run",
            init_id=None,
            final_id=None,
            meta_file=str(package / "configs" / "metadata.json"),
            config_file=str(package / "configs" / "train.json"),
            **{
                "bundle_root": str(package),
                "train#trainer#max_epochs": 1,
                "train#dataset#data": items[: 3 - validated],
                "device": torch.device("cpu"),
                "train#handlers": [{**loader, "strict": False}, *handlers],
                "validate#dataset#data": items[3 - validated :] if validated else [],
            },
        )
    finally:
        set_determinism(None)
    recorded = json.loads((package / "models" / "run.json").read_text())
    assert recorded["cohort"]["folder"] == "not stated"
    assert (recorded["cohort"]["training_cases"], recorded["cohort"]["validation_cases"]) == (3 - validated, validated)
    values = recorded["settings"]["values"]
    assert (values["spacing_mm"], values["roi_size"]) == ([2.0, 2.0, 3.0], list(tiny_bundle.ROI))
    assert (values["background_share"], values["flip_axes"]) == (1 / 3, [])
    written = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert all(path.is_relative_to(package / "models") for path in written), written
    after = torch.load(model, weights_only=True)["model"]
    assert any(not torch.equal(after[name], weights[name]) for name in weights), "it learnt"
    assert read_recipe(model).labels.names == labels.names
    found = Predictor.from_bundle(package).predict([items[0]["image"]], key="a").label_map.voxels
    assert set(np.unique(found)) <= set(labels.values)


def parser_of(package: Path) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(str(package / "configs" / "inference.json"))
    parser.update({"bundle_root": str(package), "device": "cpu"})
    return parser


def steps_of(parser: ConfigParser, part: str) -> list[Any]:
    compose = parser.get_parsed_content(part)
    assert isinstance(compose, Compose)
    return list(compose.transforms)


@pytest.mark.parametrize("more", [{"image_path": "x.nii.gz"}, {"image_path": "x.nii.gz", "image_number": 3}])
def test_entries_that_monai_label_adds_pass_through_the_preprocessing(tmp_path: Path, more: dict[str, Any]) -> None:
    """MONAI 1.6.1's Spacingd takes each entry whose name begins with `image_` for a dictionary of metadata."""
    write_volume(tmp_path / "a.nii.gz", Volume(np.zeros((9, 8, 7), np.int16) + np.eye(8, 7, dtype=np.int16), np.eye(4)))
    steps = preprocessing(OTHERS, channels=1, spacing_mm=[2, 2, 2], label=False)
    alone = steps({"key": "a", "image": str(tmp_path / "a.nii.gz")})
    beside = steps({"key": "a", "image": str(tmp_path / "a.nii.gz"), **more})
    assert torch.equal(alone["image"], beside["image"])
    assert {name: beside[name] for name in more} == more


def test_what_writes_files_is_left_out_by_both(tmp_path: Path) -> None:
    after = steps_of(parser_of(packed(tmp_path)), "postprocessing")
    by_label = [step for step in after if not isinstance(step, SaveImaged)]
    by_deploy = [step for step in after if not any(word in type(step).__name__ for word in ("LoadImage", "SaveImage"))]
    assert by_label == by_deploy == after[:-1]


@pytest.mark.parametrize("form", ["no channel", "channel first", "channel last", "tilted"])
def test_monai_deploy_hands_a_tensor_over_and_gets_the_label_map(form: str, tmp_path: Path) -> None:
    """The image of a DICOM series as its operator has it: voxels (X, Y, Z) and an affine in RAS."""
    package = packed(tmp_path)
    voxels = (1000 + 100 * np.random.default_rng(0).normal(size=(40, 36, 20))).astype(np.float32)
    affine = np.diag([-2.0, -2.0, 3.0, 1.0])
    if form == "tilted":
        affine[1, 2] = 0.4
    write_volume(tmp_path / "a.nii.gz", Volume(voxels, affine))
    expected = Predictor.from_bundle(package).predict([tmp_path / "a.nii.gz"], key="a").label_map

    meta: dict[str, Any] = {"affine": affine, "original_affine": affine, "original_channel_dim": "no_channel"}
    given = read_volume(tmp_path / "a.nii.gz").voxels.astype(np.float32)
    if form == "channel first":
        given, meta = given[None], {"original_affine": affine, "spatial_shape": np.array(given.shape)}
    if form == "channel last":
        given, meta = given[..., None], {**meta, "original_channel_dim": -1}
    item: dict[str, Any] = {"image": MetaTensor.ensure_torch_and_prune_meta(torch.from_numpy(given), meta)}
    if form == "channel first":
        item = {"image": MetaTensor(torch.from_numpy(given), meta=meta)}
    parser = parser_of(package)
    for step in steps_of(parser, "preprocessing"):
        item = step(item)
    image = item["image"]
    network, inferer = (parser.get_parsed_content(part) for part in ("network", "inferer"))
    network.load_state_dict(torch.load(package / "models" / "model.pt", weights_only=True)["model"])
    with torch.no_grad():
        logits = inferer(image[None], network.eval())
    done: dict[str, Any] = {"pred": logits[0], "image": image}
    for step in steps_of(parser, "postprocessing")[:-1]:
        done = step(done)
    assert done["pred"].shape == (1, *voxels.shape)
    assert np.array_equal(done["pred"].numpy()[0], expected.voxels)


def test_an_array_without_a_place_is_refused() -> None:
    step = preprocessing(tiny_bundle.LABELS, channels=1, spacing_mm=[1, 1, 1], label=False).transforms[0]
    with pytest.raises(VolumeError, match="without an affine"):
        step({"image": torch.zeros(1, 8, 8, 8)})
    with pytest.raises(VolumeError, match="takes 1 channel"):
        step({"image": MetaTensor(torch.zeros(2, 8, 8, 8), affine=np.eye(4))})
    with pytest.raises(VolumeError, match=r"shape \[8, 8\]"):
        step({"image": MetaTensor(torch.zeros(8, 8), meta={"affine": np.eye(4)})})
    with pytest.raises(VolumeError, match="NaN"):
        step({"image": MetaTensor(torch.full((8, 8, 8), torch.nan), affine=np.eye(4))})
