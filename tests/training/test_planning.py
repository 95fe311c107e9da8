"""A plan made: steps measured, written, read back by a training; and cohorts that give a plan little to go by."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import numpy as np
import pytest
import tiny_bundle
import torch
from monai.bundle import ConfigParser
from planned_cohort import box, write_planned_cohort

import volseg.plan
from volseg.bundle import read_recipe
from volseg.cli import main
from volseg.cohort import Cohort
from volseg.errors import BundleError
from volseg.plan import Planned, StepCost, plan_normalisation, read_plan, take_fingerprint
from volseg.report import plan_as_text
from volseg.report.plan_page import plan_as_html
from volseg.training import make_plan, train
from volseg.training.plan_lines import tell_plan
from volseg.training.step_trial import _MemoryMeter
from volseg.volume import Volume, read_volume, write_volume

SCHEMA = json.loads((Path(volseg.plan.__file__).parent / "plan.schema.json").read_text())
SHAPE = (24, 20, 16)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_bundle.write_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="module")
def plan(tiny_cohort, bundle):
    return make_plan(Cohort.open(tiny_cohort), [bundle], minutes=1, device="cpu", memory_gib=4)


def said(capsys):
    """What was written and logged."""
    return "".join(capsys.readouterr())


def test_the_plan_keeps_to_its_schema_and_comes_back_from_its_file(plan, tmp_path):
    plan.write(tmp_path / "plan.json")
    content = json.loads((tmp_path / "plan.json").read_text())
    jsonschema.validate(content, SCHEMA)
    assert read_plan(tmp_path / "plan.json").to_json() == content
    assert read_plan(tmp_path).to_json() == content, "the folder names its plan"


def test_two_steps_are_measured_and_time_follows_from_them(plan):
    one = plan.bundles["tiny"]
    small, large = one.trial["voxels"]
    assert small < large
    assert all(seconds > 0 for seconds in one.trial["seconds"])
    assert one.trial["steps"] == pytest.approx(60 / one.trial["step_s"], rel=0.02)
    assert plan.advised == "tiny"
    assert one.settings["max_minutes"] == 1
    assert one.settings["spacing_mm"] == [1.5, 1.5, 3.0]
    assert all(decision.reason and decision.change for decision in (*plan.decisions, *one.decisions))


def test_little_memory_makes_the_window_smaller(tiny_cohort, bundle, monkeypatch):
    cost = StepCost((4096, 8192), 2, (0.1, 0.2), (2**20, 2**21), 0.1)
    monkeypatch.setattr("volseg.training.bundle_plan.measure_step", lambda *_, **__: cost)
    windows = {}
    for gib in (4, 1.5 / 1024):
        found = make_plan(Cohort.open(tiny_cohort), [bundle], device="cpu", memory_gib=gib)
        windows[gib] = found.bundles["tiny"].settings["roi_voxels"]
    assert windows == {4: 8192, 1.5 / 1024: pytest.approx(4915, abs=1)}


def test_the_page_and_the_text_tell_each_decision_and_load_nothing(plan):
    page, text = plan_as_html(plan), plan_as_text(plan)
    for decision in (*plan.decisions, *plan.bundles["tiny"].decisions):
        assert decision.reason.split(";")[0][:40] in page.replace("&#x27;", "'")
        assert decision.reason.split(" ")[0] in text
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert all(len(line) <= 130 for line in text.splitlines() if "by fold" not in line and "  " not in line.strip())


def test_a_training_takes_the_plan_and_tells_five_lines(plan, tiny_cohort, bundle, tmp_path, capsys):
    content = plan.to_json()
    content["bundles"]["tiny"]["settings"] |= {"crops_per_case": 3, "max_minutes": 0, "flip_axes": [0]}
    content["decisions"] = [
        {**one, "value": [0]} if one["name"] == "flip_axes" else one for one in content["decisions"]
    ]
    (tmp_path / "plan.json").write_text(json.dumps(content))
    settings = {
        **{"dataset_dir": str(tiny_cohort), "output_dir": str(tmp_path / "run"), "device": "cpu", "precision": "fp32"},
        **{"max_epochs": 1, "val_interval": 1},
    }
    checkpoint = train(bundle, overrides={**settings, "plan_file": str(tmp_path / "plan.json")})
    told = ["plan  " + line.partition("plan  ")[2] for line in said(capsys).splitlines() if "plan  " in line]
    assert len(told) == 5
    assert told[0].startswith("plan  Grid, mm: 1.5 x 1.5 x 3 (")
    assert told[2] == "plan  Cases per step: 1 (3 windows of each, as planned; 33 % of them outside all regions)"
    assert "given with --flip_axes" not in told[4]
    assert told[4].startswith("plan  Mirrored axes: right-left")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["settings"]["values"]["crops_per_case"] == 3
    assert record["settings"]["values"]["flip_axes"] == [0]
    assert read_recipe(checkpoint).spacing_mm == [1.5, 1.5, 3.0]


def test_mirroring_a_cohort_of_two_sides_is_told(tiny_cohort, bundle, tmp_path, capsys):
    """The window of a left kidney would be shown as one of a right kidney, under the name of the left one."""
    folder = tmp_path / "cohort"
    shutil.copytree(tiny_cohort, folder)
    told = json.loads((folder / "dataset.json").read_text())
    settings = {"dataset_dir": str(folder), "output_dir": str(tmp_path / "run"), "device": "cpu"}
    train(bundle, overrides={**settings, "flip_axes": [0]}, dry=True)
    assert "windows are mirrored" not in said(capsys)
    renamed = json.dumps(told).replace('"large"', '"kidney_left"').replace('"small"', '"kidney_right"')
    (folder / "dataset.json").write_text(renamed)
    train(bundle, overrides={**settings, "flip_axes": [1]}, dry=True)
    assert "windows are mirrored" not in said(capsys)
    train(bundle, overrides={**settings, "flip_axes": [0]}, dry=True)
    assert "warning: windows are mirrored right to left (flip_axes), and kidney_left names a side" in said(capsys)


@pytest.mark.parametrize(("given", "told"), [({}, "by the channels' names"), ({"normalisation": "PET"}, "given with")])
def test_without_a_plan_the_schemes_are_those_of_the_training(given, told, tiny_cohort, bundle, tmp_path, caplog):
    """A plan takes a CT from 0 to 255 for none; a training that has no plan takes it by its name, and warns."""
    folder = tmp_path / "cohort"
    shutil.copytree(tiny_cohort, folder)
    dataset = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(dataset | {"channel_names": {"0": "CT"}}))
    for path in (folder / "imagesTr").iterdir():
        image = read_volume(path)
        low, high = float(image.voxels.min()), float(image.voxels.max())
        voxels = np.uint8(255 * (image.voxels.astype(np.float32) - low) / (high - low))
        write_volume(path, Volume(voxels, image.affine_ras))
    cohort = Cohort.open(folder)
    [scheme] = plan_normalisation(take_fingerprint(cohort)).value
    assert scheme["scheme"] == "mr"
    values = {"planned": Planned(cohort, None, "tiny"), "bundle_root": str(bundle), "device": "cpu", "fold": 0}
    settings = ConfigParser()
    settings.read_config(str(bundle / "train.json"))
    settings.update({"bundle_root": str(bundle), "dataset_dir": str(folder), "device": "cpu"})
    with caplog.at_level("INFO", logger="volseg.training"):
        tell_plan(lambda name: values[name] if name in values else settings.get_parsed_content(name), given, dry=True)
    [whole] = [one for one in caplog.messages if one.startswith("the whole plan")]
    line = next(line for line in whole.splitlines() if line.lstrip().startswith("Intensities"))
    assert ("pet" if given else "ct") in line
    assert told in whole


def test_monai_takes_the_plan_as_a_setting_and_volseg_as_a_config(plan, tiny_cohort, bundle, tmp_path, capsys):
    plan.write(tmp_path / "plan.json")
    parser = ConfigParser()
    parser.read_config(str(bundle / "train.json"))
    parser.update(
        {"bundle_root": str(bundle), "dataset_dir": str(tiny_cohort), "plan_file": str(tmp_path / "plan.json")}
    )
    assert parser.get_parsed_content("max_minutes") == 1
    parser = ConfigParser()
    parser.read_config(str(bundle / "train.json"))
    parser.update({"bundle_root": str(bundle), "dataset_dir": str(tiny_cohort)})
    assert parser.get_parsed_content("max_minutes") == 0
    settings = {"dataset_dir": str(tiny_cohort), "output_dir": str(tmp_path / "run"), "device": "cpu"}
    train(bundle, overrides=settings, more=[tmp_path / "plan.json"], dry=True)
    text = said(capsys)
    assert "plan  Minutes: 1 (" in text
    assert "Decisions for tiny" in text


def test_what_the_user_gives_goes_before_the_plan(plan, tiny_cohort, bundle, tmp_path, capsys):
    plan.write(tmp_path / "plan.json")
    settings = {"dataset_dir": str(tiny_cohort), "output_dir": str(tmp_path / "run"), "device": "cpu"}
    given = {"plan_file": str(tmp_path / "plan.json"), "spacing_mm": [2, 2, 3]}
    train(bundle, overrides={**settings, **given}, dry=True)
    assert "plan  Grid, mm: 2 x 2 x 3 (given with --spacing_mm)" in said(capsys)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda plan: plan["bundles"].clear(), "the plan is of no bundle and not of tiny"),
        (
            lambda plan: plan["bundles"]["tiny"].update(refusal="it is one slice"),
            "tiny cannot take the cohort: it is one",
        ),
        (lambda plan: plan["cohort"].update(labels="other"), "whose labels or channels differ from those of"),
        (lambda plan: plan["cohort"].update(channels=["CT"]), "whose labels or channels differ from those of"),
        (lambda plan: plan.pop("decisions"), "is no whole plan (no 'decisions')"),
        (lambda plan: plan.update(schema="volseg.plan/2"), "must be a plan with the schema volseg.plan/1"),
    ],
)
def test_a_plan_of_something_else_is_refused_in_a_line(plan, tiny_cohort, bundle, tmp_path, change, told):
    content = plan.to_json()
    change(content)
    (tmp_path / "plan.json").write_text(json.dumps(content))
    with pytest.raises(BundleError) as caught:
        volseg.plan.planned(Cohort.open(tiny_cohort), tmp_path / "plan.json", bundle="tiny").value("a", 0)
    assert told in str(caught.value)


def test_files_that_are_no_plan_are_refused(tmp_path):
    (tmp_path / "a.json").write_text("[")
    for name, told in (("b.json", "there is no plan"), ("a.json", "is no plan")):
        with pytest.raises(BundleError, match=told):
            read_plan(tmp_path / name)


# --- bad input: a plan, or a line that says why not


def cohort(tmp_path, labels, **more):
    return write_planned_cohort(tmp_path / "cohort", labels, **more)


def test_a_cohort_of_one_case(tmp_path, bundle):
    found = make_plan(cohort(tmp_path, {"a": box(SHAPE, (2, 2, 2), (9, 9, 9))}), [bundle], device="cpu", measure=False)
    assert "there is one case: nothing can be validated" in found.warnings
    assert found.bundles["tiny"].settings["batch_size"] == 1


def test_one_patient_with_five_days(tmp_path, bundle):
    labels = {f"case7_day{n}": box(SHAPE, (2, 2, 2), (9, 9, 9)) for n in range(5)}
    found = make_plan(cohort(tmp_path, labels), [bundle], device="cpu", measure=False)
    assert next(one for one in found.decisions if one.name == "folds").value == 0
    assert any(one.startswith("all 5 cases are of one patient") for one in found.warnings)


def test_a_class_that_is_absent_from_a_fold(tmp_path, bundle):
    labels = {f"case{n}": box(SHAPE, (2, 2, 2), (9, 9, 9)) for n in range(4)}
    labels["case3"][12:15, 12:15, 12:15] = 2
    found = make_plan(
        cohort(tmp_path, labels, folds=[(["case0", "case1", "case2"], ["case3"]), (["case3"], ["case0"])]),
        [bundle],
        device="cpu",
        measure=False,
    )
    assert "lesion is in no training case of fold 0: that fold cannot learn it" in found.warnings
    assert "lesion is in no validation case of fold 1: its Dice there is undefined" in found.warnings


def test_volumes_smaller_than_any_window(tmp_path):
    labels = {f"case{n}": box((6, 5, 3), (1, 1, 0), (3, 3, 2)) for n in range(3)}
    bundles = Path(__file__).resolve().parents[2] / "bundles"
    found = make_plan(cohort(tmp_path, labels), [bundles / "unet", bundles / "swinunetr"], device="cpu", measure=False)
    for one in found.bundles.values():
        assert one.settings or one.refusal
    assert "times as large as the part of an image of 6 x 5 x 3 in it" in found.bundles["swinunetr"].refusal


def test_images_of_one_slice_are_planned_for_networks_that_take_them(tmp_path):
    labels = {f"case{n}": box((300, 260, 1), (40, 40, 0), (200, 180, 1)) for n in range(4)}
    bundles = Path(__file__).resolve().parents[2] / "bundles"
    found = make_plan(cohort(tmp_path, labels), [bundles / "unet", bundles / "unetr"], device="cpu", measure=False)
    assert "are one slice, and this network needs a multiple of 16 voxels along Z" in found.bundles["unetr"].refusal
    settings = found.bundles["unet"].settings
    assert settings["spacing_mm"] == [1, 1, 1]
    window = next(one for one in found.bundles["unet"].decisions if one.name == "roi_size").value
    assert window[2] == 1
    assert found.advised == "unet"


@pytest.mark.parametrize(("wide", "spacing"), [(260, 1.95), (20, 1.0)])
def test_few_minutes_make_the_grid_of_one_slice_coarser_unless_regions_are_narrow(tmp_path, monkeypatch, wide, spacing):
    """A small window shows as much of an image on a coarser grid, on which each region stays 16 pixels wide."""
    cost = StepCost((65536, 131072), 2, (1.0, 2.0), None, 0.1)
    monkeypatch.setattr("volseg.training.bundle_plan.measure_step", lambda *_, **__: cost)
    labels = {f"case{n}": box((312, 312, 1), (20, 20, 0), (280, 20 + wide // 2, 1)) for n in range(4)}
    unet = Path(__file__).resolve().parents[2] / "bundles" / "unet"
    found = make_plan(cohort(tmp_path, labels), [unet], device="cpu", minutes=2).bundles["unet"]
    window = next(one for one in found.decisions if one.name == "roi_size").value
    assert found.settings["roi_voxels"] == 32768
    assert found.settings["spacing_mm"] == pytest.approx([spacing, spacing, 1])
    assert (window == [192, 160, 1]) == (spacing == 1.0)


def test_images_of_which_only_headers_are_there(tmp_path, bundle):
    """Files cut off behind their headers: sizes are known, voxels are not."""
    made = cohort(tmp_path, {f"case{n}": box(SHAPE, (2, 2, 2), (9, 9, 9)) for n in range(3)})
    for path in made.folder.rglob("*.nii.gz"):
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:352]))
    found = make_plan(Cohort.open(made.folder), [bundle], device="cpu", measure=False)
    assert any(
        "no label was read, so spacing, window and intensities come from the headers" in one for one in found.warnings
    )
    assert found.bundles["tiny"].settings["spacing_mm"] == [1, 1, 1]


def test_steps_are_measured_where_a_process_is_no_library(monkeypatch):
    """As on Windows, where every bundle was refused with a TypeError of ctypes."""

    def refused(_):
        raise TypeError("argument of type 'NoneType' is not iterable")

    monkeypatch.setattr("volseg.training.step_trial.ctypes", SimpleNamespace(CDLL=refused))
    taken = _MemoryMeter(torch.device("cpu")).taken()
    assert taken is None or taken >= 0


def test_the_command_writes_plan_and_page(tiny_cohort, bundle, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(
            [
                "plan",
                str(tiny_cohort),
                "--bundle",
                str(bundle),
                "--no-measure",
                "-o",
                str(tmp_path / "out"),
                "--device",
                "cpu",
            ]
        )
    assert ended.value.code == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"plan.json", "plan.html"}
    text = said(capsys)
    assert "Decisions for tiny" in text
    assert "train by it: volseg train tiny --dataset_dir" in text
