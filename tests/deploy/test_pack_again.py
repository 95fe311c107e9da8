"""A package that is trained again, or packed again: its configs, metadata and page are those of the network in it."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_bundle
import torch
from monai.bundle import ConfigParser, load
from monai.utils import set_determinism

from volseg.bundle import packed_recipe, read_checkpoint, read_recipe, write_safetensors
from volseg.cli import main
from volseg.cohort import Cohort
from volseg.deploy.pack import pack, read_card
from volseg.deploy.pack.held_out import held_out_scores
from volseg.errors import CheckpointError, UsageError
from volseg.inference import Predictor
from volseg.labels import LabelTable
from volseg.training import train

OTHERS = LabelTable.exclusive(["anterior", "posterior"])
quiet = pytest.mark.filterwarnings("ignore")  # MONAI's own: of properties that it looks for
CARD = {
    "title": "Two parts",
    "weights_licence": "CC BY-SA 4.0",
    "data": {"name": "A data set", "licence": "CC BY-SA 4.0", "url": "https://example.org"},
}
SMALL: dict[str, Any] = {"max_epochs": 1, "crops_per_case": 1, "roi_size": [16, 16, 8], "precision": "fp32"}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Of other regions than those of the tiny cohort, with all that may lie beside a network."""
    bundle = tiny_bundle.write_bundle(tmp_path / "tiny")
    checkpoint = tiny_bundle.write_checkpoint(tmp_path / "run" / "model.pt", OTHERS)
    (tmp_path / "card.json").write_text(json.dumps(CARD))
    return pack(
        bundle,
        checkpoint=checkpoint,
        output=tmp_path / "mine",
        formats=["torchscript", "safetensors"],
        card=tmp_path / "card.json",
    )


def texts(package: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in package.rglob("*") if path.suffix in (".json", ".md", ".txt")}


def test_the_page_tells_of_network_data_and_licence(package: Path) -> None:
    page = (package / "docs" / "README.md").read_text()
    assert page.startswith("# Two parts\n")
    assert "CC BY-SA 4.0" in page
    assert "- **Network:** " in page
    for word in ("abdominal", "stomach", "No trained weights", "checkout"):
        assert word not in page
    metadata = json.loads((package / "configs" / "metadata.json").read_text())
    assert (metadata["name"], metadata["license"]) == ("Two parts", "CC BY-SA 4.0")
    assert metadata["data_source"] == "A data set, https://example.org, CC BY-SA 4.0"
    assert "A data set" in (package / "docs" / "data_license.txt").read_text()


