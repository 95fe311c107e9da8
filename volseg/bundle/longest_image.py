"""How long the images of a training are, since a network knows nothing of what lies beyond."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from volseg.cohort import Cohort

LONGEST_IMAGE = "longest_image_mm"
"""Entry of a recipe's facts."""


def longest_image_mm(cohort: Cohort, *, fold: int | str) -> list[float]:
    """The largest length in mm of the training images along right-left, anterior-posterior and superior-inferior.

    Args:
        cohort: Cohort; the sizes are those of its table or of the headers.
        fold: Fold, see `volseg.cohort.Cohort.fold`.

    Raises:
        CohortError: There is no such fold.
    """
    rows = [cohort.rows[key] for key in cohort.fold(fold).training]
    lengths = [row.along_ras([n * mm for n, mm in zip(row.shape, row.spacing_mm, strict=True)]) for row in rows]
    return [round(max(along), 2) for along in zip(*lengths, strict=True)]
