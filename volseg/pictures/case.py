"""Image, reference and prediction of one case, read and checked to be on one grid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.cohort import Cohort, Predictions, read_label_map
from volseg.errors import SourceError, VolsegError
from volseg.labels import LabelMatch, LabelTable
from volseg.volume import RGB, Volume, read_volume

_SOFT_TISSUE_HU = (-160.0, 240.0)


@dataclass(frozen=True, eq=False)
class ReviewCase:
    """One case with its image, reference and prediction.

    Attributes:
        key: Key of the case.
        image: First channel of the image.
        channel: Name of that channel.
        reference: Label map of the reference, uint8, on the image's grid.
        prediction: Label map of the prediction, uint8, on the image's grid.
        labels: Label table of the values.
        colours: Voxels (3, X, Y, Z) of an image in colours; None for others.
    """

    key: str
    image: Volume
    channel: str
    reference: Volume
    prediction: Volume
    labels: LabelTable
    colours: NDArray[Any] | None = None

    @property
    def window(self) -> tuple[float, float] | None:
        """Values shown black and white: 400 HU around 40 HU for CT; None if the scale has no fixed meaning (MR)."""
        return window_of(self.channel)


def read_review_case(key: str, predictions: Path, cohort: Cohort, *, match: LabelMatch | None = None) -> ReviewCase:
    """Read a case of a cohort and its prediction `KEY.nii.gz`.

    Args:
        key: Key of the case.
        predictions: Folder of label maps.
        cohort: Cohort of the case.
        match: Match of the predictions' regions with the cohort's; None (the default) matches by name.

    Raises:
        VolsegError: A file is absent, unreadable, on another grid, or has an undeclared value; the message names the
            case.
    """
    try:
        reference_path = cohort.label_path(key)
        if reference_path is None:
            raise SourceError("the case has no reference label; give it one, or look at another case")
        paths = cohort.image_paths(key)
        image = read_volume(paths[0])
        colours = np.stack([read_volume(path).voxels for path in paths]) if cohort.channel_names == RGB else None
        reference = read_label_map("reference", reference_path, image, cohort.labels)
        folder = Predictions(Path(predictions))
        match = folder.match(cohort) if match is None else match
        prediction = read_label_map("prediction", folder.path(key), image, cohort.labels, match=match)
    except VolsegError as error:
        raise error.of_case(key) from error
    if (ignored := cohort.labels.ignored(reference.voxels)) is not None:  # as the scores do: nobody looked there
        reference, prediction = (
            Volume(np.where(ignored, np.uint8(0), one.voxels), one.affine_ras) for one in (reference, prediction)
        )
    return ReviewCase(key, image, cohort.channel_names[0], reference, prediction, cohort.labels, colours)


def window_of(channel: str) -> tuple[float, float] | None:
    """Values shown black and white for a channel of this name; None if the name does not determine the scale.

    >>> window_of("CT"), window_of("MR")
    ((-160.0, 240.0), None)
    """
    return _SOFT_TISSUE_HU if channel.upper() == "CT" else None
