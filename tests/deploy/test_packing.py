"""Packages: the model zoo's layout, the same bytes twice, and what MONAI, MONAI Label and MONAI Deploy read of them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tiny_bundle
import torch
from monai.bundle import ConfigParser, ckpt_export, verify_metadata, verify_net_in_out
from monai.transforms import Compose
from shipped_bundles import BUNDLES, NAMES, TINY
from warm_process import WarmCommands

from volseg.bundle import read_recipe
from volseg.cli import main
from volseg.deploy.pack import FORMATS, pack
from volseg.deploy.pack.exports import onnx
from volseg.errors import BundleError, CheckpointError, UsageError
from volseg.inference import Predictor, difference, installed, openvino_core
from volseg.labels import LabelTable
from volseg.volume import Volume, read_volume, write_volume

EXCLUSIVE = LabelTable.exclusive(["anterior", "posterior"])
WINDOW = (1, *tiny_bundle.ROI)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle.write_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    facts = {"cohort": "/home/ann/patients/liver", "fold": 0}
    return tiny_bundle.write_checkpoint(tmp_path_factory.mktemp("runs") / "model.pt", **facts)


@pytest.fixture(scope="module")
def package(bundle: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(bundle, checkpoint=checkpoint, output=tmp_path_factory.mktemp("packages") / "mine")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for key in ("a", "b"):
        voxels = (1000 + 100 * rng.normal(size=(40, 36, 20))).astype(np.uint16)
        write_volume(folder / f"{key}.nii.gz", Volume(voxels, np.diag([-2.0, -2.0, 3.0, 1.0])))
    return folder


def read(path: Path) -> dict:
    content: dict = json.loads(path.read_text())
    return content


# --- what is in it


def test_a_package_has_the_layout_of_the_model_zoo(package: Path) -> None:
    files = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    assert {"LICENSE", "docs/README.md", "models/model.pt", "configs/logging.conf"} <= files
    assert {f"configs/{name}.json" for name in ("train", "evaluate", "inference", "metadata")} <= files
    source = {path.name for path in tiny_bundle.BUNDLE.glob("*.json")}
    assert {path.name for path in (package / "configs").glob("*.json")} == source


def test_the_metadata_are_those_of_the_checkpoint(bundle: Path, package: Path, tmp_path: Path) -> None:
    mine = read(package / "configs" / "metadata.json")
    assert mine["name"] == read(tiny_bundle.BUNDLE / "metadata.json")["name"], "same labels: the bundle's own words"
    checkpoint = tiny_bundle.write_checkpoint(tmp_path / "model.pt", EXCLUSIVE, channels=2, cohort="/data/task4")
    other = read(pack(bundle, checkpoint=checkpoint, output=tmp_path / "other") / "configs" / "metadata.json")
    image, pred = other["network_data_format"]["inputs"]["image"], other["network_data_format"]["outputs"]["pred"]
    assert image["channel_def"] == {"0": "MR", "1": "MR2"}
    assert pred["channel_def"] == {"0": "background", "1": "anterior", "2": "posterior"}
    assert (image["num_channels"], pred["num_channels"]) == (2, 3)
    assert image["spatial_shape"] == pred["spatial_shape"] == [32, 16, 16]
    assert other["task"] == "Segmentation of anterior, posterior"
    assert other["pytorch_version"] == torch.__version__.partition("+")[0]
    assert LabelTable.from_dataset_json(other["volseg"]["labels"]) == EXCLUSIVE
    assert other["volseg"]["checkpoint_sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()


def test_no_folder_of_the_one_who_packs_is_given_away(package: Path) -> None:
    for path in package.rglob("*"):
        if path.is_file():
            assert b"/home/ann" not in path.read_bytes(), path
            assert os.fsencode(Path.home()) not in path.read_bytes(), path
    assert read_recipe(package / "models" / "model.pt").facts == {"cohort": "liver", "fold": 0}


def test_the_weights_are_those_of_the_checkpoint(package: Path, checkpoint: Path) -> None:
    mine, theirs = (torch.load(path, weights_only=True)["model"] for path in (package / "models/model.pt", checkpoint))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_the_same_input_gives_the_same_zip(bundle: Path, checkpoint: Path, tmp_path: Path) -> None:
    written = []
    for place in ("one", "two"):
        path = pack(bundle, checkpoint=checkpoint, output=tmp_path / place / "mine.zip")
        written.append(path.read_bytes())
        os.utime(bundle / "train.json", (0, 10**9))  # dates do not count
    assert written[0] == written[1]
    with zipfile.ZipFile(tmp_path / "one" / "mine.zip") as content:
        assert {name.partition("/")[0] for name in content.namelist()} == {"mine"}
        assert content.testzip() is None
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["mine.zip"], "nothing half-written stays"


def test_the_page_tells_of_this_package_once(package: Path, tmp_path: Path) -> None:
    again = pack(package, output=tmp_path / "again")
    text = (again / "docs" / "README.md").read_text()
    assert text.count("## This package") == 1
    assert "| output channels (sigmoid) | 0 large_bowel; 1 small_bowel; 2 stomach |" in text
    assert "volseg predict again IMAGES" in text


# --- refusals


def test_what_cannot_be_packed_is_refused(bundle: Path, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle"):
        pack(tmp_path, checkpoint=checkpoint, output=tmp_path / "x.zip")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        pack(bundle, output=tmp_path / "x.zip")
    with pytest.raises(CheckpointError, match="must be those of the network"):
        pack(tiny_bundle.BUNDLE, checkpoint=checkpoint, output=tmp_path / "x.zip")
    assert not list(tmp_path.iterdir())


def test_what_is_there_stays_unless_it_is_a_package_and_may_go(bundle: Path, checkpoint: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    pack(bundle, checkpoint=checkpoint, output=mine)
    with pytest.raises(UsageError, match="--overwrite"):
        pack(bundle, checkpoint=checkpoint, output=mine)
    (mine / "docs" / "old").touch()
    pack(bundle, checkpoint=checkpoint, output=mine, overwrite=True)
    assert not (mine / "docs" / "old").exists()
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").touch()
    with pytest.raises(UsageError, match="something other"):
        pack(bundle, checkpoint=checkpoint, output=tmp_path / "thesis", overwrite=True)
    for place in (bundle, bundle / "inside.zip"):
        with pytest.raises(UsageError, match="the bundle itself or inside it"):
            pack(bundle, checkpoint=checkpoint, output=place, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "thesis"]


def test_a_name_that_monai_would_run_is_refused(bundle: Path, tmp_path: Path) -> None:
    labels = LabelTable.exclusive(["$__import__('os').abort()", "organ"])
    checkpoint = tiny_bundle.write_checkpoint(tmp_path / "model.pt", labels)
    with pytest.raises(BundleError, match="would be run as code"):
        pack(bundle, checkpoint=checkpoint, output=tmp_path / "x.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


# --- what others read of it


def test_volseg_predicts_with_it_as_with_its_bundle(
    bundle: Path, checkpoint: Path, package: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    theirs = Predictor.from_bundle(bundle, checkpoint=checkpoint).predict([images / "a.nii.gz"], key="a")
    mine = Predictor.from_bundle(package).predict([images / "a.nii.gz"], key="a")
    assert len(np.unique(mine.label_map.voxels)) > 1
    assert np.array_equal(mine.label_map.voxels, theirs.label_map.voxels)


def test_another_checkpoint_brings_its_own_recipe(package: Path, tmp_path: Path) -> None:
    other = tiny_bundle.write_checkpoint(tmp_path / "model.pt", EXCLUSIVE)
    predictor = Predictor.from_bundle(package, checkpoint=other)
    assert predictor.recipe.labels == EXCLUSIVE
    assert predictor.network(torch.zeros(1, *WINDOW)).shape[1] == 3


def test_monai_label_finds_its_keys(package: Path) -> None:
    """As `monailabel/tasks/infer/bundle.py` reads a bundle."""
    parser = ConfigParser()
    parser.read_config(str(package / "configs" / "inference.json"))
    parser.config.update({"bundle_root": str(package)})
    network = parser.get_parsed_content("network_def", instantiate=True)
    network.load_state_dict(torch.load(package / "models" / "model.pt", weights_only=True)["model"])
    for key in ("preprocessing", "postprocessing"):
        assert isinstance(parser.get_parsed_content(key, instantiate=True), Compose)
    assert callable(parser.get_parsed_content("inferer", instantiate=True))
    assert parser.get_parsed_content("checkpoint") == str(package / "models" / "model.pt")
    data_format = read(package / "configs" / "metadata.json")["network_data_format"]
    assert (next(iter(data_format["inputs"])), next(iter(data_format["outputs"]))) == ("image", "pred")
    assert data_format["outputs"]["pred"]["channel_def"]["4"] == "stomach", "the value of the label map"
    train = read(package / "configs" / "train.json")
    assert {"trainer", "dataset", "handlers"} <= train["train"].keys()
    assert "data" in train["train"]["dataset"]
    assert "data" in train["validate"]["dataset"]
    assert "max_epochs" in train["train"]["trainer"]


def test_monai_deploy_needs_nothing_but_the_torchscript(
    bundle: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `monai/deploy/operators/monai_bundle_inference_operator.py` reads a `model.ts`."""
    package = pack(bundle, checkpoint=checkpoint, output=tmp_path / "mine", formats=["torchscript"])
    alone = tmp_path / "alone"
    alone.mkdir()
    (package / "models" / "model.ts").rename(alone / "model.ts")
    monkeypatch.chdir(alone)
    parser = ConfigParser()
    with zipfile.ZipFile("model.ts") as content:
        parser.read_meta(json.loads(content.read("model/extra/metadata.json")))
        parser.read_config(json.loads(content.read("model/extra/inference.json")))
    parser.parse()
    for key in ("device", "inferer", "preprocessing", "postprocessing"):
        assert parser.get_parsed_content(key) is not None
    network = torch.jit.load("model.ts")
    assert difference(network, tiny_bundle.network(), window=WINDOW)[0] == 0


