"""The phantom: the same numbers everywhere, plausible organs, and not to be had by a threshold."""

from __future__ import annotations

import hashlib
import json
from itertools import combinations, pairwise

import numpy as np
import pytest
from nibabel.affines import apply_affine

from volseg.cohort import Case
from volseg.datasets import LABELS, phantom_case, write_phantom
from volseg.datasets.anatomy import _drawn, build_abdomen, smooth_field
from volseg.datasets.phantom import SIZES, SLICES, phantom_keys
from volseg.datasets.treatment_days import Day, Habits
from volseg.datasets.tube import Tube, hollow
from volseg.errors import UsageError
from volseg.volume import orientation

KEYS = phantom_keys(patients=6, days=2)
# Means of slices of the first scan.
UP = [2058.57, 1928.95, 1903.54, 1907.87, 1783.66]


@pytest.fixture(scope="module")
def cohort() -> list[Case]:
    return [phantom_case(patient=patient, day=day) for patient, day in KEYS]


@pytest.fixture(scope="module")
def masks(cohort):
    return [LABELS.masks(case.label.voxels) for case in cohort]


def dice(a, b) -> float:
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def best_window_dice(values, organ) -> float:
    """The Dice of the best pair of bounds, in steps of 1 % of the range, over all scans at once."""
    steps = np.linspace(0, 1.5, 151)
    everywhere = np.cumsum(np.concatenate([[0], np.histogram(np.clip(values, 0, 1.499), steps)[0]]))
    inside = np.cumsum(np.concatenate([[0], np.histogram(np.clip(values[organ], 0, 1.499), steps)[0]]))
    found = inside[None, :] - inside[:, None]
    taken = everywhere[None, :] - everywhere[:, None]
    return float((2 * found / (np.maximum(taken, 0) + np.count_nonzero(organ))).max())


class TestCase:
    def test_is_the_same_each_time(self, cohort):
        again = phantom_case(patient=KEYS[3][0], day=KEYS[3][1])
        assert again.key == cohort[3].key
        assert again.channels[0].voxels.tobytes() == cohort[3].channels[0].voxels.tobytes()
        assert again.label.voxels.tobytes() == cohort[3].label.voxels.tobytes()

    def test_is_the_same_on_every_machine(self, cohort, masks):
        assert masks[0].sum(axis=(1, 2, 3)).tolist() == pytest.approx([9461, 13131, 4186], abs=3)
        assert cohort[0].channels[0].voxels.mean() == pytest.approx(1909.00, rel=1e-4)
        # Of each slice from the feet up, as it was before slices ran from the head: the same picture, turned.
        up = cohort[0].channels[0].voxels[:, :, ::-1].mean(axis=(0, 1))
        assert up[[0, 13, 26, 39, 51]] == pytest.approx(UP, rel=1e-4)

    @pytest.mark.parametrize("other", [{"seed": 1}, {"patient": 203}, {"day": 33}])
    def test_differs_with_seed_patient_and_day(self, cohort, other):
        case = phantom_case(**({"patient": KEYS[0][0], "day": KEYS[0][1], "seed": 0} | other))
        assert not np.array_equal(case.channels[0].voxels, cohort[0].channels[0].voxels)
        assert not np.array_equal(case.label.voxels, cohort[0].label.voxels)

    def test_types_sizes_and_names(self, cohort):
        shapes = set()
        for case, (patient, day) in zip(cohort, KEYS, strict=True):
            image = case.channels[0]
            assert (case.key, case.patient, case.session) == (f"case{patient}_day{day}", f"case{patient}", f"day{day}")
            assert image.voxels.dtype == np.uint16
            assert case.label.voxels.dtype == np.uint8
            assert image.shape[0] != image.shape[1]
            assert (*image.shape[:2], *image.spacing_mm[:2]) in SIZES
            assert image.shape[2] == SLICES
            assert image.spacing_mm[2] == 3.0
            assert 1000 < image.voxels.max() < 30000
            shapes.add(image.shape)
        assert len(shapes) == 2

    def test_negative_numbers_are_refused(self):
        with pytest.raises(UsageError, match="at least 0"):
            phantom_case(patient=1, day=-1)
        with pytest.raises(UsageError, match="at least"):
            phantom_keys(patients=0)


