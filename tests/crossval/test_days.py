"""The benchmark of earlier days: what may be seen of each case, and its table."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from html import escape

import numpy as np
import pytest
import torch
from bent_days import bend_all, bending
from tiny_bundle import ROI, network, write_bundle
from treatment_days import write_days

from volseg.bundle import Recipe
from volseg.cohort import Cohort, Fold, write_splits
from volseg.cohort.table import write_table
from volseg.crossval import DaysSettings, conclude_days, day_cases, default_modes, run_days
from volseg.crossval import days_predictions as module
from volseg.crossval.days_settings import TITLES
from volseg.errors import BundleError, UsageError
from volseg.labels import prior_channels
from volseg.volume import read_volume


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_days(tmp_path_factory.mktemp("days"), patients=("a", "b", "c"))


def write_run(folder, bundle, cohort, *, prior, facts=None):
    names = ["MR", *(prior_channels(["MR"], ["ball"]) if prior else ())]
    schemes = [{"scheme": name} for name in ("mr", "mr", "none", "none")[: len(names)]]
    facts = {"cohort": str(cohort.folder), "fold": 0, **(facts or {})}
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
        for name in ("none", "prior", "prior_deformed"):
            way = {"prior_alignment": "deformable"} if name == "prior_deformed" else {}
            write_run(tmp_path / "out" / "fold_0" / name, bundle, cohort, prior=name != "none", facts=way)
    return DaysSettings(cohort, str(bundle), adapt_minutes=0.005, device="cpu", **given)


def test_what_may_be_seen_of_each_case(cohort):
    cases = day_cases(cohort, cohort.fold(0).validation)
    assert [(case.key, case.number, case.gap_days) for case in cases] == [
        ("c_day0", 0, None),
        ("c_day9", 1, 9),
        ("c_day10", 2, 1),
    ]
    assert [session.name for session in cases[2].earlier] == ["day9", "day0"]


def test_sessions_without_an_order_of_time_are_first_days(tmp_path):
    unordered = write_days(tmp_path / "unordered", days=("post", "pre"))
    cases = day_cases(unordered, unordered.fold(0).validation)
    assert [(case.key, case.number, case.earlier) for case in cases] == [("b_post", 0, ()), ("b_pre", 0, ())]
    with pytest.raises(UsageError, match="has no patient with two sessions whose names tell an order of time"):
        settings_of(unordered, tmp_path)


def test_an_adapted_network_sees_the_days_before_alone_where_the_column_day_tells_them(cohort, tmp_path, monkeypatch):
    """`volseg days` ended with "no session with a label before ," after its trainings."""
    folder = tmp_path / "cohort"
    shutil.copytree(cohort.folder, folder)
    write_table(
        folder / "cases.csv",
        [replace(row, session="", day=float(row.session[3:])) for row in cohort.rows.values()],
    )
    settings = settings_of(Cohort.open(folder), tmp_path)
    seen = {}

    def adapt(work):
        seen[work.before] = work.adaptation.keys
        return work.target

    monkeypatch.setattr("volseg.training.adapt", adapt)
    run = tmp_path / "out" / "fold_0" / "none"
    predictions = module.DaysPredictions(settings, tmp_path / "out", 0, {"none": run})
    cases = day_cases(settings.cohort, settings.cohort.fold(0).validation)
    targets = [predictions._adapted(run, case) for case in cases[1:]]
    assert seen == {"day9": ("c_day0",), "day10": ("c_day0", "c_day9")}
    assert [path.name for path in targets] == ["after_day0.pt", "after_day9.pt"]


def test_all_rows_of_the_table_and_again_without_work(cohort, tmp_path, monkeypatch):
    settings = settings_of(cohort, tmp_path)
    lines: list[str] = []
    content = run_days(settings, tmp_path / "out", told=lines.append)
    assert list(content["modes"]) == list(default_modes())
    assert content["modes"]["aligned"]["dice"]["mean"] > content["modes"]["copied"]["dice"]["mean"]
    assert content["modes"]["none"]["gain_dice"]["mean"] == 0
    assert content["modes"]["copied"]["cases"] == 2
    assert set(content["modes"]["none"]["by_day"]) == {"0", "1", "2"}
    table = list(csv.DictReader((tmp_path / "out" / "table.csv").read_text().splitlines()))
    assert {row["mode"] for row in table} == set(default_modes())
    assert all(float(row["tolerant_minutes"]) <= float(row["correction_minutes"]) for row in table)
    assert {row["gap_days"] for row in table if row["key"] == "c_day10"} == {"1.0"}
    page = (tmp_path / "out" / "days.md").read_text()
    assert "| contours copied, aligned |" in page
    assert "prior_" not in page.replace("(`prior_", ""), "words of the code stand in brackets alone"
    drawn = (tmp_path / "out" / "days.html").read_text()
    assert drawn.count("<svg") == 2
    assert all(f">{escape(TITLES[mode])}</th>" in drawn for mode in default_modes())
    assert "within 3 mm, or a pixel where that is larger" in drawn
    assert "within 3 mm, or a pixel where that is larger" in page
    assert "prior_" not in drawn
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
    runs = {name: tmp_path / "out" / "fold_0" / name for name in ("none", "prior", "prior_deformed")}
    for mode in default_modes():
        module.DaysPredictions(settings, tmp_path / "out", 0, runs).predict(mode, [case])
        assert (tmp_path / "out" / "oof" / mode / "b_day9.nii.gz").is_file()


def test_a_first_day_is_predicted_where_no_earlier_one_is_needed(cohort, tmp_path):
    settings = settings_of(cohort, tmp_path, modes=("none", "copied"))
    run_days(settings, tmp_path / "out")
    assert (tmp_path / "out" / "oof" / "none" / "c_day0.nii.gz").is_file()
    assert not (tmp_path / "out" / "oof" / "copied" / "c_day0.nii.gz").exists()
    assert conclude_days(settings, tmp_path / "out")["modes"]["copied"]["cases"] == 2


def test_a_stop_among_the_predictions_loses_none_and_leaves_no_half_file(cohort, tmp_path, monkeypatch):
    settings = settings_of(cohort, tmp_path, modes=("none", "aligned", "prior"))
    written: list[str] = []
    write = module.write_prediction

    def killed(path, found):
        if len(written) == 4:
            raise KeyboardInterrupt
        written.append(f"{path.parent.name}/{path.name}")
        write(path, found)

    monkeypatch.setattr(module, "write_prediction", killed)
    with pytest.raises(KeyboardInterrupt):
        run_days(settings, tmp_path / "out")
    assert not (tmp_path / "out" / "summary.json").exists(), "nothing is scored of a part"
    stamps = {name: (tmp_path / "out" / "oof" / name).stat().st_mtime_ns for name in written}
    monkeypatch.setattr(module, "write_prediction", write)
    content = run_days(settings, tmp_path / "out")
    assert {name: (tmp_path / "out" / "oof" / name).stat().st_mtime_ns for name in written} == stamps
    assert content["modes"]["prior"]["cases"] == 2
    assert not list((tmp_path / "out").rglob(".*partial*"))


def test_a_stop_among_the_trainings_goes_on_with_the_next(cohort, tmp_path, monkeypatch):
    bundle = write_bundle(tmp_path / "bundle")
    asked: list[str] = []

    def train(_, *, overrides):
        run, name = module.Path(overrides["output_dir"]), module.Path(overrides["output_dir"]).name
        asked.append(name)
        assert overrides["resume"] is True
        if asked == ["start", "none"]:
            raise KeyboardInterrupt
        write_run(tmp_path / "made" / str(len(asked)), bundle, cohort, prior=name == "prior")
        shutil.copytree(tmp_path / "made" / str(len(asked)), run, dirs_exist_ok=True)
        (run / "done.json").unlink()
        (run / "model.pt").replace(run / "last.pt")

    monkeypatch.setattr("volseg.training.train", train)
    settings = DaysSettings(cohort, str(bundle), epochs=4, device="cpu", modes=("none", "prior_empty"))
    with pytest.raises(KeyboardInterrupt):
        run_days(settings, tmp_path / "out")
    content = run_days(settings, tmp_path / "out")
    assert asked == ["start", "none", "none", "prior"]
    assert content["modes"]["prior_empty"]["gain_dice"] == content["modes"]["none"]["gain_dice"]
    for key in ("c_day0", "c_day9", "c_day10"):
        one, other = (tmp_path / "out" / "oof" / mode / f"{key}.nii.gz" for mode in ("none", "prior_empty"))
        assert np.array_equal(read_volume(one).voxels, read_volume(other).voxels), "never below no prior"


def test_a_patient_of_one_day_is_predicted_and_takes_no_part_in_gains(tmp_path):
    days = write_days(tmp_path / "days", patients=("a", "b", "c"))
    for key in ("c_day9", "c_day10"):
        days.label_path(key).unlink()
        days.image_paths(key)[0].unlink()
    table = days.folder / "cases.csv"
    rows = [row for row in table.read_text().splitlines() if not row.startswith(("c_day9", "c_day10"))]
    table.write_text("\n".join(rows) + "\n")
    write_splits(days.folder, [Fold(("a_day0", "a_day9", "a_day10"), ("b_day0", "b_day9", "b_day10", "c_day0"))])
    opened = Cohort.open(days.folder)
    settings = settings_of(opened, tmp_path, modes=("none", "copied", "prior", "prior_wrong"))
    content = run_days(settings, tmp_path / "out")
    assert content["modes"]["none"]["by_day"]["0"]["values"] == 2
    assert {mode: found["cases"] for mode, found in content["modes"].items()} == dict.fromkeys(settings.modes, 2)
    assert not (tmp_path / "out" / "oof" / "prior" / "c_day0.nii.gz").exists()
    alone = write_days(tmp_path / "alone", patients=("a", "b"), days=("day0", "day9"))
    only = day_cases(alone, ["b_day0"])
    assert only[0].earlier == ()


def test_a_shifted_alignment_is_15_mm_off_along_one_axis(cohort, tmp_path):
    settings = settings_of(cohort, tmp_path)
    runs = {name: tmp_path / "out" / "fold_0" / name for name in ("none", "prior")}
    mode = module.DaysPredictions(settings, tmp_path / "out", 0, runs)
    for case in day_cases(cohort, cohort.fold(0).validation)[1:]:
        right, shifted = (mode._prior(case, name).registration.matrix for name in ("prior", "prior_shifted"))
        assert sorted(np.abs(shifted - right)[:3, 3].round(6)) == [0, 0, 15]
        assert mode._prior(case, "prior_wrong").key.startswith(("a_", "b_"))


def test_wrong_use_is_told(cohort, tmp_path):
    with pytest.raises(UsageError, match="--modes must be some of none, copied"):
        DaysSettings(cohort, "unet", modes=("magic",))
    with pytest.raises(BundleError, match="unett is no bundle"):
        DaysSettings(cohort, "unett")
    with pytest.raises(UsageError, match="the fold must be 0 or all"):
        DaysSettings(cohort, "unet", folds=(0, 7))
    single = write_days(tmp_path / "single", days=("day0",))
    with pytest.raises(UsageError, match="no patient with two sessions"):
        DaysSettings(single, "unet")


def test_deformed_contours_are_the_aligned_ones_bent_and_these_where_it_fails(cohort, tmp_path, monkeypatch):
    import volseg.cohort.alignments as alignments
    import volseg.volume.deformation as deformation

    monkeypatch.setattr(deformation, "elastix_is_installed", lambda: True)
    settings = settings_of(cohort, tmp_path, modes=("aligned", "deformed"))
    cases = [case for case in day_cases(cohort, ["c_day9"]) if case.earlier]
    for name, mm, failure in (("bent", 8.0, ""), ("failed", 0.0, "it folds")):
        monkeypatch.setattr(alignments, "deform", bending(mm, failure))
        out = tmp_path / name
        for mode in settings.modes:
            module.DaysPredictions(settings, out, 0, {}).predict(mode, cases)
        aligned, bent = (
            np.asarray(read_volume(out / "oof" / mode / "c_day9.nii.gz").voxels) for mode in settings.modes
        )
        moved = np.roll(aligned, -round(mm / 4), axis=0)
        assert (moved != bent).mean() < 0.004, "but for rounding at the edge"
        assert (aligned != bent).any() == bool(mm)
        assert len(list((out / "cache" / "alignments").glob("*.npz"))) == 1


def test_deformed_without_elastix_is_refused_by_name_and_left_out_by_default(cohort, monkeypatch):
    import volseg.crossval.days_settings as days_settings
    import volseg.volume.deformation as deformation

    for place in (deformation, days_settings):
        monkeypatch.setattr(place, "elastix_is_installed", lambda: False)
    for mode in ("deformed", "prior_deformed"):
        assert mode not in DaysSettings(cohort, "unet").modes
        with pytest.raises(UsageError, match=rf"--modes {mode} needs itk-elastix: pip install 'volseg\[elastix\]'"):
            DaysSettings(cohort, "unet", modes=("none", mode))


def test_the_rows_that_need_elastix_are_told_after_errors_of_the_folder(cohort, tmp_path, monkeypatch):
    import volseg.crossval.days as days
    import volseg.crossval.days_settings as days_settings

    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(days_settings, "elastix_is_installed", lambda: False)
    monkeypatch.setattr(days, "_trained", stopped)
    note = "the rows `deformed` and `prior_deformed` are left out: they need itk-elastix, pip install 'volseg[elastix]'"
    for given, told in (({}, [note]), ({"seed": 1}, []), ({"modes": ("none", "prior")}, [])):
        lines: list[str] = []
        with pytest.raises((KeyboardInterrupt, UsageError)):
            run_days(settings_of(cohort, tmp_path, **given), tmp_path / "out", told=lines.append)
        assert lines == told


def test_a_network_with_deformed_priors_is_trained_and_predicts_with_them(cohort, tmp_path, monkeypatch):
    bend_all(monkeypatch, 8.0)
    settings = settings_of(cohort, tmp_path, modes=("none", "prior", "prior_deformed"))
    content = run_days(settings, tmp_path / "out")
    assert content["titles"]["prior_deformed"] == "prior, deformed"
    assert content["modes"]["prior_deformed"]["cases"] == 2
    days = module.DaysPredictions(
        settings, tmp_path / "out", 0, {name: tmp_path / "out" / "fold_0" / name for name in settings.modes}
    )
    case = day_cases(cohort, ["c_day9"])[0]
    rigid, bent = (days._prior(case, mode) for mode in ("prior", "prior_deformed"))
    assert rigid.deformation is None
    assert bent.deformation.endswith(".npz")
    assert bent.registration == rigid.registration

    asked = {}

    def train(_, *, overrides):
        name = module.Path(overrides["output_dir"]).name
        asked[name] = {entry: overrides.get(entry) for entry in ("prior", "prior_alignment", "max_epochs", "weights")}
        write_run(tmp_path / "made" / name, tmp_path / "bundle", cohort, prior=overrides["prior"])
        shutil.copytree(tmp_path / "made" / name, overrides["output_dir"], dirs_exist_ok=True)
        (module.Path(overrides["output_dir"]) / "model.pt").replace(module.Path(overrides["output_dir"]) / "last.pt")

    monkeypatch.setattr("volseg.training.train", train)
    other = DaysSettings(cohort, str(tmp_path / "bundle"), epochs=4, device="cpu", modes=("prior_deformed",))
    run_days(other, tmp_path / "other")
    assert list(asked) == ["start", "none", "prior_deformed"]
    assert asked["prior_deformed"] == {**asked["none"], "prior": True, "prior_alignment": "deformable"}
    held = torch.load(tmp_path / "other" / "fold_0" / "prior_deformed" / "model.pt", weights_only=True)
    assert "without_prior" in held
