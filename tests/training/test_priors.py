"""Priors of a training: other days alone, aligned, drawn and damaged; and what can never be seen."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from treatment_days import write_days

from volseg.cohort import Alignments, CaseRow, Cohort, Fold, Predictions
from volseg.cohort.table import write_table
from volseg.errors import UsageError, VolumeError
from volseg.labels import LabelTable, image_channels, prior_channels, takes_prior
from volseg.training import Priors
from volseg.training.cache.dataset import CachedDataset
from volseg.training.prior_measure import _most_likely, largest_misalignment_mm
from volseg.transforms import PriorFiles, augmentation, preprocessing, prior_arrays
from volseg.transforms.prior_steps import RandPriord
from volseg.volume import Registration, Volume, read_volume, write_volume

SPACING = (4.0, 4.0, 4.0)
MR = [{"scheme": "mr"}]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_days(tmp_path_factory.mktemp("days"), patients=("a", "b", "c"), twins=("day9",))


@pytest.fixture(scope="module")
def priors(cohort, tmp_path_factory):
    return Priors(cohort, on=True, cache_dir=str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def training(priors):
    return {item["key"]: item for item in priors.datalist("training")}


def test_without_a_prior_nothing_changes(cohort):
    off = Priors(cohort)
    assert off.channel_names == cohort.channel_names == ("MR",)
    assert off.datalist("training") == cohort.datalist("training")
    assert off.schemes(MR) == MR
    assert off.augmentation(SPACING) is None
    assert off.cached_channels == 1


def test_channels(priors):
    assert priors.channel_names == ("MR", "prior: image MR", "prior: region ball", "prior: given")
    assert takes_prior(priors.channel_names)
    assert image_channels(priors.channel_names) == ("MR",)
    assert prior_channels(["MR"], ["ball"]) == priors.channel_names[1:]
    assert [one["scheme"] for one in priors.schemes(MR)] == ["mr", "mr", "none", "none"]


def test_a_case_is_never_shown_its_own_day_nor_a_twin_of_it(training, cohort):
    for key, item in training.items():
        own = cohort.rows[key]
        shown = [entry for entry in item["prior"] if entry["kind"] == "corrected"]
        assert shown
        for entry in shown:
            other = cohort.rows[entry["key"]]
            assert other.patient == own.patient
            assert other.session != own.session
        assert not any(f"{key}." in file or f"{key}_0" in file for file in item["prior_files"])
    # Both directions: the first day sees later ones.
    assert {entry["key"] for entry in training["a_day0"]["prior"][:2]} == {"a_day9", "a_day10"}


def test_no_day_that_is_kept_for_a_test_is_shown(tmp_path, cohort):
    """Its label was an input of the network that was then measured on it."""
    folder = tmp_path / "cohort"
    shutil.copytree(cohort.folder, folder)
    (folder / "splits.json").unlink()
    rows = [replace(row, warnings=("test",) if "a_day9" in key else ()) for key, row in cohort.rows.items()]
    write_table(folder / "cases.csv", rows)
    tested = Priors(Cohort.open(folder), on=True, fold="all", cache_dir=str(tmp_path / "cache"))
    shown = {item["key"]: [entry["key"] for entry in item["prior"]] for item in tested.datalist("training")}
    assert shown["a_day0"][0] == "a_day10"
    assert not any("a_day9" in key for keys in ([*shown], *shown.values()) for key in keys)


def test_another_patient_comes_once_and_of_the_training_side_alone(training, cohort):
    for key, item in training.items():
        foreign = [entry["key"] for entry in item["prior"] if entry["kind"] == "foreign"]
        assert len(foreign) == 1
        assert cohort.patient(foreign[0]) != cohort.patient(key)
        assert foreign[0] in cohort.fold(0).training


def test_a_validation_case_gets_the_last_earlier_day(priors):
    found = {item["key"]: [entry["key"] for entry in item["prior"]] for item in priors.datalist("validation")}
    assert found == {"c_day0": [], "c_day9": ["c_day0"], "c_day9x": ["c_day0"], "c_day10": ["c_day9"]}


def test_the_label_of_the_day_itself_changes_nothing_that_is_shown(tmp_path):
    cohort = write_days(tmp_path / "days")
    read: list[str] = []

    def reader(path):
        read.append(str(path))
        return read_volume(path)

    def shown():
        priors = Priors(cohort, on=True, cache_dir=str(tmp_path / "cache"))
        item = next(item for item in priors.datalist("validation") if item["key"] == "b_day9")
        del item["label"]
        steps = preprocessing(cohort.labels, channels=1, spacing_mm=SPACING, label=False, normalisation=MR, prior=True)
        return np.asarray(steps(item)["image"])

    before = shown()
    path = cohort.label_path("b_day9")
    planted = read_volume(path)
    voxels = planted.voxels.copy()
    voxels[:10] = 1
    write_volume(path, type(planted)(voxels, planted.affine_ras))
    assert np.array_equal(before, shown())
    Alignments(tmp_path / "other", read=reader).of(cohort.image_paths("a_day0")[0], cohort.image_paths("a_day9")[0])
    assert read
    assert not any("labelsTr" in path for path in read)


def test_the_prior_lies_where_the_organ_is_today(training, cohort):
    entry = next(one for one in training["a_day0"]["prior"] if one["key"] == "a_day10")
    today = read_volume(cohort.image_paths("a_day0")[0])
    image, ball, known = prior_arrays(PriorFiles.from_json(entry), today.grid, cohort.labels)
    assert known.max() == 1
    assert not ball[known == 0].any(), "beyond the earlier field of view nothing is told"
    truth = read_volume(cohort.label_path("a_day0")).voxels > 0
    assert 2 * ((ball > 0.5) & truth).sum() / ((ball > 0.5).sum() + truth.sum()) > 0.8
    assert np.corrcoef(image.ravel(), today.voxels.ravel())[0, 1] > 0.9
    assert 0 <= ball.min() < 0.01
    assert 0.8 < ball.max() <= 1


def test_a_table_without_a_region_is_refused(training, cohort):
    from volseg.labels import LabelTable

    prior = PriorFiles.from_json(training["a_day0"]["prior"][0])
    grid = read_volume(cohort.image_paths("a_day0")[0]).grid
    with pytest.raises(VolumeError, match="has no region bowel, only ball"):
        prior_arrays(prior, grid, LabelTable.exclusive(["ball", "bowel"]))


def test_an_alignment_that_failed_gives_no_prior(tmp_path):
    cohort = write_days(tmp_path / "days")
    path = cohort.image_paths("a_day9")[0]
    image = read_volume(path)
    noise = np.random.default_rng(0).normal(size=image.shape).astype(np.float32) * 300
    write_volume(path, type(image)(noise, image.affine_ras))
    items = {i["key"]: i for i in Priors(cohort, on=True, cache_dir=str(tmp_path / "c")).datalist("training")}
    assert [e["key"] for e in items["a_day0"]["prior"] if e["kind"] == "corrected"] == ["a_day10"]


def test_predictions_of_other_days_stand_in_for_contours(tmp_path, cohort, priors):
    import shutil

    (tmp_path / "oof").mkdir()
    shutil.copy(cohort.label_path("a_day9"), tmp_path / "oof" / "a_day9.nii.gz")
    shutil.copy(cohort.folder / "dataset.json", tmp_path / "oof")
    some = Priors(cohort, on=True, predictions=str(tmp_path / "oof"), cache_dir=priors.cache_dir)
    item = next(item for item in some.datalist("training") if item["key"] == "a_day0")
    predicted = [entry for entry in item["prior"] if entry["kind"] == "predicted"]
    assert [entry["files"][-1] for entry in predicted] == [str(Predictions(tmp_path / "oof").path("a_day9"))]


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_windows_for_training_and_whole_volumes_for_validation(priors, cohort, tmp_path, cache):
    from monai.transforms import Compose

    steps = Compose(
        [
            preprocessing(
                cohort.labels, channels=1, spacing_mm=SPACING, roi_size=(16, 16, 16), normalisation=MR, prior=True
            ),
            augmentation(cohort.labels, roi_size=(16, 16, 16), prior=priors.augmentation(SPACING)),
        ]
    ).flatten()
    data = CachedDataset(priors.datalist("training")[:2], steps, cache=cache, cache_dir=tmp_path)
    given = set()
    for _ in range(12):
        for window in data[0]:
            assert tuple(window["image"].shape) == (4, 16, 16, 16)
            given.add(float(window["image"][-1].mean()))
            assert not window["image"][2, window["image"][-1] == 0].any()
    assert {0.0, 1.0} <= given
    check = preprocessing(cohort.labels, channels=1, spacing_mm=SPACING, normalisation=MR, prior=True)
    for item in priors.datalist("validation")[:2]:
        image = check(item)["image"]
        assert image.shape[0] == 4
        assert bool(image[-1].any()) == bool(item["prior"])


def test_draws_and_damages():
    image = torch.zeros(1 + 2 * 4, 8, 8, 8)
    image[1:4] = torch.rand(3, 8, 8, 8) + 1
    image[5:8] = -1
    image[[4, 8]] = 1
    step = RandPriord("image", image_channels=1, regions=2, spacing_mm=SPACING, dropout=0.4).set_random_state(seed=0)
    before = image.clone()
    shown = [step({"image": image, "prior_kinds": ["corrected", "foreign"]})["image"] for _ in range(400)]
    assert torch.equal(image, before)
    none = sum(not one[1:].any() for one in shown) / 400
    hidden = sum(bool(one[1].any()) and not one[-1].all() and not one[2:, one[-1] == 0].any() for one in shown) / 400
    assert 0.02 < hidden < 0.3, "unknown in a part, by a slab or by a shift"
    foreign = sum(bool((one[1:4] < 0).any()) for one in shown) / 400
    assert 0.32 < none < 0.48
    assert 0.01 < foreign < 0.07
    removed = sum(bool(one[-1].any()) and any(not one[n].any() for n in (2, 3)) for one in shown) / 400
    assert 0.02 < removed < 0.14
    assert all(one.shape == (5, 8, 8, 8) for one in shown)
    alone = step({"image": image[:1], "prior_kinds": []})["image"]
    assert alone.shape == (5, 8, 8, 8)
    assert not alone[1:].any()


def test_shifts_move_by_whole_voxels_and_bends_are_bounded():
    step = RandPriord("image", image_channels=1, regions=1, spacing_mm=SPACING, dropout=0.0)
    block = torch.zeros(3, 12, 12, 12)
    block[1, 6, 6, 6] = 1
    block[2] = 1
    shifted = step._shifted(block, np.array([8.0, -4.0, 1.0]))
    assert torch.nonzero(shifted[1]).tolist() == [[8, 5, 6]]
    assert not shifted[2, :2].any(), "what comes in is not known"
    assert shifted[2].sum() == 10 * 11 * 12
    bent = step._bent(block, torch.full((1, 3, 4, 4, 3), 4.0))
    assert torch.nonzero(bent[1] > 0.5).tolist() == [[5, 5, 5]]
    assert torch.allclose(step._bent(block, torch.zeros(1, 3, 4, 4, 3)), block, atol=1e-5)


@pytest.mark.parametrize(("given", "message"), [({"on": "yes"}, "true or false"), ({"dropout": 1.5}, "from 0 to 1")])
def test_settings_are_checked(cohort, given, message):
    with pytest.raises(UsageError, match=message):
        Priors(cohort, **given)


def test_a_failed_registration_cannot_be_placed(cohort):
    image = cohort.image_paths("a_day0")[0]
    failed = Registration(((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)), 0, 0, 0, 0, "no")
    prior = PriorFiles("k", (str(image),), str(cohort.label_path("a_day0")), cohort.labels.to_dataset_json(), failed)
    with pytest.raises(ValueError, match="failed: no"):
        prior_arrays(prior, read_volume(image).grid, cohort.labels)


def prior_with(tmp_path, cohort, voxels, labels):
    """The last day as a prior of the first, with other contours and another table."""
    image = cohort.image_paths("a_day10")[0]
    path = tmp_path / "a_day10.nii.gz"
    write_volume(path, Volume(voxels.astype(np.uint8), read_volume(image).affine_ras))
    found = Alignments(tmp_path / "alignments").of(cohort.image_paths("a_day0")[0], image)
    return PriorFiles("a_day10", (str(image),), str(path), {"labels": labels}, found)


def test_ignored_voxels_of_a_prior_are_unknown_and_their_edge_is_no_contour(tmp_path, cohort):
    grid = read_volume(cohort.image_paths("a_day0")[0]).grid
    voxels = np.asarray(read_volume(cohort.label_path("a_day10")).voxels)
    whole = prior_arrays(prior_with(tmp_path, cohort, voxels, {"background": 0, "ball": 1}), grid, cohort.labels)
    looked_at = voxels.copy()
    middle = int(np.flatnonzero(voxels.any(axis=(0, 1))).mean())
    looked_at[:, :, middle + 1 :] = 2
    part = prior_with(tmp_path, cohort, looked_at, {"background": 0, "ball": 1, "ignore": 2})
    image, ball, known = prior_arrays(part, grid, cohort.labels)
    assert np.array_equal(image, whole[0])
    assert not ball[known == 0].any()
    hidden = (known == 0) & (whole[2] == 1)
    assert 0.3 < hidden.sum() / (whole[2] == 1).sum() < 0.7
    seen = known == 1
    assert np.abs(ball - whole[1])[seen].max() < 0.5
    assert ball[seen].max() > 0.8, "within the ball beside the edge is inside still"
    nowhere = prior_with(tmp_path, cohort, np.full_like(voxels, 2), {"background": 0, "ball": 1, "ignore": 2})
    assert not prior_arrays(nowhere, grid, cohort.labels)[1:].any()


@pytest.mark.parametrize(
    ("labels", "value"),
    [
        ({"background": 0, "liver": 1, "ball": 7}, 7),
        ({"background": 0, "ball": [2, 3], "core": 3}, 3),
        ({"background": 0, "ball": 4, "ignore": 9}, 4),
    ],
)
def test_a_table_of_other_values_and_more_regions_is_read_by_name(tmp_path, cohort, labels, value):
    grid = read_volume(cohort.image_paths("a_day0")[0]).grid
    voxels = np.asarray(read_volume(cohort.label_path("a_day10")).voxels)
    same = prior_arrays(prior_with(tmp_path, cohort, voxels, {"background": 0, "ball": 1}), grid, cohort.labels)
    other = prior_arrays(prior_with(tmp_path, cohort, voxels * value, labels), grid, cohort.labels)
    assert np.array_equal(same, other)


def test_a_smaller_field_of_view_tells_nothing_beyond_it(tmp_path, cohort):
    today = read_volume(cohort.image_paths("a_day0")[0])
    image = read_volume(cohort.image_paths("a_day10")[0])
    write_volume(tmp_path / "cut_0000.nii.gz", Volume(image.voxels[:, :, :12], image.affine_ras))
    label = read_volume(cohort.label_path("a_day10"))
    write_volume(tmp_path / "cut.nii.gz", Volume(label.voxels[:, :, :12], label.affine_ras))
    found = Alignments(tmp_path / "alignments").of(cohort.image_paths("a_day0")[0], cohort.image_paths("a_day10")[0])
    files = (str(tmp_path / "cut_0000.nii.gz"),)
    prior = PriorFiles("cut", files, str(tmp_path / "cut.nii.gz"), cohort.labels.to_dataset_json(), found)
    _, ball, known = prior_arrays(prior, today.grid, cohort.labels)
    assert not known[:, :, -6:].any()
    assert not ball[:, :, -6:].any()
    assert known[20, 16, 4]


def test_widths_and_misalignment_are_measured_on_training_patients_alone(cohort, priors, tmp_path):
    found = priors.measured
    assert found["pairs"] >= 4
    assert 2 <= found["widths_mm"]["ball"] < 8, "a ball of 24 mm that shrinks by 1.6 mm a day"
    assert set(found) == {"widths_mm", "misalignment_mm", "pairs"}
    assert Priors(cohort).measured is None
    assert all(item["prior"][0]["widths_mm"] == found["widths_mm"] for item in priors.datalist("training"))
    own = write_days(tmp_path / "days", patients=("a", "b", "c"), twins=("day9",))
    for key in own.fold(0).validation:
        own.label_path(key).write_bytes(b"planted")
    assert Priors(own, on=True, cache_dir=str(tmp_path)).measured == found


def test_the_width_of_known_shifts_comes_back():
    rng = np.random.default_rng(0)
    distance = rng.uniform(-40, 40, 20000)
    for width in (5.0, 20.0):
        inside = rng.uniform(size=len(distance)) < 1 / (1 + np.exp(4 * distance / width))
        assert abs(_most_likely(distance, inside) / width - 1) < 0.1


def test_a_limit_lies_between_own_days_and_strangers():
    own = [1.0, 2.0, 1.5, 1.2, float("nan")]
    assert largest_misalignment_mm(own, [8.0, 9.0, 10.0, 11.0]) == pytest.approx(4.07, abs=0.01)
    assert largest_misalignment_mm(own, [2.2, 4.0, 9.0, 10.0, 11.0] * 3) is None, "not apart"
    assert largest_misalignment_mm(own[:3], [8.0] * 9) is None, "too few"
    assert largest_misalignment_mm(own, [float("nan")] * 9) is None


def test_a_label_map_whose_axes_run_otherwise_is_the_same_prior(tmp_path, cohort):
    """As everywhere else: its axes are turned, nothing is resampled."""
    image, label = read_volume(cohort.image_paths("a_day0")[0]), read_volume(cohort.label_path("a_day0"))
    affine = np.array(label.affine_ras) @ np.diag([-1.0, 1, 1, 1])
    affine[:3, 3] = (np.array(label.affine_ras) @ [label.shape[0] - 1, 0, 0, 1])[:3]
    write_volume(tmp_path / "turned.nii.gz", Volume(label.voxels[::-1], affine))
    found = []
    for file in (cohort.label_path("a_day0"), tmp_path / "turned.nii.gz"):
        same = Registration(tuple(map(tuple, np.eye(4).tolist())), 1, 1, 0, 0)
        table = cohort.labels.to_dataset_json()
        found.append(PriorFiles("k", (str(cohort.image_paths("a_day0")[0]),), str(file), table, same))
    ours, turned = (prior_arrays(prior, image.grid, cohort.labels) for prior in found)
    assert np.array_equal(ours, turned)


def test_the_days_of_many_cases_are_found_in_a_time_that_grows_with_their_number(tmp_path, monkeypatch):
    """They took one that grew with its square: 21 s of a busy core for 1,000 cases."""
    keys = [f"p{number // 4:04d}_day{number % 4}" for number in range(2000)]
    rows = {key: CaseRow(key, key[:5], key[6:], (9, 9, 9), (1, 1, 1), "RAS", "", ()) for key in keys}
    cohort = Cohort(tmp_path, LabelTable.exclusive(["a"]), ("MR",), rows, frozenset(rows))
    read = []
    monkeypatch.setattr(Cohort, "fold", lambda *_: read.append(1) or Fold(tuple(keys[:1600]), tuple(keys[1600:])))
    priors = Priors(cohort, on=True)
    found = {key: priors._wanted(key, training=True) for key in keys[:1600]}
    assert len(read) == 1
    for key in keys[:40]:
        others = [one for one in keys[:1600] if one[:5] != key[:5]]
        assert found[key][-1] == (others[sum(key.encode()) % len(others)], "foreign")
        assert {day for day, _ in found[key][:-1]} == {one for one in keys[:1600] if one[:5] == key[:5]} - {key}