class TestAnatomy:
    def test_volumes_of_the_organs_in_ml(self, cohort, masks):
        for case, organs in zip(cohort, masks, strict=True):
            ml = organs.sum(axis=(1, 2, 3)) * np.prod(case.channels[0].spacing_mm) / 1000
            for name, volume, least, most in zip(LABELS.names, ml, (200, 350, 110), (650, 750, 500), strict=True):
                assert least < volume < most, f"{case.key} {name}"

    def test_organs_overlap_a_little(self, masks):
        for organs in masks:
            share = np.count_nonzero(organs.sum(axis=0) > 1) / np.count_nonzero(organs.any(axis=0))
            assert 0 < share < 0.05

    def test_slices_at_both_ends_are_empty(self, masks):
        for organs in masks:
            assert not organs[..., :3].any()
            assert not organs[..., -3:].any()

    def test_stomach_is_left_and_above_the_small_bowel_and_the_colon_frames_it(self, cohort, masks):
        for case, (large, small, stomach) in zip(cohort, masks, strict=True):
            middle = case.label.shape[0] / 2
            assert np.nonzero(stomach)[0].mean() > middle, "X runs to the patient's left"
            assert np.nonzero(stomach)[2].mean() < np.nonzero(small)[2].mean(), "slice 1 is nearest to the head"
            assert orientation(case.channels[0].affine_ras) == orientation(case.label.affine_ras) == "LPI"
            above, below = (
                apply_affine(case.label.affine_ras, np.argwhere(mask)).mean(axis=0) for mask in (stomach, small)
            )
            assert above[2] > below[2], "the stomach lies above, in RAS"
            assert above[0] < below[0], "and to the left"
            assert np.quantile(np.nonzero(large)[0], 0.02) < np.quantile(np.nonzero(small)[0], 0.02)
            assert np.quantile(np.nonzero(large)[0], 0.98) > np.quantile(np.nonzero(small)[0], 0.98)

    def test_gas_lies_in_front(self, cohort, masks):
        found = 0
        for case, (_, _, stomach) in zip(cohort, masks, strict=True):
            voxels = case.channels[0].voxels
            gas = stomach & (voxels < 0.15 * np.quantile(voxels, 0.99))
            if np.count_nonzero(gas) > 50:
                found += 1
                assert np.nonzero(gas)[1].mean() < np.nonzero(stomach)[1].mean(), "Y runs to the back"
        assert found >= len(cohort) / 3

    def test_days_are_more_alike_than_patients(self, masks):
        for organ in range(3):
            days, patients = [], []
            for i, j in combinations(range(len(KEYS)), 2):
                if masks[i].shape == masks[j].shape:
                    same = KEYS[i][0] == KEYS[j][0]
                    (days if same else patients).append(dice(masks[i][organ], masks[j][organ]))
            assert np.mean(days) > np.mean(patients) + 0.1
            assert max(days) < 0.97

    def test_no_window_of_intensity_finds_an_organ(self, cohort, masks):
        # The best case for a threshold: each scan divided by its own 99th percentile.
        scans = [case.channels[0].voxels.ravel() / np.quantile(case.channels[0].voxels, 0.99) for case in cohort]
        for organ in range(3):
            inside = np.concatenate([organs[organ].ravel() for organs in masks])
            assert best_window_dice(np.concatenate(scans), inside) < 0.3
            for values, organs in zip(scans, masks, strict=True):
                assert best_window_dice(values, organs[organ].ravel()) < 0.4