@quiet
def test_after_a_training_in_it_all_is_of_the_new_network(
    package: Path, tiny_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (package / "models" / "calibration.json").write_text("{}")
    try:
        train(package, overrides={**SMALL, "dataset_dir": str(tiny_cohort)})
    finally:
        set_determinism(None)
    labels = Cohort.open(tiny_cohort).labels
    model = package / "models" / "model.pt"
    assert read_recipe(model).labels.names == labels.names
    metadata = json.loads((package / "configs" / "metadata.json").read_text())
    assert LabelTable.from_dataset_json(metadata["volseg"]["labels"]).names == labels.names
    assert not {"card", "scores", "exports"} & metadata["volseg"].keys()
    assert metadata["network_data_format"]["outputs"]["pred"]["num_channels"] == labels.channels
    for name, text in texts(package).items():
        assert "posterior" not in text, name
        assert "CC BY-SA" not in text, name
        assert "Two parts" not in text, name
    page = (package / "docs" / "README.md").read_text()
    assert "| regions | large, small |" in page
    assert "- **Network:** " in page
    aside = {path.name.partition("_")[0] for path in (package / "models" / "earlier").iterdir()}
    assert aside == {"model", "calibration"}
    assert not {"model.ts", "model.safetensors", "calibration.json"} & {path.name for path in model.parent.iterdir()}
    stored = read_checkpoint(model)["model"]
    network = load(name="mine", bundle_dir=str(tmp_path), device="cpu")
    own = network.state_dict()
    assert own.keys() == stored.keys()
    assert all(torch.equal(own[name], stored[name]) for name in own)
    image = Cohort.open(tiny_cohort).image_paths("case0_day0")
    found = Predictor.from_bundle(package).predict(image, key="case0_day0").label_map.voxels
    assert set(np.unique(found)) <= set(labels.values)
    parser = ConfigParser()
    parser.read_config(package / "configs" / "inference.json")
    parser.update({"bundle_root": str(package)})
    assert parser.get_parsed_content("labels").names == labels.names
    again = pack(package, output=tmp_path / "again")
    assert texts(again)["train.json"] == texts(package)["train.json"], "nothing grows with each time"


@quiet
def test_a_training_elsewhere_leaves_the_package_alone(package: Path, tiny_cohort: Path, tmp_path: Path) -> None:
    before = texts(package)
    try:
        train(package, overrides={**SMALL, "dataset_dir": str(tiny_cohort), "output_dir": str(tmp_path / "out")})
    finally:
        set_determinism(None)
    assert texts(package) == before
    assert (package / "models" / "model.ts").is_file()
    other = Predictor.from_bundle(package, checkpoint=tmp_path / "out" / "model.pt")
    assert other.recipe.labels.names == Cohort.open(tiny_cohort).labels.names


def test_stopped_before_its_end_the_recipe_is_that_of_the_checkpoint(package: Path, tmp_path: Path) -> None:
    stated = read_recipe(package / "models" / "model.pt")
    assert packed_recipe(tmp_path / "absent.pt", stated) is stated
    tiny_bundle.write_checkpoint(package / "models" / "model.pt")  # as a killed training leaves it
    parser = ConfigParser()
    parser.read_config(package / "configs" / "inference.json")
    parser.update({"bundle_root": str(package)})
    assert parser.get_parsed_content("labels").names == tiny_bundle.LABELS.names
    assert Predictor.from_bundle(package).recipe.labels.names == tiny_bundle.LABELS.names


def test_packed_again_the_card_stays_and_with_another_checkpoint_it_does_not(package: Path, tmp_path: Path) -> None:
    again = pack(package, output=tmp_path / "again")
    assert (again / "docs" / "README.md").read_text().startswith("# Two parts\n")
    assert texts(again)["data_license.txt"] == texts(package)["data_license.txt"]
    checkpoint = tiny_bundle.write_checkpoint(tmp_path / "other.pt", OTHERS)
    other = pack(package, checkpoint=checkpoint, output=tmp_path / "other")
    assert "CC BY-SA" not in (other / "docs" / "README.md").read_text()
    assert not (other / "docs" / "data_license.txt").exists()


# --- the card and the scores


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("no json", "is not JSON"),
        ("[]", "must hold an object"),
        ('{"titel": "x"}', "has the entry 'titel', expected title"),
        ('{"data": {"license": "x"}}', "has the entry 'license', expected name"),
        ('{"title": 3}', "must be a text"),
    ],
)
def test_a_card_that_is_none_is_refused(content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text(content)
    with pytest.raises(UsageError, match=words):
        read_card(tmp_path / "card.json")


def write_crossval(folder: Path, rows: list[tuple[str, str, str, int, str, str]]) -> Path:
    (folder / "oof").mkdir(parents=True)
    with (folder / "oof" / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["candidate", "key", "patient", "fold", "region", "dice"])
        writer.writerows(rows)
    return folder


def test_the_scores_are_the_means_by_fold(tmp_path: Path, package: Path) -> None:
    recipe = read_recipe(package / "models" / "model.pt")
    rows = [
        ("tiny", "a", "p", 0, "anterior", "0.8"),
        ("tiny", "a", "p", 0, "posterior", "0.6"),
        ("tiny", "b", "q", 0, "anterior", "0.9"),
        ("tiny", "b", "q", 0, "posterior", ""),
        ("tiny", "c", "r", 1, "anterior", "1.0"),
        ("tiny", "c", "r", 1, "posterior", "0.2"),
        ("other", "c", "r", 1, "posterior", "0.0"),
    ]
    folder = write_crossval(tmp_path / "cv", rows)
    scores = held_out_scores(folder, recipe, network="tiny")
    table = folder / "oof" / "table.csv"
    own = table.read_bytes()
    table.write_text(table.read_text().replace(",", ";").replace(".", ","))  # as some spreadsheets save it
    assert held_out_scores(folder, recipe, network="tiny") == scores
    table.write_text("name,age\nAnn,3\n")
    with pytest.raises(UsageError, match="must have the columns candidate, dice, fold"):
        held_out_scores(folder, recipe, network="tiny")
    table.write_bytes(own)
    first, second = scores["folds"]
    assert (first["fold"], first["cases"], first["patients"]) == (0, 2, 2)
    assert first["regions"]["anterior"] == {"dice": 0.85, "interval": [0.8, 0.9]}
    assert first["regions"]["posterior"]["dice"] == 0.6
    assert second["mean"] == {"dice": 0.6, "interval": None}
    assert scores["all"]["regions"]["anterior"]["dice"] == 0.9
    assert scores["all"]["mean"]["dice"] == 0.65
    written = pack(
        tmp_path / "tiny", checkpoint=tmp_path / "run" / "model.pt", output=tmp_path / "scored", crossval=folder
    )
    page = (written / "docs" / "README.md").read_text()
    assert "| 0 | 2 | 0.850 [0.800, 0.900] | 0.600 " in page
    assert "| all | 3 | 0.900 " in page
    assert "Of 2 networks" in page
    for name, words in (("unet", "is of other, tiny and not of unet"), ("other", "scores posterior")):
        with pytest.raises(UsageError, match=words):
            held_out_scores(folder, recipe, network=name)
    with pytest.raises(UsageError, match=r"has no oof/table\.csv"):
        held_out_scores(tmp_path, recipe, network="tiny")


# --- safetensors


def test_safetensors_predict_as_the_checkpoint_does(package: Path, tiny_cohort: Path, tmp_path: Path) -> None:
    image = Cohort.open(tiny_cohort).image_paths("case0_day0")
    one = Predictor.from_bundle(package).predict(image, key="a").label_map.voxels
    copied = shutil.copy(package / "models" / "model.safetensors", tmp_path / "mine.safetensors")
    other = Predictor.from_bundle(package, checkpoint=copied).predict(image, key="a").label_map.voxels
    assert np.array_equal(one, other)
    with pytest.raises(SystemExit) as stop:
        main(["export", "safetensors", str(package / "models" / "model.pt"), "-o", str(tmp_path / "two.safetensors")])
    assert not stop.value.code
    assert (tmp_path / "two.safetensors").read_bytes() == Path(copied).read_bytes(), "the same bytes each time"


def test_safetensors_that_cannot_be_used_are_refused(package: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    with pytest.raises(UsageError, match=r"must end in \.safetensors"):
        write_safetensors(package / "models" / "model.pt", tmp_path / "x.pt")
    save_file({"a": torch.zeros(2)}, tmp_path / "bare.safetensors")
    with pytest.raises(CheckpointError, match="holds no recipe"):
        read_recipe(tmp_path / "bare.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "bare.safetensors").read_bytes()[:-3])
    with pytest.raises(CheckpointError, match="is cut short or no file of safetensors"):
        read_recipe(tmp_path / "cut.safetensors")
