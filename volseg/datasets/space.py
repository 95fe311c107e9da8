"""Whether the disk has room for what is about to come."""

from __future__ import annotations

import shutil
from pathlib import Path

from volseg.errors import RemoteError


def check_space(folder: Path, needed: int, *, what: str) -> None:
    """Refuse to begin what cannot end.

    Args:
        folder: Existing folder on the disk.
        needed: Number of bytes that are to come.
        what: Name of what needs them, for the message.

    Raises:
        RemoteError: Less is free.

    >>> check_space(Path("."), 2**60, what="train.tar")
    Traceback (most recent call last):
    volseg.errors.RemoteError: train.tar needs 1073741824.00 GiB and ... GiB are free in .; make room, or ...
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise RemoteError(
            f"{what} needs {needed / 2**30:.2f} GiB and {free / 2**30:.2f} GiB are free in {folder}; make room, or "
            "name a folder on a larger disk"
        )
