"""Conversion: killed anywhere and run again, it ends with the same bytes; a case that fails leaves nothing."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from command import told

import volseg.cohort.conversion
from volseg.cohort import Case, Cohort, PatientsByPattern, split_by_patient, write_cohort, write_splits
from volseg.cohort.adoption import replace_label
from volseg.cohort.corrections import Correction, label_digest
from volseg.cohort.folds import Fold, read_splits
from volseg.datasets import open_cohort, write_phantom
from volseg.errors import CohortError, LabelError, SourceError, UsageError, VolumeError
from volseg.files import locked, take_lock
from volseg.formats import Decathlon, UwMadison
from volseg.labels import LabelTable
from volseg.volume import Volume, read_volume

AFFINE = np.diag([-1.5, -1.5, 3, 1])
TABLE = LabelTable.overlapping(["a", "b"])


def case(key, *, labelled=True, channels=1, seed=0, dtype="int16", values=4):
    random_voxels = np.random.default_rng([seed, *key.encode()])
    image = tuple(Volume(random_voxels.integers(0, 99, (6, 5, 4)).astype(dtype), AFFINE) for _ in range(channels))
    label = Volume(random_voxels.integers(0, values, (6, 5, 4)).astype(np.uint8), AFFINE)
    return Case(key, key.split("_")[0], "", image, label if labelled else None, "made here")


@dataclass
class Made:
    """A source of small cases: `cases` by key, or an error to raise instead."""

    cases: dict
    kind: str = "made"
    raw: Path = Path("made here")
    channel_names: tuple = ("MR",)
    labels: LabelTable = TABLE
    unlabelled: set = field(default_factory=set)
    version: dict = field(default_factory=dict)
    undigested: dict = field(default_factory=dict)

    def keys(self):
        return sorted(self.cases)

    def labelled(self, key):
        return key not in self.unlabelled

    def digest(self, key):
        if key in self.undigested:
            raise self.undigested[key]
        return f"{key} version {self.version.get(key, 0)}"

    def load(self, key):
        if isinstance(self.cases[key], Exception):
            raise self.cases[key]
        return self.cases[key]


def made(*keys, **options):
    return Made({key: case(key) for key in keys}, **options)


KEYS = ("p1_d1", "p1_d2", "p2_d1", "p3_d1")


def content(folder):
    """Every file of a folder, hidden ones too."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_cohort_opens_as_it_was_converted(tmp_path):
    source = Made({key: case(key, channels=2) for key in KEYS}, channel_names=("T1", "T2"), unlabelled={"p3_d1"})
    result = write_cohort(source, tmp_path / "cohort")
    assert (result.written, result.finished_before, result.failed) == (KEYS, (), {})
    cohort = Cohort.open(tmp_path / "cohort")
    assert cohort.keys == KEYS
    assert cohort.labelled == set(KEYS) - {"p3_d1"}
    assert cohort.labels == TABLE
    for key in KEYS:
        for path, volume in zip(cohort.image_paths(key), source.cases[key].channels, strict=True):
            np.testing.assert_array_equal(read_volume(path).voxels, volume.voxels)
            np.testing.assert_array_equal(read_volume(path).affine_ras, volume.affine_ras)
        if key in cohort.labelled:
            np.testing.assert_array_equal(read_volume(cohort.label_path(key)).voxels, source.cases[key].label.voxels)
    assert cohort.rows["p1_d1"].patient == "p1"
    assert cohort.rows["p1_d1"].shape == (6, 5, 4)
    assert cohort.rows["p1_d1"].orientation == "LPS"
    dataset = json.loads((tmp_path / "cohort" / "dataset.json").read_text())
    assert (dataset["name"], dataset["numTraining"], dataset["channel_names"]) == ("cohort", 3, {"0": "T1", "1": "T2"})
    assert len(cohort.folds()) == 2  # patients with labels


