"""A training after corrections: more of the corrected cases, and never one of the validation's patients."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial

import pytest
import tiny_bundle
import torch
from treatment_days import write_days

import volseg.training
from volseg.bundle import Recipe, find, run_settings, write_safetensors
from volseg.cli import main
from volseg.cohort import Cohort, Correction, write_corrections
from volseg.errors import UsageError
from volseg.labels import prior_channels
from volseg.training import Priors, corrected_datalist


def corrected(cohort: Cohort, *keys: str) -> Cohort:
    rows = [Correction(1, key, "large", 1.0, 0.1, 2.0, 3, 1, None, "label", "a", "b") for key in keys]
    write_corrections(cohort.folder, rows)
    return Cohort.open(cohort.folder)


@pytest.fixture
def cohort(tiny_cohort, tmp_path) -> Cohort:
    """Five cases: three to train on, one to validate, and one that no fold names."""
    shutil.copytree(tiny_cohort, tmp_path / "cohort")
    keys = [f"case{number}_day0" for number in range(5)]
    folds = [{"training": keys[:3], "validation": keys[3:4]}]
    (tmp_path / "cohort" / "splits.json").write_text(json.dumps(folds))
    return Cohort.open(tmp_path / "cohort")


def test_corrected_cases_stand_several_times_and_the_validation_is_left_alone(cohort, caplog):
    with pytest.raises(UsageError, match="no corrected case"):
        corrected_datalist(cohort)
    cohort = corrected(cohort, "case1_day0", "case3_day0", "case4_day0")
    with caplog.at_level(logging.WARNING):
        items = corrected_datalist(cohort, times=2)
    keys = [item["key"] for item in items]
    assert sorted(keys) == ["case0_day0", *["case1_day0"] * 2, "case2_day0", *["case4_day0"] * 2]
    assert items[0] == cohort.datalist("training")[0]
    assert "not trained on: case3_day0" in caplog.text
    assert "case3_day0 of the validation has another label now" in caplog.text
    with pytest.raises(UsageError, match="at least once"):
        corrected_datalist(cohort, times=0)


def test_corrected_cases_have_their_priors_in_a_training_with_them(tmp_path, caplog):
    days = corrected(write_days(tmp_path / "days", patients=("a", "b", "c")), "a_day9", "b_day0")
    priors = Priors(days, on=True, cache_dir=str(tmp_path / "cache"))
    plain = {item["key"]: item for item in priors.datalist("training")}
    items = corrected_datalist(days, times=2, priors=priors)
    assert [item["key"] for item in items].count("a_day9") == 2
    assert len(items) == len(plain) + 2
    for item in items:
        assert item == plain[item["key"]]
        assert item["prior"]
    assert items != corrected_datalist(days, times=2)
    assert corrected_datalist(days, times=2, priors=Priors(days)) == corrected_datalist(days, times=2)


def test_the_command_starts_from_the_run_on_its_fold(cohort, tmp_path, monkeypatch, capsys):
    cohort = corrected(cohort, "case1_day0")
    run = tmp_path / "run"
    tiny_bundle.write_checkpoint(run / "model.pt", fold=0)
    given = {}

    def train(_, *, overrides, more, dry):
        given.update(overrides)
        return run / "model.pt"

    monkeypatch.setattr(volseg.training, "train", train)
    words = ["train", "unet", "--dataset_dir", str(cohort.folder), "--corrections", str(run), "--times", "4"]
    with pytest.raises(SystemExit) as left:
        main(words)
    assert not left.value.code
    assert given["weights"] == str(run)
    assert given["spacing_mm"] == [2, 2, 3]
    assert given["roi_size"] == list(tiny_bundle.ROI)
    assert given["fold"] == 0
    assert (
        given["train#dataset#data"]
        == "$volseg.training.corrected_datalist(@cohort, fold=@fold, times=4, priors=@priors)"
    )
    assert "volseg compare" in capsys.readouterr().out
    for more, told in ((["--weights", "x"], "leave --weights out"), (["--fold", "1"], "was trained on fold 0")):
        with pytest.raises(SystemExit) as left:
            main([*words, *more])
        assert left.value.code == 2
        assert told in capsys.readouterr().err


def test_a_training_goes_on_with_the_sizes_and_the_grid_of_its_run(tiny_cohort, tmp_path):
    """Without that it would begin with other weights wherever the run had other settings than the default ones."""
    run = tmp_path / "run"
    schemes = [{"scheme": "ct", "lower": -150.0, "upper": 250.0, "mean": 30.0, "std": 70.0}]
    labels = Cohort.open(tiny_cohort).labels
    recipe = Recipe(labels, ["MR"], [2, 2, 3], [32, 48, 16], {"filters": [12]}, {"flip_axes": [0]}, schemes)
    run.mkdir()
    torch.save({"model": {}, "recipe": recipe.state_dict()}, run / "model.pt")
    values = {"width": 12, "deep_supervision": False, "affine_prob": 0.2, "learning_rate": 1.0, "max_epochs": 3}
    record = {"bundle": "unet", "settings": {"given": {"width": 12, "max_epochs": 3}, "values": values}}
    (run / "run.json").write_text(json.dumps(record))
    shown = {"spacing_mm": [2, 2, 3], "roi_size": [32, 48, 16], "normalisation": schemes, "flip_axes": [0]}
    shown |= {"affine_prob": 0.2}
    asked = partial(run_settings, run / "model.pt", channel_names=["T1"])
    assert asked(find("unet")) == {**shown, "width": 12, "deep_supervision": False}
    assert asked(find("unetr")) == shown
    assert "normalisation" not in run_settings(run / "model.pt", find("unet"), channel_names=["T1", "T2"])
    (run / "run.json").unlink()
    assert asked(find("unet"))["width"] == 12
    recipe.network = {"feature_size": 24, "window_size": 7}
    torch.save({"model": {}, "recipe": recipe.state_dict()}, run / "model.pt")
    assert asked(find("swinunetr"))["feature_size"] == 24
    days = replace(recipe, channel_names=["MR", *prior_channels(["MR"], labels.names)], normalisation=None)
    torch.save({"model": {}, "recipe": days.state_dict()}, run / "model.pt")
    assert asked(find("swinunetr"))["prior"] is True


@pytest.mark.parametrize(
    ("words", "left_out"),
    [
        (["--spacing_mm", "[3,3,3]"], {"spacing_mm", "roi_size"}),
        (["--plan_file", "plan.json"], {"spacing_mm", "roi_size", "flip_axes"}),
        (["--config-file", "more.json"], {"flip_axes"}),
        (["--config-file", "more.yaml"], {"roi_size"}),
    ],
)
def test_what_the_user_states_is_not_taken_from_the_run(cohort, tmp_path, monkeypatch, capsys, words, left_out):
    cohort = corrected(cohort, "case1_day0")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "more.json").write_text('{"flip_axes": [1]}')
    (tmp_path / "more.yaml").write_text("roi_size: [16, 16, 16]\nloss#weight: 2\n")
    tiny_bundle.write_checkpoint(tmp_path / "run" / "model.pt", fold=0, flip_axes=[0])
    given = {}

    def train(_, *, overrides, more, dry):
        given.update(overrides)
        return tmp_path / "run" / "model.pt"

    monkeypatch.setattr(volseg.training, "train", train)
    with pytest.raises(SystemExit) as left:
        main(["train", "unet", "--dataset_dir", str(cohort.folder), "--corrections", "run", *words])
    assert not left.value.code
    told = capsys.readouterr().err
    taken = {"spacing_mm", "roi_size", "flip_axes"} - left_out
    assert {name for name in ("spacing_mm", "roi_size", "flip_axes") if f" {name} [" in told} == taken
    assert taken <= set(given)
    assert not (left_out - {"spacing_mm"}) & set(given)


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_a_training_goes_on_from_a_package_with_its_settings_and_on_a_fold_of_the_cohort(
    cohort, tmp_path, monkeypatch, capsys, name
):
    """The fold of a package is one of the cohort that it was trained on."""
    cohort = corrected(cohort, "case1_day0")
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "bundles" / "mine"
    shutil.copytree(find("unet"), package)
    written = tiny_bundle.write_checkpoint(tmp_path / "model.pt", fold="all")
    (package / "models").mkdir()
    if name.endswith("pt"):
        shutil.copyfile(written, package / "models" / name)
    else:
        write_safetensors(written, package / "models" / name)
    given = {}

    def train(_, *, overrides, more, dry):
        given.update(overrides)
        return tmp_path / "model.pt"

    monkeypatch.setattr(volseg.training, "train", train)
    with pytest.raises(SystemExit) as left:
        main(["train", "mine", "--dataset_dir", str(cohort.folder), "--corrections", "mine"])
    assert not left.value.code
    assert "as mine was trained: spacing_mm [2" in capsys.readouterr().err
    assert given["spacing_mm"] == [2, 2, 3]
    assert given["roi_size"] == list(tiny_bundle.ROI)
    assert "fold" not in given


def test_a_cohort_without_a_corrected_case_is_told_before_pytorch_is_loaded(cohort, tmp_path):
    words = ["train", "unet", "--dataset_dir", str(cohort.folder), "--corrections", str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", _TOLD, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "has no corrected case; take edits in with" in done.stderr
    assert done.stdout.strip() == "False"


_TOLD = """
import sys
from volseg.cli import main
try:
    main(sys.argv[1:])
finally:
    print("torch" in sys.modules)
"""
