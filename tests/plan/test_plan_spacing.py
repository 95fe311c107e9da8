"""The working grid of volumes: percentiles, and never one on which a region vanishes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planned_cohort import box, write_planned_cohort

from volseg.plan import SmallRegion, plan_spacing, take_fingerprint
from volseg.transforms import preprocessing

SHAPE = (24, 24, 24)


def small(positions, *, shape=SHAPE, spacing_mm=(1.0, 1.0, 1.0)):
    positions = np.asarray(positions, np.int32)
    extent = tuple((positions.max(0) - positions.min(0) + 1).tolist())
    return SmallRegion("a", "lesion", shape, spacing_mm, extent, positions)


@pytest.mark.parametrize("to", [1.0, 1.3, 2.0, 2.7, 3.0, 4.9])
def test_what_a_grid_keeps_is_what_the_preprocessing_keeps(tmp_path, to):
    label = np.zeros(SHAPE, np.uint8)
    generator = np.random.default_rng(0)
    label[tuple(generator.integers(0, 24, (3, 400)))] = 1
    cohort = write_planned_cohort(tmp_path, {"a": label, "b": label}, names=("organ",))
    facts = take_fingerprint(cohort)
    steps = preprocessing(cohort.labels, channels=1, spacing_mm=[to, to, 1.0])
    target = np.asarray(steps(cohort.datalist("labelled")[0])["label"])[0]
    assert facts.small[0].kept_on([to, to, 1.0]) == np.count_nonzero(target)


def test_a_lesion_of_two_slices_decides_the_grid_and_is_named(tmp_path):
    """Most cases have slices of 5 mm; the lesion of one with slices of 1 mm is two of them thick."""
    labels = {f"case{n}": box(SHAPE, (2, 2, 2), (20, 20, 20)) for n in range(5)}
    labels["case4"][10:14, 10:14, 11:13] = 2
    spacing = {key: (1.0, 1.0, 1.0 if key == "case4" else 5.0) for key in labels}
    cohort = write_planned_cohort(tmp_path, labels, spacing_mm=spacing)
    facts = take_fingerprint(cohort)
    decision = plan_spacing(facts)
    lesion = next(one for one in facts.small if one.name == "lesion")
    assert not lesion.kept_on([1, 1, 5])
    assert lesion.kept_on(decision.value)
    assert decision.value[:2] == [1, 1]
    assert 1 <= decision.value[2] <= 2
    assert "the region lesion of case4 would vanish: it takes 4 x 4 x 2 voxels of 1x1x1 mm" in decision.reason
    assert decision.change == "without case4 it would be coarser; --spacing_mm [1,1,5] takes that"


@given(
    st.lists(st.tuples(*[st.integers(0, 23)] * 3), min_size=1, max_size=12),
    st.lists(st.sampled_from([0.3, 0.9, 1.0, 1.4, 2.0, 3.3, 7.0, 30.0]), min_size=3, max_size=3),
)
def test_on_the_chosen_grid_each_region_keeps_a_voxel(positions, median):
    from volseg.plan import Fingerprint

    ranges = (((24, 24),) * 3, tuple(median), tuple((mm,) * 4 for mm in median))
    one = small(positions)
    facts = Fingerprint(5, 5, SHAPE, *ranges, ("MR",), False, (), small=(one,), looked_at=5)
    value = plan_spacing(facts).value
    assert one.kept_on(value) >= 1
    assert all(to <= mm for to, mm in zip(value, median, strict=True))
    if one.kept_on(median):
        assert value == median


def test_thick_slices_take_the_tenth_percentile_as_in_nnu_net():
    from volseg.plan import Fingerprint

    def of(shape, spacing, tenth):
        ranges = (
            tuple((n, n) for n in shape),
            spacing,
            tuple((mm, low, mm, mm) for mm, low in zip(spacing, tenth, strict=True)),
        )
        return plan_spacing(Fingerprint(5, 5, shape, *ranges, ("CT",), False, ())).value

    assert of((512, 512, 40), (0.8, 0.8, 5.0), (0.6, 0.6, 2.5)) == [0.8, 0.8, 2.5]
    assert of((512, 512, 40), (0.8, 0.8, 5.0), (0.6, 0.6, 0.5)) == [0.8, 0.8, 0.8], "not below the plane"
    assert of((512, 512, 200), (0.8, 0.8, 5.0), (0.6, 0.6, 2.5)) == [0.8, 0.8, 5.0], "as many slices as a third"
    assert of((512, 512, 40), (1.5, 1.5, 3.0), (1, 1, 1)) == [1.5, 1.5, 3.0], "twice is not thick"
    assert of((40, 512, 512), (5.0, 0.8, 0.8), (2.5, 0.6, 0.6)) == [2.5, 0.8, 0.8], "sagittal"
