"""An image whose voxels or lengths are far from what a network was trained on is told."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from volseg.errors import VolsegError
from volseg.files import SERIES
from volseg.inference.reading import read_grid
from volseg.volume import Volume, size_notes, spacing_mm, times_off

logger = logging.getLogger(__name__)

_SHOWN = 3
_LONGER = 1.5  # times the longest image of the training, from which on an image is told
_DIRECTIONS = ("from right to left", "from front to back", "from head to feet")


def far_from_training(shape: Sequence[int], affine_ras: ArrayLike, grid_mm: Sequence[float]) -> str:
    """The note on an image whose voxels are much finer or coarser than the network's grid; empty if they are not.

    Args:
        shape: Number of voxels along X, Y, Z; axes of one voxel are left out.
        affine_ras: Affine (4, 4) from voxel index to RAS mm.
        grid_mm: Spacing in mm that the network's images are resampled to, along the axes of the body.

    >>> far_from_training((64, 64, 30), np.diag([0.7, 0.7, 5, 1]), (1.5, 1.5, 3))
    ''
    >>> print(far_from_training((64, 64, 30), np.diag([0.07, 0.07, 0.5, 1]), (1.5, 1.5, 3)))
    its voxels of 0.07 x 0.07 x 0.5 mm are up to 21.4 times finer than the 1.5 x 1.5 x 3 mm that the network works on: \
look whether its lengths are right
    """
    sizes = spacing_mm(affine_ras)
    along = np.abs(np.asarray(affine_ras, float)[:3, :3]).argmax(axis=0)  # voxel axis -> axis of the body
    off = times_off(shape, sizes, [grid_mm[axis] for axis in along.tolist()])
    if off is None:
        return ""
    most, word = off
    own, network = (" x ".join(f"{mm:.3g}" for mm in values) for values in (sizes, grid_mm))
    return (
        f"its voxels of {own} mm are up to {most:.3g} times {word} than the {network} mm that the network works on: "
        "look whether its lengths are right"
    )


def longer_than_trained(shape: Sequence[int], affine_ras: ArrayLike, longest_mm: Sequence[float] | None) -> str:
    """The note on an image that shows much more than any image of the training; empty if it does not.

    A network learns where in the image a region lies, above all where its window holds whole images: a bladder that was
    always near the lower end is not found in the middle of a longer scan.

    Args:
        shape: Number of voxels along X, Y, Z; axes of one voxel are left out.
        affine_ras: Affine (4, 4) from voxel index to RAS mm.
        longest_mm: Length in mm of the longest image of the training along each axis of the body; None if unknown.

    >>> longer_than_trained((64, 64, 80), np.diag([4, 4, 4, 1]), (230, 210, 300))
    ''
    >>> print(longer_than_trained((64, 64, 160), np.diag([4, 4, 4, 1]), (230, 210, 300)))
    it is 640 mm long from head to feet, and the longest image of the training 300 mm: the network does not know what \
lies beyond; crop the image to what was trained, or let --within find the place
    """
    if longest_mm is None:
        return ""
    along = np.abs(np.asarray(affine_ras, float)[:3, :3]).argmax(axis=0)  # voxel axis -> axis of the body
    found = [
        (n * mm / longest_mm[axis], n * mm, axis)
        for n, mm, axis in zip(shape, spacing_mm(affine_ras), along.tolist(), strict=False)
        if n > 1 and longest_mm[axis] > 0
    ]
    times, long, axis = max(found, default=(0.0, 0.0, 0))
    if times <= _LONGER:
        return ""
    most = f"{longest_mm[axis]:.3g} mm"
    return (
        f"it is {long:.3g} mm long {_DIRECTIONS[axis]}, and the longest image of the training {most}: the network does "
        "not know what lies beyond; crop the image to what was trained, or let --within find the place"
    )


def notes_on(volume: Volume, grid_mm: Sequence[float], longest_mm: Sequence[float] | None = None) -> list[str]:
    """The notes on the position of a volume's voxels, and on their size and number beside those of the training.

    Args:
        volume: Volume on the grid of the file.
        grid_mm: Spacing in mm of the network's grid.
        longest_mm: Lengths of `longer_than_trained`.
    """
    doubt = doubtful_size(volume.shape, volume.affine_ras, grid_mm, longest_mm)
    return [*volume.notes, *([doubt] if doubt and doubt not in volume.notes else [])]


def doubtful_size(
    shape: Sequence[int], affine_ras: ArrayLike, grid_mm: Sequence[float], longest_mm: Sequence[float] | None = None
) -> str:
    """The note of `volseg.volume.size_notes`, of `far_from_training` or of `longer_than_trained`: the first of them."""
    doubt = "; ".join(size_notes(shape, affine_ras)) or far_from_training(shape, affine_ras, grid_mm)
    return doubt or longer_than_trained(shape, affine_ras, longest_mm)


def tell_sizes(
    cases: Iterable[tuple[str, Sequence[Path]]], grid_mm: Sequence[float], longest_mm: Sequence[float] | None = None
) -> None:
    """Warn of the cases with such images before they are predicted, each note once, from their headers alone.

    Args:
        cases: Pairs of a key and one file per channel. Series of DICOM, which states millimetres, are left out.
        grid_mm: Spacing in mm of the network's grid.
        longest_mm: Lengths of `longer_than_trained`.
    """
    found: dict[str, list[str]] = {}
    for key, files in cases:
        if not isinstance(files[0], Path) or files[0].suffix == SERIES:
            continue
        try:
            note = doubtful_size(*read_grid(files[0]), grid_mm, longest_mm)
        except VolsegError:  # it is told when the case is read
            continue
        if note:
            found.setdefault(note, []).append(key)
    for note, keys in found.items():
        shown = ", ".join(keys[:_SHOWN]) + (f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else "")
        logger.warning("warning: %s: %s", shown, note)
