"""Pictures of slices: grey image, filled regions, contours of one pixel, differences; arrays in, pixels out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from volseg.errors import LabelError, UsageError
from volseg.labels import LabelTable

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Colour = tuple[int, int, int]

_LARGEST = 1600  # pixels of a panel's longer side, unless a scale is asked for; WebP holds 16,383 in a row of panels
FILL = 0.45  # opacity of the colour in a filled region
# They differ in lightness, for colour-blind readers too, and are used in a panel of their own.
MISSED: Colour = (230, 40, 40)
INVENTED: Colour = (255, 220, 60)
CONFUSED: Colour = (255, 255, 255)


def grey_levels(image: NDArray[Any], *, window: tuple[float, float] | None = None) -> Pixels:
    """Convert an image to 256 levels of grey.

    Args:
        image: Image of any shape and scale; NaN and infinity become black.
        window: Values shown black and white; None (the default) for the 1st and 99th percentile.

    >>> grey_levels(np.array([0.0, 5.0, 10.0]), window=(0, 10)).tolist()
    [0, 128, 255]
    """
    finite = np.isfinite(image)
    low, high = window if window is not None else _percentiles(image[finite])
    values: NDArray[Any] = np.where(finite, image, low)
    # Whatever the unit: diffusion in m2/s has values of 1e-9.
    scaled = (values - low) / float(high - low) if high > low else (values > low).astype(np.float64)
    return np.asarray((np.clip(scaled, 0, 1) * 255).round(), dtype=np.uint8)


def colour_levels(image: NDArray[Any]) -> Pixels:
    """Convert an image to 256 levels per colour: integers of 8 and 16 bits are only scaled, others as in `grey_levels`.

    Args:
        image: Image of any shape, all colours together.

    >>> colour_levels(np.array([0, 65535], np.uint16)).tolist()
    [0, 255]
    """
    if image.dtype == np.uint8:
        return image
    return (image >> 8).astype(np.uint8) if image.dtype == np.uint16 else grey_levels(image)


def panel(
    image: Pixels,
    masks: NDArray[np.bool_] | None = None,
    colours: Sequence[Colour] = (),
    *,
    fill: float = FILL,
    line: bool = False,
    lines: NDArray[np.bool_] | None = None,
    pixel_mm: tuple[float, float] = (1.0, 1.0),
    scale: float = 1,
    thickness: int = 1,
) -> Pixels:
    """Draw one slice with its regions filled, outlined, or both.

    Contours are `thickness` pixels wide after enlarging, inside the edges of the voxels: nothing is smoothed.

    Args:
        image: Slice (rows, columns) as shown on the screen (see `View.apply`), or (rows, columns, 3) in colour.
        masks: Masks (R, rows, columns) to fill; None for none.
        colours: One colour per mask.
        fill: Opacity of the filled regions; 0 for none.
        line: Whether the masks are outlined too.
        lines: Further masks (R, rows, columns), outlined in the same colours (a prediction over a filled reference).
        pixel_mm: Height and width of a stored pixel in mm; the picture has square pixels.
        scale: Number of pixels for the shorter side of a stored pixel; below 1 a region keeps every pixel that holds
            some of it.
        thickness: Width of contours, in pixels of the picture.

    Returns:
        Picture (height, width, 3).

    Raises:
        LabelError: Masks and colours do not match.
        UsageError: The scale is not above 0.

    >>> square = np.zeros((1, 4, 4), bool)
    >>> square[0, 1:3, 1:3] = True
    >>> panel(np.zeros((4, 4), np.uint8), square, [(200, 100, 0)], fill=0.5)[1, 1].tolist()
    [100, 50, 0]
    """
    size = panel_size((image.shape[0], image.shape[1]), pixel_mm=pixel_mm, scale=scale)
    smooth = _smooth(image, size)
    picture = (np.repeat(smooth[..., None], 3, axis=2) if smooth.ndim == 2 else smooth).astype(np.float64)
    outlined = []
    for group, filled, drawn in ((masks, fill, line), (lines, 0.0, True)):
        if group is None:
            continue
        if len(group) != len(colours) or group.shape[1:] != image.shape[:2]:
            raise LabelError(
                f"the masks must be one per colour of the image's shape {image.shape[:2]}, got {group.shape} for "
                f"{len(colours)} colours; draw them on its grid"
            )
        for mask, colour in zip(group, colours, strict=True):
            large = _nearest(mask, size)
            if filled:
                picture[large] = (1 - filled) * picture[large] + filled * np.array(colour)
            if drawn:
                outlined.append((outline(large, thickness=thickness), colour))
    for border, colour in outlined:
        picture[border] = colour
    return picture.round().astype(np.uint8)


def triptych(
    image: Pixels,
    reference: NDArray[np.bool_],
    prediction: NDArray[np.bool_],
    labels: LabelTable,
    *,
    fill: float = FILL,
    line: bool = False,
    pixel_mm: tuple[float, float] = (1.0, 1.0),
    scale: float = 1,
) -> Pixels:
    """Draw image, reference and prediction side by side.

    Args:
        image: Slice (rows, columns) as shown on the screen, or (rows, columns, 3).
        reference: Masks (R, rows, columns) of the reference.
        prediction: Masks (R, rows, columns) of the prediction.
        labels: Label table of the R regions, with their colours.
        fill: Opacity of the filled regions.
        line: Whether regions are outlined.
        pixel_mm: Height and width of a stored pixel in mm.
        scale: Number of pixels for the shorter side of a stored pixel.

    Returns:
        Picture (height, 3 x width, 3).
    """
    colours = [region.colour for region in labels.regions]
    return np.concatenate(
        [
            panel(image, masks, colours, fill=fill, line=line, pixel_mm=pixel_mm, scale=scale)
            for masks in (None, reference, prediction)
        ],
        axis=1,
    )


def difference_masks(reference: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Masks of the disagreement: only missed, only invented, and both at once (one region taken for another).

    Args:
        reference: Masks (R, ...) of the reference.
        prediction: Masks (R, ...) of the prediction.

    Returns:
        Masks (3, ...) without overlap; their colours are `DIFFERENCE_COLOURS`.

    >>> reference, prediction = np.array([[1, 1, 0], [0, 0, 0]], bool), np.array([[0, 0, 1], [1, 0, 0]], bool)
    >>> difference_masks(reference, prediction).astype(int).tolist()
    [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    """
    missed = (reference & ~prediction).any(axis=0)
    invented = (prediction & ~reference).any(axis=0)
    return np.stack([missed & ~invented, invented & ~missed, missed & invented])