class TestWrite:
    def test_files_rows_and_record(self, tmp_path):
        seen: list[tuple[int, int]] = []
        raw = write_phantom(
            tmp_path / "raw", patients=2, days=2, seed=5, progress=lambda done, of: seen.append((done, of))
        )
        assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
        pngs = sorted(raw.glob("train/case*/case*_day*/scans/slice_*.png"))
        assert len(pngs) == 4 * SLICES
        assert {p.name.split("_", 2)[2] for p in pngs} == {"96_76_3.50_3.50.png", "88_72_3.75_3.75.png"}
        rows = (raw / "train.csv").read_text().splitlines()
        assert rows[0] == "id,class,segmentation"
        assert len(rows) == 1 + 4 * SLICES * 3
        facts = json.loads((raw / "phantom.json").read_text())
        assert (facts["seed"], facts["patients"], facts["days"], facts["axes"]) == (5, 2, 2, "LPI")
        assert not (raw / "geometry.json").exists()
        assert [p.name for p in tmp_path.iterdir()] == ["raw"]

    def test_the_same_with_one_worker_and_with_three(self, tmp_path):
        one = write_phantom(tmp_path / "one", patients=1, days=3, workers=1)
        three = write_phantom(tmp_path / "three", patients=1, days=3, workers=3)
        files = [p.relative_to(one) for p in sorted(one.rglob("*")) if p.is_file()]
        assert files == [p.relative_to(three) for p in sorted(three.rglob("*")) if p.is_file()]
        for name in files:
            assert (one / name).read_bytes() == (three / name).read_bytes(), name

    def test_comes_back_as_the_same_cases(self, tmp_path):
        uw_madison = pytest.importorskip("volseg.formats.uw_madison")
        raw = write_phantom(tmp_path / "raw", patients=2, days=1)
        source = uw_madison.UwMadison(raw)
        assert len(source.keys()) == 2
        for patient, day in phantom_keys(patients=2, days=1):
            case = phantom_case(patient=patient, day=day)
            read = source.load(case.key)
            assert np.array_equal(read.channels[0].voxels, case.channels[0].voxels)
            assert np.array_equal(read.label.voxels, case.label.voxels)
            assert np.allclose(read.channels[0].affine_ras, case.channels[0].affine_ras)
            assert not read.warnings

    def test_a_folder_with_something_in_it_is_left_alone(self, tmp_path):
        (tmp_path / "raw").mkdir()
        (tmp_path / "raw" / "mine.txt").write_text("keep")
        with pytest.raises(UsageError, match="not empty"):
            write_phantom(tmp_path / "raw")
        assert (tmp_path / "raw" / "mine.txt").read_text() == "keep"

    def test_nothing_is_left_behind_by_a_failure(self, tmp_path):
        def stop(done: int, of: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_phantom(tmp_path / "raw", patients=1, days=2, progress=stop)
        assert list(tmp_path.iterdir()) == []


def test_days_are_irregular_and_keys_are_no_real_case():
    keys = phantom_keys(patients=8, days=4)
    assert len(set(keys)) == 32
    assert keys == sorted(keys)
    gaps = {b[1] - a[1] for a, b in pairwise(keys) if a[0] == b[0]}
    assert len(gaps) > 3
    assert min(patient for patient, _ in keys) > 156, "UW-Madison ends at case156"


def test_smooth_field_has_unit_variance():
    rng = np.random.default_rng(3)
    fields = np.stack([smooth_field(rng, (12, 10, 8), (4, 3, 2)) for _ in range(200)])
    assert np.allclose(fields.mean(), 0, atol=0.05)
    assert np.allclose(fields.std(), 1, atol=0.05)


@pytest.mark.parametrize("exact", [True, False])
def test_hollow_agrees_with_the_distance_to_every_point(exact):
    rng = np.random.default_rng(0)
    tube = Tube.through(np.column_stack([rng.normal(0, 20, (6, 3)), np.full(6, 8.0)]), step_mm=0.5)
    axis = np.linspace(-30, 30, 13)
    at = np.meshgrid(axis, axis, axis, indexing="ij")
    organ = hollow(tube, at, exact=exact)
    to_all = np.sqrt(((np.stack(at, axis=-1)[..., None, :] - tube.points) ** 2).sum(axis=-1)).min(axis=-1)
    close = to_all < 12
    assert np.abs(organ.distance - (to_all - 8))[close].max() < 0.2
    assert (organ.distance[~close] > 0).all()


REAL_KEYS = phantom_keys(patients=2, days=2, kind="real")


@pytest.fixture(scope="module")
def days() -> list[Case]:
    return [phantom_case(patient=patient, day=day, kind="real") for patient, day in REAL_KEYS]


class TestRealDays:
    def test_mild_days_are_the_old_ones_to_the_bit(self, cohort):
        # SHA-256 of image and label of two scans, as versions before there were real days drew them.
        other = phantom_case(patient=202, day=5, seed=3)
        for case, digest in ((cohort[0], "be7505b79c7df003"), (other, "3ffc0a74797b66bf")):
            content = case.channels[0].voxels.tobytes() + case.label.voxels.tobytes()
            assert hashlib.sha256(content).hexdigest()[:16] == digest

    def test_first_day_of_the_first_patient_has_another_grid(self, days):
        assert [case.channels[0].shape[:2] for case in days] == [(144, 124), (112, 88), *[(106, 82)] * 2]
        assert min(patient for patient, _ in REAL_KEYS) == 401

    def test_days_lie_elsewhere_and_are_filled_otherwise(self, days):
        ml, middles = [], []
        for case in days:
            masks = LABELS.masks(case.label.voxels)
            spacing = np.asarray(case.channels[0].spacing_mm)
            ml.append(masks.sum(axis=(1, 2, 3)) * spacing.prod() / 1000)
            middles.append((np.argwhere(masks.any(axis=0)).mean(axis=0) - np.array(case.label.shape) / 2) * spacing)
            assert not masks[..., :3].any()
            assert not masks[..., -3:].any()
        apart = [float(np.linalg.norm((a - b)[:2])) for a, b in (middles[:2], middles[2:])]
        assert 10 < max(apart) < 75
        ratios = np.exp(np.abs([np.log(a / b) for a, b in (ml[:2], ml[2:])]))
        assert np.median(ratios) > 1.15

    def test_volumes_differ_by_a_factor_of_1_3_to_1_5(self):
        spacing, shape = (7.0, 7.0, 6.0), (53, 41, 26)
        ml: dict[int, list[list[int]]] = {}
        for patient, day in phantom_keys(patients=10, days=3, kind="real"):
            today = Day.drawn(np.random.default_rng([0, patient, day, 1]))
            of_patient, of_day = np.random.default_rng([0, patient]), np.random.default_rng([0, patient, day])
            masks = build_abdomen(of_patient, of_day, shape=shape, spacing=spacing, today=today).masks
            ml.setdefault(patient, []).append(masks.sum(axis=(1, 2, 3)).tolist())
        steps = np.concatenate([np.abs(np.diff(np.log(days), axis=0)) for days in ml.values()])
        assert np.all((np.exp(np.median(steps, axis=0)) > 1.25) & (np.exp(np.median(steps, axis=0)) < 1.55))
        assert np.exp(steps).max() < 3.2

    def test_a_masks_copy_is_poor(self, days):
        for one, other in zip(*(LABELS.masks(case.label.voxels) for case in days[2:]), strict=True):
            assert dice(one, other) < 0.7

    def test_habits_persist_and_differ_between_patients(self):
        first, second = (Habits.drawn(np.random.default_rng([0, patient, 0, 2])) for patient in (401, 402))
        assert first == Habits.drawn(np.random.default_rng([0, 401, 0, 2]))
        assert first.margin_mm != second.margin_mm
        far = np.full((2, 1, 1), -1.0)
        along = np.array([10.0, 500.0]).reshape(2, 1, 1)
        habits = Habits({}, {"small_bowel": 0.5, "large_bowel": 0.0}, duodenum=False, colon_end_mm=45.0)
        assert habits.drawn_organ("small_bowel", far, along).ravel().tolist() == [1.0, -1.5]
        assert habits.drawn_organ("large_bowel", far, along).ravel().tolist() == [-1.0, 1.0]

    def test_no_two_days_lie_further_apart_than_60_mm(self):
        shifts = [Day.drawn(np.random.default_rng(seed)).shift_mm[:2] for seed in range(500)]
        assert max(float(np.hypot(*shift)) for shift in shifts) <= 30

    def test_another_kind_is_refused(self):
        with pytest.raises(UsageError, match="mild or real, got 'wild'"):
            phantom_keys(kind="wild")

    def test_written_and_read_again(self, tmp_path, days):
        raw = write_phantom(tmp_path / "raw", patients=1, days=1, kind="real")
        assert json.loads((raw / "phantom.json").read_text())["kind"] == "real"
        uw_madison = pytest.importorskip("volseg.formats.uw_madison")
        source = uw_madison.UwMadison(raw)
        read = source.load("case401_day0")
        assert np.array_equal(read.label.voxels, days[0].label.voxels)
        assert read.channels[0].shape == (144, 124, SLICES)


def test_an_organ_at_the_border_is_drawn_as_in_a_wider_image():
    """The closing took a layer away where a mask touched the border; no phantom of the published figures does."""
    mask = np.zeros((20, 30, 4), bool)
    mask[0:9, 5:25, 1:3] = mask[12:20, 20:30] = True
    mask[4, 10, 1] = False
    wider = np.pad(mask, ((3, 3), (3, 3), (0, 0)))
    np.testing.assert_array_equal(_drawn(mask), _drawn(wider)[3:-3, 3:-3])
