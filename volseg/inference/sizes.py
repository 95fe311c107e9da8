"""An image whose voxels are far from those that a network sees is told: its lengths may be in another unit."""

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


def notes_on(volume: Volume, grid_mm: Sequence[float]) -> list[str]:
    """The notes on the position of a volume's voxels, and on their size beside that of the network's grid."""
    doubt = doubtful_size(volume.shape, volume.affine_ras, grid_mm)
    return [*volume.notes, *([doubt] if doubt and doubt not in volume.notes else [])]


def doubtful_size(shape: Sequence[int], affine_ras: ArrayLike, grid_mm: Sequence[float]) -> str:
    """The note of `volseg.volume.size_notes`, else that of `far_from_training`; empty if neither has one."""
    return "; ".join(size_notes(shape, affine_ras)) or far_from_training(shape, affine_ras, grid_mm)


def tell_sizes(cases: Iterable[tuple[str, Sequence[Path]]], grid_mm: Sequence[float]) -> None:
    """Warn of the cases with such images before they are predicted, each note once, from their headers alone.

    Args:
        cases: Pairs of a key and one file per channel. Series of DICOM, which states millimetres, are left out.
        grid_mm: Spacing in mm of the network's grid.
    """
    found: dict[str, list[str]] = {}
    for key, files in cases:
        if not isinstance(files[0], Path) or files[0].suffix == SERIES:
            continue
        try:
            note = doubtful_size(*read_grid(files[0]), grid_mm)
        except VolsegError:  # it is told when the case is read
            continue
        if note:
            found.setdefault(note, []).append(key)
    for note, keys in found.items():
        shown = ", ".join(keys[:_SHOWN]) + (f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else "")
        logger.warning("warning: %s: %s", shown, note)
