"""Voxels of the label `ignore`, which nobody looked at, have no surface and no contour, and are none of a mask."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.spatial.distance import cdist
from scored_cohort import AFFINE, TABLE, make_cohort, write

from volseg.cohort import Cohort
from volseg.deploy.corrections.counting import correction_rows
from volseg.evaluation import EvaluationSettings, evaluate
from volseg.labels import LabelTable
from volseg.metrics import (
    READINGS,
    correction_effort,
    count_contours,
    count_holes,
    match_objects,
    surface_distances,
    uw_madison_score,
)
from volseg.volume import Volume

TRIPLES = array_shapes(min_dims=2, max_dims=3, max_side=6).flatmap(
    lambda shape: st.tuples(arrays(bool, shape), arrays(bool, shape), arrays(bool, shape))
)
SPACING = (1.0, 1.5, 2.5)


def seen_surface(mask, unseen):
    """The voxels of a mask beside one that was seen and is none of it, or at the edge of the grid."""
    around = np.pad(mask | unseen, 1)
    inside = np.logical_and.reduce([np.roll(around, step, axis) for axis in range(mask.ndim) for step in (-1, 1)])
    return np.argwhere(mask & ~inside[(slice(1, -1),) * mask.ndim]) * SPACING[: mask.ndim]


def disc(radius):
    x, y = np.indices((40, 40))
    return (x - 20) ** 2 + (y - 20) ** 2 <= radius**2


@settings(max_examples=80, deadline=None)
@given(TRIPLES)
def test_distances_are_those_between_the_surfaces_that_were_seen(triple):
    unseen = triple[2]
    one, other = (mask & ~unseen for mask in triple[:2])
    found = surface_distances(one, other, SPACING[: one.ndim], unseen=unseen)
    if not (one.any() and other.any()):
        assert np.isnan(found.hausdorff_mm())
        assert found.surface_dice() == 0 if one.any() or other.any() else np.isnan(found.surface_dice())
        return
    surfaces = [seen_surface(mask, unseen) for mask in (one, other)]
    if not all(map(len, surfaces)):
        assert np.isnan([found.hausdorff_mm(), found.mean_mm(), found.surface_dice()]).all()
        return
    apart = cdist(*surfaces)
    ends = [np.percentile(apart.min(axis=axis), 95) for axis in (0, 1)]
    assert found.hausdorff_mm() == pytest.approx(max(ends))
    assert found.mean_mm() == pytest.approx(np.concatenate([apart.min(axis=0), apart.min(axis=1)]).mean())


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_one_seen_slice_of_a_volume_is_an_image_of_one_slice(axis):
    """A reader drew one slice of seven: its inside counted as surface, and a surface Dice of 0 was 0.9."""
    masks = np.zeros((3, 40, 40, 7), bool)
    masks[0, ..., 3], masks[1, ..., 3], masks[2] = disc(16), disc(11), True
    masks[2, ..., 3] = False
    one, other, unseen = (np.moveaxis(mask, 2, axis) for mask in masks)
    found = surface_distances(one, other, (1, 1, 1), unseen=unseen)
    flat = surface_distances(disc(16), disc(11), (1, 1))
    assert found.hausdorff_mm() == flat.hausdorff_mm()
    assert found.surface_dice(3) == flat.surface_dice(3) == 0
    assert surface_distances(one, other, (1, 1, 1)).surface_dice(3) > 0.8
    assert np.isnan(surface_distances(one, other, (1, 1, 1), reading="surfel", unseen=unseen).hausdorff_mm())


@pytest.mark.parametrize("reading", READINGS)
def test_what_was_not_seen_elsewhere_changes_nothing(reading):
    one, other, unseen = np.zeros((3, 12, 12, 12), bool)
    one[2:7, 2:7, 2:7], other[3:8, 2:7, 2:7], unseen[10:] = True, True, True
    found = surface_distances(one, other, SPACING, reading=reading, unseen=unseen)
    plain = surface_distances(one, other, SPACING, reading=reading)
    assert (found.hausdorff_mm(), found.mean_mm(), found.surface_dice(1)) == pytest.approx(
        (plain.hausdorff_mm(), plain.mean_mm(), plain.surface_dice(1))
    )


def test_a_contour_does_not_run_along_what_was_not_seen():
    prediction, reference, unseen = np.zeros((3, 10, 10, 2), bool)
    unseen[5:] = True
    reference[2:5, 2:8], prediction[2:3, 2:8] = True, True
    found = correction_effort(prediction, reference, (1, 1, 3), tolerance_mm=0, unseen=unseen)
    assert found.added_path_mm == 2 * 4  # the ends of two rows; the row beside the unseen half is no contour
    assert correction_effort(prediction, reference, (1, 1, 3), tolerance_mm=0).added_path_mm == 2 * 8


def test_a_correction_counts_no_contour_along_what_was_not_seen():
    """A reader who filled the upper half and ignored the lower one drew nothing along the line between them."""
    table = LabelTable.from_dataset_json({"labels": {"background": 0, "liver": 1, "ignore": 2}})
    now, was = np.zeros((2, 10, 10, 1), np.uint8)
    was[2:3, 2:8] = 1
    now[2:5, 2:8], now[5:] = 1, 2
    label, before = (Volume(voxels, np.diag([1.0, 1.0, 3.0, 1.0])) for voxels in (now, was))
    (row,) = correction_rows(label, table, ("prediction", before), key="a", number=1, minutes=None)
    assert row.added_path_mm == 2 * 2


def test_what_goes_on_where_nobody_looked_is_no_hole():
    """The inside of a shell that was left out counted as a hole, of a prediction that fills it too."""
    shell, unseen = np.ones((5, 5, 5), bool), np.zeros((5, 5, 5), bool)
    shell[1:4, 1:4, 1:4] = False
    unseen[2, 2, 2] = True
    assert (count_holes(shell), count_holes(shell, unseen=unseen)) == (1, 0)
    assert count_contours(shell) == 5 + 3
    assert count_contours(shell, unseen=unseen) == 5 + 2  # of one slice nobody knows where the inner outline runs
    assert count_holes(shell, unseen=np.zeros_like(unseen)) == 1
    assert count_holes(shell, unseen=np.pad(unseen, 3)[:5, :5, :5] & ~shell) == 1  # elsewhere


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_score_of_uw_madison_is_that_of_the_surfaces_that_were_seen(axis):
    masks = np.zeros((3, 40, 40, 7), bool)
    masks[0, ..., 3], masks[1, ..., 3], masks[2] = disc(16), disc(11), True
    masks[2, ..., 3] = False
    one, other, unseen = (np.moveaxis(mask, 2, axis) for mask in masks)
    found = uw_madison_score(one, other, unseen=unseen)
    steps = surface_distances(disc(16), disc(11), (1, 1)).hausdorff_mm(100)
    dice = 2 * disc(11).sum() / (disc(11).sum() + disc(16).sum())
    assert found == pytest.approx(0.4 * dice + 0.6 * (1 - steps / np.sqrt(40**2 + 40**2 + 7**2)))
    hidden = ~(one | other)
    assert np.isnan(uw_madison_score(other, other, unseen=hidden)) == bool(np.all(other | hidden))


def test_an_object_of_a_map_is_matched_across_what_nobody_looked_at():
    """A cell through a slice that was left out is one object of the map, and was two of the prediction."""
    cell, unseen = np.ones((4, 4, 9), bool), np.zeros((4, 4, 9), bool)
    unseen[..., 4] = True
    seen = cell & ~unseen
    numbers = cell.astype(np.uint16)
    found = match_objects(seen, seen, instances=numbers, whole=cell)
    assert (found.predicted, found.reference, found.matched) == (1, 1, 1)
    assert match_objects(seen, seen, instances=numbers).predicted == 2
    assert match_objects(seen, seen).matched == 2  # without a map both are cut alike


def scored_with_ignored(tmp_path, drawn, predicted, value, **settings):
    cohort = make_cohort(tmp_path / "cohort", {"p1": drawn})
    dataset = json.loads((cohort.folder / "dataset.json").read_text())
    dataset["labels"]["ignore"] = value
    (cohort.folder / "dataset.json").write_text(json.dumps(dataset))
    write(tmp_path / "predictions" / "p1.nii.gz", predicted)
    return evaluate(tmp_path / "predictions", Cohort.open(cohort.folder), method=EvaluationSettings(**settings))


def test_slices_that_nobody_looked_at_earn_no_points(tmp_path):
    """Of 8 slices one was drawn and wrong: the 7 that nobody looked at passed."""
    drawn = np.full((10, 9, 8), 8, np.uint8)
    drawn[..., 2] = 0
    drawn[1:9, 1:8, 6] = 1
    drawn[..., 6][drawn[..., 6] == 8] = 0
    predicted = np.zeros_like(drawn)
    predicted[0, 0, 6] = 1
    row = scored_with_ignored(tmp_path, drawn, predicted, 8)[0]
    assert row.region == "large_bowel"
    assert row.time_saved == (5 - 2) / 2
    assert row.time_saved_from_empty == 5 / 2


def test_the_margin_goes_by_all_that_was_predicted(tmp_path):
    drawn = np.zeros((10, 9, 8), np.uint8)
    drawn[4, 4, 3], drawn[..., 4] = 1, 8
    predicted = np.zeros_like(drawn)
    predicted[4, 4, 4] = predicted[0, 0, 3] = 1
    row = scored_with_ignored(tmp_path, drawn, predicted, 8, margins=True)[0]
    assert row.margin_mm == pytest.approx(abs(AFFINE[2, 2]))


@pytest.mark.parametrize("objects", [False, True])
def test_a_case_of_which_one_slice_was_drawn_is_scored_within_it(tmp_path, objects):
    whole = np.zeros((10, 9, 8), np.uint8)
    whole[1:9, 1:8] = 1
    smaller = np.zeros_like(whole)
    smaller[3:7, 3:6] = 1
    drawn = np.full_like(whole, 8)
    drawn[..., 4] = smaller[..., 4]
    cohort = make_cohort(tmp_path / "cohort", {"p1": drawn})
    dataset = json.loads((cohort.folder / "dataset.json").read_text())
    dataset["labels"]["ignore"] = 8
    (cohort.folder / "dataset.json").write_text(json.dumps(dataset))
    write(tmp_path / "predictions" / "p1.nii.gz", whole)
    rows = evaluate(
        tmp_path / "predictions",
        Cohort.open(cohort.folder),
        method=EvaluationSettings(tolerance_mm=1, objects=objects),
    )
    row = next(row for row in rows if row.region == TABLE.names[0])
    mm = np.abs(np.diag(AFFINE)[:2])
    flat = surface_distances(whole[..., 4] > 0, smaller[..., 4] > 0, mm)
    assert (row.ignored, row.outcome) == (True, "both present")
    assert (row.hd95_mm, row.mean_surface_distance_mm) == pytest.approx((flat.hausdorff_mm(), flat.mean_mm()))
    assert row.surface_dice == flat.surface_dice(1) == 0
    assert row.slices_to_correct == 1