@pytest.mark.filterwarnings("ignore")  # MONAI's own, of tracing
@pytest.mark.parametrize("packed", [True, False])
def test_monai_verifies_and_exports_it(
    bundle: Path, checkpoint: Path, package: Path, tmp_path: Path, *, packed: bool
) -> None:
    """The functions behind `python -m monai.bundle`; the commands themselves are in the slow test."""
    configs = package / "configs" if packed else bundle
    files = {"meta_file": str(configs / "metadata.json"), "config_file": str(configs / "inference.json")}
    more = {} if packed else {"checkpoint": str(checkpoint)}
    verify_net_in_out("network_def", **files, **more, device="cpu", n=2)
    ckpt_export(
        "network_def",
        **files,
        **more,
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(package / "models" / "model.pt" if packed else checkpoint),
        key_in_ckpt="model",
        use_trace=True,
        input_shape=[1, *WINDOW],
    )
    network = torch.jit.load(str(tmp_path / "model.ts"))
    assert difference(network, tiny_bundle.network(), window=WINDOW)[0] <= 1e-4


def test_monai_verifies_the_metadata_by_default_call(package: Path, tmp_path: Path) -> None:
    """By the rules of the schema of 2024-07-25 that it names, which lie here where MONAI would download it to."""
    of_tensor = {
        **{name: {"type": "string"} for name in ("type", "format", "dtype")},
        "num_channels": {"type": "integer"},
        "spatial_shape": {"type": "array", "items": {"type": ["string", "integer"]}},
        "value_range": {"type": "array", "items": {"type": "number"}},
    }
    tensor = {"type": "object", "properties": of_tensor, "required": list(of_tensor)}
    tensors = {"type": "object", "additionalProperties": tensor}
    texts = ("schema", "version", "task", "description", "authors", "copyright", "data_source", "data_type")
    texts += tuple(f"{name}_version" for name in ("monai", "pytorch", "numpy"))
    texts += tuple(f"{name}_classes" for name in ("image", "label", "pred"))
    mappings = ("required_packages_version", "changelog", "eval_metrics", "supported_apps")
    schema = {
        "type": "object",
        "properties": {
            **{name: {"type": "string"} for name in texts},
            **{name: {"type": "object"} for name in mappings},
            "references": {"type": "array", "items": {"type": "string"}},
            "intended_use": {"type": "string"},
            "network_data_format": {"properties": {"inputs": tensors, "outputs": tensors}},
        },
        "required": [*texts[:6], *texts[8:11], "required_packages_version", "network_data_format"],
    }
    place = tmp_path / "schema.json"
    place.write_text(json.dumps(schema))
    digest = hashlib.sha256(place.read_bytes()).hexdigest()
    where: dict[str, str] = {"filepath": str(place), "hash_val": digest, "hash_type": "sha256"}
    for folder in (package, BUNDLES / "hippocampus"):
        file = folder / "configs" / "metadata.json"
        assert read(file)["schema"].endswith("meta_schema_20240725.json")
        verify_metadata(meta_file=str(file), **where)
    broken = read(package / "configs" / "metadata.json")
    del broken["network_data_format"]["inputs"]["image"]["dtype"]
    (tmp_path / "broken.json").write_text(json.dumps(broken))
    with pytest.raises(ValueError, match="'dtype' is a required property"):
        verify_metadata(meta_file=str(tmp_path / "broken.json"), **where)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # MONAI's own, of tracing
