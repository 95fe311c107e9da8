"""The image of one case as one volume per channel: one file for each of them, or one file with a fourth axis."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from volseg.errors import VolumeError
from volseg.volume.nifti import read_aligned, read_channels
from volseg.volume.volume import Volume


def read_case_channels(images: Sequence[str | Path | Volume], *, names: Sequence[str] | int) -> list[Volume]:
    """Read the channels of one case, all on the grid of the first.

    Args:
        images: One NIfTI file or volume per channel; or a single file, whose fourth axis has the channels.
        names: Names of the expected channels, or their number.

    Raises:
        VolumeError: There is another number of channels or several grids, or the error is one of
            `volseg.volume.read_volume`.
        GeometryError: The error is one of `volseg.volume.read_volume`.
    """
    count = names if isinstance(names, int) else len(names)
    if len(images) == 1 and not isinstance(images[0], Volume):
        volumes = read_channels(images[0])
        check_channels(len(volumes), name=Path(images[0]).name, names=names)
        return volumes
    if len(images) != count:
        told = ", ".join("a volume" if isinstance(image, Volume) else Path(image).name for image in images)
        raise VolumeError(
            f"{len(images)} image files were given ({told}), the network takes {_told(names)}; name one file per "
            "channel, KEY_0000 and so on, and cases without such a number"
        )
    return read_aligned(images)


def check_channels(got: int, *, name: str, names: Sequence[str] | int) -> None:
    """Refuse a file that holds another number of channels.

    Args:
        got: Number of volumes along the fourth axis of the file; 1 if it has none.
        name: Name of the file.
        names: Names of the expected channels, or their number.

    Raises:
        VolumeError: There is another number.
    """
    count = names if isinstance(names, int) else len(names)
    if got == count:
        return
    if got == 1:
        raise VolumeError(
            f"{name} holds one channel, the network takes {_told(names)}; name one file per channel, KEY_0000 and so on"
        )
    raise VolumeError(
        f"{name} holds {got} channels or points in time along its fourth axis, the network takes {_told(names)}; write "
        "the volume that is meant to a file of its own"
    )


def _told(names: Sequence[str] | int) -> str:
    count = names if isinstance(names, int) else len(names)
    told = "" if isinstance(names, int) else f" ({', '.join(names)})"
    return f"{count} channel{'' if count == 1 else 's'}{told}"
