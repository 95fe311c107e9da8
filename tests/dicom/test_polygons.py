"""Outlines of four writers, one outline stored twice, holes, overlaps: the voxels that each writer meant."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from dicom_series import grid, noise, save, series, structure_set
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from volseg.dicom import Dicom
from volseg.dicom.contours import read_outlines
from volseg.dicom.outlines import outlines
from volseg.dicom.polygons import fill, nest

HERE = Path(__file__).parent
# Masks and what rt-utils 1.2.7 (OpenCV 5.0.0) writes of them; its own reading gives the masks back.
RT_UTILS = json.loads((HERE / "rt_utils_1_2_7.json").read_text())
# What plastimatch 1.10.0 writes of the same masks; with --xor-contours its own reading gives them back.
PLASTIMATCH = json.loads((HERE / "plastimatch_1_10_0.json").read_text())
SIZE = (32, 32)


def _mask(rows: list[str]) -> np.ndarray:
    """[X, Y] of rows of characters."""
    return np.array([[letter == "#" for letter in row.ljust(32, ".")] for row in rows]).T


def _points(flat: list[float]) -> np.ndarray:
    return np.array(flat, float).reshape(-1, 2)


def _circle(x: float, y: float, radius: float, count: int = 64) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False) + 0.01
    return np.c_[x + radius * np.cos(angle), y + radius * np.sin(angle)]


@pytest.mark.parametrize("name", sorted(RT_UTILS))
def test_outlines_through_pixel_centres_hold_what_their_writer_reads(name: str) -> None:
    """In all eight positions of the square, and with the noise of 32 bits and of two decimals."""
    mask = _mask(RT_UTILS[name]["rows"])
    drawn = [_points(flat) for flat in RT_UTILS[name]["contours"]]
    np.testing.assert_array_equal(fill(drawn, SIZE), mask)
    np.testing.assert_array_equal(fill([points[:, ::-1] for points in drawn], SIZE), mask.T)
    np.testing.assert_array_equal(fill([np.array([31, 0]) + points * [-1, 1] for points in drawn], SIZE), mask[::-1])
    for noisy in (1e-5, 1e-4):
        moved = [points + np.random.default_rng(0).uniform(-noisy, noisy, points.shape) for points in drawn]
        np.testing.assert_array_equal(fill(moved, SIZE), mask)


@pytest.mark.parametrize("name", sorted(PLASTIMATCH))
def test_outlines_of_plastimatch_hold_what_it_meant(name: str) -> None:
    drawn = [_points(flat) for flat in PLASTIMATCH[name]]
    np.testing.assert_array_equal(fill(drawn, SIZE), _mask(RT_UTILS[name]["rows"]))


def _keyholes(drawn: list[np.ndarray]) -> list[np.ndarray]:
    """One outline per part, as planning systems store holes: cut open to each hole, there and back on one line."""
    parents = [sum(a is not b and _contains(b, a) for b in drawn) for a in drawn]
    found = []
    for outer, depth in zip(drawn, parents, strict=True):
        if depth % 2:
            continue
        holes = [
            hole for hole, deep in zip(drawn, parents, strict=True) if deep == depth + 1 and _contains(outer, hole)
        ]
        merged = outer
        while holes:  # the nearest first, so that no cut runs through another hole
            best = min(
                (float(np.hypot(*(merged[i] - hole[j]))), i, j, n)
                for n, hole in enumerate(holes)
                for i in range(len(merged))
                for j in range(len(hole))
            )
            _, i, j, n = best
            hole = np.roll(holes.pop(n), -j, axis=0)
            merged = np.concatenate([merged[: i + 1], hole, hole[:1], merged[i:]])
        found.append(merged)
    return found


def _contains(outer: np.ndarray, inner: np.ndarray) -> bool:
    """Whether the first point of an outline, moved off every line, is within another, by the rule of odd crossings."""
    x, y = inner.mean(axis=0) * 1e-3 + inner[0] * 0.999
    odd = False
    for (x0, y0), (x1, y1) in zip(outer, np.roll(outer, -1, axis=0), strict=True):
        odd ^= (y0 > y) != (y1 > y) and x < (x1 - x0) * (y - y0) / (y1 - y0) + x0
    return bool(odd)


@pytest.mark.parametrize("name", sorted(RT_UTILS))
def test_holes_behind_a_keyhole_are_kept(name: str) -> None:
    mask = _mask(RT_UTILS[name]["rows"])
    joined = _keyholes(outlines(mask))
    np.testing.assert_array_equal(fill(joined, SIZE), mask)
    np.testing.assert_array_equal(fill([points[::-1] for points in joined], SIZE), mask)
    np.testing.assert_array_equal(fill([points[:, ::-1] for points in joined], SIZE), mask.T)


@pytest.mark.parametrize("name", sorted(RT_UTILS))
def test_our_own_outlines_hold_the_mask(name: str) -> None:
    mask = _mask(RT_UTILS[name]["rows"])
    np.testing.assert_array_equal(fill(outlines(mask), SIZE), mask)


@pytest.mark.parametrize(
    "again",
    [
        lambda c: c,
        lambda c: np.roll(c, 5, axis=0),
        lambda c: c[::-1],
        lambda c: np.vstack([c, c[:1]]),
        lambda c: c[::2],
        lambda c: np.repeat(c, 2, axis=0),
        lambda c: np.stack([c, (c + np.roll(c, -1, axis=0)) / 2], axis=1).reshape(-1, 2),
        lambda c: _circle(14, 13, 9, 90),
        lambda c: c + 0.004,
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_one_outline_stored_twice_counts_once(again: object, order: int) -> None:
    drawn = _circle(14, 13, 9)
    got = fill([drawn, again(drawn)][::order], SIZE)  # type: ignore[operator]
    assert abs(int(got.sum()) - int(fill([drawn], SIZE).sum())) <= 4
    assert got[14, 13]


def test_a_box_through_centres_stored_twice_in_both_directions_counts_once() -> None:
    box = np.array([[3, 3], [12, 3], [12, 9], [3, 9]], float)
    for again in (box[::-1], np.roll(box, 2, axis=0), np.vstack([box, box[:1]])[::-1]):
        assert fill([box, again], SIZE).sum() == 70
        assert not nest([box, again]).doubtful


def test_a_wall_and_a_doubled_outline_that_look_alike_are_told() -> None:
    assert nest([_points(flat) for flat in RT_UTILS["diamond_wall"]["contours"]]).doubtful


def test_overlaps_unite_holes_nest_and_exclusive_or_is_for_those_that_ask() -> None:
    left, right = _circle(12, 15, 8), _circle(19, 15, 8)
    one, other = fill([left], SIZE), fill([right], SIZE)
    np.testing.assert_array_equal(fill([left, right], SIZE), one | other)
    np.testing.assert_array_equal(fill([left, right], SIZE, exclusive=True), one ^ other)
    hole, island = _circle(15.3, 15.2, 3.2), _circle(15.3, 15.2, 1.2)
    inner, core = fill([hole], SIZE), fill([island], SIZE)
    np.testing.assert_array_equal(fill([left, right, hole, island], SIZE), ((one | other) & ~inner) | core)
    np.testing.assert_array_equal(fill([island, hole, right, left], SIZE), ((one | other) & ~inner) | core)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.float64, st.tuples(st.integers(1, 9), st.just(2)), elements=st.integers(0, 44).map(lambda n: n / 4))
)
def test_rows_and_columns_are_alike(points: np.ndarray) -> None:
    """Turned by 90 degrees, mirrored, moved by whole pixels, run backwards: the same pixels."""
    size = (12, 12)
    mask = fill([points], size)
    np.testing.assert_array_equal(fill([points[:, ::-1]], size), mask.T)
    np.testing.assert_array_equal(fill([np.c_[11 - points[:, 1], points[:, 0]]], size), mask.T[::-1])
    np.testing.assert_array_equal(fill([points[::-1]], size), mask)
    np.testing.assert_array_equal(fill([points + 3], (18, 18))[3:15, 3:15], mask)


@settings(max_examples=40, deadline=None)
@given(st.floats(8, 23), st.floats(8, 23), st.floats(2, 7), st.integers(5, 60))
def test_the_pixels_have_the_area_of_the_outline(x: float, y: float, radius: float, count: int) -> None:
    drawn = _circle(x, y, radius, count)
    area = count / 2 * radius**2 * np.sin(2 * np.pi / count)
    assert abs(fill([drawn], SIZE).sum() - area) <= 2 * np.pi * radius / 2 + 1


@settings(max_examples=40, deadline=None)
@example([(4.0, 4.0, 4.0), (4.0, 4.0, 4.125)])  # all but one outline
@given(st.lists(st.tuples(st.floats(4, 27), st.floats(4, 27), st.floats(1, 6)), min_size=2, max_size=4))
def test_no_voxel_is_outside_the_union_and_order_does_not_count(circles: list[tuple[float, float, float]]) -> None:
    drawn = [_circle(*circle) for circle in circles]
    got = fill(drawn, SIZE)
    assert not (got & ~np.any([fill([one], SIZE) for one in drawn], axis=0)).any()
    np.testing.assert_array_equal(fill(drawn[::-1], SIZE), got)


def test_points_and_open_lines_are_left_out_with_a_word(tmp_path: Path) -> None:
    affine = grid()
    images = series(noise(), affine)
    square = np.array([[1, 1, 2, 1], [4, 1, 2, 1], [4, 4, 2, 1], [1, 4, 2, 1]]) @ affine.T
    drawn = structure_set(images, {"organ": [square[:, :3], square[:, :3]], "marker": [square[:1, :3]]})
    drawn.ROIContourSequence[0].ContourSequence[1].ContourGeometricType = "OPEN_PLANAR"
    drawn.ROIContourSequence[1].ContourSequence[0].ContourGeometricType = "POINT"
    assert read_outlines(drawn, 1).skipped == Counter(OPEN_PLANAR=1)
    save(tmp_path, [*images, drawn])
    source = Dicom(tmp_path)
    case = source.load(source.keys()[0])
    assert source.labels.names == ("organ",)
    assert case.label is not None
    assert case.label.voxels.sum() == 16
    assert "marker has no closed outline, so it has no voxels" in case.warnings
    assert "1 outlines of organ are of the kind OPEN_PLANAR, hold no voxel and were left out" in case.warnings


@pytest.mark.filterwarnings("ignore:The value for the data element")
def test_an_outline_of_more_than_64_kilobytes_is_read(tmp_path: Path) -> None:
    """Its VR is UN in Explicit VR (PS3.5 6.2.2); so may be that of a sequence, whose items are then of Implicit VR."""
    affine = grid((32, 32, 5), (1, 1, 3))
    images = series(noise((32, 32, 5)), affine)
    circle = _circle(14, 13, 9, 4000)
    points = np.c_[circle, np.full(4000, 2), np.ones(4000)] @ affine.T
    save(tmp_path, [*images, structure_set(images, {"body": [points[:, :3]]})])
    source = Dicom(tmp_path)
    label = source.load(source.keys()[0]).label
    assert label is not None
    np.testing.assert_array_equal(label.voxels[:, :, 2] > 0, fill([circle], SIZE))
