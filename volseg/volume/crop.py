"""A crop: a box of a volume's own voxels, which is cut out and put back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from volseg.volume.volume import Volume

# Voxels beyond the margin by this fraction of it still count: files keep spacings in 32 bits.
_ROUNDING = 1e-6
# Number of slices of a slab in `grown`: the distances of one slab are in memory at a time.
_SLAB = 32


@dataclass(frozen=True)
class Crop:
    """A box in the grid of a volume.

    Attributes:
        starts: First voxel along X, Y, Z.
        stops: Voxel after the last one along X, Y, Z.
        shape: Shape of the whole grid.

    >>> mask = np.zeros((9, 9, 1), bool)
    >>> mask[4, 0:3] = True
    >>> crop = Crop.around(mask, spacing_mm=(2, 2, 5), margin_mm=3)
    >>> crop.starts, crop.stops
    ((2, 0, 0), (7, 5, 1))
    >>> crop.cut(Volume(mask, np.diag([2.0, 2, 5, 1]))).affine_ras[:3, 3].tolist()
    [4.0, 0.0, 0.0]
    """

    starts: tuple[int, ...]
    stops: tuple[int, ...]
    shape: tuple[int, ...]

    @classmethod
    def around(cls, mask: NDArray[np.bool_], *, spacing_mm: Sequence[float], margin_mm: float = 0.0) -> Crop | None:
        """The smallest box that holds a mask and at least the margin on each side, as far as the grid goes.

        Args:
            mask: Mask (X, Y, Z).
            spacing_mm: Spacing in mm along X, Y, Z.
            margin_mm: Margin in mm along each axis.

        Returns:
            The box; None if the mask is empty.
        """
        starts, stops = [], []
        for axis in range(mask.ndim):
            held = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
            if not held.size:
                return None
            margin = math.ceil(margin_mm * (1 - _ROUNDING) / spacing_mm[axis]) if margin_mm else 0
            starts.append(max(0, int(held[0]) - margin))
            stops.append(min(mask.shape[axis], int(held[-1]) + 1 + margin))
        return cls(tuple(starts), tuple(stops), mask.shape)

    @property
    def box(self) -> tuple[slice, ...]:
        """The box as an index: `voxels[crop.box]`, `channels[..., *crop.box]`."""
        return tuple(slice(start, stop) for start, stop in zip(self.starts, self.stops, strict=True))

    def cut(self, volume: Volume) -> Volume:
        """The box as a volume of its own, whose voxels (a view) keep their positions in space."""
        affine = volume.affine_ras.copy()
        affine[:3, 3] += affine[:3, :3] @ np.array(self.starts, dtype=np.float64)
        return Volume(volume.voxels[self.box], affine)

    def paste(self, part: NDArray[Any], *, outside: ArrayLike = 0) -> NDArray[Any]:
        """Put the box back into the whole grid: the inverse of `cut`.

        Args:
            part: Content of the box (..., x, y, z).
            outside: Value elsewhere, or one for each entry of the leading axes.

        Returns:
            Array (..., X, Y, Z).
        """
        filling = np.asarray(outside, dtype=part.dtype)
        whole = np.empty((*part.shape[:-3], *self.shape), part.dtype)
        whole[...] = filling.reshape(*filling.shape, 1, 1, 1)
        inside: tuple[EllipsisType | slice, ...] = (..., *self.box)
        whole[inside] = part
        return whole


def grown(mask: NDArray[np.bool_], *, spacing_mm: Sequence[float], margin_mm: float) -> NDArray[np.bool_]:
    """The mask and the voxels within a distance of it, from centre to centre; exact where axes are at right angles.

    Args:
        mask: Mask (X, Y, Z).
        spacing_mm: Spacing in mm along X, Y, Z.
        margin_mm: Largest distance in mm.

    >>> line = np.arange(7).reshape(7, 1, 1) == 3
    >>> grown(line, spacing_mm=(2, 2, 5), margin_mm=4).ravel().astype(int).tolist()
    [0, 1, 1, 1, 1, 1, 0]
    """
    from scipy.ndimage import distance_transform_edt

    larger = mask.copy()
    farthest_mm = margin_mm * (1 + _ROUNDING)
    reach = int(farthest_mm / spacing_mm[2])
    for start in range(0, mask.shape[2] if margin_mm else 0, _SLAB):
        first = max(0, start - reach)
        near = mask[..., first : start + _SLAB + reach]
        if near.any():
            distances = distance_transform_edt(~near, sampling=spacing_mm)[..., start - first :][..., :_SLAB]
            larger[..., start : start + _SLAB] = distances <= farthest_mm
    return larger
