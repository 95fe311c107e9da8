"""The memory of a prediction, estimated from headers before anything is read, and what `--memory` allows."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from volseg.errors import UsageError
from volseg.inference.arrays.window_sum import PIECE_BYTES
from volseg.inference.arrays.windows import slab_axis

GIB = 2**30
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
# What a process holds before its first case, PyTorch and a network of a few million weights among it.
OF_PROCESS = int(0.6 * GIB)
_BETWEEN = 1.05  # what lies unused between pieces of memory
_FEATURES = 96  # feature maps of a window's size that a network holds at once, about
_BLOCKS = 96 * 2**20  # blocks of rows while a slab is decided


def parse_bytes(text: str) -> int:
    """Read an amount of memory: `8GiB`, `8G`, `500MB`, or a number of bytes.

    Raises:
        UsageError: It is none, or less than 256 MiB.

    >>> parse_bytes("8GiB") == parse_bytes("8 g") == 8 * 2**30
    True
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", text.lower())
    amount = int(float(found[1]) * _UNITS[found[2]]) if found else 0
    if amount < 2**28:
        raise UsageError(f"--memory must be an amount of at least 256 MiB, such as 8GiB or 500MB, got {text}")
    return amount


@dataclass(frozen=True)
class Size:
    """The size of a case's prediction.

    Attributes:
        native: Shape of the file.
        seen: Shape of the network's grid.
        channels: Number of image channels.
        logits: Number of the network's channels.
        roi_size: Window size in voxels.
        whole: Whether something needs all probabilities at once on the file's grid.
        crop_first: Whether a coarse pass tells where to look.
    """

    native: Sequence[int]
    seen: Sequence[int]
    channels: int
    logits: int
    roi_size: Sequence[int]
    whole: bool = False
    crop_first: bool = False

    @property
    def reading(self) -> int:
        """Bytes while a file becomes the input of the network."""
        # The file's voxels, of 32 bits at most, one channel as float32, and the channels as seen.
        copied = self.channels > 1 or tuple(self.native) != tuple(self.seen)
        return math.prod(self.native) * (4 * self.channels + 4) + math.prod(self.seen) * 4 * self.channels * copied

    @property
    def of_window(self) -> int:
        """Bytes while the network computes a window: the input of its last layer, its logits, and a copy of both."""
        return math.prod(self.roi_size) * 4 * (_FEATURES + 2 * self.logits)

    def of_logits(self, itemsize: int, *, slabs: bool) -> int:
        """Bytes of the sum of logits and of its weights: of the whole grid, or of a slab as thick as a window."""
        full = [max(n, roi) for n, roi in zip(self.seen, self.roi_size, strict=True)]
        axis = slab_axis(full, self.roi_size) if slabs else 0
        row = math.prod(full) // full[axis]
        weights = row * self.roi_size[axis] * 4
        if not slabs:
            return math.prod(full) * self.logits * 4 + weights
        # In half precision some rows are widened before they are decided; the last one is kept for the next.
        of_row = row * self.logits * 4
        widened = max(of_row, min(PIECE_BYTES, of_row * self.roi_size[axis])) if itemsize == 2 else 0
        kept = 0 if tuple(self.native) == tuple(self.seen) else 3 * of_row
        return row * self.roi_size[axis] * self.logits * itemsize + weights + widened + kept

    def total(self, itemsize: int, *, slabs: bool) -> int:
        """Bytes of the process at its peak."""
        image = math.prod(self.seen) * 4 * self.channels
        label_map = math.prod(self.native)
        deciding = _BLOCKS + (math.prod(self.native) * 4 * (self.logits + 2) if self.whole else 0)
        computing = image + label_map + self.of_logits(itemsize, slabs=slabs) + max(deciding, self.of_window)
        if not self.crop_first:
            return OF_PROCESS + int(max(self.reading, computing) * _BETWEEN)
        # The coarse image is made of one of its size; its logits come by slabs.
        looking = 2 * image + self.of_logits(4, slabs=True) + max(_BLOCKS, self.of_window)
        # The largest weight and the sum of weights of each voxel, and four masks.
        choosing = math.prod(self.seen) * (8 + 4)
        return OF_PROCESS + int(max(self.reading, looking, computing + choosing) * _BETWEEN)


@dataclass(frozen=True)
class Way:
    """How the logits of a case are summed.

    Attributes:
        slabs: Whether only a slab of them is in memory.
        half: Whether the slab is in half precision.
    """

    slabs: bool = False
    half: bool = False


def way_of(size: Size, available: int | None, *, key: str) -> Way:
    """The fastest way that fits into the memory.

    Raises:
        UsageError: None does; the message says what the case would need, and what to do.
    """
    if available is None:
        return Way()
    ways = [Way()] if size.whole else [Way(), Way(slabs=True), Way(slabs=True, half=True)]
    needed = [size.total(2 if way.half else 4, slabs=way.slabs) for way in ways]
    for way, amount in zip(ways, needed, strict=True):
        if amount <= available:
            return way
    shape = " x ".join(map(str, size.native))
    seen = " x ".join(map(str, size.seen))
    cure = "leave out --save-probabilities, the clean-up and --decision dice, or " if size.whole else ""
    raise UsageError(
        f"{key} has {shape} voxels, {seen} on the network's grid, with {size.logits} channels of logits: it takes "
        f"{min(needed) / GIB:.1f} GiB, and {available / GIB:.1f} GiB are allowed or free; {cure}name more with "
        "--memory, use a machine with more memory, or predict --within a first network"
    )