def test_what_others_write_below_a_cohort_is_left_to_them(tmp_path):
    """`volseg serve` unpacks packages and trains below the cohort, and a client may be adding an image."""
    folder = tmp_path / "cohort"
    write_cohort(made("a_1"), folder, folds=2)
    training = folder / ".volseg" / "serve" / "runs" / "001" / ".partial-model.pt"
    unpacked = folder / ".volseg" / "serve" / "packages" / ".partial-x" / "model.pt"
    left = folder / "imagesTr" / ".partial-0a1b2c3d-b_1_0000.nii.gz"
    for file in (training, unpacked, left):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"half")
    with locked(folder / ".volseg" / "adopting"):
        write_cohort(made("a_1", "b_1"), folder, folds=2)
    assert all(file.is_file() for file in (training, unpacked, left))
    write_cohort(made("a_1", "b_1"), folder, folds=2)
    assert [file.is_file() for file in (training, unpacked, left)] == [True, True, False]


def test_progress_counts_every_case_once(tmp_path):
    calls = []
    write_cohort(made(*KEYS), tmp_path / "cohort", workers=3, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_second_run_skips_all_and_changes_nothing(tmp_path):
    folder = tmp_path / "cohort"
    write_cohort(made(*KEYS), folder)
    before, times = content(folder), {path: path.stat().st_mtime_ns for path in folder.rglob("*.nii.gz")}
    result = write_cohort(made(*KEYS), folder)
    assert (result.written, result.finished_before) == ((), KEYS)
    assert content(folder) == before
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.nii.gz")} == times


def test_the_folder_may_be_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "cohort").mkdir()
    monkeypatch.chdir(tmp_path / "cohort")
    write_cohort(made(*KEYS), ".")
    assert json.loads((tmp_path / "cohort" / "dataset.json").read_text())["name"] == "cohort"


def test_changed_raw_data_are_converted_again_and_others_are_not(tmp_path):
    source = made(*KEYS)
    write_cohort(source, tmp_path / "cohort")
    source.cases["p2_d1"], source.version["p2_d1"] = case("p2_d1", seed=1), 1
    result = write_cohort(source, tmp_path / "cohort")
    assert (result.written, len(result.finished_before)) == (("p2_d1",), 3)
    write_cohort(source, tmp_path / "anew" / "cohort")
    assert content(tmp_path / "cohort") == content(tmp_path / "anew" / "cohort")


@pytest.mark.parametrize("lost", ["imagesTr/p2_d1_0000.nii.gz", "labelsTr/p2_d1.nii.gz", ".volseg/cases/p2_d1.json"])
def test_a_lost_file_is_written_again(tmp_path, lost):
    write_cohort(made(*KEYS), tmp_path / "cohort")
    before = content(tmp_path / "cohort")
    (tmp_path / "cohort" / lost).unlink()
    assert write_cohort(made(*KEYS), tmp_path / "cohort").written == ("p2_d1",)
    assert content(tmp_path / "cohort") == before


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"row": {}}', '{"digest": "p2_d1 version 0", "row": {"key": "x"}}'])
def test_a_damaged_record_is_written_again(tmp_path, damage):
    write_cohort(made(*KEYS), tmp_path / "cohort")
    before = content(tmp_path / "cohort")
    (tmp_path / "cohort" / ".volseg" / "cases" / "p2_d1.json").write_text(damage)
    assert write_cohort(made(*KEYS), tmp_path / "cohort").written == ("p2_d1",)
    assert content(tmp_path / "cohort") == before


def test_a_case_that_wins_or_loses_its_label_moves(tmp_path):
    source = made(*KEYS)
    write_cohort(source, tmp_path / "cohort")
    for version, unlabelled in enumerate([{"p1_d1"}, set()], start=1):
        source.unlabelled, source.version["p1_d1"] = unlabelled, version
        write_cohort(source, tmp_path / "cohort")
        assert Cohort.open(tmp_path / "cohort").labelled == set(KEYS) - unlabelled


