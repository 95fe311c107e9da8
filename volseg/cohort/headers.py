"""What the headers of a cohort's images tell: the row of a case, and how long the images of a training are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from volseg.cohort.patients import patient_of
from volseg.cohort.table import CaseRow
from volseg.errors import VolsegError, VolumeError
from volseg.volume import orientation, read_grid, spacing_mm

if TYPE_CHECKING:
    from volseg.cohort.folder import Cohort


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


def longest_image_mm(cohort: Cohort, *, fold: int | str) -> list[float] | None:
    """The largest length in mm of the training images along right-left, anterior-posterior and superior-inferior.

    Args:
        cohort: Cohort; the sizes are those of its table or of the headers.
        fold: Fold, see `volseg.cohort.Cohort.fold`.

    Returns:
        Three lengths; None where there is no such fold, which a training tells when it takes its cases.
    """
    try:
        keys = cohort.fold(fold).training
    except VolsegError:
        return None
    rows = [cohort.rows[key] for key in keys]
    lengths = [row.along_ras([n * mm for n, mm in zip(row.shape, row.spacing_mm, strict=True)]) for row in rows]
    return [round(max(along), 2) for along in zip(*lengths, strict=True)] or None
