from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from volseg.metrics import surface_distances
from volseg.metrics.surfel import areas_mm2, codes
from volseg.volume import read_volume

# Of the peer library, in its own use of scipy.
pytestmark = pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")
SPACINGS = [(1.0, 1.0, 1.0), (1.5, 1.5, 3.0), (0.7, 2.0, 5.0)]


def surface_mm2(mask, spacing_mm):
    return areas_mm2(spacing_mm)[codes(mask)].sum()


def test_walls_and_corners_by_hand():
    x, y, z = 1.5, 2.0, 3.0
    table = areas_mm2((x, y, z))
    assert table[0] == table[255] == 0
    assert table[0b11110000] == table[0b00001111] == pytest.approx(y * z)  # half of the block along X
    assert table[0b11001100] == pytest.approx(x * z)
    assert table[0b10101010] == pytest.approx(x * y)
    # One corner: the triangle between the middles of its three edges.
    corner = math.sqrt((y * z) ** 2 + (x * z) ** 2 + (x * y) ** 2) / 8
    for bit in range(8):
        assert table[1 << bit] == pytest.approx(corner)
    # Two opposite corners: two triangles. An edge of two: a slanted rectangle.
    assert table[0b10000001] == pytest.approx(2 * corner)
    assert table[0b11000000] == pytest.approx(z * math.hypot(x, y) / 2)


@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_inside_and_outside_share_one_surface(spacing_mm):
    table = areas_mm2(spacing_mm)
    assert np.array_equal(table, table[::-1])
    assert (table[1:255] > 0).all()


def test_a_ball_has_about_its_area():
    grid = np.indices((41, 41, 41)) - 20
    ball = (grid**2).sum(axis=0) <= 16**2
    # Steps make a surface larger; cut corners leave some eight per cent.
    assert surface_mm2(ball, (1.0, 1.0, 1.0)) == pytest.approx(4 * math.pi * 16**2, rel=0.12)


def test_a_box_by_hand():
    box = np.zeros((6, 7, 8), bool)
    box[1:5, 1:6, 1:7] = True  # 4 x 5 x 6 voxels; faces between the edges, slanted edges, and eight corners
    faces = 2 * (3 * 4 + 3 * 5 + 4 * 5)
    edges = 4 * (3 + 4 + 5) * math.sqrt(2) / 2
    assert surface_mm2(box, (1.0, 1.0, 1.0)) == pytest.approx(faces + edges + 8 * math.sqrt(3) / 8)
    assert surface_mm2(box, (1.0, 1.0, 1.0)) == surface_mm2(np.pad(box, 3), (1.0, 1.0, 1.0))


@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_the_areas_are_those_of_surface_distance(spacing_mm):
    tables = pytest.importorskip("surface_distance.lookup_tables", reason="the peer library is not installed")
    theirs = tables.create_table_neighbour_code_to_surface_area(spacing_mm)
    assert areas_mm2(spacing_mm) == pytest.approx(np.asarray(theirs), abs=1e-9)


@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_the_metrics_are_those_of_surface_distance(spacing_mm):
    peer = pytest.importorskip("surface_distance.metrics", reason="the peer library is not installed")
    generator = np.random.default_rng(0)
    for density, _ in itertools.product((0.02, 0.3, 0.9), range(4)):
        prediction, reference = generator.random((2, 8, 9, 7)) < density
        check(peer, prediction, reference, spacing_mm)


def test_the_metrics_are_those_of_surface_distance_on_real_hippocampi(shared_data):
    peer = pytest.importorskip("surface_distance.metrics", reason="the peer library is not installed")
    files = sorted((shared_data / "Task04_Hippocampus" / "labelsTr").glob("[!.]*.nii.gz"))[:6]
    for one, other in itertools.pairwise(map(read_volume, files)):
        x, y, z = (min(sides) for sides in zip(one.shape, other.shape, strict=True))
        check(peer, *(volume.voxels[:x, :y, :z] == 1 for volume in (one, other)), (1.5, 1.0, 3.0))


def check(peer, prediction, reference, spacing_mm):
    theirs = peer.compute_surface_distances(reference, prediction, spacing_mm)
    ours = surface_distances(prediction, reference, spacing_mm, reading="surfel")
    for percentile in (50, 95, 100):
        assert ours.hausdorff_mm(percentile) == pytest.approx(peer.compute_robust_hausdorff(theirs, percentile))
    for tolerance_mm in (0.0, 1.6, 3.1):
        share = peer.compute_surface_dice_at_tolerance(theirs, tolerance_mm)
        assert ours.surface_dice(tolerance_mm) == pytest.approx(share)


def test_the_cached_areas_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        areas_mm2((1.0, 1.0, 1.0))[1] = 0
