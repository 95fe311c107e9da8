"""What a package says is true of its network and tells no folder; what others have put into its folder stays."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny_bundle
import torch
from monai.bundle import load

import volseg
from volseg.bundle import Recipe, read_recipe, write_safetensors
from volseg.deploy.demo import space
from volseg.deploy.pack import pack, refresh
from volseg.deploy.pack.exports import torchscript
from volseg.deploy.pack.metadata import filled
from volseg.errors import BundleError, CheckpointError, UsageError, VolsegError
from volseg.inference import Predictor
from volseg.inference.arrays.settings import own_settings
from volseg.labels import LabelTable

EXCLUSIVE = LabelTable.exclusive(["anterior", "posterior"])


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle.write_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


def write(path: Path, labels: LabelTable = tiny_bundle.LABELS, channel: str = "MR", **facts: object) -> Path:
    recipe = Recipe(labels, [channel], [2, 2, 3], list(tiny_bundle.ROI), {}, facts)
    torch.save({"model": tiny_bundle.network(labels).state_dict(), "recipe": recipe.state_dict()}, path)
    return path


def metadata(package: Path) -> Any:
    return json.loads((package / "configs" / "metadata.json").read_text())


def words(content: Any) -> list[str]:
    image = content["network_data_format"]["inputs"]["image"]
    return [content["name"], content["task"], content["description"], content["image_classes"], image["modality"]]


def of_recipe(content: Any, labels: LabelTable, channel: str = "MR") -> Any:
    recipe = Recipe(labels, [channel], [2, 2, 3], list(tiny_bundle.ROI), {})
    return filled(content, recipe, checkpoint_sha256="0")


def test_a_network_for_ct_is_not_called_one_for_mr() -> None:
    stated = json.loads((tiny_bundle.BUNDLE / "metadata.json").read_text())
    own = of_recipe(stated, tiny_bundle.LABELS)
    assert words(own) == [*(stated[name] for name in ("name", "task", "description", "image_classes")), "MR"]
    other = words(of_recipe(stated, tiny_bundle.LABELS, "CT"))
    assert not [text for text in other if "MR" in text]
    assert other[3:] == ["image channels: CT", "CT"]


def test_packed_again_its_words_are_not_those_of_the_bundle() -> None:
    """The bundle's words came back, "Segmentation of stomach", since the regions were those of the package before."""
    stated = json.loads((tiny_bundle.BUNDLE / "metadata.json").read_text())
    once = of_recipe(stated, EXCLUSIVE)
    assert words(once)[1] == "Segmentation of anterior, posterior"
    again = of_recipe(once, EXCLUSIVE)
    assert words(again) == words(once)
    assert words(of_recipe(again, tiny_bundle.LABELS)) == words(of_recipe(stated, tiny_bundle.LABELS)), "its own again"
    before = {**once, "volseg": {**once["volseg"], "bundle": {name: stated[name] for name in ("name", "task")}}}
    assert words(of_recipe(before, EXCLUSIVE))[1] == words(once)[1], "a package of an earlier version"


def test_trained_in_it_on_the_same_regions_its_words_stay(bundle: Path, tmp_path: Path) -> None:
    package = pack(bundle, checkpoint=write(tmp_path / "model.pt", EXCLUSIVE), output=tmp_path / "mine")
    before = words(metadata(package))
    write(package / "models" / "model.pt", EXCLUSIVE, cohort="/home/ann/smith")
    refresh(package, output_dir=package / "models")
    assert words(metadata(package)) == before
    page = (package / "docs" / "README.md").read_text()
    assert "Trained on: smith." in page
    assert "/home/ann" not in page + json.dumps(metadata(package))


def test_the_file_that_a_training_began_with_tells_no_folder(bundle: Path, tmp_path: Path) -> None:
    began = {"initialisation": "weights of /home/ann/patients/smith/model.pt", "fold": 0}
    package = pack(bundle, checkpoint=write(tmp_path / "model.pt", **began), output=tmp_path / "mine")
    for path in package.rglob("*"):
        assert not path.is_file() or b"/home/ann" not in path.read_bytes(), path
    assert read_recipe(package / "models" / "model.pt").facts["initialisation"] == "weights of model.pt"
    page = (package / "docs" / "README.md").read_text()
    assert "initialisation weights of model.pt" in page
    assert "from scratch" not in page.partition("## Train it further")[0], "the bundle's word for its default"
    scratch = pack(bundle, checkpoint=write(tmp_path / "model.pt", initialisation="scratch"), output=tmp_path / "other")
    assert "trained from scratch" in (scratch / "docs" / "README.md").read_text()


