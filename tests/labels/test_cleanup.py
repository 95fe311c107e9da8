"""Clean-up of label maps: by hand, region by region, and nothing unless asked for."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from volseg.errors import UsageError
from volseg.labels import Cleanup, LabelMap, LabelTable

EXCLUSIVE = LabelTable.exclusive(["liver", "spleen"])
OVERLAP = LabelTable.overlapping(["liver", "spleen"])
NESTED = LabelTable.of({"whole": [1, 2], "core": 2})


def scene() -> LabelMap:
    """Liver: a shell of 5 x 5 x 5 with a cavity, and an island of 8; spleen: 27 and 1 voxels."""
    label_map = np.zeros((20, 12, 12), np.uint8)
    label_map[1:6, 1:6, 1:6] = 1
    label_map[3, 3, 3] = 0
    label_map[8:10, 1:3, 1:3] = 1
    label_map[12:15, 6:9, 6:9] = 2
    label_map[18, 10, 10] = 2
    return label_map


@pytest.mark.parametrize("table", [EXCLUSIVE, OVERLAP, NESTED])
def test_nothing_is_done_unless_asked_for(table: LabelTable) -> None:
    label_map = np.random.default_rng(0).choice(table.values, (9, 8, 7)).astype(np.uint8)
    assert np.array_equal(Cleanup().apply(label_map, table, voxel_ml=1), label_map)
    assert not Cleanup()
    assert Cleanup().to_json() == {}


@pytest.mark.parametrize("table", [EXCLUSIVE, OVERLAP])
def test_only_what_is_named_changes(table: LabelTable) -> None:
    before = scene()
    for cleanup, voxels in (
        (Cleanup(keep_largest=["liver"]), (124, 28)),
        (Cleanup(keep_largest=["spleen"]), (132, 27)),
        (Cleanup(fill_holes=["liver"]), (133, 28)),
        (Cleanup(min_ml={"liver": 0.8, "spleen": 0.2}), (132, 27)),
        (Cleanup(min_ml={"liver": 0.81}), (124, 28)),
        (Cleanup(min_ml={"liver": 100}), (0, 28)),
        (Cleanup(fill_holes=["liver"], min_ml={"spleen": 3}, keep_largest=["liver"]), (125, 0)),
    ):
        after = cleanup.apply(before, table, voxel_ml=0.1)
        assert tuple(int((after == value).sum()) for value in (1, 2)) == voxels, cleanup
    assert np.array_equal(before, scene())


def test_parts_that_touch_at_a_corner_are_one() -> None:
    label_map = np.zeros((4, 4, 4), np.uint8)
    label_map[:2, :2, :2] = label_map[2:, 2:, 2:] = 1
    assert np.array_equal(Cleanup(keep_largest=["liver"]).apply(label_map, EXCLUSIVE, voxel_ml=1), label_map)


def test_the_largest_part_of_a_small_region_is_all_of_it_and_of_none_is_nothing() -> None:
    label_map = np.zeros((9, 9, 9), np.uint8)
    largest = Cleanup(keep_largest=["liver"])
    assert np.array_equal(largest.apply(label_map, EXCLUSIVE, voxel_ml=1), label_map)
    label_map[1:4, 1:4, 1:4] = 1
    assert np.array_equal(largest.apply(label_map, EXCLUSIVE, voxel_ml=1), label_map)


def test_overlaps_stay() -> None:
    label_map = np.zeros((9, 3, 3), np.uint8)
    label_map[:4] = 1
    label_map[3:6] |= 2
    label_map[8] = 3
    after = Cleanup(keep_largest=["liver"]).apply(label_map, OVERLAP, voxel_ml=1)
    assert after[:, 0, 0].tolist() == [1, 1, 1, 3, 2, 2, 0, 0, 2]


def test_what_lies_within_an_organ_is_no_hole_of_it() -> None:
    label_map = np.ones((9, 9, 9), np.uint8)
    label_map[3:6, 3:6, 3:6] = 2
    assert np.array_equal(Cleanup(fill_holes=["liver"]).apply(label_map, EXCLUSIVE, voxel_ml=1), label_map)


def test_a_hole_with_another_organ_keeps_it() -> None:
    label_map = np.ones((7, 7, 7), np.uint8)
    label_map[2:5, 2:5, 2:5] = 0
    label_map[3, 3, 3] = 2
    filled = Cleanup(fill_holes=["liver"]).apply(label_map, EXCLUSIVE, voxel_ml=1)
    assert (filled == 1).sum() == 342
    assert filled[3, 3, 3] == 2
    assert Cleanup(fill_holes=["liver"]).apply(label_map, OVERLAP, voxel_ml=1)[3, 3, 3] == 3


def test_what_is_cleaned_is_clean() -> None:
    label_map = np.random.default_rng(0).choice(4, (16, 15, 14), p=[0.7, 0.1, 0.1, 0.1]).astype(np.uint8)
    cleanup = Cleanup(fill_holes=["liver", "spleen"], min_ml={"spleen": 3}, keep_largest=["liver"])
    once = cleanup.apply(label_map, OVERLAP, voxel_ml=1)
    assert np.array_equal(cleanup.apply(once, OVERLAP, voxel_ml=1), once)


def test_wrong_words_are_told() -> None:
    for word in ("liver", "liver=", "liver=-1", "liver=nan", "=2", "liver=much"):
        with pytest.raises(UsageError, match="NAME=ML"):
            Cleanup.parse(min_ml=[word])
    with pytest.raises(UsageError, match="names 'kidney', the network segments liver, spleen"):
        Cleanup.parse(keep_largest=["kidney"]).check(EXCLUSIVE)


def test_it_goes_through_json() -> None:
    cleanup = Cleanup.parse(fill_holes=["liver, spleen"], min_ml=["liver=2", "spleen=0.5"])
    assert Cleanup(**cleanup.to_json()).to_json() == cleanup.to_json()
    assert cleanup.to_json() == {"fill_holes": ["liver", "spleen"], "min_ml": {"liver": 2.0, "spleen": 0.5}}


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_ring_in_an_image_of_one_slice_is_filled_and_in_a_volume_it_is_not(axis: int) -> None:
    ring = np.zeros((7, 7), np.uint8)
    ring[1:6, 1:6] = 1
    ring[3, 3] = 0
    cleanup = Cleanup(fill_holes=["liver"])
    filled = cleanup.apply(np.expand_dims(ring, axis), EXCLUSIVE, voxel_ml=1)
    assert filled.sum() == 25  # by hand: 5 x 5
    assert filled.shape == np.expand_dims(ring, axis).shape
    volume = np.zeros((7, 7, 3), np.uint8)
    volume[:, :, 1] = ring  # open above and below
    assert np.array_equal(cleanup.apply(volume, EXCLUSIVE, voxel_ml=1), volume)


def test_a_part_of_exactly_the_smallest_size_is_kept() -> None:
    label_map = scene()
    kept = Cleanup.parse(min_ml=["liver=8"]).apply(label_map, EXCLUSIVE, voxel_ml=1)
    assert np.array_equal(kept, label_map)
    assert (Cleanup.parse(min_ml=["liver=9"]).apply(label_map, EXCLUSIVE, voxel_ml=1) == 1).sum() == 124


def test_of_two_largest_parts_one_is_kept() -> None:
    label_map = np.zeros((9, 9, 9), np.uint8)
    label_map[6:8, 1:3, 1:3] = label_map[1:3, 6:8, 6:8] = 1
    kept = Cleanup(keep_largest=["liver"]).apply(label_map, EXCLUSIVE, voxel_ml=1)
    assert (kept == 1).sum() == 8
    assert (kept[1:3, 6:8, 6:8] == 1).all()


def test_of_a_hundred_regions_one_mask_is_in_memory_at_a_time() -> None:
    table = LabelTable.exclusive([f"r{number}" for number in range(100)])
    label_map = np.random.default_rng(0).integers(0, 101, (64, 64, 32)).astype(np.uint8)
    tracemalloc.start()
    try:
        cleaned = Cleanup(keep_largest=["r5"], fill_holes=["r7"]).apply(label_map, table, voxel_ml=1)
        assert tracemalloc.get_traced_memory()[1] < 40 * label_map.nbytes  # a mask of each region is 100 times as much
    finally:
        tracemalloc.stop()
    assert 0 < (cleaned == 6).sum() < (label_map == 6).sum()
    assert np.array_equal(cleaned == 1, label_map == 1)


def test_values_of_no_region_are_background_and_several_of_one_become_one() -> None:
    table = LabelTable.from_dataset_json({"labels": {"background": 0, "a": [2, 4], "b": 1, "ignore": 6}})
    label_map = np.array([4, 4, 0, 2, 6, 1], np.uint8).reshape(6, 1, 1)
    cleaned = Cleanup(keep_largest=["a"]).apply(label_map, table, voxel_ml=1)
    assert cleaned.ravel().tolist() == [2, 2, 0, 0, 0, 1]
