"""A training after corrections: more of the corrected cases, and never one of the validation's patients."""

from __future__ import annotations

import json
import logging
import shutil

import pytest
import tiny_bundle
from treatment_days import write_days

import volseg.training
from volseg.cli import main
from volseg.cohort import Cohort, Correction, write_corrections
from volseg.errors import UsageError
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
