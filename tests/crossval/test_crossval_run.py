"""A cross-validation that is stopped and goes on, that notices changes, and that is dealt to several machines."""

from __future__ import annotations

import csv
import json
import random
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from command import told
from stub_training import StubTraining, stub_prediction
from tiny_bundle import write_bundle

import volseg.bundle
import volseg.cli.calibrate
import volseg.crossval
import volseg.crossval.fold
from volseg.calibration import CALIBRATION, find_calibration
from volseg.cohort import Cohort, Fold, split_by_patient, write_splits
from volseg.crossval import CrossvalFolder, CrossvalSettings, FoldTraining, begin, choose_cleanup, data_of, jobs_of
from volseg.errors import UsageError
from volseg.jobs import Serial, WorkerOptions
from volseg.volume import Volume, read_volume, write_volume

SCHEMA = json.loads((Path(volseg.crossval.__file__).parent / "summary.schema.json").read_text())
ENSEMBLE_SCHEMA = json.loads((Path(volseg.bundle.__file__).parent / "ensemble.schema.json").read_text())


@pytest.fixture
def place(tiny_cohort, tmp_path, monkeypatch):
    """Two bundles, and a cohort of five cases of five patients in two folds, in the working directory."""
    shutil.copytree(tiny_cohort, tmp_path / "cohort")
    cohort = Cohort.open(tmp_path / "cohort")
    write_splits(cohort.folder, split_by_patient(cohort.rows.values(), folds=2))
    for name in ("one", "second"):
        write_bundle(tmp_path / "bundles" / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("volseg.crossval.run._pool", lambda *_, **__: Serial())
    return tmp_path


@pytest.fixture
def trained(monkeypatch):
    training = StubTraining()
    monkeypatch.setattr("volseg.training.train", training)
    monkeypatch.setattr("volseg.crossval.fold.collect", lambda: 0)
    return training


@pytest.fixture
def stub(trained, monkeypatch):
    """Neither trains nor predicts."""
    monkeypatch.setattr("volseg.crossval.fold.predict_fold", stub_prediction)
    monkeypatch.setattr("volseg.crossval.result.predict_fold", stub_prediction)
    return trained


def run(capsys, *words, out="cv", names=("one", "second")):
    return told(capsys, "crossval", *names, "cohort", "-o", out, "--no-html", *words)


def files(folder):
    """What a cross-validation says, but for the time that it took."""
    summary = json.loads((folder / "summary.json").read_text())
    for one in summary["runs"]:
        del one["seconds"]
    maps = {path.relative_to(folder): read_volume(path).voxels for path in folder.glob("oof/*/*.nii.gz")}
    texts = {path.relative_to(folder): path.read_text() for path in folder.glob("oof/**/*.csv")}
    weights = {path.relative_to(folder): torch.load(path, weights_only=True) for path in folder.rglob("final.pt")}
    return summary, texts, maps, weights


def assert_same(one, other):
    for mine, theirs in zip(files(one)[:2], files(other)[:2], strict=True):
        assert mine == theirs
    (maps, weights), (other_maps, other_weights) = files(one)[2:], files(other)[2:]
    assert maps.keys() == other_maps.keys()
    assert all(np.array_equal(maps[name], other_maps[name]) for name in maps)
    assert weights.keys() == other_weights.keys()
    for name, content in weights.items():
        assert all(torch.equal(tensor, other_weights[name]["model"][key]) for key, tensor in content["model"].items())


def test_every_case_is_predicted_by_the_fold_that_has_not_seen_it(place, trained, capsys):
    stub = trained
    code, text = run(capsys, "--max_epochs", "3", "--save-probabilities")
    assert code == 0, text
    assert sorted(stub.calls) == [("one", 0), ("one", 1), ("second", 0), ("second", 1)]
    assert {given["max_epochs"] for given in stub.given} == {3}
    assert "warning  one fold 0: fold 0 of one is small" in text
    folder, cohort = CrossvalFolder(place / "cv"), Cohort.open(place / "cohort")
    summary = json.loads(folder.summary.read_text())
    jsonschema.validate(summary, SCHEMA)
    jsonschema.validate(json.loads((folder.ensemble / "ensemble.json").read_text()), ENSEMBLE_SCHEMA)
    rows = list(csv.DictReader(folder.table.read_text().splitlines()))
    for name in ("one", "second", summary["candidates"][0]["name"]):
        mine = [row for row in rows if row["candidate"] == name]
        assert {row["key"]: int(row["fold"]) for row in mine} == {
            key: fold for fold in (0, 1) for key in cohort.fold(fold).validation
        }
        assert all(row["expected_dice"] for row in mine)
    for fold in (0, 1):  # what lies in the folder of all folds is what the network of that fold has predicted
        for key in cohort.fold(fold).validation:
            for file in (f"{key}.nii.gz", f"probabilities/{key}.nii.gz"):
                assert (folder.oof("one") / file).samefile(folder.validation("one", fold) / file)
    assert {one["name"] for one in summary["candidates"]} >= {"one", "second"}
    assert len(summary["candidates"]) == 3
    assert (place / "cv" / "comparison" / "comparison.md").is_file()
    assert not list((place / "cv").rglob("last.pt"))  # of the optimizer nothing stays
    kept = torch.load(folder.network("one", 0), weights_only=True)
    assert kept.keys() == {"model", "recipe"}


def test_cleaned_label_maps_have_the_dice_that_the_network_expected_of_them(place, stub, capsys, monkeypatch):
    def clean_all(*found, **given):
        return [replace(one, chosen=True) for one in choose_cleanup(*found, **given)]

    monkeypatch.setattr("volseg.crossval.result.choose_cleanup", clean_all)
    code, text = run(capsys, names=["one"])
    assert code == 0, text
    rows = list(csv.DictReader(CrossvalFolder(place / "cv").table.read_text().splitlines()))
    expected = {
        name: {(row["key"], row["region"]): row["expected_dice"] for row in rows if row["candidate"] == name}
        for name in ("one", "chosen")
    }
    assert all(expected["one"].values())
    assert expected["chosen"] == expected["one"]


@pytest.mark.parametrize("where", ["training", "prediction", "done"])
def test_a_run_that_was_stopped_goes_on_and_ends_the_same(where, place, stub, capsys, monkeypatch):
    assert run(capsys, out="whole", names=["one"])[0] == 0
    stub.calls.clear()
    stopped = KeyboardInterrupt()
    if where == "training":
        stub.stop = ("one", 1, stopped)
    else:
        name = "predict_fold" if where == "prediction" else "stamp"
        real, seen = getattr(volseg.crossval.fold, name), []

        def stop_at_second(*given, **more):
            seen.append(1)
            if len(seen) == 2:
                raise stopped
            return real(*given, **more)

        monkeypatch.setattr(volseg.crossval.fold, name, stop_at_second)
    assert run(capsys, names=["one"])[0] == 130
    assert not (place / "cv" / "summary.json").exists()
    code, text = run(capsys, names=["one"])
    assert code == 0
    assert "1 of 2 folds were finished before" in text
    again = [("one", 1)] if where == "training" else []
    assert stub.calls == [("one", 0), ("one", 1), *again]
    assert_same(place / "whole", place / "cv")


def edit_label(place):
    path = next((place / "cohort" / "labelsTr").iterdir())
    label = read_volume(path)
    write_volume(path, Volume(np.roll(label.voxels, 1, axis=0), label.affine_ras))
    return f"the label of {path.name.removesuffix('.nii.gz')} changed"


def edit_image(place):
    path = next((place / "cohort" / "imagesTr").iterdir())
    image = read_volume(path)
    write_volume(path, Volume(image.voxels[::-1].copy(), image.affine_ras))
    return f"the image of {path.name.removesuffix('_0000.nii.gz')} changed"


def drop_case(place):
    folds = Cohort.open(place / "cohort").folds()
    gone = folds[0].training[0]
    kept = [Fold(tuple(k for k in f.training if k != gone), tuple(k for k in f.validation if k != gone)) for f in folds]
    write_splits(place / "cohort", kept)
    return f"training of fold 0: {gone} is gone"


def edit_plan(place):
    (place / "plan.json").write_text('{"b": 2}')
    return "--plan_file (content) was "


def split_again(place):
    cohort = Cohort.open(place / "cohort")
    write_splits(cohort.folder, split_by_patient(cohort.rows.values(), folds=2, seed=5))
    return "fold 0:"


def edit_bundle(place):
    path = place / "bundles" / "one" / "train.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 7'))
    return "the configs of the bundle one changed"


def edit_config(place):
    (place / "more.json").write_text('{"seed": 4}')
    return "the config file more.json changed"


CHANGES = {
    "minutes": ({"minutes": 2.0}, "--minutes was 1.0 and is 2.0"),
    "no minutes": ({"minutes": None}, "--minutes was 1.0 and is not given"),
    "setting": ({"overrides": {"plan_file": "plan.json", "seed": 1}}, "--seed was not given and is 1"),
    "inner setting": ({"overrides": {"optimizer#lr": 0.1}}, "--optimizer#lr was not given and is 0.1"),
    "plan": ({}, edit_plan),
    "another plan": ({"overrides": {"plan_file": "more.json"}}, "--plan_file was plan.json and is more.json"),
    "no plan": ({"overrides": {}}, "--plan_file was plan.json and is not given"),
    "take": ({"take": "best"}, "--take was last and is best"),
    "label": ({}, edit_label),
    "image": ({}, edit_image),
    "split": ({}, split_again),
    "case": ({}, drop_case),
    "bundle": ({}, edit_bundle),
    "config": ({}, edit_config),
    "no config": ({"config_files": ()}, "the config file more.json came or went"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_named(change, place):
    options, expected = CHANGES[change]
    (place / "more.json").write_text('{"seed": 3}')
    (place / "plan.json").write_text('{"a": 1}')
    asked = {"minutes": 1.0, "config_files": (Path("more.json"),), "overrides": {"plan_file": "plan.json"}}

    def start(*, anyway=False, **options):
        cohort = Cohort.open(place / "cohort")
        settings = CrossvalSettings.of(cohort, ["one"], **{**asked, **options})
        return begin(CrossvalFolder(place / "cv"), settings, data_of(cohort, settings.folds), anyway=anyway)

    assert start() == []
    assert start() == []
    expected = expected if isinstance(expected, str) else expected(place)
    with pytest.raises(UsageError, match=r"was begun with other settings or data: .*--anyway") as refused:
        start(**options)
    assert expected in str(refused.value)
    assert expected in "; ".join(start(**options, anyway=True))
    assert start(**options) == []  # from now on these are the settings


def test_with_anyway_a_changed_run_keeps_what_is_finished(place, stub, capsys):
    stub.stop = ("one", 1, KeyboardInterrupt())
    assert run(capsys, "--minutes", "1", names=["one"])[0] == 130
    told = edit_label(place)
    code, text = run(capsys, "--minutes", "1", names=["one"])
    assert code == 2
    assert told in text
    assert len(stub.calls) == 2
    code, text = run(capsys, "--minutes", "1", "--anyway", names=["one"])
    assert code == 0, text
    assert stub.calls[2:] == [("one", 1)]
    assert stub.given[-1]["resume"] == "anyway"
    notes = json.loads((place / "cv" / "summary.json").read_text())["notes"]
    assert any(told in note for note in notes)


def test_another_overlap_predicts_anew_and_trains_nothing(place, stub, capsys):
    assert run(capsys, names=["one"])[0] == 0
    code, _ = run(capsys, "--overlap", "0.25", names=["one"])
    assert code == 0
    assert len(stub.calls) == 2
    journal = (place / "cv/.volseg/crossval.jsonl").read_text().splitlines()
    assert [json.loads(line)["error"] for line in journal] == [None, None, "outdated", None, "outdated", None]


def test_a_further_bundle_joins_and_what_is_finished_stays(place, stub, capsys):
    assert run(capsys, "--shard", "0/1", names=["one"])[0] == 0
    assert run(capsys, "--shard", "0/1")[0] == 0
    assert sorted(stub.calls) == [("one", 0), ("one", 1), ("second", 0), ("second", 1)]


def test_a_call_with_one_bundle_leaves_no_comparison_of_an_earlier_one(place, stub, capsys):
    assert run(capsys)[0] == 0
    assert (place / "cv" / "comparison" / "comparison.md").is_file()
    assert run(capsys, names=["one"])[0] == 0
    assert not (place / "cv" / "comparison").exists()


def test_shards_take_each_fold_once_and_gather_reports(place, stub, capsys):
    assert run(capsys, out="whole")[0] == 0
    calls = len(stub.calls)
    for number in range(3):
        code, text = run(capsys, "--shard", f"{number}/3")
        assert code == 0, text
        assert not (place / "cv" / "summary.json").exists()
        assert "--gather" in text
    assert sorted(stub.calls[calls:]) == [("one", 0), ("one", 1), ("second", 0), ("second", 1)]
    assert run(capsys, "--gather")[0] == 0
    assert len(stub.calls) == calls + 4
    assert_same(place / "whole", place / "cv")
    assert run(capsys)[0] == 0  # again, without a share
    assert len(stub.calls) == calls + 4
    assert_same(place / "whole", place / "cv")
    code, text = run(capsys, "--gather", "--shard", "0/2")
    assert code == 2
    assert "run it once without --shard" in text
    cohort = Cohort.open(place / "cohort")
    settings = CrossvalSettings.of(cohort, ["one", "second"])
    work = FoldTraining(CrossvalFolder(place / "cv"), settings)
    dealt = [jobs_of(work, WorkerOptions.parse(shard=f"{number}/4")) for number in range(4)]
    assert [len(share) for share in dealt] == [1, 1, 1, 1]  # no task of an array is idle


def test_what_was_predicted_otherwise_is_not_gathered_under_other_settings(place, stub, capsys):
    """The summary told an overlap that was none of the predictions', and ensembles were predicted with it."""
    assert run(capsys, "--shard", "0/1", "--overlap", "0.25", names=["one"])[0] == 0
    code, text = run(capsys, "--gather", names=["one"])
    assert code == 2
    assert "fold 0 of one was predicted with --overlap 0.25, and 0.5 is asked for; give the same, or leave" in text
    assert not (place / "cv" / "summary.json").exists()
    assert run(capsys, "--gather", "--overlap", "0.25", names=["one"])[0] == 0


@pytest.mark.parametrize("folds", ["0", "0,1"])
def test_the_calibration_lies_where_predict_finds_it(folds, place, stub, capsys):
    """That of a cross-validation of one fold lay in the ensemble folder, and a network alone has it beside itself."""
    assert run(capsys, "--folds", folds, names=["one"])[0] == 0
    source = volseg.cli.calibrate._crossval(place / "cv", Cohort.open(place / "cohort"))
    (source.folder / CALIBRATION).write_text("{}")
    assert find_calibration([checkpoint for _, checkpoint in source.members]) == source.folder / CALIBRATION


def test_one_patient_alone_has_no_interval(place, stub, capsys):
    """It was told as [nan, nan]."""
    keys = Cohort.open(place / "cohort").keys
    write_splits(place / "cohort", [Fold(keys[1:], keys[:1])])
    code, text = run(capsys)
    assert code == 0, text
    assert "[–]" in text
    assert "nan" not in text


def test_a_fold_that_fails_is_named_and_the_other_network_is_reported(place, stub, capsys, monkeypatch):
    def fail(bundle, **more):
        if Path(bundle).name == "one" and more["overrides"]["fold"] == 1:
            raise UsageError("the window is too large")
        return stub(bundle, **more)

    monkeypatch.setattr("volseg.training.train", fail)
    code, text = run(capsys)
    assert code == 1
    assert "failed  one fold 1: UsageError: the window is too large" in text or "one fold 1: the window" in text
    assert "one is left out: its folds 1 are not finished" in text
    summary = json.loads((place / "cv" / "summary.json").read_text())
    assert summary["choice"]["candidate"] == "second"
    assert len(summary["notes"]) == 1
    monkeypatch.setattr("volseg.training.train", stub)
    assert run(capsys)[0] == 0
    assert stub.calls.count(("second", 0)) == 1


def test_dry_shows_the_jobs_and_writes_nothing(place, stub, capsys):
    code, text = run(capsys, "--minutes", "20", "--dry", "--shard", "1/2", "--folds", "0,1")
    assert code == 0
    assert "second fold 1: " in text
    assert "share 1/2" in text
    assert "2 trainings: about 44 min; up to" in text
    assert not (place / "cv").exists()
    assert stub.calls == []


def test_best_takes_the_network_of_the_best_validation(place, stub, capsys):
    code, text = run(capsys, "--take", "best", names=["one"])
    assert code == 0
    assert "note  --take best chooses each network by the held-out cases" in text
    final, best = (torch.load(place / "cv/one/fold_0" / name, weights_only=True) for name in ("final.pt", "model.pt"))
    assert all(torch.equal(tensor, best["model"][key]) for key, tensor in final["model"].items())
    summary = json.loads((place / "cv" / "summary.json").read_text())
    assert "too high" in summary["definitions"]["take"]
    code, text = run(capsys, "--dry", "--patience", "3", names=["one"], out="other")
    assert code == 0
    assert "note  --patience ends a training by the held-out cases" in text


WRONG = {
    "no cohort": (["one"], "must name one bundle or more, then the cohort"),
    "cohort first": (["cohort", "one"], "write `volseg crossval one cohort`"),
    "fold of all": (["one", "cohort", "--fold", "1"], "--fold cannot be set for all folds; give --folds"),
    "minutes of train": (["one", "cohort", "--max_minutes", "5"], "give --minutes"),
    "no such fold": (["one", "cohort", "--folds", "0,7"], "the folds 0,7 were asked for; "),
    "no number": (["one", "cohort", "--folds", "a"], "--folds must be numbers from 0"),
    "twice": (["one", "one", "cohort"], "two bundles are called one"),
    "no bundle": (["nothing", "cohort"], "nothing is no bundle"),
    "no setting": (["one", "cohort", "--max_epochs"], "--max_epochs has no value"),
    "unknown setting": (["one", "cohort", "--max_epoch", "5"], "did you mean --max_epochs?"),
    "option of its own": (["one", "cohort", "--minuts", "5"], "did you mean --minutes?"),
    "no such device": (["one", "cohort", "--devices", "cuda:97"], "volseg: --devices must be one of the "),
    "no such setting device": (["one", "cohort", "--device", "cuda:97"], "volseg: --device must be one of the "),
    "nothing to gather": (
        ["one", "cohort", "--gather"],
        "no network of cv has all its folds; run the same command without --gather",
    ),
    "no such engine": (["one", "cohort", "--engine", "tourch"], "--engine must be one of auto, torch, "),
    "no such mirror image": (["one", "cohort", "--flips", "x"], "--flips must be none, trained, or axes"),
    "nothing mirrored": (
        ["one", "cohort", "--flips", "trained"],
        "--flips trained must have networks that are trained with mirror images, and one mirrors along no axis",
    ),
    "take": (["one", "cohort", "--take", "first"], "--take must be one of last, best, got 'first'"),
    "shard": (["one", "cohort", "--shard", "2/2"], "--shard must be I/N"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_is_one_line(case, place, stub, capsys):
    words, expected = WRONG[case]
    code, text = told(capsys, "crossval", *words, "-o", "cv")
    assert code == 2
    assert expected in text
    assert not (place / "cv").exists()


def test_trained_mirror_images_are_fine_where_the_training_makes_some(place, stub, capsys):
    code, text = run(capsys, "--flips", "trained", "--flip_axes", "[0]", "--dry")
    assert code == 0, text


def test_a_folder_of_something_else_is_refused(place, stub, capsys):
    (place / "cv").mkdir()
    (place / "cv" / "notes.txt").write_text("mine")
    code, text = run(capsys)
    assert code == 2
    assert "cv holds something else than a cross-validation; name another folder with -o" in text


@pytest.mark.long
def test_a_real_run_killed_at_random_moments_ends_the_same_to_the_bit(tiny_cohort, tmp_path):
    """SIGKILL to the command, whose workers follow it, at three moments; two folds of four epochs each."""
    shutil.copytree(tiny_cohort, tmp_path / "cohort")
    cohort = Cohort.open(tmp_path / "cohort")
    write_splits(cohort.folder, split_by_patient(cohort.rows.values(), folds=2))
    write_bundle(tmp_path / "one")
    words = [sys.executable, "-c", "from volseg.cli import main; main()", "crossval", "one", "cohort"]
    words += ["--max_epochs", "4", "--val_interval", "2", "--device", "cpu"]
    began = time.monotonic()
    subprocess.run([*words, "-o", "whole"], cwd=tmp_path, check=True)
    whole_s = time.monotonic() - began
    chance = random.Random(0)
    for _ in range(3):
        process = subprocess.Popen([*words, "-o", "cv"], cwd=tmp_path)
        with suppress(subprocess.TimeoutExpired):
            process.wait(whole_s * chance.uniform(0.3, 0.9))
        process.kill()
        process.wait()
    subprocess.run([*words, "-o", "cv"], cwd=tmp_path, check=True)
    for summary in (tmp_path / "whole" / "summary.json", tmp_path / "cv" / "summary.json"):
        content = json.loads(summary.read_text())
        for one in content["runs"]:
            del one["trained_minutes"], one["iterations"]  # of all sessions, with the steps that a kill had lost
        summary.write_text(json.dumps(content))
    assert_same(tmp_path / "whole", tmp_path / "cv")
