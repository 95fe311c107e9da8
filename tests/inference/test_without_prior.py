"""One file for days with and without a prior: the second network in it, whatever form the file has."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from command import told
from tiny_bundle import ROI, network, write_bundle
from treatment_days import write_days

from volseg.bundle import SAFETENSORS, Recipe, read_checkpoint, read_recipe, write_safetensors
from volseg.calibration import read_calibration
from volseg.cohort import Alignments
from volseg.deploy.pack import pack
from volseg.errors import CheckpointError
from volseg.inference import CascadePredictor, Predictor, PriorSource, RegionOfInterest, find_priors
from volseg.labels import LabelTable, prior_channels
from volseg.training import NetworkWithoutPrior, write_network
from volseg.volume import Volume, read_volume, write_volume

NAMES = ("MR", *prior_channels(["MR"], ["ball"]))
LABELS = LabelTable.exclusive(["ball"])


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_days(tmp_path_factory.mktemp("days"))


@pytest.fixture(scope="module")
def files(tmp_path_factory, cohort):
    """Checkpoints of a network without a prior, of one with, and of both in one file."""
    folder = tmp_path_factory.mktemp("files")
    write_bundle(folder / "bundle")
    for name, channels in (("plain", 1), ("alone", 4)):
        torch.save(content(cohort, channels), folder / f"{name}.pt")
    write_network(folder / "alone.pt", folder / "both.pt", without_prior=folder / "plain.pt")
    return folder


def content(cohort, channels, *, labels=LABELS, names=None):
    schemes = [{"scheme": name} for name in ("mr", "mr", "none", "none")[:channels]]
    facts = {"cohort": str(cohort.folder), "fold": 0}
    if channels > 1:
        facts["prior_alignment"] = "deformable"
    recipe = Recipe(
        labels, names or NAMES[:channels], [4, 4, 4], list(ROI), {"feature_size": 12, "window_size": 4}, facts, schemes
    )
    return {"model": network(labels, channels=channels).state_dict(), "recipe": recipe.state_dict()}


def predictor(files, name, **given):
    return Predictor.from_bundle(files / "bundle", checkpoint=files / name, device="cpu", **given)


def priors_of(cohort, folder, key):
    source = PriorSource.open(cohort.folder, channels=1)
    cases = [(key, cohort.image_paths(key))]
    return find_priors(cases, source, cohort=cohort, alignments=Alignments(folder), labels=cohort.labels)[0]


def same(a, b):
    return np.array_equal(a.label_map.voxels, b.label_map.voxels) and a.uncertainty == b.uncertainty


def test_a_case_without_a_prior_is_that_of_the_network_without_one_and_others_are_not(files, cohort, tmp_path):
    key = "b_day10"
    images, priors = cohort.image_paths(key), priors_of(cohort, tmp_path, key)
    plain, alone, both = (predictor(files, f"{name}.pt") for name in ("plain", "alone", "both"))
    assert same(both.predict(images, key=key), plain.predict(images, key=key))
    shown = replace(both, priors=priors)
    assert same(shown.predict(images, key=key), replace(alone, priors=priors).predict(images, key=key))
    first = cohort.image_paths("b_day0")
    assert same(shown.predict(first, key="b_day0"), plain.predict(first, key="b_day0"))
    assert not same(alone.predict(images, key=key), plain.predict(images, key=key))


def test_a_prior_that_nobody_looked_at_is_none(files, cohort, tmp_path, caplog):
    key = "b_day10"
    images, (prior,) = cohort.image_paths(key), priors_of(cohort, tmp_path, key).values()
    before = read_volume(prior.label)
    write_volume(tmp_path / "ignored.nii.gz", Volume(np.full(before.shape, 2, np.uint8), before.affine_ras))
    table = {"labels": {"background": 0, "ball": 1, "ignore": 2}}
    nothing = replace(prior, label=str(tmp_path / "ignored.nii.gz"), labels=table)
    shown = replace(predictor(files, "both.pt"), priors={key: nothing})
    assert same(shown.predict(images, key=key), predictor(files, "plain.pt").predict(images, key=key))
    assert "the prior b_day9 tells nothing of what the image shows" in caplog.text


def test_ensembles_average_the_networks_without_a_prior_too(files, cohort):
    images = cohort.image_paths("b_day0")
    plain, both = (predictor(files, f"{name}.pt") for name in ("plain", "both"))
    alike = both.with_members([predictor(files, "both.pt")], flips=(0,)).predict(images, key="b_day0")
    assert same(alike, plain.with_members([predictor(files, "plain.pt")], flips=(0,)).predict(images, key="b_day0"))
    mixed = both.with_members([predictor(files, "alone.pt")])
    assert mixed.without_prior is None, "one of two would be another ensemble than the one that was asked for"
    assert both.with_engine("torch").without_prior.engine.name == "torch"


def test_both_steps_may_be_networks_with_a_prior_of_which_neither_is_shown_one(files, cohort):
    images = cohort.image_paths("b_day0")
    region = predictor(files, "alone.pt").predict(images, key="b_day0").label_map
    steps = CascadePredictor(
        predictor(files, "alone.pt"),
        RegionOfInterest(members=((str(files / "bundle"), None),), absent="empty"),
        predictor(files, "alone.pt"),
    )
    alone = CascadePredictor(predictor(files, "alone.pt"), RegionOfInterest(labels=LABELS, folder=files))
    assert region.voxels.any()
    assert same(steps.predict(images, key="b_day0"), alone.predict([*images, region], key="b_day0"))


def test_settings_of_the_bundle_reach_both(files, cohort):
    with_map = predictor(files, "both.pt", overrides={"save_probabilities": True}).predict(
        cohort.image_paths("b_day0"), key="b_day0"
    )
    assert with_map.probabilities is not None


def test_safetensors_hold_both(files, cohort):
    path = write_safetensors(files / "both.pt", files / f"both{SAFETENSORS}")
    images = cohort.image_paths("b_day0")
    assert same(
        predictor(files, path.name).predict(images, key="b_day0"),
        predictor(files, "both.pt").predict(images, key="b_day0"),
    )
    assert read_recipe(path).takes_prior
    assert read_recipe(path).prior_alignment == "deformable"
    assert not read_recipe(path, part="without_prior").takes_prior
    alone = write_safetensors(files / "alone.pt", files / f"alone{SAFETENSORS}")
    assert set(read_checkpoint(alone)) == {"model", "recipe"}


def test_a_package_holds_both_and_takes_priors(files, cohort, tmp_path):
    key = "b_day10"
    made = pack(files / "bundle", checkpoint=files / "both.pt", output=tmp_path / "package")
    images, priors = cohort.image_paths(key), priors_of(cohort, tmp_path, key)
    packed, both = Predictor.from_bundle(made, device="cpu"), predictor(files, "both.pt")
    assert same(packed.predict(images, key=key), both.predict(images, key=key))
    assert same(
        replace(packed, priors=priors).predict(images, key=key), replace(both, priors=priors).predict(images, key=key)
    )
    assert read_recipe(made / "models" / "model.pt").prior_alignment == "deformable"
    inside = read_recipe(made / "models" / "model.pt", part="without_prior")
    assert "/" not in str(inside.facts["cohort"])


def kept(weights, cohort, *, labels=None, names=NAMES):
    labels = labels or cohort.labels
    own = network(labels, channels=len(names))
    return NetworkWithoutPrior(weights, network=own, labels=labels, channel_names=names).state_dict()


def test_a_training_keeps_the_network_that_it_starts_from(files, cohort, caplog):
    found = kept(files / "plain.pt", cohort)
    assert Recipe.from_state(found["recipe"]).image_channels == ("MR",)
    assert torch.equal(found["model"]["model.0.conv.weight"], network(LABELS).state_dict()["model.0.conv.weight"])
    assert set(kept(files / "both.pt", cohort)["model"]) == set(found["model"]), "a training that goes on keeps it"
    assert kept(files / "plain.pt", cohort, names=("MR",)) == {}
    assert not caplog.records


@pytest.mark.parametrize("weights", [None, "auto", "alone.pt"])
def test_a_training_that_starts_otherwise_says_what_first_days_lose(files, cohort, caplog, weights):
    assert kept(files / weights if weights == "alone.pt" else weights, cohort) == {}
    assert "will be predicted by the same weights" in caplog.text


def test_other_regions_channels_or_networks_are_not_kept(files, cohort, tmp_path, caplog):
    assert kept(files / "plain.pt", cohort, labels=LabelTable.exclusive(["bowel"])) == {}
    assert kept(files / "plain.pt", cohort, names=("CT", *prior_channels(["CT"], ["ball"]))) == {}
    other = content(cohort, 1)
    other["model"]["further"] = torch.zeros(1)
    torch.save(other, tmp_path / "other.pt")
    assert kept(tmp_path / "other.pt", cohort) == {}
    assert "of another kind of network" in caplog.text


def test_a_network_with_a_prior_is_none_for_cases_without(files, tmp_path):
    with pytest.raises(CheckpointError, match=r"alone\.pt takes a prior; name a network without one"):
        write_network(files / "both.pt", tmp_path / "x.pt", without_prior=files / "alone.pt")
    again = write_network(files / "both.pt", tmp_path / "again.pt")
    assert "without_prior" in read_checkpoint(again)


def test_a_damaged_entry_is_one_line(files, cohort):
    broken = read_checkpoint(files / "both.pt")
    broken["without_prior"] = {**broken["without_prior"], "model": {}}
    torch.save(broken, files / "broken.pt")
    with pytest.raises(CheckpointError, match="holds a network for cases without a prior that is none of bundle"):
        predictor(files, "broken.pt")


@pytest.mark.parametrize("name", ["alone", "both"])
def test_a_calibration_without_priors_promises_nothing_of_predictions_with_one(files, cohort, tmp_path, capsys, name):
    """`volseg calibrate` predicts the held-out cases without priors; bounds are of such predictions alone."""
    run = tmp_path / "run"
    run.mkdir()
    shutil.copyfile(files / f"{name}.pt", run / "model.pt")
    code, text = told(capsys, "calibrate", run, cohort.folder, "--bundle", files / "bundle", "--device", "cpu")
    assert code == 0, text
    path = run / "calibration.json"
    assert read_calibration(path).options["prior"] is False
    key = "b_day10"
    images, priors = cohort.image_paths(key), priors_of(cohort, tmp_path, key)

    def reasons(calibration):
        plain = predictor(files, f"{name}.pt").with_calibration(calibration, path=path)
        shown = replace(plain, priors=priors)
        return [one.predict(images, key=key).bounds["ball"].not_comparable for one in (plain, shown)]

    without, with_one = reasons(read_calibration(path))
    assert "prior" not in without
    assert with_one == "predicted with a prior, calibrated without"
    # As `--predictions` of a folder that was predicted with --prior has it.
    known = read_calibration(path)
    without, with_one = reasons(replace(known, options={**known.options, "prior": True}))
    assert without.startswith("predicted without a prior")
    assert "prior" not in with_one
