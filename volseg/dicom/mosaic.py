"""Siemens mosaics: one image holds the slices of a volume as tiles, side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from volseg.dicom.file import DAMAGE, Quiet, number, plain
from volseg.dicom.stack import Plane
from volseg.errors import SourceError

SIEMENS = 0x00190010  # who has made the private elements of the block
IMAGES_IN_MOSAIC = 0x0019100A
_SIEMENS_MR = "SIEMENS MR HEADER"
_CURE = "convert the original series with dcm2niix, and the NIfTI files with volseg"
# The normal of the private header and that of the directions are one line, but for rounding.
_ALONG = 0.999


@dataclass(frozen=True)
class Tile:
    """One slice of a mosaic: where it lies, and its first row and column within the image."""

    plane: Plane
    row: int
    column: int


def images_in_mosaic(header: Dataset) -> int:
    """How many slices Siemens' own element says that an image holds; 0 where it is absent."""
    if IMAGES_IN_MOSAIC not in header or plain(header, SIEMENS) != _SIEMENS_MR:
        return 0
    try:
        with Quiet():
            value: object = header[IMAGES_IN_MOSAIC].value
            if isinstance(value, bytes):  # an archive that did not know the element
                return int.from_bytes(value[:2], "little")
            return int(str(value))
    except DAMAGE:
        return 0


def tiles(header: Dataset, whole: Plane) -> list[Tile]:
    """The slices of a mosaic, in the order of its tiles.

    The tiles stand row by row in a square. ImagePositionPatient is that of an image as large as the mosaic, around the
    same centre, so the first tile begins half the difference further along the rows and columns. Slices follow each
    other along the normal of Siemens' private header, which may run against that of rows and columns.

    Args:
        header: Header of the mosaic, with private elements.
        whole: the plane as the header has it.

    Raises:
        SourceError: private elements are absent or contradict each other; the message names the cure.
    """
    count, normal = _siemens(header)
    side = math.ceil(math.sqrt(count))
    if whole.rows % side or whole.columns % side:
        raise SourceError(
            f"it is a Siemens mosaic of {count} slices, and its {whole.rows} x {whole.columns} pixels are no "
            f"{side} x {side} tiles; {_CURE}"
        )
    rows, columns = whole.rows // side, whole.columns // side
    step = number(header, "SpacingBetweenSlices")
    if not step or step < 0:
        raise SourceError(f"it is a Siemens mosaic without SpacingBetweenSlices; {_CURE}")
    along_row, down_column = np.array(whole.directions_lps[:3]), np.array(whole.directions_lps[3:])
    sense = float(whole.normal @ normal)
    if abs(sense) < _ALONG:
        raise SourceError(f"it is a Siemens mosaic whose slice normal is not at right angles to its rows; {_CURE}")
    start = np.array(whole.position_lps)
    start = start + (whole.columns - columns) / 2 * whole.spacing_mm[1] * along_row
    start = start + (whole.rows - rows) / 2 * whole.spacing_mm[0] * down_column
    found = []
    for place in range(count):
        position = start + place * step * math.copysign(1, sense) * whole.normal
        plane = replace(whole, position_lps=tuple(position.tolist()), rows=rows, columns=columns)
        found.append(Tile(plane, place // side * rows, place % side * columns))
    return found


def _siemens(header: Dataset) -> tuple[int, NDArray[np.float64]]:
    """Number of slices, and the direction in which they follow each other."""
    with Quiet():  # nibabel warns at its import
        from nibabel.nicom import csareader

        try:
            csa = csareader.get_csa_header(header)
            count = csareader.get_n_mosaic(csa) if csa else None
            normal = csareader.get_slice_normal(csa) if csa else None
        except (*DAMAGE, csareader.CSAError) as error:
            raise SourceError(f"it is a Siemens mosaic whose private header (CSA) is damaged; {_CURE}") from error
    stated = images_in_mosaic(header)
    if not count and not stated:
        raise SourceError(
            f"it is a Siemens mosaic, and how many slices it holds stood in private elements that are gone; {_CURE}"
        )
    if normal is None or len(normal) != 3 or not np.isfinite(normal).all():
        raise SourceError(
            f"it is a Siemens mosaic, and in which direction its slices follow stood in a private header (CSA) that is "
            f"gone; {_CURE}"
        )
    if count and stated and count != stated:
        raise SourceError(f"it is a Siemens mosaic that states {count} slices and {stated}; it is damaged, {_CURE}")
    direction = np.array(normal, dtype=np.float64)
    length = float(np.linalg.norm(direction))
    if length == 0:
        raise SourceError(f"it is a Siemens mosaic whose slice normal is 0; {_CURE}")
    return int(count or stated), direction / length
