"""What is read of a cohort: sizes, extents, intensities, in little memory; the same as from the whole arrays."""

from __future__ import annotations

import json

import numpy as np
import pytest
from planned_cohort import box, write_planned_cohort

from volseg.cohort import Cohort
from volseg.errors import VolumeError
from volseg.labels import LabelTable
from volseg.metrics import count_objects
from volseg.plan import take_fingerprint
from volseg.plan.case_facts import look_at_case
from volseg.volume import SliceStream, Volume, read_volume, write_volume

SHAPE = (20, 24, 18)


@pytest.fixture
def cohort(tmp_path):
    labels = {}
    for number in range(4):
        label = box(SHAPE, (2, 3, 4), (12 + number, 15, 14))
        label[15:17, 18:20, 5 + number : 6 + number] = 2
        label[0, 0, 0] = 2
        labels[f"case{number}"] = label
    return write_planned_cohort(tmp_path, labels, spacing_mm=(1.0, 2.0, 3.0))


def test_the_slices_of_a_stream_are_the_volume(tmp_path):
    import nibabel

    voxels = np.random.default_rng(0).integers(-1000, 2000, (13, 11, 9)).astype(np.int16)
    for name in ("a.nii", "a.nii.gz"):
        nibabel.save(nibabel.Nifti1Image(voxels, np.diag([1, 2, 3, 1])), tmp_path / name)
        for slices in (None, 1, 4, 100):
            stream = SliceStream.open(tmp_path / name)
            parts = list(stream.chunks(slices))
            assert np.array_equal(np.concatenate([part for _, part in parts], axis=2), voxels)
            assert [first for first, _ in parts] == list(range(0, 9, slices or 9))
    scaled = nibabel.Nifti1Image(voxels, np.diag([1, 2, 3, 1]))
    scaled.header.set_slope_inter(0.5, -3)
    nibabel.save(scaled, tmp_path / "scaled.nii.gz")
    found = np.concatenate([part for _, part in SliceStream.open(tmp_path / "scaled.nii.gz").chunks(2)], axis=2)
    assert np.array_equal(found, read_volume(tmp_path / "scaled.nii.gz").voxels)


def test_a_stream_that_is_cut_short_says_so(tmp_path):
    write_volume(tmp_path / "a.nii", Volume(np.zeros((5, 5, 5), np.uint8), np.eye(4)))
    content = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "a.nii").write_bytes(content[:-30])
    with pytest.raises(VolumeError, match=r"a\.nii ends in slice 3 of 5; it is cut short"):
        list(SliceStream.open(tmp_path / "a.nii").chunks(2))


def test_a_case_is_what_its_arrays_say(cohort, monkeypatch):
    monkeypatch.setattr("volseg.plan.case_facts._slices", lambda _: 5)  # several chunks
    facts = look_at_case(cohort, "case1", images=True)
    label = read_volume(cohort.label_path("case1")).voxels
    image = read_volume(cohort.image_paths("case1")[0]).voxels
    for name, value in (("organ", 1), ("lesion", 2)):
        region, mask = facts.regions[name], label == value
        where = np.argwhere(mask)
        assert region.voxels == mask.sum()
        assert list(region.extent) == (where.max(0) - where.min(0) + 1).tolist()
        assert {*map(tuple, region.positions.tolist())} == {*map(tuple, where.tolist())}
        assert region.parts == count_objects(mask)
        assert region.profile.sum(axis=1) == pytest.approx([1, 1, 1])
        assert set(region.intensities[0].tolist()) <= set(image[mask].tolist())
    assert facts.limits == ((pytest.approx(image.min()), pytest.approx(image.max())),)
    assert len(facts.background[0]) > 100


def test_what_nobody_looked_at_is_inside_no_region_and_outside_none(tmp_path):
    label = box(SHAPE, (2, 3, 4), (12, 15, 14))
    label[:, :, 9:] = 3
    image = np.where(label == 1, 50.0, np.where(label == 3, -1000.0, 0.0))
    cohort = write_planned_cohort(tmp_path, {"a": label}, images={"a": [image]}, channels=("CT",))
    dataset = json.loads((tmp_path / "dataset.json").read_text())
    dataset["labels"]["ignore"] = 3
    (tmp_path / "dataset.json").write_text(json.dumps(dataset))
    facts = look_at_case(Cohort.open(tmp_path), "a", images=True)
    assert set(facts.foreground[0].tolist()) == {50.0}
    assert set(facts.background[0].tolist()) == {0.0}
    assert facts.regions["organ"].voxels == (label == 1).sum()
    assert cohort.labels.ignore is None, "as it was before somebody corrected some slices"


def test_a_voxel_of_each_value_of_a_region_counts_alike(tmp_path):
    """Two organs that overlap a little: the values of the overlap are as rare in the sample as in the region."""
    shape = (40, 40, 40)
    label = box(shape, (0, 0, 0), (32, 40, 40))
    label[30:34] = 2
    label[30:32] = 3  # both
    image = np.where(label == 3, 10.0, np.where(label > 0, 110.0, 0.0))
    cohort = write_planned_cohort(tmp_path, {"a": label}, images={"a": [image]})
    table = LabelTable.overlapping(["organ", "lesion"])
    assert [region.values for region in table.regions] == [(1, 3), (2, 3)]
    dataset = {**json.loads((tmp_path / "dataset.json").read_text()), **table.to_dataset_json()}
    (tmp_path / "dataset.json").write_text(json.dumps(dataset))
    facts = look_at_case(Cohort.open(cohort.folder), "a", images=True)
    for name, values in (("organ", (1, 3)), ("lesion", (2, 3))):
        sample = facts.regions[name].intensities[0]
        assert len(sample) > 300
        assert sample.mean() == pytest.approx(image[np.isin(label, values)].mean(), abs=3)