def test_a_file_of_tensors_tells_no_folder(tmp_path: Path) -> None:
    facts = {"cohort": "/home/ann/patients/smith", "initialisation": "weights of /home/ann/runs/a.pt", "fold": 0}
    made = write_safetensors(write(tmp_path / "model.pt", **facts), tmp_path / "mine.safetensors")
    assert b"/home/ann" not in made.read_bytes()
    assert read_recipe(made).facts == {"cohort": "smith", "initialisation": "weights of a.pt", "fold": 0}


def test_the_zip_of_a_package_is_no_damaged_checkpoint(bundle: Path, tmp_path: Path) -> None:
    packed = pack(bundle, checkpoint=write(tmp_path / "model.pt"), output=tmp_path / "mine.zip")
    with pytest.raises(CheckpointError, match=r"it is the zip of a package; unpack it, and name models/model\.pt"):
        write_safetensors(packed, tmp_path / "mine.safetensors")


def test_a_package_of_tensors_alone_says_how_it_is_used(bundle: Path, tmp_path: Path) -> None:
    """One that gives no pickle away, as a catalogue may have it."""
    made = pack(bundle, checkpoint=write(tmp_path / "model.pt"), output=tmp_path / "mine", formats=["safetensors"])
    (made / "models" / "model.pt").unlink()
    tensors = made / "models" / "model.safetensors"
    with pytest.raises(CheckpointError, match=rf"name {re.escape(str(tensors))} with --checkpoint"):
        Predictor.from_bundle(made)
    assert Predictor.from_bundle(made, checkpoint=tensors).recipe.labels == tiny_bundle.LABELS


@pytest.mark.filterwarnings("ignore:parsing config_file")
def test_the_folders_that_its_author_typed_stay_behind(tmp_path: Path) -> None:
    """With the author's cohort as dataset_dir, `monai.bundle.load` failed on every other machine."""
    own = tiny_bundle.write_bundle(tmp_path / "own")
    typed = {
        "train.json": {
            "dataset_dir": "/home/ann/smith",
            "cache_dir": "/home/ann/cache",
            "weights": "runs/smith/model.pt",
        },
        "inference.json": {"dataset_dir": "C:\\Users\\ann\\smith", "output_dir": "/home/ann/predicted"},
    }
    stated = {name: json.loads((own / name).read_text()) for name in typed}
    for name, settings in typed.items():
        (own / name).write_text(json.dumps({**stated[name], **settings}))
    package = pack(own, checkpoint=write(tmp_path / "model.pt"), output=tmp_path / "mine")
    for name in typed:
        text = (package / "configs" / name).read_text()
        assert "smith" not in text
        assert "/home" not in text
    made = json.loads((package / "configs" / "train.json").read_text())
    assert (made["dataset_dir"], made["cache_dir"]) == ("@embedded_dir", "$@data_dir + '/cache'")
    assert made["weights"] is None
    network = load(name="mine", bundle_dir=str(tmp_path), device="cpu")
    made["dataset_dir"] = "/data/of/the/clinic"  # of one who trains in it again and again
    (package / "configs" / "train.json").write_text(json.dumps(made))
    refresh(package, output_dir=package / "models")
    assert json.loads((package / "configs" / "train.json").read_text())["dataset_dir"] == made["dataset_dir"]
    assert isinstance(network, torch.nn.Module)


def test_the_commands_of_a_name_with_spaces_name_it(bundle: Path, tmp_path: Path) -> None:
    package = pack(bundle, checkpoint=write(tmp_path / "model.pt"), output=tmp_path / "my net v1.2")
    page = (package / "docs" / "README.md").read_text().partition("## Use\n")[2]
    commands = [shlex.split(line) for line in re.findall(r"^    ((?:volseg|python) .*)$", page, re.M)]
    assert len(commands) == 4
    for command in commands:
        assert any((tmp_path / word).exists() for word in command if word.startswith("my net v1.2")), command
    assert "`volseg train 'my net v1.2' --dataset_dir COHORT`" in page


def test_what_others_put_into_a_package_stays(bundle: Path, tmp_path: Path) -> None:
    """MONAI's commands write to its `data/`, and a training moves the networks of before to `models/earlier/`."""
    checkpoint = write(tmp_path / "model.pt")
    package = pack(bundle, checkpoint=checkpoint, output=tmp_path / "mine")
    theirs = ["data/predictions/tiny/a.nii.gz", "models/earlier/model.pt", ".git/HEAD", "notes.txt"]
    for name in [*theirs, "models/model.ts", "docs/old.md", ".fetched.json"]:
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(name)
    pack(bundle, checkpoint=checkpoint, output=package, overwrite=True)
    assert [(package / name).read_text() for name in theirs] == theirs
    assert not [name for name in ("models/model.ts", "docs/old.md", ".fetched.json") if (package / name).exists()]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "model.pt"]
    assert Predictor.from_bundle(package).recipe.labels == tiny_bundle.LABELS


def test_the_ending_of_a_zip_may_be_in_capitals(bundle: Path, tmp_path: Path) -> None:
    assert pack(bundle, checkpoint=write(tmp_path / "model.pt"), output=tmp_path / "MINE.ZIP").is_file()


