"""The bundles: one recipe, told once a network; each builds, trains a step, validates and predicts."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from shipped_bundles import BUNDLES, NAMES, TINY

from volseg.cohort import Cohort
from volseg.inference import Predictor
from volseg.training import train
from volseg.volume import read_volume

FILES = {
    *("train.json", "evaluate.json", "inference.json", "multi_gpu_train.json", "metadata.json"),
    *("logging.conf", "LICENSE", "docs/README.md"),
}
# What a network may have of its own, apart from the settings that its recipe names.
OWN = {
    "train.json": {
        *("network_def", "roi_size", "roi_divisor", "roi_voxels"),
        *("learning_rate", "optimizer", "output_dir", "pyramid", "weights"),
    },
    "inference.json": {"network_def", "checkpoint", "output_dir"},
    "metadata.json": {
        "name",
        "description",
        "references",
        "network_data_format",
        "required_packages_version",
        "planning",
    },
}

bundles = pytest.mark.parametrize("name", NAMES)


def read(name, file):
    return json.loads((BUNDLES / name / file).read_text())


def settings_of(name):
    """The network's own settings: what the network and its recipe ask for and no other part of the config has."""
    content = read(name, "train.json")
    asked = json.dumps([content["network_def"], content["recipe"]["network"]])
    told = OWN["train.json"] | {"recipe", "settings"}
    rest = json.dumps({key: value for key, value in content.items() if key not in told})
    found = set(re.findall(r"@(\w+)", asked)) & set(content)
    return {key for key in found if not re.search(rf"@{key}\b", rest)} | set(content["recipe"]["network"])


def test_every_network_of_the_mission_is_there():
    assert NAMES == ["dense_unet", "segformer", "swinunetr", "unet", "unetr"]


def test_the_files_are_those_that_the_template_gives():
    command = [sys.executable, str(BUNDLES / "_base" / "compose.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@bundles
def test_a_bundle_has_its_files(name):
    there = {str(path.relative_to(BUNDLES / name)) for path in (BUNDLES / name).rglob("*") if path.is_file()}
    assert there == FILES


@bundles
@pytest.mark.parametrize("file", sorted(FILES - {"docs/README.md"}))
def test_bundles_differ_in_network_window_optimizer_and_words_alone(name, file):
    if not file.endswith(".json"):
        assert (BUNDLES / name / file).read_text() == (BUNDLES / "swinunetr" / file).read_text()
        return
    one, other = read(name, file), read("swinunetr", file)
    if file == "train.json":
        for content in (one, other):
            content["recipe"].pop("network")
            handed = content.pop("settings")["values"]
            assert all(value == f"@{name}" for name, value in handed.items())
            assert set(handed) <= set(content)
            above = list(content)[1 : list(content).index("recipe")]
            assert list(handed) == [*above, "iterations"], "what the record of a run tells"
            # Where a network of one's own is not named: published weights, or none.
            assert content.pop("weights") == ("auto" if content is one and name == "segformer" else None)
    own = OWN.get(file, set()) | settings_of(name) | settings_of("swinunetr")
    shared, shared_other = ({key: part[key] for key in part if key not in own} for part in (one, other))
    assert shared == shared_other
    # The order is read too: the same things stand in the same place.
    assert list(shared) == list(shared_other)


@bundles
def test_inference_builds_the_network_that_was_trained(name):
    train, inference = (read(name, file)["network_def"] for file in ("train.json", "inference.json"))
    assert train["_target_"] == inference["_target_"]
    for setting in read(name, "train.json")["recipe"]["network"]:
        told = json.dumps(inference)
        assert f"@recipe.network['{setting}']" in told, f"{setting} is in the recipe and not taken from it"


@bundles
def test_a_bundle_trains_a_step_validates_and_predicts(name, tiny_cohort, tmp_path):
    settings = {
        **{"dataset_dir": str(tiny_cohort), "output_dir": str(tmp_path / "run"), "device": "cpu", "precision": "fp32"},
        **{"max_epochs": 1, "val_interval": 1, "crops_per_case": 1, "batch_size": 3, **TINY[name]},
    }
    checkpoint = train(name_or_folder := BUNDLES / name, overrides=settings)
    history = json.loads((tmp_path / "run" / "run.json").read_text())["history"]
    assert 0 < history[0]["loss"] < 10
    assert 0 <= history[0]["dice"] <= 1
    cohort = Cohort.open(tiny_cohort)
    predictor = Predictor.from_bundle(name_or_folder, checkpoint=checkpoint, device="cpu")
    key = cohort.fold(0).validation[0]
    image = read_volume(cohort.image_paths(key)[0])
    prediction = predictor.predict(cohort.image_paths(key), key=key)
    prediction = getattr(prediction, "label_map", prediction)
    assert prediction.shape == image.shape
    assert np.array_equal(prediction.affine_ras, image.affine_ras)
    assert set(np.unique(prediction.voxels)) <= set(cohort.labels.values)


@bundles
def test_every_handler_is_an_id_and_every_entry_of_a_list_of_handlers_a_dictionary(name):
    """Users override an id, `--validation_handler#interval 2`; MONAI Label 0.8.5 reads `_target_` of each entry."""
    content = read(name, "train.json")
    for part in ("train", "validate"):
        (entry,) = content[part]["handlers"]
        assert entry.get("_target_") == "volseg.training.Handlers"
        ids = [word.removeprefix("@") for word in entry["handlers"]]
        assert all(word.startswith("@") for word in entry["handlers"])
        assert all("_target_" in content[id_] for id_ in ids)
        assert (ids[-1] == "raise_handler") == (part == "train"), "what raises errors comes last"