def test_axes_are_those_of_the_body_whatever_the_file_has(cohort, tmp_path):
    """The same scan, stored head to feet first and from left to right."""
    turned = tmp_path / "turned"
    for path in sorted((cohort.folder).rglob("*.nii.gz")):
        volume = read_volume(path)
        voxels = volume.voxels.transpose(2, 0, 1)[:, ::-1, :]
        affine = np.zeros((4, 4))
        affine[2, 0], affine[0, 1], affine[1, 2], affine[3, 3] = 3, -1, 2, 1
        affine[0, 3] = SHAPE[0] - 1
        write_volume(turned / path.relative_to(cohort.folder), Volume(voxels, affine))
    (turned / "dataset.json").write_bytes((cohort.folder / "dataset.json").read_bytes())
    ours, theirs = take_fingerprint(cohort), take_fingerprint(Cohort.open(turned))
    assert theirs.shape == ours.shape
    assert theirs.spacing_mm == ours.spacing_mm
    for one, other in zip(ours.regions, theirs.regions, strict=True):
        assert (other.extent, other.voxels, other.extent_mm) == (one.extent, one.voxels, one.extent_mm)
        assert other.symmetry == pytest.approx(one.symmetry)
    for one, other in zip(ours.small, theirs.small, strict=True):
        assert {*map(tuple, one.positions.tolist())} == {*map(tuple, other.positions.tolist())}


def test_a_sample_is_spread_evenly_however_the_slices_come():
    from volseg.plan.case_facts import _Sample

    values = np.arange(50_000, dtype=np.float32)
    for size in (50_000, 777, 40):
        sample = _Sample()
        for start in range(0, len(values), size):
            sample.add(values[start : start + size])
        kept = sample.values()
        assert 1000 <= len(kept) <= 2000
        assert len(set(np.diff(kept).tolist())) == 1
        assert kept[0] == 0


def test_which_cases_are_read_depends_on_their_sizes_alone(cohort):
    everything = take_fingerprint(cohort)
    assert (everything.looked_at, everything.images_read) == (4, 4)
    some = take_fingerprint(cohort, voxels=2.9 * 2 * 20 * 24 * 18)
    assert (some.looked_at, some.images_read) == (4, 2)
    assert take_fingerprint(cohort, voxels=1).looked_at == 2
    assert take_fingerprint(cohort, voxels=1).to_json() == take_fingerprint(cohort, voxels=1).to_json()
    json.dumps(everything.to_json(), allow_nan=False)


def test_a_case_that_cannot_be_read_is_told_and_the_others_are_read(cohort):
    path = cohort.label_path("case2")
    path.write_bytes(path.read_bytes()[:-40])
    facts = take_fingerprint(cohort)
    assert list(facts.unreadable) == ["case2"]
    assert facts.looked_at == 3


def test_constant_channels_and_unlike_folds_are_found(tmp_path):
    labels = {f"case{n}": box(SHAPE, (2, 2, 2), (8, 8, 8)) for n in range(8)}
    generator = np.random.default_rng(1)
    images = {
        key: [
            generator.normal(1000 if number > 3 else 10, 1, SHAPE),
            np.full(SHAPE, 7.0),
            np.zeros(SHAPE) if number == 2 else generator.normal(0, 1, SHAPE),
        ]
        for number, key in enumerate(labels)
    }
    keys = list(labels)
    cohort = write_planned_cohort(
        *(tmp_path, labels),
        images=images,
        channels=("T1", "empty", "T2"),
        folds=[(keys[:4], keys[4:]), (keys[::2], keys[1::2])],
    )
    facts = take_fingerprint(cohort)
    assert facts.constant == ("empty",)
    assert facts.constant_cases == {"T2": ("case2",)}
    assert len(facts.unlike) == 1
    assert facts.unlike[0].startswith("fold 0: channel T1 is 1000")
    assert facts.region_cases["lesion"] == ((0, 0), (0, 0))
    assert facts.region_cases["organ"] == ((4, 4), (4, 4))


def test_a_fold_of_other_spacing_is_told(tmp_path):
    labels = {f"case{n}": box(SHAPE, (2, 2, 2), (8, 8, 8)) for n in range(6)}
    spacing = {key: (1, 1, 5.0 if number > 3 else 1.5) for number, key in enumerate(labels)}
    keys = list(labels)
    cohort = write_planned_cohort(tmp_path, labels, spacing_mm=spacing, folds=[(keys[:4], keys[4:])])
    assert take_fingerprint(cohort).unlike == (
        "fold 0: the median spacing of its validation cases is 1 x 1 x 5 mm, that of its training cases 1 x 1 x 1.5 mm",
    )
