"""One volume per channel of a case, from files of any kind, and the grids and windows of cases from their headers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from volseg import volume
from volseg.errors import UsageError, VolsegError, VolumeError
from volseg.files import SERIES
from volseg.inference.file_names import NIFTI
from volseg.volume import (
    Affine,
    Volume,
    check_channels,
    read_case_channels,
    read_image_file,
    read_image_grid,
    spacing_mm,
)


def read_image(path: str | Path) -> Volume:
    """Read an image of one channel: a file of `volseg.volume.IMAGE_SUFFIXES`, or a DICOM series.

    Raises:
        VolumeError, GeometryError, SourceError: The file or the series cannot be read as one volume.
    """
    return _read_file(path, names=1)[0]


def read_images(images: Sequence[str | Path | Volume], *, names: Sequence[str] | int | None = None) -> list[Volume]:
    """Read one volume per channel, all on the grid of the first. Errors as in `read_image` and `read_case_channels`.

    Args:
        images: Files that `find_inputs` lists for a case, or volumes that have been read; one file may hold all
            channels.
        names: Names of the channels, or their number; None (the default) for as many as there are images.
    """
    names = len(images) if names is None else names
    check_there(images, names=names)
    if len(images) == 1 and not isinstance(images[0], Volume):
        return read_case_channels(_read_file(images[0], names=names), names=names)
    given = [image if isinstance(image, Volume) or not is_foreign(image) else read_image(image) for image in images]
    return read_case_channels(given, names=names)


def _read_file(path: str | Path, *, names: Sequence[str] | int) -> list[Volume]:
    """The channels that one file holds."""
    path = Path(path)
    if path.suffix == SERIES:
        from volseg.dicom import read_listed

        check_one_channel(names)
        return [read_listed(path)]
    volumes = read_image_file(path)
    check_channels(len(volumes), name=path.name, names=names)
    return volumes


def check_one_channel(names: Sequence[str] | int) -> None:
    """Refuse a DICOM series by itself for a network of several channels.

    Args:
        names: Names of the network's channels, or their number.

    Raises:
        UsageError: There are several.
    """
    channels = [f"CHANNEL_{n}" for n in range(names)] if isinstance(names, int) else list(names)
    if len(channels) > 1:
        choice = ",".join(f"{channel}=PATTERN" for channel in channels)
        raise UsageError(
            f"a DICOM series is one channel, and the network takes {len(channels)}; say which series of a study these "
            f'are with --channels "{choice}" of `volseg predict` or `volseg convert dicom`'
        )


def check_there(images: Sequence[str | Path | Volume], *, names: Sequence[str] | int | None = None) -> None:
    """Refuse a case of several files of which one is not there.

    Args:
        images: One file per channel.
        names: Names of the channels, or their number, for the message.

    Raises:
        VolumeError: A file is absent; the message names it.
    """
    files = [Path(image) for image in images if not isinstance(image, Volume)]
    absent = [file.name for file in files if not file.exists()] if len(files) > 1 else []
    if absent:
        told = f": the network takes {', '.join(names)}, one file each" if isinstance(names, Sequence) else ""
        raise VolumeError(f"{' and '.join(absent)} is not there{told}")


def constant_notes(channel_names: Sequence[str], numbers: Iterable[int]) -> list[str]:
    """The note of a prediction on channels in which nothing is to be seen; none if there is no such channel.

    Args:
        channel_names: Names of all channels.
        numbers: Numbers of those that have one value everywhere.
    """
    names = [channel_names[number] for number in numbers]
    return [f"{' and '.join(names)} has one value everywhere, so the network saw nothing in it"] if names else []


def is_foreign(image: str | Path | Volume) -> bool:
    """Whether the transforms, which take volumes and read NIfTI, cannot read a file by themselves."""
    return not isinstance(image, Volume) and not str(image).lower().endswith(NIFTI)


def read_grid(path: str | Path) -> tuple[tuple[int, ...], Affine]:
    """Read shape and affine (RAS mm) of an image from its headers alone; errors as in `read_image`."""
    if Path(path).suffix == SERIES:
        from volseg.dicom import listed_grid

        return listed_grid(Path(path))
    return read_image_grid(path) if is_foreign(path) else volume.read_grid(path)


def count_windows(
    cases: Iterable[tuple[str, Sequence[Path]]],
    *,
    grid_mm: Sequence[float],
    roi_size: Sequence[int],
    overlap: float,
    enough: int = 5000,
) -> int:
    """Count the windows that a sliding window visits in the cases, from the headers of their files.

    Args:
        cases: Pairs of a key and one file per channel; a case that cannot be read counts nothing.
        grid_mm: Spacing in mm that volumes are resampled to, along X, Y, Z of the reoriented axes.
        roi_size: Window size in voxels of that grid.
        overlap: Fraction of a window that its neighbour covers.
        enough: Number at which counting stops.
    """
    count = 0
    for _, files in cases:
        try:
            shape, affine = read_grid(files[0])
        except VolsegError:
            continue
        world = np.abs(affine[:3, :3]).argmax(axis=0)  # voxel axis -> the axis of the body it runs along
        sizes = [1.0] * 3
        for n, mm, axis in zip(shape, spacing_mm(affine), world, strict=False):
            sizes[axis] = n * mm / grid_mm[axis]
        steps = [max(1, int(roi * (1 - overlap))) for roi in roi_size]
        count += math.prod(
            math.ceil(max(0, round(size) - roi) / step) + 1
            for size, roi, step in zip(sizes, roi_size, steps, strict=True)
        )
        if count >= enough:
            break
    return count