DIFFERENCE_COLOURS: tuple[Colour, Colour, Colour] = (MISSED, INVENTED, CONFUSED)
DIFFERENCE_NAMES = ("missed", "invented", "another region")


def panel_size(shape: tuple[int, int], *, pixel_mm: tuple[float, float], scale: float) -> tuple[int, int]:
    """Height and width of the panel of a slice; a scale between 0 and 1 makes it smaller than it is stored.

    >>> panel_size((10, 20), pixel_mm=(3.0, 1.5), scale=2)
    (40, 40)
    """
    if scale <= 0:
        raise UsageError(f"the scale must be above 0, got {scale}; give a number of pixels per voxel")
    fine = min(pixel_mm)
    return (
        max(1, round(shape[0] * pixel_mm[0] / fine * scale)),
        max(1, round(shape[1] * pixel_mm[1] / fine * scale)),
    )


def convenient_scale(shape: tuple[int, int], *, pixel_mm: tuple[float, float], wide: int) -> float:
    """The whole number of pixels per stored pixel that makes a panel about as wide as asked for, at least 1.

    A slice of more than 1600 pixels, such as a scan under a microscope, is made as small as that.

    Args:
        shape: Rows and columns of the slice.
        pixel_mm: Height and width of a stored pixel in mm.
        wide: Approximate number of pixels of the panel's longer side.

    >>> convenient_scale((100, 80), pixel_mm=(1, 1), wide=380), convenient_scale((800, 6400), pixel_mm=(1, 1), wide=380)
    (4, 0.25)
    """
    longer = max(panel_size(shape, pixel_mm=pixel_mm, scale=1))
    return max(1, round(wide / longer)) if longer <= _LARGEST else _LARGEST / longer


def outline(mask: Mask, *, thickness: int = 1) -> Mask:
    """The pixels of a mask with one of their four neighbours outside: its inner contour, one pixel wide.

    >>> outline(np.ones((3, 3), bool)).astype(int).tolist()
    [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
    >>> int(outline(np.ones((5, 5), bool), thickness=2).sum())
    24
    """
    if thickness > 1:
        border = outline(mask)
        return border | outline(mask & ~border, thickness=thickness - 1)
    around = np.pad(mask, 1)
    inside = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    return mask & ~inside


def _percentiles(values: NDArray[Any]) -> tuple[float, float]:
    if not values.size:
        return 0.0, 1.0
    low, high = np.percentile(values, (1, 99)).tolist()
    return low, high


def _smooth(image: Pixels, size: tuple[int, int]) -> Pixels:
    if image.shape[:2] == size:
        return image
    height, width = size
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC), dtype=np.uint8)


def _nearest(mask: Mask, size: tuple[int, int]) -> Mask:
    """A mask at another size; where it shrinks, a pixel is in it that holds any voxel of it, so that none is lost."""
    for axis in (0, 1):
        if size[axis] < mask.shape[axis]:
            starts = np.arange(size[axis]) * mask.shape[axis] // size[axis]
            mask = np.logical_or.reduceat(mask, starts, axis=axis)
    if mask.shape == size:
        return mask
    rows, columns = ((2 * np.arange(n) + 1) * m // (2 * n) for n, m in zip(size, mask.shape, strict=True))
    return mask[np.ix_(rows, columns)]
