"""Whether two files are one image: the same values at the same place, however each of them is encoded."""

from __future__ import annotations

import filecmp
import hashlib
from pathlib import Path

import numpy as np

from volseg.dicom.file import number, numbers, read_header, text, whole
from volseg.dicom.frames import PLACE, frame_headers
from volseg.dicom.instance import ENHANCED
from volseg.dicom.pixels import Frames
from volseg.errors import SourceError


class Contents:
    """Digests of files by what they show; a file is decoded once, and only where its bytes are not those of the other.

    A lossless copy, whichever way it is compressed and whatever its UID, has the digest of its original.

    Args:
        frames: reader of the pixels.
    """

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._digests: dict[Path, str] = {}

    def same(self, one: Path, other: Path) -> bool:
        """Whether two files show the same.

        Raises:
            SourceError: one of them cannot be decoded.
        """
        try:
            if filecmp.cmp(one, other, shallow=False):
                return True
        except OSError as error:
            raise SourceError(f"cannot be opened ({error.strerror})") from error
        return self.digest(one) == self.digest(other)

    def digest(self, path: Path) -> str:
        """A word for the values of a file and their place."""
        if path not in self._digests:
            self._digests[path] = self._digest(path)
        return self._digests[path]

    def _digest(self, path: Path) -> str:
        header = read_header(path)
        frames = frame_headers(header) if text(header, "SOPClassUID") in ENHANCED else None
        digest = hashlib.sha256()
        for place, pixels in enumerate(self._frames.read(path)):
            frame = frames[place] if frames else header
            where = [numbers(frame, name, size) for name, size in PLACE.items()]
            slope, intercept = number(frame, "RescaleSlope") or 1.0, number(frame, "RescaleIntercept") or 0.0
            digest.update(repr([where, pixels.shape, whole(header, "SamplesPerPixel", default=1)]).encode())
            digest.update(np.ascontiguousarray(pixels * np.float64(slope) + intercept).tobytes())
        return digest.hexdigest()


def is_lossy(path: Path) -> bool:
    """Whether a file says that its values are no longer those of the scanner (LossyImageCompression)."""
    return text(read_header(path, tags=["LossyImageCompression"]), "LossyImageCompression") == "01"
