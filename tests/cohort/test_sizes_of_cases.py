"""Sizes of voxels that make no sense are told by `check`, `plan` and before a training, and NaN is called NaN."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from volseg.cohort import Cohort, inspect_cohort, size_warnings
from volseg.plan import plan_warnings, take_fingerprint
from volseg.training.checks import check_cases
from volseg.volume import Volume, write_volume

USUAL = (1.5, 1.5, 3.0)
NO_PATIENT, UNLIKE = "are none of a patient", "are far finer or coarser than the median"


def make(folder: Path, spacings: list[tuple[float, ...]], *, fill: float = 0.0) -> Cohort:
    label = np.zeros((12, 10, 6), np.uint8)
    label[3:7, 3:7, 2:4] = 1
    keys = [f"case{number}" for number in range(len(spacings))]
    for number, (key, spacing) in enumerate(zip(keys, spacings, strict=True)):
        image = np.random.default_rng(number).normal(100, 9, label.shape).astype(np.float32) + fill
        affine = np.diag([*spacing, 1.0])
        write_volume(folder / f"imagesTr/{key}_0000.nii.gz", Volume(image, affine))
        write_volume(folder / f"labelsTr/{key}.nii.gz", Volume(label, affine))
    stated = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "organ": 1}, "numTraining": len(keys)}
    (folder / "dataset.json").write_text(json.dumps({**stated, "file_ending": ".nii.gz"}))
    (folder / "splits.json").write_text(json.dumps([{"train": keys[1:], "val": keys[:1]}]))
    return Cohort.open(folder)


@pytest.mark.parametrize(
    ("spacings", "told"),
    [
        ([USUAL] * 4, []),
        ([USUAL, USUAL, (0.7, 0.7, 5.0), (1.0, 1.0, 1.0)], []),
        ([(0.0015, 0.0015, 0.003)] * 4, [NO_PATIENT]),  # metres
        ([USUAL, USUAL, USUAL, (1500.0, 1500.0, 3000.0)], [NO_PATIENT, UNLIKE]),  # micrometres in one case
        ([USUAL, USUAL, USUAL, (0.15, 0.15, 0.3)], [UNLIKE]),  # centimetres in one case
        ([USUAL, USUAL, USUAL, (1.5, 1.5, 0.1)], [UNLIKE]),  # one axis
    ],
)
def test_each_command_tells_sizes_that_make_no_sense(
    spacings: list[tuple[float, ...]], told: list[str], tmp_path: Path
) -> None:
    cohort = make(tmp_path / "cohort", spacings)
    checked = " | ".join(inspect_cohort(cohort).warnings)
    planned = " | ".join(plan_warnings(take_fingerprint(cohort)))
    trained = " | ".join(check_cases(cohort, fold=0, spacing_mm=USUAL))
    for said in (checked, planned, trained):
        for sentence in (NO_PATIENT, UNLIKE):
            assert (sentence in said) == (sentence in told), (sentence, said)
            assert said.count(sentence) <= 1


def test_turned_axes_are_compared_along_the_body(tmp_path: Path) -> None:
    cohort = make(tmp_path / "cohort", [(0.5, 0.5, 12.0)] * 3)
    assert not size_warnings(cohort.rows.values())
    turned = np.diag([0.5, 0.5, 12.0, 1.0])[:, [2, 0, 1, 3]]
    write_volume(tmp_path / "cohort/imagesTr/case0_0000.nii.gz", Volume(np.zeros((6, 12, 10), np.int16), turned))
    assert not size_warnings(Cohort.open(tmp_path / "cohort").rows.values())


@pytest.mark.parametrize("fill", [np.nan, np.inf])
def test_a_plan_calls_nan_by_its_name(fill: float, tmp_path: Path) -> None:
    said = " | ".join(plan_warnings(take_fingerprint(make(tmp_path / "cohort", [USUAL] * 3, fill=fill))))
    assert "channel MR holds NaN or infinity in 3 of 3 images that were read (case0, case1, case2)" in said
    assert "one value" not in said
