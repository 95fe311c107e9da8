"""Rotation and scaling of training windows: MONAI's RandAffined, computed for all keys at once."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import monai.transforms as mt
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from torch import Tensor
from torch.nn import functional


class RandAffineWindowd(mt.RandAffined):  # type: ignore[misc]  # MONAI has no types
    """MONAI's RandAffined for windows (C, X, Y, Z) in half of its time: the same draws and values, but for rounding.

    MONAI makes a grid in voxels, turns it into one of fractions for each key, and writes down for each how to undo it.
    Here one grid of fractions serves all keys and nothing is written down: plain float32 tensors come back. Images of
    another number of axes, and lazy transforms, are MONAI's.

    MONAI turns in voxels, which tilts thick slices by more than the angle: 20 degrees on a grid of 1 x 1 x 5 mm are 61,
    and the body is sheared. With `spacing_mm` the turn is one in mm, and a sphere stays a sphere.

    Args:
        keys: Keys of windows (C, X, Y, Z).
        spacing_mm: Spacing in mm along X, Y, Z; None (the default) for voxels of equal sides, as MONAI takes them.
        options: Further arguments of MONAI's RandAffined.

    >>> step = RandAffineWindowd(["image"], prob=1.0, rotate_range=[0.3] * 3).set_random_state(0)
    >>> step({"image": torch.ones(1, 8, 8, 4)})["image"].shape
    torch.Size([1, 8, 8, 4])
    """

    def __init__(self, keys: KeysCollection, *, spacing_mm: Sequence[float] | None = None, **options: Any) -> None:  # noqa: ANN401
        super().__init__(keys, **options)
        self.spacing_mm = None if spacing_mm is None else [float(mm) for mm in spacing_mm]

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:
        """Turn and scale the windows, or return them as they are."""
        item = dict(data)
        windows: dict[Hashable, Any] = {key: item.get(key) for key in self.keys}
        sizes = {window.shape[1:] if isinstance(window, Tensor) else None for window in windows.values()}
        (size,) = sizes if len(sizes) == 1 else (None,)
        usual = {*self.mode} <= {"bilinear", "nearest"} and self.rand_affine.spatial_size is None
        if lazy or self.lazy or size is None or len(size) != 3 or not usual:
            found: dict[Hashable, Any] = super().__call__(item, lazy)
            return found
        self.randomize(None)
        self.rand_affine.randomize()
        for key, window in windows.items():
            item[key] = (window.as_tensor() if isinstance(window, MetaTensor) else window).float()
        if not self._do_transform:
            return item
        draw = self.rand_affine.rand_affine_grid
        draw(size, lazy=True)
        affine = _in_voxels(draw.get_transformation_matrix(), self.spacing_mm)
        grid = _grid(affine, size).to(item[self.keys[0]].device)
        for key, mode, padding in self.key_iterator(item, self.mode, self.padding_mode):
            window = item[key][None]
            item[key] = functional.grid_sample(window, grid, str(mode), str(padding), align_corners=False)[0]
            self.rand_affine.randomize()  # as MONAI does, so that later draws are its own
        return item


def _in_voxels(affine: Tensor, spacing_mm: Sequence[float] | None) -> Tensor:
    """An affine whose turn and scaling are in mm as one in voxels: spacing^-1 * affine * spacing; its shift stays."""
    if spacing_mm is None:
        return affine
    found, mm = affine.double().clone(), torch.tensor(spacing_mm, dtype=torch.float64)
    found[:3, :3] *= mm / mm[:, None]
    return found


def _grid(affine: Tensor, size: Sequence[int]) -> Tensor:
    """The places to sample at, of fractions along Z, Y, X, from an affine in voxels from the window's centre."""
    fractions = 2 / torch.tensor(size, dtype=torch.float64).clamp(min=2)
    turned, moved = affine.double()[:3, :3] * fractions[:, None], affine.double()[:3, 3] * fractions
    places = torch.empty(3, *size)
    for place, row, start in zip(places, turned.flip(0).float(), moved.flip(0).float(), strict=True):
        x, y, z = (step * (torch.arange(n) - (n - 1) / 2) for step, n in zip(row, size, strict=True))
        torch.add((x + start)[:, None, None] + y[:, None], z, out=place)
    return places.movedim(0, -1)[None]
