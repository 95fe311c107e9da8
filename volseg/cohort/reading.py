"""Reading a label map that must lie on the grid of an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from volseg.errors import GeometryError, VolsegError
from volseg.labels import LabelMap, LabelMatch, LabelTable
from volseg.volume import Volume, read_volume


def read_volume_as(role: str, path: Path) -> Volume:
    """Read a volume; an error says which of the two files it is about, since both bear the case's name."""
    try:
        return read_volume(path)
    except VolsegError as error:
        raise type(error)(f"the {role}: {error.message}") from error


def check_values_as(role: str, voxels: NDArray[Any], labels: LabelTable) -> LabelMap:
    """The voxels as a label map of the table's values; an error says which of the two files it is about."""
    try:
        return labels.check(voxels)
    except VolsegError as error:
        raise type(error)(f"the {role}: {error.message}") from error


def read_label_map(
    role: str, path: Path, image: Volume, labels: LabelTable, *, match: LabelMatch | None = None
) -> Volume:
    """Read a label map that must lie on the image's grid.

    Args:
        role: `reference` or `prediction`; an error says which of the two files it is about.
        path: of the file.
        image: whose grid counts.
        labels: the declared values.
        match: of a prediction whose own values are others; they are brought to those of `labels`.

    Raises:
        VolsegError: absent or unreadable, another grid, or an undeclared value.
    """
    try:
        volume = read_volume(path)
        difference = image.grid.difference(volume.grid)
        if difference:
            raise GeometryError(f"it is not on the image's grid: {difference}; write it on that grid")
        if match is not None and not match.same:
            return Volume(match.translate(match.prediction.check(volume.voxels)), volume.affine_ras)
        return Volume(labels.check(volume.voxels), volume.affine_ras)
    except VolsegError as error:
        raise type(error)(f"the {role}: {error.message}") from error
