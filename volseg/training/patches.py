"""The patch grid of published 2D protocols: every patch of a size, a stride apart. MONAI's GridPatchd does it."""

from __future__ import annotations

from collections.abc import Sequence

import monai.transforms as mt

from volseg.errors import UsageError

PATCH, STRIDE = 128, 20


def grid_patches(keys: Sequence[str] = ("image", "label"), *, size: int = PATCH, stride: int = STRIDE) -> mt.Compose:
    """Cut images of one slice into all patches of a regular grid, in the place of random windows.

    The first patch starts at the first voxel. What is left at the far border, less than a stride, is in no patch, and
    nothing is padded: an image of n voxels along an axis gives floor((n - size) / stride) + 1 patches there. An image
    smaller than a patch gives one patch of its own size; pad it first (`SpatialPadd`).

    Args:
        keys: of arrays (C, X, Y, 1), all of one size.
        size: voxels of a patch along X and Y.
        stride: voxels from one patch to the next.

    Returns:
        A transform that makes each item (patches, C, size, size, 1), X slowest.

    Raises:
        UsageError: a size or stride below 1, or a stride that jumps over voxels.

    >>> grid_patches(["image"]).transforms[0].patcher.patch_size
    (128, 128, 1)
    """
    if not 1 <= stride <= size:
        raise UsageError(f"patches of {size} voxels, {stride} apart, were asked for; the stride is 1 to {size}")
    overlap = 1 - stride / size
    # One value an axis of (C, X, Y, Z): MONAI takes overlaps as shares, and one of the channels would be no whole step.
    return mt.Compose(
        [mt.GridPatchd(list(keys), patch_size=(size, size, 1), overlap=(0.0, overlap, overlap, 0.0), pad_mode=None)]
    )


def patch_counts(shape: Sequence[int], *, size: int = PATCH, stride: int = STRIDE) -> tuple[int, ...]:
    """How many patches of the grid fit along each axis; 0 where the image is smaller than a patch.

    >>> patch_counts((512, 300)), patch_counts((128, 147)), patch_counts((148, 127))
    ((20, 9), (1, 1), (2, 0))
    """
    return tuple(max(0, (n - size) // stride + 1) for n in shape)
