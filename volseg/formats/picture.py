"""What an image file holds: its raster, or the slices of a stack, as shown and as stored."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from volseg.errors import SourceError

# Programs write these where nobody measured anything: they are of screens.
_SCREEN_DPI = (72.0, 96.0)
INCH_MM = 25.4


@dataclass(frozen=True, eq=False)
class Picture:
    """What an image file holds.

    Attributes:
        pixels: (rows, columns), or (slices, rows, columns) of a stack, with a last axis of 3 for colours, as shown;
            uint8, int16, uint16, int32, uint32, float32 or float64.
        numbers: Stored numbers, as `pixels` without colours: index of a palette, 0 to 15 of 4 bits; None for colours.
        spacing_mm: Distance in mm between columns and between rows, as the file states it; None if it does not.
        lossy: Whether compression may have changed the pixels (JPEG and its like).
        clear: Pixels that are not opaque.
        notes: Notes for readers.
        colour: Whether the last axis of `pixels` is red, green, blue.
        stacked: Whether the first axis is slices.
        slice_mm: Distance in mm between slices; None if the file does not state it.
        spacing_note: Origin of the spacing; empty if there is none.
        orientation: Orientation tag that was obeyed, 1 to 8; None if the file has none.
        inverted: Whether the stored 0 is white (TIFF photometric 0), so that numbers and brightness run against each
            other.
        writer: Program that stored it so, if its files are known to mean the numbers; else empty.
    """

    pixels: NDArray[Any]
    numbers: NDArray[Any] | None
    spacing_mm: tuple[float, float] | None
    lossy: bool
    clear: int
    notes: tuple[str, ...]
    colour: bool = False
    stacked: bool = False
    slice_mm: float | None = None
    spacing_note: str = ""
    orientation: int | None = None
    inverted: bool = False
    writer: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, columns), or (slices, rows, columns)."""
        return self.pixels.shape[:-1] if self.colour else self.pixels.shape

    @property
    def size(self) -> str:
        """For messages: `512 wide and 300 high`, with the number of slices of a stack."""
        plane = f"{self.shape[-1]} wide and {self.shape[-2]} high"
        return f"{plane} with {self.shape[0]} slices" if self.stacked else plane

    def turned(self, tag: int) -> Picture:
        """The same, turned as an orientation tag says.

        Args:
            tag: 1 to 8, of EXIF and TIFF.
        """
        if tag == 1:
            return self
        pixels = turn(self.pixels, tag, colour=self.colour)
        numbers = None if self.numbers is None else turn(self.numbers, tag)
        spacing = self.spacing_mm if self.spacing_mm is None or tag < 5 else self.spacing_mm[::-1]
        return replace(self, pixels=pixels, numbers=numbers, spacing_mm=spacing)


def turn(raster: NDArray[Any], tag: int, *, colour: bool = False) -> NDArray[Any]:
    """A raster turned as an orientation tag of EXIF or TIFF says.

    Args:
        raster: (..., rows, columns), with a last axis of colours if `colour`.
        tag: Orientation tag, 1 to 8; from 5 on rows become columns.
        colour: Whether the last axis holds colours.

    >>> [turn(np.array([[1, 2, 3]]), tag).tolist() for tag in (2, 6, 8)]
    [[[3, 2, 1]], [[1], [2], [3]], [[3], [2], [1]]]
    """
    row, column = (raster.ndim - 3, raster.ndim - 2) if colour else (raster.ndim - 2, raster.ndim - 1)
    if tag >= 5:
        raster = raster.swapaxes(row, column)
    flipped = {2: (column,), 3: (row, column), 4: (row,), 6: (column,), 7: (row, column), 8: (row,)}.get(tag, ())
    return np.flip(raster, flipped)


def fit_orientation(mask: Picture, image: Picture, *, name: str, image_name: str) -> tuple[Picture, tuple[str, ...]]:
    """The mask on the raster of its image, where one of the two has an orientation tag and the other none.

    Both are read as shown. If one file alone has a tag that turns it, the mask may have been drawn before or after; the
    sizes decide, if they can.

    Args:
        mask: Mask as shown.
        image: Image as shown.
        name: Name of the mask in messages.
        image_name: Name of the image in messages.

    Returns:
        The mask, and notes.

    Raises:
        SourceError: Nothing tells which of the two rasters the mask was drawn on.
    """
    tags = [tag for tag in (image.orientation, mask.orientation) if tag is not None]
    if len(tags) != 1 or tags[0] == 1:
        return mask, ()
    swapped = tags[0] >= 5 and mask.shape[-1] != mask.shape[-2]
    if swapped and mask.shape == image.shape:
        return mask, ()
    stored_fits = (*mask.shape[:-2], mask.shape[-1], mask.shape[-2]) == image.shape
    if swapped and stored_fits and mask.orientation is None:
        said = f"masks turned as the orientation tag {tags[0]} of their images says: their size is that before turning"
        return mask.turned(tags[0]), (said,)
    if mask.shape != image.shape and not stored_fits:
        return mask, ()  # another size altogether, which is told as such
    turned, plain = (image_name, name) if mask.orientation is None else (name, image_name)
    raise SourceError(
        f"{turned} is turned by its orientation tag {tags[0]} and {plain} has none, and their sizes do not tell "
        "whether the mask was drawn before or after turning; save both upright and without the tag"
    )


def spacing_of_dpi(dpi: object) -> tuple[tuple[float, float] | None, str]:
    """Distance in mm between columns and rows of a stated resolution, and what to say; None if it is of a screen.

    Args:
        dpi: Dots per inch along rows and columns, or anything else.
    """
    try:
        x, y = (float(value) for value in dpi)  # type: ignore[attr-defined]
    except (TypeError, ValueError, ZeroDivisionError):
        return None, ""
    if not (math.isfinite(x) and math.isfinite(y) and 1 < x <= 1e7 and 1 < y <= 1e7):  # 1 stands for absent
        return None, ""
    if any(abs(x - screen) < 0.5 and abs(y - screen) < 0.5 for screen in _SCREEN_DPI):
        return None, ""
    return (INCH_MM / x, INCH_MM / y), f"spacing from the file's {x:.6g} dpi"


def luminance(pixels: NDArray[Any]) -> NDArray[Any]:
    """Red, green and blue in the last axis as one channel of ITU-R BT.601; equal channels stay as they are.

    0.299 red, 0.587 green, 0.114 blue, in whole numbers as Pillow has them.
    """
    if pixels.dtype == np.uint8 and pixels.ndim == 3:
        return np.asarray(Image.fromarray(pixels).convert("L"))
    if pixels.dtype.kind == "f":
        return np.asarray(pixels @ np.array([0.299, 0.587, 0.114]), dtype=pixels.dtype)
    weighed = pixels.astype(np.int64) @ np.array([19595, 38470, 7471])
    return np.asarray((weighed + 0x8000) >> 16, dtype=pixels.dtype)
