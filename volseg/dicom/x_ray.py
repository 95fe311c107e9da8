"""One X-ray image as a raster, for readers of images: the same values as a case of `volseg convert dicom` has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from volseg.dicom.file import read_header
from volseg.dicom.image import read_image, read_stack
from volseg.dicom.index import index_files, picture_note
from volseg.dicom.projection import NO_SPACING, told_of_projection
from volseg.errors import GeometryError, SourceError
from volseg.volume import spacing_mm


@dataclass(frozen=True, eq=False)
class XRay:
    """An X-ray image.

    Attributes:
        pixels: (rows, columns), bones bright.
        spacing_mm: Distance in mm between columns and between rows; None if the file does not state it.
        notes: What a reader should know.
    """

    pixels: NDArray[Any]
    spacing_mm: tuple[float, float] | None
    notes: tuple[str, ...]


def read_x_ray(path: Path, max_pixels: int) -> XRay:
    """Read a DICOM file of one X-ray image.

    Args:
        path: Path of the file.
        max_pixels: Largest number of pixels that is decoded.

    Raises:
        SourceError: It is damaged, or another object: a slice of CT, colours, several frames.
    """
    index = index_files([path], root=path.parent)
    if index.unreadable:
        raise SourceError(next(iter(index.unreadable.values())))
    found = [series for series in index.series if series.first.projection]
    if not found:
        aside = ", ".join(index.skipped) or "a volume"
        cure = "save it as PNG or TIFF" if picture_note(index.skipped) else "use volseg convert dicom"
        raise SourceError(f"it holds no X-ray image but {aside}; {cure}")
    (series,) = found
    pixels = series.first.rows * series.first.columns
    if pixels > max_pixels:
        raise SourceError(
            f"it claims {series.first.columns} x {series.first.rows} pixels, more than {max_pixels}; if it is no "
            f"damaged file, raise the limit with --max-pixels {pixels}"
        )
    try:
        volume = read_image(read_stack(series))
    except GeometryError as error:
        raise SourceError(error.message) from error
    header = read_header(path)
    x, y, _ = spacing_mm(volume.affine_ras)
    notes = told_of_projection(header)
    stated = NO_SPACING not in notes
    return XRay(volume.voxels[:, :, 0].T, (x, y) if stated else None, tuple(n for n in notes if n != NO_SPACING))
