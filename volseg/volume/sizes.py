"""Voxels of a size that no image of a patient has: lengths in another unit than the header says."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import ArrayLike

from volseg.volume.geometry import spacing_mm

# Below it lie microscopes; clinical CT has 0.2 mm and micro-CT of bone 0.03 mm.
SMALLEST_VOXEL_MM = 0.01
# Above it lie headers whose lengths are micrometres; the coarsest scouts have slices 30 mm apart.
LARGEST_VOXEL_MM = 50.0
# Two whole bodies one after the other.
LONGEST_IMAGE_MM = 5000.0


def size_notes(shape: Sequence[int], affine_ras: ArrayLike) -> tuple[str, ...]:
    """A sentence if the voxels or the image have a size that images of patients do not have; else nothing.

    Nothing is wrong with such an image, but its lengths may be in another unit than its header says. Pictures of one
    slice may be as fine as microscopes make them. Axes of one voxel are left out, since their length says nothing.

    Args:
        shape: Number of voxels along X, Y, Z; further axes are left out.
        affine_ras: Affine (4, 4) from voxel index to RAS mm.

    >>> import numpy as np
    >>> size_notes((64, 64, 30), np.diag([0.7, 0.7, 5, 1]))
    ()
    >>> print(*size_notes((64, 64, 30), np.diag([0.0007, 0.0007, 0.005, 1])))
    voxels of 0.0007 x 0.0007 x 0.005 mm are none of a patient (0.01 to 50 mm): look whether the lengths are in mm
    """
    sizes = spacing_mm(affine_ras)
    long = [(n, mm) for n, mm in zip(shape, sizes, strict=False) if n > 1]
    told = " x ".join(f"{mm:.4g}" for mm in sizes)
    if any(mm > LARGEST_VOXEL_MM for _, mm in long) or (
        len(long) > 2 and any(mm < SMALLEST_VOXEL_MM for _, mm in long)
    ):
        return (
            f"voxels of {told} mm are none of a patient ({SMALLEST_VOXEL_MM:g} to {LARGEST_VOXEL_MM:g} mm): look "
            "whether the lengths are in mm",
        )
    farthest = max((n * mm for n, mm in long), default=0.0)
    if farthest > LONGEST_IMAGE_MM:
        return (
            f"an image that is {farthest / 1000:.3g} m long is none of a patient: look whether its voxels of {told} mm "
            "are right",
        )
    return ()
