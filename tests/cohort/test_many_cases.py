"""Cohorts of tens of thousands of images: what is done per case must not look at all cases."""

from __future__ import annotations

import json
import time

import numpy as np

from volseg.cohort import CaseRow, Cohort, inspect_cohort, split_by_patient
from volseg.volume import Volume, write_volume

_SECONDS = 5.0


def test_a_split_takes_a_time_that_grows_with_the_cases():
    """20,000 cases took more than a minute: the held-out keys were put into a set once per case."""
    rows = [CaseRow(f"k{n:05d}", f"p{n // 2}", "", (4, 4, 1), (1, 1, 1), "RAS", "", ()) for n in range(20_000)]
    began = time.process_time()
    folds = split_by_patient(rows)
    assert time.process_time() - began < _SECONDS
    assert sorted(key for fold in folds for key in fold.validation) == [row.key for row in rows]
    assert all(len(fold.training) + len(fold.validation) == len(rows) for fold in folds)


def test_check_does_not_list_the_maps_of_objects_per_case(tmp_path, monkeypatch):
    for number in range(6):
        cells = np.zeros((6, 6, 1), np.uint8)
        cells[number, 2] = 1
        for path in (f"imagesTr/k{number}_0000.nii.gz", f"labelsTr/k{number}.nii.gz", f"instancesTr/k{number}.nii.gz"):
            write_volume(tmp_path / path, Volume(cells, np.eye(4)))
    stated = {"channel_names": {"0": "grey"}, "labels": {"background": 0, "cell": 1}}
    (tmp_path / "dataset.json").write_text(json.dumps(stated))
    asked = []
    there = Cohort.has_instances
    monkeypatch.setattr(Cohort, "has_instances", property(lambda self: asked.append(1) or there.fget(self)))
    assert inspect_cohort(Cohort.open(tmp_path)).failed == {}
    assert len(asked) == 1
