"""Reading a label map that must lie on the grid of an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from volseg.errors import GeometryError, VolsegError
from volseg.labels import LabelMap, LabelMatch, LabelTable
from volseg.volume import Volume, aligned, read_volume


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


def read_translated(path: Path, match: LabelMatch | None, *, target: str = "") -> Volume:
    """Read a prediction, in the values of the match's reference table; as it is if there is no match.

    Args:
        path: File of the label map.
        match: Match of its table with another one.
        target: Format that it is written in; if translating loses which voxels nobody looked at, it is refused.

    Raises:
        VolsegError: It is unreadable, or holds a value that its own table does not declare.
    """
    volume = read_volume(path)
    if match is None:
        return volume
    checked = match.prediction.check(volume.voxels)
    if match.same:
        return Volume(checked, volume.affine_ras)
    if target and match.reference.ignore is None:
        match.prediction.check_seen(checked, target=target)
    return Volume(match.translate(checked), volume.affine_ras)


def read_label_map(
    role: str, path: Path, image: Volume, labels: LabelTable, *, match: LabelMatch | None = None
) -> Volume:
    """Read a label map that must lie on the image's grid.

    Args:
        role: `reference` or `prediction`; an error says which of the two files it is about.
        path: Path of the file.
        image: Image, whose grid counts.
        labels: Declared values.
        match: Match of a prediction whose own values are others; they are brought to those of `labels`.

    Raises:
        VolsegError: The file is absent or unreadable, or it has another grid or an undeclared value.
    """
    try:
        volume = _on_grid(read_volume(path), image)
        if match is not None and not match.same:
            return Volume(match.translate(match.prediction.check(volume.voxels)), volume.affine_ras)
        return Volume(labels.check(volume.voxels), volume.affine_ras)
    except VolsegError as error:
        raise type(error)(f"the {role}: {error.message}") from error


def _on_grid(volume: Volume, image: Volume) -> Volume:
    try:
        return aligned(volume, image.grid)[0]
    except GeometryError as error:
        raise GeometryError(f"it is not on the image's grid: {error}; write it on that grid") from error