FAILURES = {
    "unreadable": ({"p2_d1": SourceError("a slice is missing")}, {}, "a slice is missing"),
    "no digest": ({}, {"undigested": {"p2_d1": SourceError("a file is gone")}}, "a file is gone"),
    "undeclared value": ({"p2_d1": case("p2_d1", values=9)}, {}, "the label map holds 4, 5"),
    "too many channels": ({"p2_d1": case("p2_d1", channels=2)}, {}, "2 channels were read"),
    "no label": ({"p2_d1": case("p2_d1", labelled=False)}, {}, "promised a label"),
    "no memory": ({"p2_d1": MemoryError("Unable to allocate 9 GiB")}, {}, "the memory ran out (Unable to allocate"),
    "64 bits": ({"p2_d1": case("p2_d1", dtype="int64")}, {}, "int64 do not go into NIfTI"),
}


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("former_run", [False, True])
def test_a_case_that_fails_is_told_and_leaves_nothing_and_the_others_are_written(tmp_path, name, former_run):
    cases, options, message = FAILURES[name]
    good, bad = made(*KEYS), made(*KEYS, **options)
    bad.cases |= cases
    bad.version["p2_d1"] = 1
    if former_run:
        write_cohort(good, tmp_path / "cohort")
    result = write_cohort(bad, tmp_path / "cohort")
    assert list(result.failed) == ["p2_d1"]
    assert message in result.failed["p2_d1"]
    assert not [path for path in content(tmp_path / "cohort") if "p2_d1" in path]
    assert Cohort.open(tmp_path / "cohort").keys == ("p1_d1", "p1_d2", "p3_d1")
    assert {key for fold in Cohort.open(tmp_path / "cohort").folds() for key in fold.validation} == set(
        Cohort.open(tmp_path / "cohort").keys
    )
    # The raw data mended, the cohort is what it would have been.
    good.version["p2_d1"] = 2
    assert write_cohort(good, tmp_path / "cohort").written == ("p2_d1",)
    write_cohort(good, tmp_path / "anew" / "cohort")
    assert content(tmp_path / "cohort") == content(tmp_path / "anew" / "cohort")


@pytest.mark.parametrize("error", [SourceError, VolumeError, LabelError, CohortError])
def test_the_key_is_not_told_twice(tmp_path, error):
    source = made(*KEYS)
    source.cases["p2_d1"] = error("is odd", case="p2_d1")
    assert write_cohort(source, tmp_path / "cohort").failed == {"p2_d1": "is odd"}


def test_what_is_no_error_of_a_case_stops_the_run_and_it_goes_on_later(tmp_path):
    source = made(*KEYS)
    source.cases["p2_d1"] = OSError(28, "No space left on device")
    with pytest.raises(OSError, match="No space left"):
        write_cohort(source, tmp_path / "cohort", workers=1)
    assert write_cohort(made(*KEYS), tmp_path / "cohort").finished_before == ("p1_d1", "p1_d2")


@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "imagesTr/a_0000.nii.gz"])
def test_a_folder_that_holds_something_else_is_left_alone(tmp_path, name):
    path = tmp_path / "cohort" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(UsageError, match="is not empty and no cohort; name a new folder"):
        write_cohort(made(*KEYS), tmp_path / "cohort")
    assert content(tmp_path / "cohort") == {name: b"mine"}


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "cohort").write_text("mine")
    with pytest.raises(UsageError, match="is a file"):
        write_cohort(made(*KEYS), tmp_path / "cohort")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": LabelTable.overlapping(["a", "c"])}, "other labels"),
        ({"labels": LabelTable.exclusive(["a", "b"])}, "other labels"),
        ({"channel_names": ("CT",)}, "other channels"),
        ({"channel_names": ("MR", "CT")}, "other channels"),
    ],
)
def test_a_cohort_of_other_labels_or_channels_is_left_alone(tmp_path, options, message):
    write_cohort(made(*KEYS), tmp_path / "cohort")
    before = content(tmp_path / "cohort")
    with pytest.raises(UsageError, match=message):
        write_cohort(replace(made(*KEYS), **options), tmp_path / "cohort")
    assert content(tmp_path / "cohort") == before


