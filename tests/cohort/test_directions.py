"""Which way slices run: cohorts and checkpoints of before are recognised, and say what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from command import told
from tiny_bundle import LABELS, write_bundle, write_checkpoint

from volseg.bundle import Recipe, read_recipe, resume_problem
from volseg.bundle.directions import checkpoint_note
from volseg.cohort import Case, Cohort, cohort_note, inspect_cohort, slice_direction, write_cohort
from volseg.datasets import open_cohort, write_phantom
from volseg.formats import UwMadison, write_raw
from volseg.labels import LabelTable
from volseg.volume import Volume, affine_of_axes, check_axes, orientation, read_volume

SHAPE = (32, 20, 10)
KEYS = ("case1_day0", "case2_day0", "case3_day1")


def a_raw(folder: Path, keys: tuple[str, ...] = KEYS) -> Path:
    """Scans in which the stomach lies in the first slices and the bowels in the last."""
    affine = affine_of_axes("LPI", (1.5, 1.5, 3))
    cases = []
    for number, key in enumerate(keys):
        image = np.random.default_rng(number).integers(0, 900, SHAPE).astype(np.uint16)
        label = np.zeros(SHAPE, np.uint8)
        label[18:30, 4:14, 1:4] = LABELS.regions[2].values[0]
        label[4:28, 4:14, 5:9] = LABELS.regions[1].values[0]
        label[2:8, 2:18, 5:9] = LABELS.regions[0].values[0]
        cases.append(Case(key, key.split("_")[0], "", (Volume(image, affine),), Volume(label, affine), ""))
    write_raw(folder, cases, LABELS)
    return folder


def as_before(cohort: Path) -> Path:
    """Take out of a cohort what earlier versions did not write."""
    for path in (cohort / "dataset.json", *(cohort / ".volseg" / "cases").glob("*.json")):
        content = json.loads(path.read_text())
        content.get("volseg", content).pop("source_version")
        path.write_text(json.dumps(content))
    return cohort


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw scans, the cohort of them, the cohort that an earlier version made, and a bundle."""
    folder = tmp_path_factory.mktemp("directions")
    raw = a_raw(folder / "raw")
    write_cohort(UwMadison(raw), folder / "cohort", folds=2)
    write_cohort(UwMadison(raw, axes="LPS"), folder / "earlier", folds=2)
    as_before(folder / "earlier")
    write_bundle(folder / "bundle")
    return folder


def recipe(source: object = None, *, labels: LabelTable = LABELS) -> Recipe:
    facts = {} if source is None else {"source": source}
    return Recipe(labels, ["MR"], [1, 1, 1], [8, 8, 8], {}, facts)


@pytest.mark.parametrize("axes", ["LPI", "LPS", "RAS", "PIR", "SLA"])
def test_axes_and_orientation_are_inverse(axes: str) -> None:
    affine = affine_of_axes(axes, (1, 2, 3))
    assert orientation(affine) == axes == check_axes(f" {axes.lower()}")
    assert np.abs(affine[:3, :3]).sum(axis=0).tolist() == [1, 2, 3]
    assert not affine[:3, 3].any()


def test_slices_are_numbered_from_the_head(place: Path) -> None:
    cohort = Cohort.open(place / "cohort")
    assert {row.orientation for row in cohort.rows.values()} == {"LPI"}
    assert (cohort.source, cohort.source_version) == ("uw_madison", 2)
    label = read_volume(cohort.labelled and cohort.label_path("case1_day0"))
    large, small, stomach = (
        np.mean([label.affine_ras @ [*index, 1] for index in np.argwhere(mask)], axis=0)
        for mask in LABELS.masks(label.voxels)
    )
    assert stomach[2] > small[2], "the stomach lies above, in RAS"
    assert stomach[0] < large[0], "and to the left of the large bowel"
    first, last = (label.affine_ras @ [0, 0, z, 1] for z in (0, SHAPE[2] - 1))
    assert (last - first).tolist() == [0, 0, -27, 0]


