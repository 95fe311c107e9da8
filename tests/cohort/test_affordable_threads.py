"""Threads by memory: fewer where the largest case asks for it, a line where not even one fits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from volseg.cohort import Cohort, affordable_threads, inspect_cohort
from volseg.errors import UsageError, VolsegError
from volseg.inference import sliding_window

CASE = 40 * 36 * 20 * 10  # bytes of a case of the tiny cohort at 10 a voxel


@pytest.mark.parametrize(
    ("available", "wanted", "count"),
    [(None, 8, 8), (100 * CASE, 8, 8), (5 * CASE, 4, 4), (5 * CASE, 8, 4), (1.1 * CASE, 2, 1), (CASE, 1, 1)],
)
def test_threads_are_as_many_as_fit(tiny_cohort, available, wanted, count):
    found = affordable_threads(
        Cohort.open(tiny_cohort), wanted, bytes_per_voxel=10, available=None if available is None else int(available)
    )
    assert found.count == count
    assert bool(found.note) == (count != wanted)
    if found.note:
        assert f"instead of {wanted}: case" in found.note
    assert not found.too_large


def test_a_case_that_does_not_fit_at_all_is_refused_in_a_line(tiny_cohort):
    with pytest.raises(UsageError, match=r"^case\d_day0: the case has 40 x 36 x 20 voxels, .* GiB are free"):
        affordable_threads(Cohort.open(tiny_cohort), 2, bytes_per_voxel=10, available=CASE // 2)


def test_a_case_that_does_not_fit_is_left_out_beside_others(tiny_cohort):
    cohort = Cohort.open(tiny_cohort)
    key = cohort.keys[1]
    rows = {**cohort.rows, key: replace(cohort.rows[key], shape=(4000, 4000, 4000))}
    larger = replace(cohort, rows=rows)
    found = affordable_threads(larger, 2, bytes_per_voxel=10, available=10 * CASE)
    assert (found.count, list(found.too_large)) == (2, [key])
    assert "4000 x 4000 x 4000 voxels, which take 596.0 GiB" in found.too_large[key]
    report = inspect_cohort(larger, too_large=found.too_large)
    assert report.failed == dict(found.too_large)
    assert report.facts["regions"][0]["cases"] == 4


def test_the_largest_of_the_asked_cases_counts(tiny_cohort):
    cohort = Cohort.open(tiny_cohort)
    assert affordable_threads(cohort, 2, bytes_per_voxel=10, available=3 * CASE, keys=cohort.keys[:1]).count == 2


def test_logits_that_do_not_fit_are_refused_before_they_are_made(monkeypatch):
    network = torch.nn.Conv3d(1, 50, 1)
    inferer = sliding_window([8, 8, 8], overlap=0.5, windows_at_once=1)
    image = torch.zeros(1, 1, 16, 16, 16)
    image[..., 3] = 1
    assert inferer(image, network).shape == (1, 50, 16, 16, 16)
    monkeypatch.setattr("volseg.inference.sliding.available_bytes", lambda: 16**3 * 50 * 4 - 1)
    assert inferer(image, network).shape == (1, 50, 16, 16, 16), "less than a GiB"
    monkeypatch.setattr("volseg.inference.sliding._SMALL_SUM", 0)
    assert inferer(image, network).shape == (1, 50, 16, 16, 16), "what the process holds already counts as free"
    monkeypatch.setattr("volseg.inference.sliding.resident_bytes", lambda: 0)
    with pytest.raises(VolsegError, match=r"the logits of 50 channels on 16 x 16 x 16 voxels take .* GiB are free"):
        inferer(image, network)
