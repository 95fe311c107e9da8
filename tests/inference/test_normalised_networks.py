"""Networks of different normalisations: one, several together, one after the other, and packed."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from tiny_bundle import ROI, network, write_bundle

from volseg.bundle import Recipe
from volseg.deploy.pack import pack
from volseg.errors import CheckpointError
from volseg.inference import CascadePredictor, Predictor, RegionOfInterest
from volseg.labels import LabelTable
from volseg.transforms import preprocessing
from volseg.volume import Volume, write_volume

LABELS = LabelTable.exclusive(["a", "b"])
CT = {"scheme": "ct", "lower": 300.0, "upper": 700.0, "mean": 500.0, "std": 100.0}
SCHEMES = {
    "before": None,
    "ct": [CT, {"scheme": "mr"}],
    "other_ct": [{**CT, "lower": 250.0, "std": 120.0}, {"scheme": "mr"}],
    "pet": [{"scheme": "none"}, {"scheme": "pet", "std": 200.0}],
}
AFFINE = np.diag([-2.0, 2.0, 3.0, 1.0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A bundle, one checkpoint per normalisation, and an image of two channels."""
    folder = tmp_path_factory.mktemp("normalised")
    write_bundle(folder / "bundle")
    for name, entries in SCHEMES.items():
        save(folder / f"{name}.pt", entries)
    draw = np.random.default_rng(0)
    for channel in range(2):
        coarse = np.kron(draw.normal(0, 1, (6, 5, 3)), np.ones((4, 4, 4)))
        voxels = (500 + 100 * coarse + draw.normal(0, 10, coarse.shape)).astype(np.int16)
        write_volume(folder / "images" / f"case_{channel:04d}.nii.gz", Volume(voxels, AFFINE))
    return folder


def save(path, entries, *, names=("CT", "T1"), spacing_mm=(2, 2, 3), channels=2):
    settings = {"feature_size": 12, "window_size": 4}
    recipe = Recipe(LABELS, list(names), list(spacing_mm), list(ROI), settings, {"source": {}}, entries)
    weights = network(LABELS, channels=channels).state_dict()
    torch.save({"model": weights, "recipe": recipe.state_dict()}, path)
    return path


def load(folder, name, bundle="bundle"):
    overrides = {"precision": "fp32", "save_probabilities": True}
    return Predictor.from_bundle(
        folder / bundle, checkpoint=None if name is None else folder / f"{name}.pt", device="cpu", overrides=overrides
    )


def images(folder):
    return [folder / "images" / f"case_{channel:04d}.nii.gz" for channel in range(2)]


def probabilities(predictor, folder):
    return predictor.predict(images(folder), key="case").probabilities


@pytest.mark.parametrize("name", SCHEMES)
def test_a_network_is_given_what_it_was_trained_on(folder, name):
    predictor = load(folder, name)
    seen = predictor.preprocess(images(folder), key="case")["image"]
    trained = preprocessing(LABELS, channels=2, spacing_mm=[2, 2, 3], normalisation=SCHEMES[name], label=False)
    item = {"key": "case", "image": [str(path) for path in images(folder)]}
    assert torch.equal(seen.as_tensor(), trained(item)["image"].as_tensor())
    # What `monai.bundle run` builds of the same text.
    parser = ConfigParser()
    parser.read_config(str(folder / "bundle" / "inference.json"))
    parser.update({"checkpoint": str(folder / f"{name}.pt"), "bundle_root": str(folder / "bundle")})
    assert torch.equal(parser.get_parsed_content("preprocessing")(item)["image"].as_tensor(), seen.as_tensor())


@pytest.mark.parametrize("names", [("ct", "other_ct"), ("ct", "before", "pet"), ("before", "ct"), ("ct", "ct")])
@pytest.mark.parametrize("flips", [(), (0,)])
def test_an_ensemble_is_the_mean_of_what_each_network_makes(folder, names, flips):
    members = [load(folder, name) for name in names]
    alone = [probabilities(member.with_members(flips=flips), folder) for member in members]
    joined = members[0].with_members(members[1:], flips=flips)
    assert len(joined.grids) == 1
    # A logit of the mean and its sigmoid round differently than each network's own probabilities.
    assert probabilities(joined, folder) == pytest.approx(np.mean(alone, axis=0), abs=2e-5)


