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
# Along one axis: slices of 10 mm are 20 times as thick as the pixels of 0.5 mm of a network of cubes.
_FAR_ALONG_ONE = 20.0
# Along all axes: centimetres taken for millimetres are 10 times as small, and images are no more than twice as fine.
_FAR_ALONG_ALL = 8.0


def times_off(shape: Sequence[float], sizes_mm: Sequence[float], usual_mm: Sequence[float]) -> tuple[float, str] | None:
    """How many times finer or coarser than usual voxels are, if that is far: 20 times along an axis, 8 along all.

    Args:
        shape: Number of voxels along each axis; axes of one voxel are left out.
        sizes_mm: Their size along the same axes.
        usual_mm: Usual size along the same axes.

    >>> times_off((64, 64, 30), (0.07, 0.07, 0.3), (0.7, 0.7, 3.0))
    (10.0, 'finer')
    >>> times_off((64, 64, 30), (0.7, 0.7, 3.0), (1.5, 1.5, 1.5)) is None
    True
    """
    finer = [usual / mm for n, mm, usual in zip(shape, sizes_mm, usual_mm, strict=False) if n > 1]
    for word, factors in (("finer", finer), ("coarser", [1 / factor for factor in finer])):
        if factors and (max(factors) > _FAR_ALONG_ONE or min(factors) > _FAR_ALONG_ALL):
            return max(factors), word
    return None


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