def test_a_key_that_is_no_file_name_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(SourceError, match="is no file name"):
        write_cohort(Made({"../a": case("a")}), tmp_path / "cohort")
    assert not (tmp_path / "cohort").exists()


def test_more_cases_join_a_cohort_and_the_split_follows(tmp_path, caplog):
    write_cohort(made("p1_d1", "p2_d1"), tmp_path / "cohort")
    write_cohort(made("p1_d2", "p3_d1"), tmp_path / "cohort")
    assert "no longer fits" in caplog.text
    write_cohort(made(*KEYS), tmp_path / "anew" / "cohort")
    cohort = Cohort.open(tmp_path / "cohort")
    assert cohort.keys == KEYS
    assert {key for fold in cohort.folds() for key in fold.validation} == set(KEYS)
    assert json.loads((tmp_path / "cohort" / "dataset.json").read_text())["numTraining"] == 4


def test_a_split_that_still_fits_is_kept(tmp_path):
    source = made(*KEYS)
    source.cases["p2_d1"] = replace(source.cases["p2_d1"], warnings=("suspect: cropped",))
    write_cohort(source, tmp_path / "cohort")
    path = tmp_path / "cohort" / "splits.json"
    assert {key for fold in read_splits(path) for key in fold.validation} == set(KEYS) - {"p2_d1"}
    rows = list(Cohort.open(tmp_path / "cohort").rows.values())
    one_of_users = [Fold(("p1_d1", "p1_d2"), ("p3_d1",))]
    for folds in (
        split_by_patient(rows, folds=3, suspects=True),
        split_by_patient(rows, folds=2, seed=5),
        one_of_users,
    ):
        write_splits(tmp_path / "cohort", folds)
        write_cohort(source, tmp_path / "cohort")
        assert read_splits(path) == folds


STATED = [Fold(("p1_d1", "p1_d2", "p3_d1"), ("p2_d1",))]


@pytest.mark.parametrize("first", [STATED, []])
def test_folds_that_the_user_changed_stay_also_where_the_source_states_some(tmp_path, caplog, first):
    cohort, path = tmp_path / "cohort", tmp_path / "cohort" / "splits.json"
    write_cohort(made(*KEYS), cohort, given=first)
    write_cohort(made(*KEYS), cohort, given=STATED)  # its own are replaced by those that the source states now
    assert read_splits(path) == STATED
    assert caplog.text == ""
    changed = [Fold(("p1_d1", "p1_d2"), ("p3_d1", "p2_d1"))]
    write_splits(cohort, changed)
    write_cohort(made(*KEYS), cohort, given=STATED)
    assert read_splits(path) == changed
    assert "is kept, since a conversion did not write it, and the source states other folds; remove it" in caplog.text
    path.unlink()
    write_cohort(made(*KEYS), cohort, given=STATED)
    assert read_splits(path) == STATED


def test_folds_that_are_asked_for_are_drawn_anew_over_those_of_a_conversion_alone(tmp_path, caplog):
    """`convert --folds 3` into a cohort of two folds changed nothing and said nothing."""
    cohort, path = tmp_path / "cohort", tmp_path / "cohort" / "splits.json"
    write_cohort(made(*KEYS), cohort, folds=2)
    write_cohort(made(*KEYS), cohort, folds=3)  # the default of a later call asks for nothing
    assert len(read_splits(path)) == 2
    write_cohort(made(*KEYS), cohort, folds=3, redraw=True)
    assert len(read_splits(path)) == 3
    write_cohort(made(*KEYS), cohort)
    assert len(read_splits(path)) == 3
    changed = [Fold(("p1_d1", "p1_d2"), ("p3_d1", "p2_d1"))]
    write_splits(cohort, changed)
    assert caplog.text == ""
    write_cohort(made(*KEYS), cohort, folds=2, redraw=True)
    assert read_splits(path) == changed
    assert "is kept, since a conversion did not write it, and --folds and --seed ask for other folds" in caplog.text


