"""Resampling from the network's grid to that of the image's file: probabilities, channel by channel, axis by axis."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai import transforms as mt
from monai.config import KeysCollection
from monai.data import MetaTensor
from numpy.typing import NDArray
from torch import Tensor

# The steps of `volseg.transforms.preprocessing` that change a grid: axes are turned, and resampled along themselves.
_ALONG_AXES = {"Orientation", "Spacing", "SpatialResample"}
# A grid point within this distance of another one, in voxels, is taken for it, as MONAI does.
_SAME = 1e-3
# Logits per slab of `log_sum_exp`: 16 MiB.
_SLAB = 2**22
# Voxels that PyTorch adds at a time at most: four vectors of 512 bits.
_VECTORS = 64


class NativeChannels:
    """Probabilities on the grid of the file, computed channel by channel when they are asked for.

    For many regions all channels at once would be several times as large as the logits.

    Attributes:
        affine: Affine (4, 4) of the grid.
    """

    def __init__(
        self, logits: Tensor, matrix: NDArray[np.float64], shape: Sequence[int], affine: Tensor, *, sigmoid: bool
    ) -> None:
        self.affine = affine
        self._logits, self._matrix, self._shape = logits, matrix, tuple(shape)
        self._total = None if sigmoid else log_sum_exp(logits)

    def __len__(self) -> int:
        return len(self._logits)

    def __getitem__(self, channel: int) -> NDArray[np.float32]:
        """One channel (X, Y, Z)."""
        if not -len(self) <= channel < len(self):
            raise IndexError(channel)  # by which a loop over all of them ends
        native = torch.empty(self._shape)
        native[:] = regrid(probability_of(self._logits[channel], self._total), self._matrix, self._shape)
        found: NDArray[np.float32] = native.numpy()
        return found

    def as_tensor(self) -> Tensor:
        """All channels at once, (channels, X, Y, Z)."""
        native = torch.empty((len(self), *self._shape))
        for i, channel in enumerate(self._logits):
            native[i] = regrid(probability_of(channel, self._total), self._matrix, self._shape)
        return native


def log_sum_exp(logits: Tensor) -> Tensor:
    """The logarithm of the sum of the exponentials over channels (channels, X, ...), slab after slab.

    PyTorch's own makes a copy as large as the logits. It adds in another order in the last voxels, those that fill no
    vector of the processor: slabs of whole vectors give the same bits.
    """
    total = logits.new_empty(logits.shape[1:])
    flat, into = (logits.flatten(1), total.flatten()) if logits.is_contiguous() else (logits, total)
    columns = flat[0, :1].numel()  # voxels per step along the axis of the slabs
    least = _VECTORS // math.gcd(_VECTORS, columns)
    step = max(1, _SLAB // (len(logits) * columns * least)) * least
    for start in range(0, flat.shape[1], step):
        into[start : start + step] = flat[:, start : start + step].logsumexp(dim=0)
    return total


def probability_of(channel: Tensor, total: Tensor | None) -> Tensor:
    """The probabilities of a channel of logits: of a softmax if `total` is their `log_sum_exp`, else of a sigmoid."""
    return channel.sigmoid() if total is None else (channel - total).exp_()


class NativeProbabilitiesd(mt.MapTransform):  # type: ignore[misc]  # MONAI has no types
    """Turn logits (channels, ...) on the network's grid into probabilities (channels, X, Y, Z) on that of the file.

    The values are those of MONAI's `Activationsd` and `Invertd`. Turned and resampled axes need no grid of coordinates,
    which saves time and memory. After any other preprocessing, `Invertd` is used.

    Args:
        keys: Keys of logits.
        before: Preprocessing of `image`, which is inverted.
        activation: Activation, `sigmoid` or `softmax`.
        many: Number of channels above which the result is `NativeChannels` instead, if no grid of coordinates is
            needed; None (the default) for never.
    """

    def __init__(self, keys: KeysCollection, *, before: mt.Compose, activation: str, many: int | None = None) -> None:
        super().__init__(keys)
        self.many = many
        self.sigmoid = activation == "sigmoid"
        self.invert = mt.Invertd(self.keys, transform=before, orig_keys="image", nearest_interp=False, to_tensor=True)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace the logits by a MetaTensor, or `NativeChannels`."""
        item, image = dict(data), data["image"]
        matrix = np.linalg.inv(image.affine.numpy()) @ image.meta["original_affine"].numpy()
        shape = [int(n) for n in image.meta["spatial_shape"]]
        done = {str(operation["class"]) for operation in image.applied_operations}
        simple = done <= _ALONG_AXES and _axes(matrix, shape) is not None
        for key in self.keys:
            logits = item[key].as_tensor() if isinstance(item[key], MetaTensor) else item[key]
            if not simple:
                item[key] = MetaTensor(torch.stack(list(self._probabilities(logits))))
                continue
            affine = image.meta["original_affine"].clone()
            channels = NativeChannels(logits, matrix, shape, affine, sigmoid=self.sigmoid)
            few = self.many is None or len(logits) <= self.many
            item[key] = MetaTensor(channels.as_tensor(), affine=affine) if few else channels
        inverted: dict[Hashable, Any] = item if simple else self.invert(item)
        return inverted

    def _probabilities(self, logits: Tensor) -> Iterator[Tensor]:
        """Compute the probabilities of one channel after the other."""
        total = None if self.sigmoid else log_sum_exp(logits)
        for channel in logits:
            yield probability_of(channel, total)