@pytest.mark.parametrize(
    ("content", "told"),
    [("{", "must be JSON, and is not"), ("[]", "must hold a JSON object"), ('{"name": "x"}', "network_data_format")],
)
def test_metadata_that_are_none_are_refused(bundle: Path, tmp_path: Path, content: str, told: str) -> None:
    shutil.copytree(bundle, tmp_path / "tiny")
    (tmp_path / "tiny" / "metadata.json").write_text(content)
    with pytest.raises(BundleError, match=told):
        pack(tmp_path / "tiny", checkpoint=write(tmp_path / "model.pt"), output=tmp_path / "mine")


@pytest.mark.parametrize("broken", ['{"imports": [', "[]"])
def test_a_config_that_was_cut_short_is_told_by_its_name(bundle: Path, tmp_path: Path, broken: str) -> None:
    package = pack(bundle, checkpoint=write(tmp_path / "model.pt"), output=tmp_path / "mine")
    (package / "configs" / "inference.json").write_text(broken)
    for read in (own_settings, Predictor.from_bundle):
        with pytest.raises(
            BundleError, match=r"configs/inference\.json (must be JSON, and is not|must hold a JSON object)"
        ):
            read(package)


def test_a_bundle_of_others_is_told_from_one_of_volseg(bundle: Path, tmp_path: Path) -> None:
    """Those of MONAI's model zoo name no checkpoint; packing one ended with a KeyError."""
    other = tmp_path / "zoo"
    shutil.copytree(bundle, other)
    content = json.loads((other / "inference.json").read_text())
    kept = {name: value for name, value in content.items() if name not in ("checkpoint", "recipe", "handlers")}
    (other / "inference.json").write_text(json.dumps(kept))
    with pytest.raises(BundleError, match=r"inference\.json of zoo has no checkpoint, as a bundle of volseg has"):
        pack(other, output=tmp_path / "mine")


def test_a_package_of_a_newer_volseg_says_so(bundle: Path, tmp_path: Path) -> None:
    package = pack(bundle, checkpoint=write(tmp_path / "model.pt"), output=tmp_path / "mine")
    place = package / "configs" / "inference.json"
    content = json.loads(place.read_text())
    place.write_text(json.dumps({**content, "inferer": "$volseg.inference.window_of_tomorrow(@recipe)"}))
    with pytest.raises(VolsegError, match="window_of_tomorrow") as stop:
        Predictor.from_bundle(package)
    assert "update volseg" not in str(stop.value), "it is one of this version"
    told = metadata(package)
    told["required_packages_version"]["volseg"] = "99.10.0"
    (package / "configs" / "metadata.json").write_text(json.dumps(told))
    with pytest.raises(BundleError, match=rf"by volseg 99.10.0 and cannot be read by {volseg.__version__}.*update"):
        Predictor.from_bundle(package)


def test_a_hosted_demo_names_what_other_versions_of_python_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Python 3.14, which has no highdicom, the demo could not be written; it runs on 3.11."""
    absent = 'nothing-of-this-name>=0.28; python_version < "3.14"'
    monkeypatch.setattr(space, "requires", lambda _: ["numpy>=2.0", absent, 'ray>=2; extra == "ray"'])
    monkeypatch.setattr(space, "version", lambda name: installed[name])
    installed = _Installed({"gradio": "6.1", "numpy": "2.4.6+local"})
    assert space.pinned_requirements() == ["gradio==6.1", absent, "numpy==2.4.6"]
    monkeypatch.setattr(space, "requires", lambda _: ["nothing-of-this-name>=0.28"])
    with pytest.raises(UsageError, match="nothing-of-this-name is not installed"):
        space.pinned_requirements()


class _Mask(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = torch.zeros(x.shape, device=x.device)  # as Swin UNETR makes its own
        mask[..., 0] = 1
        return x + mask


class _Masked(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.mask = torch.nn.Conv3d(1, 2, 1), _Mask()

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        return self.mask(self.mask(self.first(windows))[:, :1])  # of another shape, so traced twice


def test_a_torchscript_makes_its_tensors_where_its_input_lies(tmp_path: Path) -> None:
    """The trace named the CPU, so that Swin UNETR's masks stayed there when MONAI Deploy ran it on a GPU."""
    (tmp_path / "models").mkdir()
    made = torchscript(_Masked().eval(), (1, 4, 4, 4), tmp_path, texts={})
    assert made.difference == 0
    graph = str(torch.jit.load(tmp_path / made.file).inlined_graph)
    assert graph.count("aten::zeros") == graph.count("prim::device") == 2
    assert 'Device = prim::Constant[value="cpu"]' not in graph


class _Installed(dict[str, str]):
    def __missing__(self, name: str) -> str:
        raise space.PackageNotFoundError(name)
