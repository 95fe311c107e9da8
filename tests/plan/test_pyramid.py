"""Strides and kernels of U-Nets: nnU-Net's own, and what holds for any window."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from monai.networks.nets import DynUNet

from volseg.errors import BundleError
from volseg.plan import fit_divisor, fit_pyramid, fit_roi

_PLANE, _ALL = [[1, 3, 3]], [[3, 3, 3]]


@pytest.mark.parametrize(
    ("window", "spacing_mm", "strides", "kernels"),
    [
        # What nnU-Net plans for hippocampus, liver and pancreas, from its issues 148, 856 and 1081.
        ([40, 56, 40], [1, 1, 1], [[2, 2, 2]] * 3, _ALL * 4),
        ([128, 128, 128], [1, 0.76757812, 0.76757812], [[2, 2, 2]] * 5, _ALL * 6),
        ([80, 192, 160], [1.7987096, 1.54576606, 1.54576606], [[2, 2, 2]] * 4 + [[1, 2, 2]], _ALL * 6),
        # By hand: 3.6 mm is below twice the finest spacing after two halvings; five slices are not halved again.
        ([20, 320, 256], [3.6, 0.62, 0.62], [[1, 2, 2]] * 2 + [[2, 2, 2]] * 2 + [[1, 2, 2]] * 2, _PLANE * 2 + _ALL * 5),
    ],
)
def test_the_networks_of_nnu_net_come_out(
    window: list[int], spacing_mm: list[float], strides: list[list[int]], kernels: list[list[int]]
) -> None:
    pyramid = fit_pyramid(window, spacing_mm)
    assert pyramid.strides == [[1, 1, 1], *strides]
    assert pyramid.kernels == kernels


windows = st.lists(st.sampled_from([1, 2, 7, 8, 16, 20, 24, 32, 40, 48, 64, 80, 96, 160, 320]), min_size=3, max_size=3)
spacings = st.lists(st.sampled_from([0.4, 0.5, 1.0, 1.5, 2.5, 3.0, 5.0, 8.0]), min_size=3, max_size=3)


def enough(window: list[int]) -> bool:
    """Whether a U-Net can be built at all."""
    return max(window) >= 24 or sum(n >= 16 for n in window) > 1


@given(windows, spacings)
def test_a_pyramid_fits_its_window(window: list[int], spacing_mm: list[float]) -> None:
    assume(enough(window))
    try:
        pyramid = fit_pyramid(window, spacing_mm)
    except BundleError:  # coarse axes that are long and fine ones that are short
        assume(False)
        raise
    bottom = [n // step for n, step in zip(window, pyramid.divisor, strict=True)]
    assert [n * step for n, step in zip(bottom, pyramid.divisor, strict=True)] == window
    assert all(n >= 4 for n, step in zip(bottom, pyramid.divisor, strict=True) if step > 1)
    assert math.prod(bottom) > 1, "instance normalisation needs more than one voxel"
    assert len(pyramid.strides) == len(pyramid.kernels) >= 3
    assert pyramid.strides[0] == [1, 1, 1]
    assert all(max(strides) == 2 for strides in pyramid.strides[1:])
    for axis, sizes in enumerate(zip(*pyramid.kernels, strict=True)):
        assert list(sizes) == sorted(sizes), "a kernel that has grown stays"
        assert sizes[-1] == (1 if window[axis] == 1 else 3)


@given(windows, spacings, st.permutations(range(3)), st.sampled_from([0.25, 2.0, 8.0]))
def test_the_order_of_axes_and_the_unit_do_not_matter(
    window: list[int], spacing_mm: list[float], order: list[int], unit: float
) -> None:
    def fitted(axes: list[int], factor: float) -> object:
        try:
            pyramid = fit_pyramid([window[axis] for axis in axes], [spacing_mm[axis] * factor for axis in axes])
        except BundleError:
            return None
        return [
            [[row[axes.index(axis)] for axis in range(3)] for row in rows]
            for rows in (pyramid.strides, pyramid.kernels)
        ]

    assert fitted(order, unit) == fitted([0, 1, 2], 1.0)


@given(st.lists(st.integers(1, 400), min_size=3, max_size=3), st.sampled_from([8, 16]), st.integers(20_000, 2_000_000))
def test_a_window_that_fits_a_cohort_can_be_halved(shape: list[int], most: int, voxels: int) -> None:
    divisor = fit_divisor(shape, most=most)
    assert all(step == 1 for n, step in zip(shape, divisor, strict=True) if n < 8)
    roi = fit_roi(shape, divisor=divisor, voxels=voxels)
    assume(enough(roi))
    pyramid = fit_pyramid(roi, [1, 1, 1])
    assert [n % along for n, along in zip(roi, pyramid.divisor, strict=True)] == [0, 0, 0]


@given(st.integers(8, 56))
def test_with_that_divisor_a_window_is_halved_as_often_as_its_axis_would_be(size: int) -> None:
    """nnU-Net's way with an odd size is to enlarge it; so, rounded up, has the window here."""
    step = fit_divisor([size], most=8)[0]
    roi = -(-size // step) * step
    assume(roi >= 24)
    assert fit_pyramid([roi] * 3, [1, 1, 1]).divisor == [step] * 3


@pytest.mark.parametrize(
    ("window", "spacing_mm"),
    [([16, 24, 16], [1, 1, 1]), ([32, 32, 1], [1, 1, 5]), ([32, 16, 6], [0.7, 0.7, 4]), ([64, 1, 1], [1, 1, 1])],
)
def test_monais_network_takes_the_window(window: list[int], spacing_mm: list[float]) -> None:
    pyramid = fit_pyramid(window, spacing_mm)
    network = DynUNet(
        *(3, 1, 2, pyramid.kernels, pyramid.strides, pyramid.strides[1:]),
        filters=pyramid.filters(4),
        deep_supervision=True,
    )
    assert network(torch.zeros(1, 1, *window)).shape == (1, 2, 2, *window)  # full resolution and one coarser stage


def test_filters_double_up_to_a_limit() -> None:
    assert fit_pyramid([128, 128, 128], [1, 1, 1]).filters(32) == [32, 64, 128, 256, 320, 320]
    assert fit_pyramid([32, 32, 32], [1, 1, 1]).filters(8, most=20) == [8, 16, 20, 20]


@pytest.mark.parametrize("window", [[8, 8, 8], [16, 8, 8], [20, 1, 1], [35, 33, 31], [1, 1, 1]])
def test_a_window_too_small_for_a_u_net_is_refused(window: list[int]) -> None:
    with pytest.raises(BundleError, match="a U-Net needs 2: let two axes of roi_size"):
        fit_pyramid(window, [1, 1, 1])


@pytest.mark.parametrize(
    ("window", "spacing_mm"), [([32, 32], [1, 1, 1]), ([32, 0, 32], [1, 1, 1]), ([32] * 3, [1, 0, 1]), ([], [])]
)
def test_sizes_that_are_none_are_refused(window: list[int], spacing_mm: list[float]) -> None:
    with pytest.raises(BundleError, match="as many sizes as spacings"):
        fit_pyramid(window, spacing_mm)
