"""Labels whose axes run otherwise than those of their image: every measure is of the same voxels in space."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from volseg.bundle import fit_normalisation
from volseg.cohort import Cohort
from volseg.crossval.cleanup import dice_of_largest
from volseg.evaluation import evaluate
from volseg.plan.case_facts import look_at_case
from volseg.training.checks.images import _varies
from volseg.volume import Volume, read_volume, write_volume

AFFINE = np.diag([1.5, 1.5, 3.0, 1.0])
KEYS = ("a", "b")


@pytest.fixture(params=["mirrored", "exchanged"])
def cohorts(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Cohort, Cohort]:
    """A cohort in nnU-Net's layout, and the same with labels that another program saved along other axes."""
    rng = np.random.default_rng(0)
    for name in ("plain", "turned"):
        folder = tmp_path / name
        for key in KEYS:
            image = rng.integers(-900, 900, (16, 14, 8)).astype(np.int16) if name == "plain" else None
            if image is None:
                image = read_volume(tmp_path / "plain" / "imagesTr" / f"{key}_0000.nii.gz").voxels
            label, affine = np.zeros((16, 14, 8), np.uint8), AFFINE.copy()
            label[3:8, 3:8, 2:5], label[9:12, 9:12, 3:6], label[14, 12, 7] = 1, 2, 1
            if name == "turned" and request.param == "mirrored":
                label, affine[0, 0], affine[0, 3] = label[::-1].copy(), -1.5, 1.5 * 15
            elif name == "turned":
                label, affine = label.swapaxes(0, 1).copy(), affine[:, [1, 0, 2, 3]]
            write_volume(folder / "imagesTr" / f"{key}_0000.nii.gz", Volume(image, AFFINE))
            write_volume(folder / "labelsTr" / f"{key}.nii.gz", Volume(label, affine))
        entries = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "spleen": 2}}
        (folder / "dataset.json").write_text(json.dumps({**entries, "file_ending": ".nii.gz"}))
    return Cohort.open(tmp_path / "plain"), Cohort.open(tmp_path / "turned")


def test_a_cross_validation_decides_its_clean_up_by_the_dice_of_the_report(cohorts):
    """The largest part was compared with a mirror image, so that no region ever gained."""
    plain, turned = cohorts
    predictions = plain.folder / "labelsTr"
    found = dice_of_largest(predictions, turned, KEYS)
    assert found == dice_of_largest(predictions, plain, KEYS)
    rows = {(row.key, row.region): row.dice for row in evaluate(predictions, turned, keys=KEYS)}
    assert {key: found[key][0] for key in KEYS} == {key: [rows[key, "liver"], rows[key, "spleen"]] for key in KEYS}
    assert found["a"][1][0] < 1


def test_the_range_of_ct_values_is_that_of_the_regions(cohorts):
    """A network was normalised by the intensities of the other side of the body."""
    plain, turned = (fit_normalisation(one, "CT", fold="all") for one in cohorts)
    assert turned == plain


def test_a_plan_looks_at_the_voxels_of_the_regions(cohorts):
    plain, turned = (look_at_case(one, "a", images=True) for one in cohorts)
    for name, region in plain.regions.items():
        other = turned.regions[name]
        assert (other.voxels, other.extent, other.parts) == (region.voxels, region.extent, region.parts)
        np.testing.assert_array_equal(other.profile, region.profile)
        np.testing.assert_array_equal(np.sort(other.intensities[0]), np.sort(region.intensities[0]))


def test_a_region_varies_by_its_own_voxels(cohorts):
    """The check before a training looked at the other side of the body, or ended with an IndexError."""
    for cohort in cohorts:
        (path,) = cohort.image_paths("a")
        image = read_volume(path)
        voxels = image.voxels.copy()
        voxels[3:8, 3:8, 2:5] = voxels[14, 12, 7] = 5
        write_volume(path, Volume(voxels, image.affine_ras))
        assert not _varies(cohort, "a", "liver")
        assert _varies(cohort, "a", "spleen")
