"""The pyramid of a U-Net: the strides and kernels of its stages, from window and spacing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from volseg.errors import BundleError

_SMALLEST = 4  # voxels that stay along an axis that is halved


@dataclass(frozen=True)
class Pyramid:
    """The stages of a U-Net, the full resolution first.

    Attributes:
        strides: One stride per stage along X, Y, Z; 1 everywhere in the first. They are the `strides` of MONAI's
            DynUNet; from the second on they are its `upsample_kernel_size`.
        kernels: Sizes of the convolutions of each stage along X, Y, Z: 1 or 3.
    """

    strides: list[list[int]]
    kernels: list[list[int]]

    @property
    def divisor(self) -> list[int]:
        """The number of which each axis of a window must be a multiple: the product of the strides along it."""
        return [math.prod(along) for along in zip(*self.strides, strict=True)]

    def filters(self, first: int, *, most: int = 320) -> list[int]:
        """Channels of each stage: doubled from one to the next, up to a limit (nnU-Net: 320 in 3D, 512 in 2D)."""
        return [min(first * 2**stage, most) for stage in range(len(self.strides))]


def fit_pyramid(roi_size: Sequence[int], spacing_mm: Sequence[float]) -> Pyramid:
    """Halve the axes until voxels are as cubic as they can be: the rule of nnU-Net, for a window that is given.

    An axis is halved while at least 8 voxels are left, so that 4 remain, and while its spacing is below twice the
    finest of such axes; a single axis only from 12 voxels on. Kernels are 1 along an axis until its spacing is below
    twice the finest, then 3; in the deepest stage always 3 (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z). Two
    rules are added:

    - An odd number of voxels is not halved. nnU-Net enlarges the window instead; here the window comes first, from
      `volseg.plan.fit_roi`, and the pyramid always fits it. Multiples of 8 reach nnU-Net's depth up to 56 voxels,
      multiples of 16 up to 112.
    - Along an axis of one voxel, strides and kernels are 1 and its spacing does not count: a slice is a volume too.

    Args:
        roi_size: Window size in voxels along X, Y, Z.
        spacing_mm: Spacing in mm of those voxels.

    Raises:
        BundleError: There are fewer than two halvings, too few for a U-Net; or sizes or spacings are invalid.

    >>> pyramid = fit_pyramid([40, 56, 40], [1, 1, 1])
    >>> pyramid.strides, pyramid.divisor
    ([[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2]], [8, 8, 8])
    >>> pyramid.filters(32)
    [32, 64, 128, 256]

    Slices that are 5 mm apart, 0.6 mm between pixels, and a single slice:

    >>> thick = fit_pyramid([256, 256, 16], [0.6, 0.6, 5])
    >>> thick.strides
    [[1, 1, 1], [2, 2, 1], [2, 2, 1], [2, 2, 1], [2, 2, 2], [2, 2, 2], [2, 2, 1]]
    >>> thick.kernels
    [[3, 3, 1], [3, 3, 1], [3, 3, 1], [3, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3]]
    >>> fit_pyramid([32, 32, 1], [1, 1, 5]).kernels
    [[3, 3, 1], [3, 3, 1], [3, 3, 1], [3, 3, 1]]
    """
    sizes, spacing = list(roi_size), [float(mm) for mm in spacing_mm]
    if len(sizes) != len(spacing) or min(sizes, default=0) < 1 or not all(0 < mm < math.inf for mm in spacing):
        raise BundleError(
            f"a window of {list(roi_size)} voxels of {list(spacing_mm)} mm: expected as many sizes as spacings, all "
            "above 0"
        )
    axes = [axis for axis, size in enumerate(sizes) if size > 1]
    wide = set[int]()
    strides, kernels = [[1] * len(sizes)], []
    while True:
        finest = min((spacing[axis] for axis in axes), default=0.0)
        wide |= {axis for axis in axes if spacing[axis] < 2 * finest}
        halved = _to_halve(sizes, spacing)
        kernels.append([3 if axis in (wide if halved else axes) else 1 for axis in range(len(sizes))])
        if not halved:
            break
        strides.append([2 if axis in halved else 1 for axis in range(len(sizes))])
        for axis in halved:
            sizes[axis] //= 2
            spacing[axis] *= 2
    if len(strides) < 3:
        raise BundleError(
            f"a window of {list(roi_size)} voxels can be halved {len(strides) - 1} times, a U-Net needs 2: let two "
            "axes of roi_size be multiples of 4 from 16 on, or one from 24 on"
        )
    return Pyramid(strides, kernels)


def fit_divisor(shape: Sequence[int], *, most: int) -> list[int]:
    """The number of which each axis of a window should be a multiple, to be halved as often as nnU-Net would halve it.

    This is for `volseg.plan.fit_roi`, which needs it before there is a window. Thin axes stay as thin as they are.
    Images of one slice may be halved twice more: a window of as many voxels is several times as long in their plane.

    Args:
        shape: Median number of voxels of the cohort along X, Y, Z.
        most: Largest such number, a power of 2. A larger one lets large windows be halved more often, and leaves fewer
            sizes.

    >>> fit_divisor([35, 50, 36], most=8), fit_divisor([266, 266, 20], most=16), fit_divisor([512, 512, 1], most=16)
    ([8, 8, 8], [16, 16, 4], [64, 64, 1])
    """
    most = 4 * most if 1 in shape else most
    divisor = []
    for size in shape:
        halvings = 0
        while size >= 2 * _SMALLEST:
            size, halvings = (size + 1) // 2, halvings + 1
        divisor.append(min(2**halvings, most))
    return divisor


def _to_halve(sizes: Sequence[int], spacing: Sequence[float]) -> list[int]:
    """The axes that the next stage halves."""
    large = [axis for axis, size in enumerate(sizes) if size >= 2 * _SMALLEST and size % 2 == 0]
    finest = min((spacing[axis] for axis in large), default=0.0)
    chosen = [axis for axis in large if spacing[axis] < 2 * finest]
    return [] if len(chosen) == 1 and sizes[chosen[0]] < 3 * _SMALLEST else chosen
