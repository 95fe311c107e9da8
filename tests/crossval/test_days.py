"""The benchmark of earlier days: what may be seen of each case, and its table."""

from __future__ import annotations

import csv
import json

import pytest
import torch
from tiny_bundle import ROI, network, write_bundle
from treatment_days import write_days

from volseg.bundle import Recipe
from volseg.crossval import MODES, DaysSettings, conclude_days, day_cases, run_days
from volseg.crossval import days as module
from volseg.errors import UsageError
from volseg.labels import prior_channels


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_days(tmp_path_factory.mktemp("days"), patients=("a", "b", "c"))


def write_run(folder, bundle, cohort, *, prior):
    names = ["MR", *(prior_channels(["MR"], ["ball"]) if prior else ())]
    schemes = [{"scheme": name} for name in ("mr", "mr", "none", "none")[: len(names)]]
    facts = {"cohort": str(cohort.folder), "fold": 0}
    recipe = Recipe(cohort.labels, names, [4, 4, 4], list(ROI), {"feature_size": 12, "window_size": 4}, facts, schemes)
    weights = network(cohort.labels, channels=len(names)).state_dict()
    folder.mkdir(parents=True)
    torch.save({"model": weights, "recipe": recipe.state_dict()}, folder / "model.pt")
    (folder / "train.json").write_text(json.dumps({"bundle_root": str(bundle), "learning_rate": 0.02}))
    (folder / "done.json").write_text("{}")


def settings_of(cohort, tmp_path, **given):
    bundle = tmp_path / "bundle"
    if not bundle.is_dir():
        write_bundle(bundle)
        for name in ("none", "prior"):
            write_run(tmp_path / "out" / "fold_0" / name, bundle, cohort, prior=name == "prior")
    return DaysSettings(cohort, str(bundle), adapt_minutes=0.005, device="cpu", **given)


def test_what_may_be_seen_of_each_case(cohort):
    cases = day_cases(cohort, cohort.fold(0).validation)
    assert [(case.key, case.number, case.gap_days) for case in cases] == [
        ("c_day0", 0, None),
        ("c_day9", 1, 9),
        ("c_day10", 2, 1),
    ]
    assert [session.name for session in cases[2].earlier] == ["day9", "day0"]


def test_all_rows_of_the_table_and_again_without_work(cohort, tmp_path, monkeypatch):
    settings = settings_of(cohort, tmp_path)
    lines: list[str] = []
    content = run_days(settings, tmp_path / "out", told=lines.append)
    assert list(content["modes"]) == list(MODES)
    assert content["modes"]["aligned"]["dice"]["mean"] > content["modes"]["copied"]["dice"]["mean"]
    assert content["modes"]["none"]["gain_dice"]["mean"] == 0
    assert content["modes"]["copied"]["cases"] == 2
    assert set(content["modes"]["none"]["by_day"]) == {"0", "1", "2"}
    table = list(csv.DictReader((tmp_path / "out" / "table.csv").read_text().splitlines()))
    assert {row["mode"] for row in table} == set(MODES)
    assert {row["gap_days"] for row in table if row["key"] == "c_day10"} == {"1.0"}
    page = (tmp_path / "out" / "days.md").read_text()
    assert "| aligned |" in page
    drawn = (tmp_path / "out" / "days.html").read_text()
    assert drawn.count("<svg") == 2
    assert all(f">{mode}</th>" in drawn for mode in MODES)
    assert "http" not in drawn.replace("http://www.w3.org", "")
    monkeypatch.setattr(module, "write_prediction", lambda *_: pytest.fail("predicted again"))
    assert run_days(settings, tmp_path / "out")["modes"] == json.loads(json.dumps(content["modes"]))
    with pytest.raises(UsageError, match="begun with another seed"):
        run_days(settings_of(cohort, tmp_path, seed=1), tmp_path / "out")


def test_no_row_reads_the_label_of_the_day_itself_or_of_a_later_one(tmp_path):
    cohort = write_days(tmp_path / "days", patients=("a", "b"))
    settings = settings_of(cohort, tmp_path)
    case = day_cases(cohort, ["b_day9"])[0]
    for key in ("b_day9", "b_day10"):
        cohort.label_path(key).write_bytes(b"planted")  # whoever reads it fails
    runs = {name: tmp_path / "out" / "fold_0" / name for name in ("none", "prior")}
    for mode in MODES:
        module._Mode(settings, tmp_path / "out", 0, runs).predict(mode, [case])
        assert (tmp_path / "out" / "oof" / mode / "b_day9.nii.gz").is_file()


def test_a_first_day_is_predicted_where_no_earlier_one_is_needed(cohort, tmp_path):
    settings = settings_of(cohort, tmp_path, modes=("none", "copied"))
    run_days(settings, tmp_path / "out")
    assert (tmp_path / "out" / "oof" / "none" / "c_day0.nii.gz").is_file()
    assert not (tmp_path / "out" / "oof" / "copied" / "c_day0.nii.gz").exists()
    assert conclude_days(settings, tmp_path / "out")["modes"]["copied"]["cases"] == 2


def test_wrong_use_is_told(cohort, tmp_path):
    with pytest.raises(UsageError, match="--modes must be of none, copied"):
        DaysSettings(cohort, "unet", modes=("magic",))
    single = write_days(tmp_path / "single", days=("day0",))
    with pytest.raises(UsageError, match="no patient with two sessions"):
        DaysSettings(single, "unet")