def test_folds_that_the_user_changed_stay_when_cases_come_and_the_new_ones_are_named(tmp_path, caplog):
    cohort, path = tmp_path / "cohort", tmp_path / "cohort" / "splits.json"
    write_cohort(made(*KEYS), cohort)
    chosen = [Fold(("p1_d1",), ("p3_d1",))]
    write_splits(cohort, chosen)
    write_cohort(made(*KEYS, "p4_d1"), cohort)
    assert read_splits(path) == chosen
    assert "3 cases are in none of its folds: p1_d2, p2_d1, p4_d1; run `volseg split`" in caplog.text
    write_splits(cohort, [Fold(("p1_d1",), ("p9_d1",))])
    write_cohort(made(*KEYS, "p4_d1"), cohort)
    assert "did not write, names p9_d1, which has no label here: writing it anew" in caplog.text
    assert f"the former folds are now {cohort / 'splits.former.json'}" in caplog.text
    assert read_splits(cohort / "splits.former.json") == [Fold(("p1_d1",), ("p9_d1",))]
    assert {key for fold in read_splits(path) for key in fold.validation} == {*KEYS, "p4_d1"}


def test_the_folds_of_nnunet_beside_a_cohort_are_not_hidden(tmp_path):
    cohort = tmp_path / "cohort"
    write_cohort(made(*KEYS), cohort)
    (cohort / "splits.json").unlink()
    (cohort / "splits_final.json").write_text(json.dumps([{"train": ["p1_d1", "p1_d2", "p3_d1"], "val": ["p2_d1"]}]))
    write_cohort(made(*KEYS), cohort)
    assert not (cohort / "splits.json").exists()
    assert Cohort.open(cohort).folds() == STATED


def test_folds_that_a_conversion_wrote_are_not_kept_beside_new_ones(tmp_path):
    write_cohort(made(*KEYS), tmp_path / "cohort")
    write_cohort(made(*KEYS, "p4_d1"), tmp_path / "cohort")
    assert not (tmp_path / "cohort" / "splits.former.json").exists()


def test_a_damaged_split_is_written_anew(tmp_path, caplog):
    """A comma too much, and the folds of a person were gone."""
    write_cohort(made(*KEYS), tmp_path / "cohort")
    before = content(tmp_path / "cohort")
    (tmp_path / "cohort" / "splits.json").write_text("[{")
    write_cohort(made(*KEYS), tmp_path / "cohort")
    assert "writing it anew" in caplog.text
    former = tmp_path / "cohort" / "splits.former.json"
    assert former.read_text() == "[{"
    former.unlink()
    assert content(tmp_path / "cohort") == before


def test_other_patients_than_before_are_told(tmp_path, caplog):
    """A second conversion without its --patient-pattern took each case for a patient, and drew folds by them."""
    write_cohort(PatientsByPattern(made("g_0801", "g_0802", "g_0901"), r"g_(\d\d)"), tmp_path / "cohort")
    assert caplog.text == ""
    write_cohort(made("g_0801", "g_0802", "g_0901"), tmp_path / "cohort")
    told = "the source tells other patients now than"
    assert told in caplog.text
    assert "(g_0801 of 08 is of g, g_0802 of 08 is of g, g_0901 of 09 is of g), by which folds" in caplog.text


def test_one_patient_gives_no_split_and_says_so(tmp_path, caplog):
    write_cohort(made("p1_d1", "p1_d2"), tmp_path / "cohort")
    assert not (tmp_path / "cohort" / "splits.json").exists()
    assert "no splits.json was written" in caplog.text


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    return write_phantom(tmp_path_factory.mktemp("phantom") / "raw", patients=2, days=2)


