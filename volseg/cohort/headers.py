"""What the headers of a cohort's images tell: the row of a case, and how long images are."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from volseg.cohort.patients import patient_of
from volseg.cohort.table import CaseRow
from volseg.errors import VolumeError
from volseg.volume import orientation, read_grid, spacing_mm


def row_of_headers(key: str, path: Path) -> CaseRow:
    """The row of a case that no table lists, from its first channel.

    Raises:
        VolumeError: The file cannot be read, or has fewer than three axes.
    """
    try:
        shape, affine = read_grid(path)
    except VolumeError as error:
        raise error.of_case(key) from error
    if len(shape) < 3:
        raise VolumeError(f"{path.name} has shape {shape}, expected three axes X, Y, Z", case=key)
    patient, session = patient_of(key)
    return CaseRow(key, patient, session, shape[:3], spacing_mm(affine), orientation(affine), path.name, ())


def longest_image_mm(rows: Iterable[CaseRow]) -> list[float] | None:
    """The largest length in mm of some images along right-left, anterior-posterior and superior-inferior.

    Args:
        rows: Rows of the images.

    Returns:
        Three lengths; None if there is no row.
    """
    lengths = [row.along_ras([n * mm for n, mm in zip(row.shape, row.spacing_mm, strict=True)]) for row in rows]
    return [round(max(along), 2) for along in zip(*lengths, strict=True)] or None