@pytest.mark.parametrize("name", NAMES)
def test_monai_verifies_and_exports_each_bundle(name: str, tiny_cohort: Path, tmp_path: Path) -> None:
    """With a small network of random weights: the bundle as it stands, and packed."""
    flat = BUNDLES / name
    parser = ConfigParser()
    parser.read_config(str(flat / "train.json"))
    parser.update({"bundle_root": str(flat), "dataset_dir": str(tiny_cohort), "device": "cpu", **TINY[name]})
    network, recipe = (parser.get_parsed_content(part) for part in ("network", "recipe"))
    checkpoint = tmp_path / "model.pt"
    torch.save({"model": network.eval().state_dict(), "recipe": recipe.state_dict()}, checkpoint)
    formats = ["torchscript", "openvino"] if installed() else ["torchscript"]
    package = pack(flat, checkpoint=checkpoint, output=tmp_path / "mine", formats=formats)
    written = read(package / "configs" / "metadata.json")["volseg"]["exports"]
    assert all(export["difference"] <= 1e-4 for export in written), written
    window = (1, *recipe.roi_size)
    data_format = "_meta_#network_data_format#"
    of_cohort = {
        f"{data_format}inputs#image#spatial_shape": list(recipe.roi_size),
        f"{data_format}outputs#pred#num_channels": recipe.labels.channels,
        "checkpoint": str(checkpoint),
    }
    for configs, more in ((package / "configs", {}), (flat, of_cohort)):
        files = {"meta_file": str(configs / "metadata.json"), "config_file": str(configs / "inference.json")}
        verify_net_in_out("network_def", **files, **more, device="cpu")
        ckpt_export(
            "network_def",
            **files,
            **more,
            filepath=str(tmp_path / "model.ts"),
            ckpt_file=str(checkpoint),
            key_in_ckpt="model",
            use_trace=True,
        )
        assert difference(torch.jit.load(str(tmp_path / "model.ts")), network, window=window)[0] <= 1e-4