def test_one_worker_and_four_write_the_same_bytes(tmp_path, phantom):
    for workers in (1, 4):
        write_cohort(UwMadison(phantom), tmp_path / str(workers) / "cohort", workers=workers)
    one = content(tmp_path / "1" / "cohort")
    assert one == content(tmp_path / "4" / "cohort")
    # Image, label, record; dataset.json, cases.csv and what the source said of it, splits.json and its mark.
    assert len(one) == 4 * 3 + 5


def test_the_embedded_phantom_is_finished_where_it_was_stopped(tmp_path, phantom, caplog):
    folder = tmp_path / "phantom"
    (tmp_path / "phantom_raw").symlink_to(phantom)
    whole = open_cohort(folder, embedded=folder)
    assert len(whole.keys) == 4
    assert "synthetic" in caplog.text
    before = content(folder)
    for name in ("splits.json", "cases.csv", *[path for path in before if "case202" in path]):
        (folder / name).unlink()
    open_cohort(folder, embedded=folder)
    assert content(folder) == before


def test_only_the_embedded_cohort_is_made(tmp_path):
    with pytest.raises(CohortError, match="there is no folder"):
        open_cohort(tmp_path / "cohort", embedded=tmp_path / "phantom")
    with pytest.raises(CohortError, match="there is no folder"):
        open_cohort(tmp_path / "cohort")


