from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from volseg.errors import GeometryError, LabelError, UsageError
from volseg.metrics import count_holes, count_objects, match_objects

PAIRS = array_shapes(min_dims=2, max_dims=3, max_side=6).flatmap(
    lambda shape: st.tuples(arrays(bool, shape), arrays(bool, shape))
)


def parts(mask, diagonal):
    """The connected parts as sets of places, by flooding."""
    left = set(map(tuple, np.argwhere(mask).tolist()))
    steps = [
        s for s in itertools.product((-1, 0, 1), repeat=mask.ndim) if any(s) and (diagonal or sum(map(abs, s)) == 1)
    ]
    found = []
    while left:
        part, edge = set(), [left.pop()]
        while edge:
            place = edge.pop()
            part.add(place)
            for step in steps:
                other = tuple(a + b for a, b in zip(place, step, strict=True))
                if other in left:
                    left.remove(other)
                    edge.append(other)
        found.append(part)
    return found


@settings(max_examples=60, deadline=None)
@given(PAIRS, st.sampled_from([0.5, 0.7]))
def test_objects_equal_those_found_by_flooding(pair, threshold):
    ours, theirs = (parts(mask, True) for mask in pair)
    matched = sum(len(a & b) > threshold * len(a | b) for a in ours for b in theirs)
    found = match_objects(*pair, iou_threshold=threshold)
    assert (found.predicted, found.reference, found.matched) == (len(ours), len(theirs), matched)
    assert count_objects(pair[0]) == len(ours)
    assert found.matched <= min(len(ours), len(theirs))


@settings(max_examples=60, deadline=None)
@given(PAIRS)
def test_objects_are_symmetric_and_perfect_on_identical_masks(pair):
    there, back = match_objects(*pair), match_objects(*pair[::-1])
    assert (there.predicted, there.reference, there.matched) == (back.reference, back.predicted, back.matched)
    same = match_objects(pair[0], pair[0])
    assert same.matched == same.predicted == same.reference
    assert same.f1 == 1 or not pair[0].any()
    flipped = match_objects(*(np.flip(mask).T for mask in pair))
    assert flipped == there


@settings(max_examples=60, deadline=None)
@given(PAIRS)
def test_holes_equal_those_found_by_flooding(pair):
    outside = np.pad(pair[0], 1)
    assert count_holes(pair[0]) == len(parts(~outside, False)) - 1


def test_nuclei_by_hand():
    reference = np.zeros((12, 20), bool)
    for column in (1, 6, 11, 16):
        reference[2:5, column : column + 3] = True  # four nuclei of 9 pixels
    prediction = reference.copy()
    prediction[2:5, 16:19] = False  # one missed
    prediction[2:5, 4:6] = True  # two run together: 24 pixels against 9, no match
    prediction[9, 9] = True  # one invented
    found = match_objects(prediction, reference)
    assert (found.predicted, found.reference, found.matched) == (3, 4, 1)
    assert found.f1 == pytest.approx(2 / 7)


def test_a_ring_has_a_hole_in_an_image_and_none_in_a_volume():
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    assert count_holes(ring) == 1
    assert count_holes(ring[..., None]) == 0
    shell = np.ones((3, 3, 3), bool)
    shell[1, 1, 1] = False
    assert count_holes(shell) == 1
    shell[0, 1, 1] = False  # opened
    assert count_holes(shell) == 0


def test_an_image_has_as_many_objects_as_its_volume_of_one_slice():
    image = np.zeros((9, 9), bool)
    image[1:4, 1:4] = image[4:7, 4:7] = True  # they touch at a corner
    assert count_objects(image) == count_objects(image[..., None]) == 1
    assert match_objects(image, image) == match_objects(image[..., None], image[..., None])


def test_nothing_is_no_object():
    nothing = np.zeros((3, 3), bool)
    assert count_objects(nothing) == count_holes(nothing) == 0
    assert math.isnan(match_objects(nothing, nothing).f1)
    assert match_objects(nothing, ~nothing).f1 == 0
    assert count_holes(np.zeros((0, 0, 0), bool)) == 0
    assert math.isnan(match_objects(np.zeros((0, 2), bool), np.zeros((0, 2), bool)).f1)


def test_real_nuclei(shared_data):
    """An image of nuclei against itself without its smallest: one is missed, the others match."""
    from PIL import Image
    from scipy import ndimage

    image = min((shared_data / "tissue_nuclei").glob("*/masks"))
    nuclei = [np.asarray(Image.open(path).convert("L")) > 0 for path in sorted(image.glob("*.png"))]
    mask = np.any(nuclei, axis=0)
    numbered, count = ndimage.label(mask, structure=np.ones((3, 3)))
    assert 1 < count <= len(nuclei)  # those that touch count as one
    smallest = int(np.bincount(numbered.ravel())[1:].argmin()) + 1
    found = match_objects(mask & (numbered != smallest), mask)
    assert (found.predicted, found.reference, found.matched) == (count - 1, count, count - 1)


def test_what_cannot_be_is_refused():
    mask = np.ones((3, 3), bool)
    with pytest.raises(UsageError, match="the threshold must be from"):
        match_objects(mask, mask, iou_threshold=0.3)
    with pytest.raises(GeometryError):
        match_objects(mask, mask[:2])
    with pytest.raises(LabelError):
        count_objects(mask.astype(np.uint8))


def test_contours_are_counted_slice_by_slice() -> None:
    from volseg.metrics import count_contours

    ball = np.linalg.norm(np.indices((9, 9, 9)) - 4, axis=0) <= 3.5
    assert count_contours(ball) == 7  # one outline in each slice it meets
    hollow = ball & ~(np.linalg.norm(np.indices((9, 9, 9)) - 4, axis=0) <= 1.5)
    assert count_contours(hollow) == 7 + 3  # and one more round the hole
    assert count_contours(np.zeros((4, 4, 4), bool)) == 0
    assert count_contours(ball[:, :, 4]) == 1
    assert count_contours(np.array([True, False, True])) == 2