def regrid(volume: Tensor, matrix: NDArray[np.float64], shape: Sequence[int]) -> Tensor:
    """Interpolate a volume linearly on another grid whose axes are parallel to its own; beyond its edge it is constant.

    Args:
        volume: Volume (X, Y, Z).
        matrix: Matrix (4, 4) from voxel index of the new grid to that of the volume: a permutation, scales and shifts.
        shape: Shape of the new grid.

    Raises:
        ValueError: The axes are not parallel.

    >>> halved = np.diag([0.5, 1.0, 1.0, 1.0])
    >>> regrid(torch.tensor([[[0.0]], [[1.0]]]), halved, (4, 1, 1)).flatten()
    tensor([0.0000, 0.5000, 1.0000, 1.0000])
    """
    axes = _axes(matrix, shape)
    if axes is None:
        raise ValueError("the grids' axes run aslant to each other")
    # axes[j] is the volume's axis along which the new grid's axis j runs. Axes that shrink are done first.
    for new in sorted(range(3), key=lambda j: shape[j] / volume.shape[axes[j]]):
        old = axes[new]
        last = volume.shape[old] - 1
        places = (matrix[old, new] * np.arange(shape[new]) + matrix[old, 3]).clip(0, last)
        lower = np.floor(places + _SAME).astype(np.int64)
        share = places - lower
        if np.array_equal(lower, np.arange(last + 1)) and (np.abs(share) < _SAME).all():
            continue
        below = volume.index_select(old, torch.from_numpy(lower))
        if (np.abs(share) < _SAME).all():
            volume = below
            continue
        above = volume.index_select(old, torch.from_numpy(np.minimum(lower + 1, last)))
        weight = torch.from_numpy(share.astype(np.float32)).view([-1 if axis == old else 1 for axis in range(3)])
        volume = below.lerp_(above, weight)
    return volume.permute(axes)


def _axes(matrix: NDArray[np.float64], shape: Sequence[int]) -> list[int] | None:
    """The old axis along which each new axis runs; None if one leaves it within its length."""
    axes = [int(axis) for axis in np.abs(matrix[:3, :3]).argmax(axis=0)]
    aslant = np.abs(matrix[:3, :3]) * np.asarray(shape)
    aslant[axes, range(3)] = 0
    return axes if sorted(axes) == [0, 1, 2] and (aslant < _SAME).all() else None