def in_a_clean_process(function, *arguments):
    """Run in a process of one thread, which may fork."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def forked(action):
    """Run in a fork, which ends without clearing up; returns the process id."""
    child = os.fork()
    if child:
        return child
    try:
        action()
        os._exit(0)
    finally:
        os._exit(1)


def die_before_touch(number, folder):
    """End this process by SIGKILL as it touches a path of the folder for that time."""
    touches = 0

    def hook(event, arguments):
        nonlocal touches
        if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.chmod") and str(folder) in str(arguments[0]):
            touches += 1
            if touches == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def check_after_a_kill(folder, whole, convert):
    """Whole files or none; and a second run ends with the same bytes."""
    for path in folder.rglob("[!.]*.nii.gz"):
        assert path.read_bytes() == whole[path.relative_to(folder).as_posix()]
        read_volume(path)
    convert(folder)
    assert content(folder) == whole


def kill_everywhere(tmp_path):
    def convert(folder):
        write_cohort(made("p1_d1", "p2_d1"), folder, workers=1)

    convert(tmp_path / "whole" / "cohort")
    whole = content(tmp_path / "whole" / "cohort")
    for number in range(1, 1000):
        folder = tmp_path / f"killed{number}" / "cohort"

        def run_and_die(folder=folder, number=number):
            die_before_touch(number, folder)
            convert(folder)

        _, status = os.waitpid(forked(run_and_die), 0)
        if os.WIFEXITED(status):
            return number, os.WEXITSTATUS(status)
        check_after_a_kill(folder, whole, convert)
    return None


def test_killed_at_any_touch_of_the_disk_and_run_again_it_ends_with_the_same_bytes(tmp_path):
    touches, exit_code = in_a_clean_process(kill_everywhere, tmp_path)
    assert exit_code == 0
    assert touches > 40


def kill_at_random(tmp_path, phantom):
    def convert(folder):
        write_cohort(UwMadison(phantom), folder, workers=3)

    convert(tmp_path / "whole" / "cohort")  # and everything is imported
    start = time.monotonic()
    convert(tmp_path / "again" / "cohort")
    duration = time.monotonic() - start
    whole = content(tmp_path / "whole" / "cohort")
    moments = random.Random(0)
    killed = 0
    for number in range(5):
        folder = tmp_path / f"killed{number}" / "cohort"
        for _ in range(2):
            child = forked(lambda folder=folder: convert(folder))
            time.sleep(moments.uniform(0, duration))
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            killed += os.WIFSIGNALED(status)
        check_after_a_kill(folder, whole, convert)
    return killed


def test_killed_again_and_again_with_several_workers_it_ends_with_the_same_bytes(tmp_path, phantom):
    assert in_a_clean_process(kill_at_random, tmp_path, phantom) > 0


def foreign_dataset(folder: Path) -> None:
    """A dataset as others write it: nnU-Net's raw layout, without volseg's object."""
    write_cohort(made("p1_d1", "p2_d1"), folder)
    dataset = json.loads((folder / "dataset.json").read_text())
    del dataset["volseg"]
    (folder / "dataset.json").write_text(json.dumps(dataset))
    shutil.rmtree(folder / ".volseg")


def test_the_raw_folder_is_never_the_target(tmp_path):
    """It was: the files of each case were removed before they were read."""
    foreign_dataset(tmp_path / "raw")
    before = content(tmp_path / "raw")
    (tmp_path / "link").symlink_to(tmp_path / "raw")
    for target in ("raw", "link", "raw/../raw"):
        with pytest.raises(UsageError, match="only read"):
            write_cohort(Decathlon(tmp_path / "raw"), tmp_path / target)
    assert content(tmp_path / "raw") == before


def test_a_dataset_of_somebody_else_is_left_alone(tmp_path):
    foreign_dataset(tmp_path / "theirs")
    before = content(tmp_path / "theirs")
    with pytest.raises(UsageError, match="did not write"):
        write_cohort(made("p1_d1", "p9_d1"), tmp_path / "theirs")
    assert content(tmp_path / "theirs") == before


def test_a_damaged_record_of_a_case_not_asked_for_counts_for_nothing(tmp_path):
    write_cohort(made(*KEYS), tmp_path / "cohort")
    (tmp_path / "cohort" / ".volseg" / "cases" / "p1_d1.json").write_text("{")
    result = write_cohort(made("p2_d1", "p3_d1"), tmp_path / "cohort")
    assert result.finished_before == ("p2_d1", "p3_d1")
    assert write_cohort(made(*KEYS), tmp_path / "cohort").written == ("p1_d1",)


def changed_table(folder, **values):
    """Write values into the columns of cases.csv, by key, as a person does."""
    table = folder / "cases.csv"
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row.update({name: of_key[row["key"]] for name, of_key in values.items() if row["key"] in of_key})
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys([*rows[0], *values])), restval="")
        writer.writeheader()
        writer.writerows(rows)


def test_what_a_person_wrote_into_the_table_outlasts_the_next_conversion(tmp_path):
    """Patients that `split --patient-pattern` wrote became those of the source again, and stood on both sides then."""
    folder, source = tmp_path / "cohort", made(*KEYS)
    write_cohort(source, folder)
    patients, days = {"p1_d1": "x", "p3_d1": "x"}, dict(zip(KEYS, "0300", strict=True))
    changed_table(folder, patient=patients, day=days, warnings={"p1_d2": "suspect: blurred"})
    before = Cohort.open(folder).rows
    source.cases["p4_d1"] = case("p4_d1")
    source.cases["p2_d1"], source.version["p2_d1"] = case("p2_d1", seed=1), 1  # converted again
    for _ in range(2):
        write_cohort(source, folder)
        rows = Cohort.open(folder).rows
        assert {key: rows[key] for key in KEYS} == before
        assert rows["p4_d1"].patient == "p4"
    assert all("p1_d2" not in fold.training + fold.validation for fold in Cohort.open(folder).folds())
    changed_table(folder, warnings={"p1_d2": ""})
    write_cohort(source, folder)
    assert Cohort.open(folder).rows["p1_d2"].warnings == ()


def test_what_the_source_says_anew_counts_before_what_was_changed(tmp_path):
    folder, source = tmp_path / "cohort", made(*KEYS)
    write_cohort(source, folder)
    changed_table(folder, patient=dict.fromkeys(KEYS, "x"))
    by_day = PatientsByPattern(source, r"p\d_(?P<patient>d\d)")
    write_cohort(by_day, folder)
    assert [row.patient for row in Cohort.open(folder).rows.values()] == ["d1", "d2", "d1", "d1"]


def test_the_table_of_a_folder_of_an_earlier_version_and_a_damaged_one(tmp_path):
    folder = tmp_path / "cohort"
    write_cohort(made(*KEYS), folder)
    (folder / ".volseg/converted.csv").unlink()
    changed_table(folder, patient={"p1_d1": "x"})
    write_cohort(made(*KEYS), folder)
    assert Cohort.open(folder).patient("p1_d1") == "x"
    (folder / "cases.csv").write_text("nonsense")
    write_cohort(made(*KEYS), folder)
    assert Cohort.open(folder).patient("p1_d1") == "p1"


def test_what_nobody_looked_at_stays_declared_for_corrected_labels(tmp_path):
    """`adopt` declared the value; after the next conversion the corrected label held a value that was none."""
    folder, source = tmp_path / "cohort", made(*KEYS)
    write_cohort(source, folder)
    before = read_volume(folder / "labelsTr/p1_d1.nii.gz")
    voxels = before.voxels.copy()
    voxels[0] = 4
    label = Volume(voxels, before.affine_ras)
    row = Correction(1, "p1_d1", "a", 1, 1, 1, 1, 1, None, "label", "", label_digest(label))
    replace_label(folder, "p1_d1", label, [row], channels=1, ignore=4)
    write_cohort(source, folder)
    cohort = Cohort.open(folder)
    assert cohort.labels.ignore == 4
    assert np.array_equal(cohort.labels.check(read_volume(cohort.label_path("p1_d1")).voxels), voxels)
    source.labels = replace(TABLE, ignore=9)  # what the source says counts
    write_cohort(source, folder)
    assert Cohort.open(folder).labels.ignore == 9


@pytest.mark.parametrize("folds_case", [True, False])
def test_keys_that_differ_in_case_alone_are_two_files_or_refused(tmp_path, monkeypatch, folds_case):
    """On Windows and macOS the second case replaced the first one, file by file."""
    monkeypatch.setattr(volseg.cohort.conversion, "ignores_case", lambda _: folds_case)
    source = made("P1_d1", "p1_d1", "p2_d1")
    if not folds_case:
        assert len(write_cohort(source, tmp_path / "cohort").written) == 3
        return
    with pytest.raises(UsageError, match=r"P1_d1 and p1_d1 would be written to one file.*rename one"):
        write_cohort(source, tmp_path / "cohort")
    assert not (tmp_path / "cohort").exists()


def test_a_second_conversion_into_a_folder_is_refused_while_the_first_is_at_work(tiny_cohort, tmp_path, capsys):
    """It removed the half-written files of the first, which ended with "there is no case1.nii.gz; correct its name"."""
    words = ("convert", "decathlon", tiny_cohort, tmp_path / "cohort")
    held = take_lock(tmp_path / "cohort" / ".volseg" / "convert.lock")
    for more in ((), ("--journal", tmp_path / "journal.jsonl")):
        code, text = told(capsys, *words, *more)
        assert code == 2, text
        assert f"another conversion is writing {tmp_path / 'cohort'}; wait for it, or name another folder" in text
    held.release()
    assert told(capsys, *words)[0] == 0  # the lock alone makes no other folder of it
    held = take_lock(tmp_path / "cohort" / ".volseg" / "convert.lock")
    assert told(capsys, *words, "--shard", "0/1")[0] == 2
    assert told(capsys, *words, "--shard", "0/2")[0] == 0  # shards write side by side
    held.release()


def test_half_written_labels_of_other_shards_are_not_counted(tmp_path):
    """nnU-Net refuses a dataset whose numTraining is not the number of its labels."""
    write_cohort(made(*KEYS), tmp_path / "cohort", only={KEYS[0]})
    (tmp_path / "cohort" / "labelsTr" / ".partial-ab12-p9_d1.nii.gz").touch()
    write_cohort(made(*KEYS), tmp_path / "cohort", only=set(KEYS))
    assert json.loads((tmp_path / "cohort" / "dataset.json").read_text())["numTraining"] == len(KEYS)
