from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.spatial
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from volseg.metrics import lattice as module
from volseg.metrics.lattice import Lattice, _shells

PAIRS = array_shapes(min_dims=1, max_dims=3, max_side=7).flatmap(
    lambda shape: st.tuples(arrays(bool, shape), arrays(bool, shape))
)
SPACINGS = st.sampled_from([0.1, 0.7, 1.0, 1.5, 40.0])


@settings(deadline=None)
@given(PAIRS, st.data())
def test_nearest_equals_scipys_distance_transform(pair, data):
    starts, ends = pair
    spacing = tuple(data.draw(SPACINGS) for _ in starts.shape)
    lattice = Lattice.around(starts.shape, spacing)
    found = lattice.nearest_mm(lattice.flat(starts), lattice.flat(ends))
    if not ends.any():
        assert np.isnan(found).all()
        assert len(found) == starts.sum()
        return
    assert found == pytest.approx(ndimage.distance_transform_edt(~ends, sampling=spacing)[starts])


@settings(deadline=None)
@given(PAIRS, st.data())
def test_beyond_equals_scipys_distance_transform(pair, data):
    starts, ends = pair
    spacing = tuple(data.draw(st.sampled_from([0.7, 1.0, 1.5])) for _ in starts.shape)
    lattice = Lattice.around(starts.shape, spacing, at_least_mm=2.0)
    left = lattice.beyond(lattice.flat(starts), lattice.flat(ends), 2.0, axes=tuple(range(starts.ndim)))
    transform = ndimage.distance_transform_edt(~ends, sampling=spacing) if ends.any() else np.full(ends.shape, np.inf)
    assert len(left) == np.count_nonzero(starts & (transform > 2.0))


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.5, 1.5, 3.0), (0.1, 30.0, 1.0), (2.0,), (1.0, 7.0)])
def test_the_shells_leave_no_offset_out(spacing):
    shells = _shells(spacing)
    lengths = [length for length, _ in shells]
    assert lengths == sorted(lengths)
    last = lengths[-1]
    reach = [int(last / step) + 1 for step in spacing]
    every = np.indices([2 * r + 1 for r in reach]).reshape(len(reach), -1).T - reach
    within = np.sqrt(((every * spacing) ** 2).sum(axis=1))
    assert sum(len(offsets) for _, offsets in shells) == np.count_nonzero((within > 0) & (within <= last + 1e-9))
    for length, offsets in shells:
        assert np.sqrt(((offsets * spacing) ** 2).sum(axis=1)) == pytest.approx(length)
    margin = Lattice.around((3,) * len(spacing), spacing).margin
    assert all(m >= math.floor(last / step + 1e-9) for m, step in zip(margin, spacing, strict=True))


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (1.5, 0.7, 3.0)])
def test_noise_far_from_the_other_mask_is_measured_as_by_the_tree(spacing_mm, monkeypatch):
    rng = np.random.default_rng(0)
    noise, blob = rng.random((40, 36, 30)) < 0.4, np.zeros((40, 36, 30), bool)
    blob[:4, 5:8, 20:] = True
    grid = Lattice.around(noise.shape, spacing_mm)
    with monkeypatch.context() as patched:
        patched.setattr(scipy.spatial, "cKDTree", None)  # which is not asked
        transformed = grid.nearest_mm(grid.flat(noise), grid.flat(blob))
    monkeypatch.setattr(module, "_TRANSFORMED", 0)
    by_tree = grid.nearest_mm(grid.flat(noise), grid.flat(blob))
    np.testing.assert_allclose(transformed, by_tree, rtol=1e-14)
    assert by_tree.max() > 30
