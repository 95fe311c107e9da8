"""Images that clients send for one prediction, and that stay only while the server runs."""

from __future__ import annotations

import shutil
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volseg.cohort import FILE_ENDING
from volseg.errors import UsageError, VolsegError
from volseg.formats import SEGMENTATION_SUFFIX
from volseg.volume import image_suffix


class NotFoundError(UsageError):
    """A case, label or session that is not there."""


@dataclass
class Session:
    """An image that a client sent for one prediction.

    Attributes:
        name: Word that the client knows it by.
        image: The file.
        made: Time at which it came, in seconds.
    """

    name: str
    image: Path
    made: float

    def to_json(self) -> dict[str, Any]:
        """In the words of MONAI Label."""
        return {"name": self.name, "image": self.image.name, "meta": {}, "create_ts": int(self.made), "expiry": 0}


class Sessions:
    """The sessions of a server, in a folder that goes with it."""

    def __init__(self) -> None:
        self._made = tempfile.TemporaryDirectory(prefix="volseg-serve-")
        self._sessions: dict[str, Session] = {}

    @property
    def folder(self) -> Path:
        """The folder, also for other files that are given out once."""
        return Path(self._made.name)

    def close(self) -> None:
        """Remove the folder."""
        self._made.cleanup()

    def add(self, file: Path) -> Session:
        """Keep an image for one client."""
        name = uuid.uuid4().hex
        kept = self.folder / f"{name}{suffix_of(file.name)}"
        shutil.move(file, kept)
        self._sessions[name] = Session(name, kept, time.time())
        return self._sessions[name]

    def get(self, name: str) -> Session:
        """An image that was sent before.

        Raises:
            NotFoundError: It is not there, or no longer.
        """
        if name not in self._sessions:
            raise NotFoundError("there is no such session; send the image again")
        return self._sessions[name]

    def remove(self, name: str) -> Session:
        """Forget an image."""
        found = self.get(name)
        found.image.unlink(missing_ok=True)
        del self._sessions[name]
        return found


def suffix_of(name: str) -> str:
    """The ending of a file that a client sent.

    Raises:
        VolsegError: It is none that is read.

    >>> suffix_of("case1.SEG.nrrd"), suffix_of("case1.nii.gz")
    ('.seg.nrrd', '.nii.gz')
    """
    if name.lower().endswith(SEGMENTATION_SUFFIX):
        return SEGMENTATION_SUFFIX
    found = image_suffix(f"x{Path(name).name}")
    if found is None:
        raise VolsegError(f"a file must end in {SEGMENTATION_SUFFIX}, {FILE_ENDING} or another image format")
    return found.lower()
