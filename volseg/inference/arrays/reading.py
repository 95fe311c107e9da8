"""From the files of a case to the input of a network: each channel on its grid, normalised."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.bundle import Recipe
from volseg.errors import VolumeError
from volseg.inference.arrays.grid import NetworkGrid
from volseg.inference.arrays.intensity import normalise
from volseg.inference.arrays.native import NativeGrid
from volseg.inference.reading import read_images
from volseg.volume import Volume, check_normalisation

logger = logging.getLogger(__name__)

_COARSER = 1.05  # as volseg.transforms: a grid is coarser from this factor on


def read_input(images: Sequence[str | Path | Volume], recipe: Recipe, *, key: str) -> dict[str, Any]:
    """Read files into the input of a network.

    Args:
        images: One file per channel, or volumes.
        recipe: Recipe of the network.
        key: Key of the case, for the log.

    Returns:
        `image`, float32 (C, X, Y, Z) on the network's grid; `grid`, the way back to that of the files; their
        `affine_ras`; and `constant`, the numbers of channels in which nothing is to be seen.

    Raises:
        VolsegError: A file cannot be read or used.
    """
    volumes = read_images(images, names=recipe.channel_names)
    shape, affine_ras = volumes[0].shape, volumes[0].affine_ras
    schemes = check_normalisation(recipe.normalisation, channels=len(volumes))
    grid = NetworkGrid.of(shape, affine_ras, recipe.spacing_mm)
    parts: list[NDArray[np.float32]] = []
    constant = []
    volumes.reverse()
    while volumes:  # of each file only its normalised channel stays in memory
        part = _channel(volumes.pop(), grid, recipe.spacing_mm, name=_name_of(images, len(parts), key))
        normalise(part, None if schemes is None else schemes[len(parts)])
        if part.min() == part.max():
            constant.append(len(parts))
        parts.append(part)
    if constant:
        told = " and ".join(map(str, constant))
        logger.warning("%s: channel %s has one value everywhere, so the network sees nothing in it", key, told)
    return {
        "image": parts[0][None] if len(parts) == 1 else np.stack(parts),
        "grid": NativeGrid(np.linalg.inv(grid.affine_ras) @ affine_ras, shape, grid.shape),
        "affine_ras": affine_ras,
        "constant": constant,
    }


def _channel(volume: Volume, grid: NetworkGrid, spacing_mm: Sequence[float], *, name: str) -> NDArray[np.float32]:
    """One channel on the network's grid, in an array of its own, not normalised.

    An image of one slice is smoothed if that grid is coarser, as `volseg.transforms` does.
    """
    voxels = volume.voxels
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        raise VolumeError(f"{name} holds NaN or infinity; replace them by the background's value")
    turned = grid.turned(voxels).astype(np.float32, order="C")
    of_file_mm = [volume.spacing_mm[axis] for axis in grid.axes]
    del voxels, volume
    if 1 in turned.shape:
        turned = _smooth(turned, of_file_mm, spacing_mm)
    return grid.resampled(turned)


def _smooth(turned: NDArray[np.float32], from_mm: Sequence[float], to_mm: Sequence[float]) -> NDArray[np.float32]:
    """An image of one slice, smoothed if the network's grid is coarser."""
    factors = [to / mm if n > 1 else 1.0 for n, mm, to in zip(turned.shape, from_mm, to_mm, strict=True)]
    if max(factors) < _COARSER:
        return turned
    from scipy.ndimage import gaussian_filter

    smooth: NDArray[np.float32] = gaussian_filter(
        turned, [max(0.0, (factor - 1) / 2) for factor in factors], mode="nearest"
    )
    return smooth


def _name_of(images: Sequence[str | Path | Volume], number: int, key: str) -> str:
    """The name of a channel's file, else the key."""
    image = images[min(number, len(images) - 1)]
    return key if isinstance(image, Volume) else Path(image).name
