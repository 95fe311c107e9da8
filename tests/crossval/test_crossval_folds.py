"""What is said of the folds before anything is trained."""

from __future__ import annotations

import json

import numpy as np
import pytest
from command import told
from tiny_bundle import write_bundle

from volseg.cohort import Cohort, Fold, write_splits
from volseg.crossval import check_folds, duration, fold_notes, regions_of_cases, time_left
from volseg.errors import CohortError, UsageError
from volseg.labels import LabelTable
from volseg.volume import Volume, write_volume

REGIONS = {"large": 1, "small": 2}


@pytest.fixture
def make(tmp_path):
    """A cohort of tiny cases; each holds the regions that are named."""

    def made(cases, folds=None):
        labels = LabelTable.exclusive(list(REGIONS))
        for key, names in cases.items():
            voxels = np.zeros((4, 4, 4), np.uint8)
            for name in names:
                voxels[REGIONS[name]] = REGIONS[name]
            affine = np.eye(4)
            write_volume(tmp_path / "cohort" / "imagesTr" / f"{key}_0000.nii.gz", Volume(voxels.astype("i2"), affine))
            write_volume(tmp_path / "cohort" / "labelsTr" / f"{key}.nii.gz", Volume(voxels, affine))
        dataset = {"channel_names": {"0": "MR"}, **labels.to_dataset_json(), "numTraining": len(cases)}
        (tmp_path / "cohort" / "dataset.json").write_text(json.dumps({**dataset, "file_ending": ".nii.gz"}))
        if folds is not None:
            write_splits(tmp_path / "cohort", [Fold(tuple(train), tuple(val)) for train, val in folds])
        return Cohort.open(tmp_path / "cohort")

    return made


BOTH = ("large", "small")


def test_days_of_one_patient_are_refused(make):
    cohort = make({f"case1_day{day}": BOTH for day in range(5)})
    with pytest.raises(UsageError, match=r"labelled cases of 2 patients or more, .* has 5 of 1; .*--patient-pattern"):
        check_folds(cohort)


def test_fewer_patients_than_folds_get_the_command(make):
    cohort = make({f"case{number}_day0": BOTH for number in range(3)})
    with pytest.raises(
        CohortError, match=r"has no splits\.json, and 3 patients; write it with `volseg split .* --folds 3`"
    ):
        check_folds(cohort)
    cohort = make({f"case{number}_day0": BOTH for number in range(6)})
    with pytest.raises(CohortError, match=r"has no splits\.json; write it with `volseg split"):
        check_folds(cohort)


def test_each_case_is_held_out_once(make):
    cases = {f"case{number}_day0": BOTH for number in range(4)}
    a, b, c, d = cases
    with pytest.raises(CohortError, match=f"held out by one fold, and {b} by 2"):
        check_folds(make(cases, [([c, d], [a, b]), ([a, c], [b, d])]))
    with pytest.raises(CohortError, match=r"fold 1 .* must hold cases on both sides, got 4 to train on and 0 held out"):
        check_folds(make(cases, [([c, d], [a, b]), ([a, b, c, d], [])]))
    assert check_folds(make(cases, [([c, d], [a, b])])) == [
        f"no fold holds out {c}, {d}: 2 labelled cases are not scored"
    ]
    assert check_folds(make(cases, [([c, d], [a, b]), ([a, b], [c, d])])) == []


def test_a_region_that_a_fold_cannot_learn_or_show_is_named(make):
    cases = {"case0_day0": BOTH, "case1_day0": ("large",), "case2_day0": ("large",), "case3_day0": ()}
    a, b, c, d = cases
    cohort = make(cases, [([b, c], [a, d]), ([a, d], [b, c])])
    regions = regions_of_cases(cohort)
    assert regions == {key: tuple(names) for key, names in cases.items()}
    notes = fold_notes(cohort, regions, [0, 1])
    assert notes == [
        "fold 0: none of its 2 training cases holds small, so its network cannot find it; split again with another "
        "--seed, or take the region out",
        "fold 1: none of its 2 held-out cases holds small, so only inventing it can be seen there",
    ]
    assert fold_notes(cohort, regions, [1]) == notes[1:]


def test_the_command_tells_before_it_trains(make, tmp_path, monkeypatch, capsys):
    cases = {f"case{number}_day0": ("large",) for number in range(4)}
    a, b, c, d = cases
    make(cases, [([c, d], [a, b]), ([a, b], [c, d])])
    write_bundle(tmp_path / "bundles" / "one")
    monkeypatch.chdir(tmp_path)
    code, text = told(capsys, "crossval", "one", "cohort", "-o", "cv", "--dry", "--roi_size", "[32,16,16]")
    assert code == 0, text
    assert text.count("training cases holds small, so its network cannot find it") == 2


def test_durations_and_the_time_left():
    assert [duration(minutes) for minutes in (0, 59, 60, 61, 24 * 60, 25 * 60 + 40)] == [
        *("1 min", "59 min", "1 h", "1 h 1 min", "1 d", "1 d 1 h")
    ]
    assert time_left(60, waiting=0, running_s=[90], workers=1) == 0  # longer than expected is no negative time
    assert time_left(60, waiting=4, running_s=[], workers=2) == 2