def test_a_cohort_of_now_says_nothing(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    cohort = open_cohort(place / "cohort")
    assert cohort_note(cohort) is None
    assert "slices" not in inspect_cohort(cohort).text
    assert not caplog.text


def test_an_earlier_cohort_is_named_and_says_what_to_do(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = inspect_cohort(open_cohort(place / "earlier")).text
    for said in (text.splitlines()[-1], caplog.text):
        assert "in 3 of 3 cases of" in said
        assert "they run to the head" in said
        assert "mirror images that stand on their head in 3D Slicer" in said
        assert f"convert again with `volseg convert uw_madison RAW {place / 'earlier'}` and train anew" in said


def test_converting_again_turns_an_earlier_cohort_and_part_of_it_does_not(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "earlier", tmp_path / "cohort")
    done = write_cohort(UwMadison(place / "raw", cases=["case2"]), tmp_path / "cohort")
    assert done.written == ("case2_day0",)
    cohort = Cohort.open(tmp_path / "cohort")
    assert cohort.source_version == 1
    assert "in 2 of 3 cases" in (cohort_note(cohort) or "")
    done = write_cohort(UwMadison(place / "raw"), tmp_path / "cohort")
    assert (done.written, done.finished_before) == (("case1_day0", "case3_day1"), ("case2_day0",))
    cohort = Cohort.open(tmp_path / "cohort")
    assert (cohort.source_version, cohort_note(cohort)) == (2, None)
    assert {row.orientation for row in cohort.rows.values()} == {"LPI"}


def test_slices_to_the_head_by_choice_are_no_earlier_cohort(place: Path, tmp_path: Path) -> None:
    write_cohort(UwMadison(place / "raw", axes="LPS"), tmp_path / "cohort")
    assert cohort_note(Cohort.open(tmp_path / "cohort")) is None


def test_an_earlier_cohort_comes_back_from_its_slices_as_it_was(place: Path, tmp_path: Path) -> None:
    before = Cohort.open(place / "earlier")
    write_raw(tmp_path / "raw", before.cases(), before.labels)
    assert (tmp_path / "raw" / "geometry.json").is_file()
    source = UwMadison(tmp_path / "raw")
    for case in before.cases():
        back = source.load(case.key)
        np.testing.assert_array_equal(back.channels[0].voxels, case.channels[0].voxels)
        np.testing.assert_array_equal(back.channels[0].affine_ras, case.channels[0].affine_ras)


def test_the_same_slices_are_written_from_both_cohorts(place: Path, tmp_path: Path) -> None:
    for name in ("cohort", "earlier"):
        cohort = Cohort.open(place / name)
        write_raw(tmp_path / name, cohort.cases(), cohort.labels)
    files = [path.relative_to(place / "raw") for path in (place / "raw").rglob("*") if path.is_file()]
    for name in ("cohort", "earlier"):
        assert all((tmp_path / name / file).read_bytes() == (place / "raw" / file).read_bytes() for file in files)
    assert not (tmp_path / "cohort" / "geometry.json").exists()


def test_an_earlier_phantom_keeps_its_direction_and_is_named(tmp_path: Path) -> None:
    raw = write_phantom(tmp_path / "raw", patients=2, days=1)
    now = UwMadison(raw)
    facts = json.loads((raw / "phantom.json").read_text())
    (raw / "phantom.json").write_text(json.dumps({name: facts[name] for name in facts if name != "axes"}))
    before = UwMadison(raw)
    assert (now.axes, before.axes) == ("LPI", "LPS")
    write_cohort(before, tmp_path / "cohort")
    assert cohort_note(Cohort.open(tmp_path / "cohort")) is None, "read by this version it is right"
    note = cohort_note(Cohort.open(as_before(tmp_path / "cohort"))) or ""
    assert "in 2 of 2 cases" in note
    assert "they run to the head" in note
    assert "networks trained on it stay good" in note
    assert "write and convert the phantom again" in note


def test_a_checkpoint_is_told_by_what_it_says_or_lacks(place: Path) -> None:
    cohort, earlier = Cohort.open(place / "cohort"), Cohort.open(place / "earlier")
    now, before = recipe(cohort.provenance), recipe(earlier.provenance)
    assert slice_direction(cohort.provenance) == "to the feet"
    assert slice_direction(earlier.provenance) == "to the head"
    assert checkpoint_note("model.pt", now, cohort) is None
    assert checkpoint_note("model.pt", now) is None
    assert "was trained on slices that run to the feet" in (checkpoint_note("model.pt", now, earlier) or "")
    assert "they ran to the head" in (checkpoint_note("model.pt", before, cohort) or "")
    assert "they ran to the head" in (checkpoint_note("model.pt", before) or "")
    assert checkpoint_note("model.pt", before, earlier) is None
    for given in (cohort, None):
        note = checkpoint_note("model.pt", recipe(), given) or ""
        assert note.startswith("model.pt must say which way the slices of its training cohort ran")
        assert "convert the slices again and train anew" in note
    assert checkpoint_note("model.pt", recipe(), earlier) is None


def test_checkpoints_of_other_sources_say_nothing(place: Path) -> None:
    cohort = Cohort.open(place / "cohort")
    hippocampus = LabelTable.exclusive(["Anterior", "Posterior"])
    exclusive = LabelTable.exclusive(LABELS.names)
    for one in (recipe(labels=hippocampus), recipe(labels=exclusive), recipe({"source": "decathlon", "axes": ["LPS"]})):
        assert checkpoint_note("model.pt", one, cohort) is None
        assert resume_problem({}, one) is None
        assert resume_problem({"slices": None}, one) is None


def test_a_training_is_not_resumed_the_other_way_round(place: Path) -> None:
    now, before = (recipe(Cohort.open(place / name).provenance) for name in ("cohort", "earlier"))
    assert resume_problem({"slices": "to the feet"}, now) is None
    assert resume_problem({"slices": "to the head"}, before) is None
    assert resume_problem({}, before) is None
    for stored in ({}, {"slices": "to the head"}):
        problem = resume_problem(stored, now) or ""
        assert "ran to the head" in problem
        assert "run to the feet; train anew, without --resume" in problem
    assert "ran to the feet" in (resume_problem({"slices": "to the feet"}, before) or "")


def test_predict_names_an_earlier_checkpoint_and_an_earlier_cohort(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def predicted(cohort: str, **facts: object) -> str:
        write_checkpoint(tmp_path / "model.pt", **facts)
        caplog.clear()
        named = ["--checkpoint", tmp_path / "model.pt", "-o", tmp_path / cohort, "--device", "cpu", "--engine", "torch"]
        code, said = told(capsys, "predict", place / "bundle", place / cohort, *named)
        assert code == 0, said
        return caplog.text

    now = Cohort.open(place / "cohort").provenance
    assert "slices" not in predicted("cohort", source=now)
    assert "model.pt must say which way the slices" in predicted("cohort")
    both = predicted("earlier", source=now)
    assert both.count("they run to the head") == 1
    assert "model.pt was trained on slices that run to the feet" in both
    assert "model.pt" not in predicted("earlier")


@pytest.mark.slow
def test_training_keeps_the_direction_and_refuses_to_resume_the_other_way(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def trained(cohort: str, *words: str, code: int = 0) -> str:
        settings = {"dataset_dir": place / cohort, "output_dir": tmp_path / "run", "cache": "memory", "val_interval": 1}
        named = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        ended, said = told(capsys, "train", place / "bundle", *named, *words)
        assert ended == code, said
        return said

    assert "they run to the head" in trained("earlier", "--max_epochs", "1")
    stated = read_recipe(tmp_path / "run" / "model.pt").facts["source"]
    assert stated == {"source": "uw_madison", "source_version": 1, "axes": ["LPS"], "phantom": False}
    refused = trained("cohort", "--max_epochs", "2", "--resume", code=2)
    assert "last.pt is of another training: the slices of its cohort ran to the head" in refused
    last = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    settings = json.loads(last["settings"])
    assert settings.pop("slices") == "to the head"
    torch.save({**last, "settings": json.dumps(settings)}, tmp_path / "run" / "last.pt")
    assert "train anew, without --resume" in trained("cohort", "--max_epochs", "2", "--resume", code=2)
    trained("earlier", "--max_epochs", "2", "--resume")
