"""Which windows decide about some voxels, and the sum of some of an image's windows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from volseg.inference.arrays.window_sum import gaussian
from volseg.inference.arrays.windows import Box, Windows
from volseg.labels import LabelTable

Mask = NDArray[np.bool_]

COUNTS = 0.1
"""Share of the largest weight at a voxel from which the weight of another window counts there."""


class NeededWindows:
    """The windows of an image in two lists: those that were taken, since they decide about voxels, and those left.

    A window decides about a voxel where its weight is at least a share of the largest weight that a window has there:

        |------ A ------|            of two windows along one axis
                |------ B ------|
        AAAAAAAAAAABBBBBBBBBBBBBB    those that decide: A alone, both about the middle between them, B alone
                 AAA

    Masks (X, Y, Z) have the shape of the image with its padding, `windows.full`.

    Args:
        windows: Windows of the whole image.
        counts: That share. With 0 each window decides about all that it holds, and a known voxel has the mean of all of
            its windows.
    """

    def __init__(self, windows: Windows, *, counts: float = COUNTS) -> None:
        self._counts = np.float32(counts)
        self._weights = gaussian(windows.roi_size)
        self._largest = np.zeros(windows.full, np.float32)
        for box in windows.boxes:
            np.maximum(self._largest[box], self._weights, out=self._largest[box])
        self.taken: list[Box] = []
        self.left = list(windows.boxes)

    def take(self, voxels: Mask) -> list[Box]:
        """Take the windows that decide about these voxels; only those that were left before are returned."""
        new: list[Box] = []
        left: list[Box] = []
        for box in self.left:
            (new if self._about(box, voxels[box]).any() else left).append(box)
        self.taken, self.left = [*self.taken, *new], left
        return new

    def take_all(self) -> list[Box]:
        """Take all that is left."""
        new, self.left = self.left, []
        self.taken = [*self.taken, *new]
        return new

    def open(self, voxels: Mask) -> Mask:
        """Those of the voxels about which a window decides that is left."""
        found = np.zeros_like(voxels)
        for box in self.left:
            found[box] |= self._about(box, voxels[box])
        return found

    def known(self) -> Mask:
        """The voxels about which a window that was taken decides, and none that is left."""
        covered = np.zeros(self._largest.shape, bool)
        for box in self.taken:
            covered[box] = True
        return np.asarray(covered & ~self.open(covered))

    def _about(self, box: Box, voxels: Mask) -> Mask:
        """The voxels of a window about which it decides."""
        if not voxels.any():
            return voxels
        return np.asarray(voxels & (self._weights >= self._counts * self._largest[box]))


class OpenSum:
    """The weighted sum of windows of an image, to which more can be added; memory is taken where windows were.

    Args:
        full: Shape (X, Y, Z) of the image with its padding.
        roi_size: Window size in voxels.
        channels: Number of logits per voxel.
    """

    def __init__(self, full: Sequence[int], roi_size: tuple[int, ...], *, channels: int) -> None:
        self._window = gaussian(roi_size)
        self._total = np.zeros((channels, *full), np.float32)
        self._weights = np.zeros(tuple(full), np.float32)

    def add(self, start: Sequence[int], logits: NDArray[np.float32]) -> None:
        """Add the logits (channels, *roi) of a window."""
        box = tuple(slice(n, n + size) for n, size in zip(start, self._window.shape, strict=True))
        for into, channel in zip(self._total, logits, strict=True):
            into[box] += channel * self._window
        self._weights[box] += self._window

    def regions(self, box: Box, labels: LabelTable) -> Mask:
        """The voxels of the whole grid that are in a region by the windows of now, all of which lie in a box."""
        found = np.zeros(self._weights.shape, bool)
        found[box] = in_regions(self._total[(slice(None), *box)], labels)
        return found

    def held(self, voxels: Mask, labels: LabelTable) -> NDArray[np.bool_]:
        """Whether each region is there in some of these voxels."""
        return held_in(self._total[:, voxels], labels)

    def finish(self, box: Box, *, background: Sequence[float]) -> NDArray[np.float32]:
        """Divide a box by its weights, and give its mean logits (channels, x, y, z); nothing can be added then.

        Where no window was added they are those of the background.
        """
        weights = self._weights[box]
        unseen = weights == 0
        weights[unseen] = 1
        found = self._total[(slice(None), *box)]
        for mean, value in zip(found, background, strict=True):
            mean /= weights
            mean[unseen] = value
        return found


def around(boxes: Sequence[Box]) -> Box:
    """The smallest box that holds boxes."""
    return tuple(
        slice(min(box[axis].start for box in boxes), max(box[axis].stop for box in boxes)) for axis in range(3)
    )


def in_regions(logits: NDArray[np.float32], labels: LabelTable) -> Mask:
    """Where some region is, by logits (channels, X, Y, Z) or a positive multiple of them in each voxel."""
    first = 0 if labels.overlap else 1  # a softmax has the background before the regions
    highest = logits[first].copy()
    for channel in logits[first + 1 :]:
        np.maximum(highest, channel, out=highest)
    return np.asarray(highest > (0 if labels.overlap else logits[0]))


def held_in(logits: NDArray[np.float32], labels: LabelTable) -> NDArray[np.bool_]:
    """Whether each region is there, by logits (channels, n) of voxels or positive multiples of them.

    >>> held_in(np.array([[0, 0], [3, 1], [1, 2]], np.float32), LabelTable.exclusive(["a", "b"])).tolist()
    [True, True]
    """
    if labels.overlap:
        return np.asarray((logits > 0).any(axis=1))
    return np.bincount(logits.argmax(axis=0), minlength=len(logits))[1:] > 0


def widened(mask: Mask, voxels: Sequence[int] = (1, 1, 1)) -> Mask:
    """The mask and what lies within a number of voxels of it along each axis: a block around each voxel.

    >>> widened(np.arange(7).reshape(7, 1, 1) == 3, (2, 0, 0)).ravel().astype(int).tolist()
    [0, 1, 1, 1, 1, 1, 0]
    """
    for axis, reach in enumerate(voxels):
        turned = np.moveaxis(mask, axis, 0)
        larger = turned.copy()
        for far in range(1, min(reach, len(turned) - 1) + 1):
            larger[far:] |= turned[:-far]
            larger[:-far] |= turned[far:]
        mask = np.moveaxis(larger, 0, axis)
    return mask
