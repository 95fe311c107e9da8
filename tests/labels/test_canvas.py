"""Regions that are painted one after the other: no overlap is lost, and each way in which they overlap has a value."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from volseg.errors import LabelError
from volseg.labels import LabelTable, RegionCanvas

NAMES = [f"organ{number}" for number in range(70)]
drawn_masks = st.integers(1, 12).flatmap(
    lambda count: hnp.arrays(bool, (count, *(3, 4, 2)), elements=st.sampled_from([True, False, False]))
)


def painted(masks: np.ndarray, order: list[int]) -> RegionCanvas:
    canvas = RegionCanvas(masks.shape[1:])
    for place in order:
        canvas.paint(masks[place] if place % 2 else np.nonzero(masks[place]), place)
    return canvas


@given(drawn_masks.flatmap(lambda masks: st.tuples(st.just(masks), st.permutations(range(len(masks))))))
def test_masks_survive_the_label_map_in_any_order(drawn):
    masks, order = drawn
    canvas = painted(masks, order)
    table = LabelTable.exclusive(NAMES[: len(masks)]).with_overlaps(canvas.overlaps)
    label_map = canvas.label_map(table)
    np.testing.assert_array_equal(table.masks(label_map), masks)
    np.testing.assert_array_equal(table.encode(masks), label_map)
    np.testing.assert_array_equal([canvas.mask(place) for place in range(len(masks))], masks)
    assert canvas.shared == (masks.sum(axis=0) > 1).sum()
    occurring = {frozenset(np.flatnonzero(column).tolist()) for column in masks.reshape(len(masks), -1).T}
    assert canvas.combinations == occurring - {frozenset()}
    assert LabelTable.from_dataset_json(table.to_dataset_json()) == table


@pytest.mark.parametrize("count", [9, 12, 64, 70])
def test_a_voxel_of_two_of_many_regions_stays_theirs(count):
    """Which a product of primes in 8 bits loses, see findings/overlap_given_to_a_third.sh."""
    names = NAMES[:count]
    pairs = list(itertools.combinations(range(count), 2))[:: max(1, count * count // 200)]
    masks = np.zeros((count, len(pairs)), bool)
    for column, pair in enumerate(pairs):
        masks[list(pair), column] = True
    table = LabelTable.exclusive(names).with_overlaps(pairs)
    np.testing.assert_array_equal(table.masks(table.encode(masks)), masks)
    # A combination that has no value is painted region after region, the last one wins.
    everything = np.ones((count, 1), bool)
    assert table.encode(everything).tolist() == [count]


def test_what_has_no_value_is_told():
    canvas = painted(np.ones((3, 2, 2, 2), bool), [0, 1, 2])
    table = LabelTable.exclusive(["body", "heart", "tumour"])
    with pytest.raises(LabelError, match="body, heart and tumour overlap, and a table of 3 regions keeps no overlap; "):
        canvas.label_map(table)
    with pytest.raises(LabelError, match="keeps no such overlap; ask the physicist"):
        canvas.label_map(table.with_overlaps([(0, 1)]), cure="ask the physicist")
    with pytest.raises(LabelError, match="30 regions overlap in 435 ways, and a label map has 255 values"):
        LabelTable.exclusive(NAMES[:30]).with_overlaps(itertools.combinations(range(30), 2))
    with pytest.raises(LabelError, match="must have one value each"):
        LabelTable.overlapping(["a", "b"]).with_overlaps([(0, 1)])
    alone = LabelTable.of({"whole": [1, 2], "core": 2})
    with pytest.raises(LabelError, match="no value for voxels of core alone"):
        painted(np.array([[False], [True]]), [0, 1]).label_map(alone)
