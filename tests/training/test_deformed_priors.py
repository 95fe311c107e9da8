"""Priors with a deformable alignment: what the network sees, what is measured, and what can never be seen."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from bent_days import bend_all, without_elastix
from treatment_days import write_days

from volseg.bundle import check_training_words, find
from volseg.cohort import Alignments
from volseg.errors import UsageError, VolumeError
from volseg.training import Priors
from volseg.transforms import PriorFiles, preprocessing, prior_arrays
from volseg.volume import Deformation, Volume, elastix_is_installed, read_volume, write_volume

MR = [{"scheme": "mr"}]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_days(tmp_path_factory.mktemp("days"), patients=("a", "b", "c"))


def entry(cohort, folder, *, key="a_day0", other="a_day10", **given):
    """The prior of a case, and that as the rigid alignment alone has it."""
    found = Priors(cohort, on=True, cache_dir=str(folder), **given).files(key, other, "corrected", widths_mm={})
    return PriorFiles.from_json(json.loads(json.dumps(found.to_json())))


def test_a_motion_of_nothing_is_the_rigid_alignment_and_two_voxels_are_two_voxels(cohort, tmp_path, monkeypatch):
    grid = read_volume(cohort.image_paths("a_day0")[0]).grid
    rigid = entry(cohort, tmp_path / "rigid")
    assert rigid.deformation is None
    assert "deformation" not in rigid.to_json(), "a datalist of before is the same"
    whole = prior_arrays(rigid, grid, cohort.labels)
    for mm in (0.0, 8.0):
        bend_all(monkeypatch, mm)
        bent = entry(cohort, tmp_path / f"{mm}", alignment="deformable")
        assert bent.files == (*bent.images, bent.label, bent.deformation)
        assert bent.to_json() == PriorFiles.from_json(bent.to_json()).to_json()
        found = prior_arrays(bent, grid, cohort.labels)
        steps = round(mm / 4)
        inside = (slice(None), slice(2, -4), slice(2, -2), slice(2, -2))
        moved = np.roll(whole, -steps, axis=1)
        near = np.abs(found - moved)[inside]
        assert near[0].max() < 1
        assert near[1].max() < 1e-3
        assert (near[2] > 0).mean() < 0.01
        assert not found[1][found[2] == 0].any(), "beyond the earlier field of view nothing is told"


def test_a_shift_of_the_rigid_alignment_moves_the_deformed_one_too(cohort, tmp_path, monkeypatch):
    from dataclasses import replace

    bend_all(monkeypatch, 4.0)
    grid = read_volume(cohort.image_paths("a_day0")[0]).grid
    prior = entry(cohort, tmp_path, alignment="deformable")
    there = prior_arrays(prior, grid, cohort.labels)[1]
    along = prior_arrays(replace(prior, registration=prior.registration.shifted((0, 8, 0))), grid, cohort.labels)[1]
    assert np.abs(np.roll(there, -2, axis=1) - along)[2:-2, 2:-4, 2:-2].max() < 1e-3


def test_each_other_day_of_the_patient_is_bent_and_a_stranger_never(cohort, tmp_path, monkeypatch):
    bend_all(monkeypatch, 4.0)
    priors = Priors(cohort, on=True, cache_dir=str(tmp_path), alignment="deformable")
    assert priors.recorded_alignment == "deformable"
    assert Priors(cohort, alignment="rigid").recorded_alignment is None
    for part in ("training", "validation"):
        for item in priors.datalist(part):
            for one in item["prior"]:
                assert ("deformation" in one) == (one["kind"] != "foreign")
                assert one.get("deformation") in [*item["prior_files"], None], "a cache on disk sees when it changes"
    monkeypatch.setattr("volseg.cohort.alignments.deform", lambda *_: pytest.fail("aligned again"))
    assert priors.datalist("training")


@pytest.mark.parametrize("mm", [0.0, 12.0])
def test_the_width_is_that_of_contours_aligned_in_the_same_way(cohort, tmp_path, monkeypatch, mm):
    rigid = Priors(cohort, on=True, cache_dir=str(tmp_path)).measured
    bend_all(monkeypatch, mm)
    found = Priors(cohort, on=True, cache_dir=str(tmp_path), alignment="deformable").measured
    assert found["misalignment_mm"] == rigid["misalignment_mm"]
    if mm:
        assert found["widths_mm"]["ball"] > 1.5 * rigid["widths_mm"]["ball"], "the stand-in moves contours away"
    else:
        assert found["widths_mm"] == pytest.approx(rigid["widths_mm"], rel=0.1)


def test_a_deformation_that_failed_leaves_the_rigid_alignment_and_says_so(cohort, tmp_path, monkeypatch, caplog):
    bend_all(monkeypatch, 0.0, "it gains nothing")
    caplog.set_level("INFO")
    assert entry(cohort, tmp_path, alignment="deformable").deformation is None
    assert (
        "a_day10 is aligned rigidly to a_day0, since the deformable alignment failed: it gains nothing" in caplog.text
    )


def test_an_alignment_that_failed_is_not_bent(tmp_path, monkeypatch):
    bend_all(monkeypatch, 4.0)
    monkeypatch.setattr("volseg.cohort.alignments.deform", lambda *_: pytest.fail("bent"))
    cohort = write_days(tmp_path / "days", patients=("a",))
    path = cohort.image_paths("a_day9")[0]
    image = read_volume(path)
    write_volume(path, Volume(np.zeros(image.shape, np.float32), image.affine_ras))
    found = Alignments(tmp_path / "x").pair(cohort.image_paths("a_day0")[0], path, alignment="deformable")
    assert found.registration.failure
    assert found.deformation is None


def test_a_deformation_that_is_gone_is_one_line_with_the_cure(cohort, tmp_path, monkeypatch):
    bend_all(monkeypatch, 4.0)
    prior = entry(cohort, tmp_path, alignment="deformable")
    for path in tmp_path.rglob("*.npz"):
        path.write_bytes(b"half")
    with pytest.raises(VolumeError, match=r"of the prior a_day10 must be a readable file, got .*run the command again"):
        prior_arrays(prior, read_volume(cohort.image_paths("a_day0")[0]).grid, cohort.labels)


@pytest.mark.parametrize("real", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_deformation_sees_images_alone_and_the_label_of_the_day_changes_nothing(tmp_path, monkeypatch, real):
    if real and not elastix_is_installed():
        pytest.skip("itk-elastix is not installed")
    if not real:
        bend_all(monkeypatch, 4.0)
    cohort = write_days(tmp_path / "days")

    def shown(folder):
        priors = Priors(cohort, on=True, cache_dir=str(tmp_path / folder), alignment="deformable")
        item = next(item for item in priors.datalist("validation") if item["key"] == "b_day9")
        del item["label"]
        steps = preprocessing(
            cohort.labels, channels=1, spacing_mm=(4, 4, 4), label=False, normalisation=MR, prior=True
        )
        found = sorted(Deformation.read(path).motion_mm.tobytes() for path in (tmp_path / folder).rglob("*.npz"))
        return np.asarray(steps(item)["image"]), [hashlib.sha256(one).hexdigest() for one in found]

    before = shown("one")
    voxels = read_volume(cohort.label_path("b_day9")).voxels.copy()
    voxels[:10] = 1
    write_volume(cohort.label_path("b_day9"), Volume(voxels, read_volume(cohort.label_path("b_day0")).affine_ras))
    after = shown("two")
    assert np.array_equal(before[0], after[0])
    assert before[1] == after[1]
    read: list[str] = []

    def reader(path):
        read.append(str(path))
        return read_volume(path)

    days = [cohort.image_paths(key)[0] for key in ("a_day0", "a_day9")]
    Alignments(tmp_path / "other", read=reader).pair(*days, alignment="deformable")
    assert read
    assert not any("labelsTr" in path for path in read)


def test_settings_are_checked_before_pytorch_is_loaded(cohort, monkeypatch, capfd):
    without_elastix(monkeypatch)
    cure = r"--prior_alignment deformable needs itk-elastix: pip install 'volseg\[elastix\]', or leave"
    with pytest.raises(UsageError, match=cure):
        Priors(cohort, on=True, alignment="deformable")
    unet = find("unet")
    with pytest.raises(UsageError, match=cure):
        check_training_words(unet, overrides={"prior": True, "prior_alignment": "deformable"})
    for wrong in ("affine", "Rigid"):
        with pytest.raises(UsageError, match=f"--prior_alignment must be rigid or deformable, got '{wrong}'"):
            check_training_words(unet, overrides={"prior": True, "prior_alignment": wrong})
        with pytest.raises(UsageError, match=f"--prior_alignment must be rigid or deformable, got '{wrong}'"):
            Priors(cohort, on=True, alignment=wrong)
    assert check_training_words(unet, overrides={"prior_alignment": "deformable"}), "without a prior it has no effect"
    assert Priors(cohort, alignment="deformable").channel_names == ("MR",)