def test_normalisations_go_with_the_names_of_channels(folder, tmp_path):
    """The same schemes in the same order, for channels in another order, are other normalisations."""
    entries = SCHEMES["ct"]
    turned = save(tmp_path / "turned.pt", entries[::-1], names=("T1", "CT"))
    crossed = save(tmp_path / "crossed.pt", entries, names=("T1", "CT"))
    first = load(folder, "ct")
    for path in (turned, crossed):
        other = Predictor.from_bundle(folder / "bundle", checkpoint=path, device="cpu", overrides=first_settings())
        own = other.predict(images(folder)[::-1], key="case").probabilities
        expected = (probabilities(first, folder) + own) / 2
        assert probabilities(first.with_members([other]), folder) == pytest.approx(expected, abs=2e-5)


def first_settings():
    return {"precision": "fp32", "save_probabilities": True}


def test_networks_of_other_grids_keep_their_normalisation(folder, tmp_path):
    other = save(tmp_path / "coarse.pt", SCHEMES["pet"], spacing_mm=(3, 3, 3))
    first, second = (
        load(folder, "ct"),
        Predictor.from_bundle(folder / "bundle", checkpoint=other, device="cpu", overrides=first_settings()),
    )
    joined = first.with_members([second])
    assert len(joined.grids) == 2
    expected = (probabilities(first, folder) + probabilities(second, folder)) / 2
    assert probabilities(joined, folder) == pytest.approx(expected, abs=2e-5)


def test_both_steps_of_a_cascade_keep_their_normalisation(folder):
    step = RegionOfInterest.parse(str(folder / "bundle"), regions=["a"], margin_mm=4.0)
    first, second = load(folder, "pet"), load(folder, "ct")
    read = CascadePredictor(second, step, first).preprocess(images(folder), key="case")
    assert torch.equal(read["first"]["image"], first.preprocess(images(folder), key="case")["image"])
    item = CascadePredictor(second, step, first).infer(read)
    box = [item["crop"].cut(volume) for volume in read["volumes"]]
    assert torch.equal(item["image"], second.preprocess(box, key="case")["image"])


@pytest.mark.parametrize("name", ["before", "ct", "pet"])
def test_a_package_normalises_as_its_checkpoint(folder, tmp_path, name):
    packed = pack(folder / "bundle", checkpoint=folder / f"{name}.pt", output=tmp_path / "mine")
    stated = json.loads((packed / "configs" / "inference.json").read_text())["stated_recipe"]
    assert stated.get("normalisation") == SCHEMES[name]
    metadata = json.loads((packed / "configs" / "metadata.json").read_text())["volseg"]
    assert metadata.get("normalisation") == SCHEMES[name]
    page = (packed / "docs" / "README.md").read_text()
    assert ("CT ct lower 300 upper 700 mean 500 std 100; T1 mr" if name == "ct" else "| intensities | CT ") in page
    assert np.array_equal(
        probabilities(load(tmp_path, None, "mine"), folder), probabilities(load(folder, name), folder)
    )


def test_a_bundle_that_drops_the_normalisation_is_refused(folder, tmp_path):
    """Its text copies the spacing, and the network would be given numbers that it has never seen."""
    content = json.loads((folder / "bundle" / "inference.json").read_text())
    write_bundle(tmp_path / "bundle")
    content["preprocessing"] = content["preprocessing"].replace("@recipe.spacing_mm", "list(@recipe.spacing_mm)")
    (tmp_path / "bundle" / "inference.json").write_text(json.dumps(content))
    with pytest.raises(
        CheckpointError, match=r"trained with the normalisation ct, mr, and the bundle's .* percentiles"
    ):
        Predictor.from_bundle(tmp_path / "bundle", checkpoint=folder / "ct.pt", device="cpu")
    Predictor.from_bundle(tmp_path / "bundle", checkpoint=folder / "before.pt", device="cpu")


@pytest.mark.parametrize("name", ["before", "ct"])
def test_an_empty_channel_is_named(folder, caplog, name):
    voxels = Volume(np.full((24, 20, 12), 9, np.int16), AFFINE)
    prediction = load(folder, name).predict([images(folder)[0], voxels], key="case")
    assert prediction.note == "T1 has one value everywhere, so the network saw nothing in it"
    assert "case: channel 1 has one value everywhere" in caplog.text
    mixed = load(folder, "ct").with_members([load(folder, "before")])
    assert mixed.predict([images(folder)[0], voxels], key="case").note == prediction.note
    assert replace(prediction, note="").note == ""