# --- other formats


@pytest.mark.slow
def test_every_format_computes_what_the_network_does(bundle: Path, checkpoint: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    pytest.importorskip("onnxscript")
    package = pack(bundle, checkpoint=checkpoint, output=tmp_path / "mine", formats=FORMATS)
    written = read(package / "configs" / "metadata.json")["volseg"]["exports"]
    assert [export["file"] for export in written] == ["models/model.ts", "models/model.onnx", "models/model.xml"]
    assert all(export["difference"] <= 1e-4 for export in written)
    session = onnxruntime.InferenceSession(str(package / "models" / "model.onnx"))
    compiled = openvino_core().compile_model(
        str(package / "models" / "model.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    assert Predictor.from_bundle(package).exported == package / "models" / "model.xml"
    assert Predictor.from_bundle(package, checkpoint=checkpoint).exported is None, "it may be another network"
    network = tiny_bundle.network()
    drawn = torch.randn(3, *WINDOW)
    with torch.inference_mode():
        expected = network(drawn).numpy()
    assert np.abs(session.run(None, {"image": drawn.numpy()})[0] - expected).max() <= 1e-4
    assert np.abs(compiled(drawn[:1].numpy())[0] - expected[:1]).max() <= 1e-4
    libraries = str(Path(torch.__file__).parents[1]).encode()
    with zipfile.ZipFile(package / "models" / "model.ts") as content:
        inside = [content.read(name) for name in content.namelist()]
    for held in (*inside, *(path.read_bytes() for path in (package / "models").iterdir())):
        assert libraries not in held, "no folder of the one who packs is given away"
    again = pack(bundle, checkpoint=checkpoint, output=tmp_path / "again", formats=FORMATS)
    for name in ("model.onnx", "model.bin"):  # the names in a model.xml count the layers of the process
        assert (again / "models" / name).read_bytes() == (package / "models" / name).read_bytes(), name


class OneByOne(torch.nn.Module):
    """Loops over the windows, which PyTorch's exporter unrolls without a word."""

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        return torch.stack([2 * window for window in windows])


def test_onnx_says_how_many_windows_it_takes(tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    (tmp_path / "models").mkdir()
    assert "one window at a time" in onnx(OneByOne(), WINDOW, tmp_path).note
    assert "any number" in onnx(torch.nn.Conv3d(1, 2, 1).eval(), WINDOW, tmp_path).note


# --- the commands


def test_the_command_packs(
    bundle: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for code, words in ((0, "wrote tiny.zip"), (2, "--overwrite")):
        with pytest.raises(SystemExit) as stop:
            main(["pack", str(bundle), "--checkpoint", str(checkpoint)])
        assert stop.value.code == code
        assert words in "".join(capsys.readouterr())
    with zipfile.ZipFile("tiny.zip") as content:
        content.extractall("unpacked")
    assert Predictor.from_bundle("unpacked/tiny").recipe.labels == tiny_bundle.LABELS


@pytest.mark.slow
def test_the_commands_of_its_page_run_from_the_folder_that_holds_it(
    package: Path, images: Path, tmp_path: Path, warm_commands: WarmCommands
) -> None:
    """Each command as a user types it, warnings and all."""
    shutil.copytree(package, tmp_path / "mine")
    cohort = tmp_path / "COHORT"
    for key in ("a", "b"):
        (cohort / "imagesTs").mkdir(parents=True, exist_ok=True)
        shutil.copy(images / f"{key}.nii.gz", cohort / "imagesTs" / f"{key}_0000.nii.gz")
    facts = {"channel_names": {"0": "MR"}, "numTraining": 0, "file_ending": ".nii.gz"}
    (cohort / "dataset.json").write_text(json.dumps({**facts, **tiny_bundle.LABELS.to_dataset_json()}))
    page = (tmp_path / "mine" / "docs" / "README.md").read_text().partition("## This package")[2]
    commands = re.findall(r"^    ((?:volseg|python) .*)$", page, re.M)
    assert len(commands) == 4
    environment = {**os.environ, "PATH": warm_commands.path}
    for command in commands:
        name, *words = shlex.split(command.replace("IMAGES", str(images)))
        if "predict" in words or "monai.bundle" in words:  # `auto` is bfloat16 for one of them on some CPUs
            words += ["--precision", "fp32"]
        done = subprocess.run(
            [warm_commands.folder / name, *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stderr[-2000:]}"
    by_monai = tmp_path / "mine" / "data" / "predictions" / "swinunetr"
    for key in ("a", "b"):
        one, other = (read_volume(folder / f"{key}.nii.gz") for folder in (tmp_path / "PREDICTIONS", by_monai))
        assert np.array_equal(one.voxels, other.voxels)
    with zipfile.ZipFile(tmp_path / "mine" / "models" / "model.ts") as content:
        assert {"model/extra/metadata.json", "model/extra/inference.json"} <= set(content.namelist())
