"""What a client sends as an image: one file, the files of a DICOM series, or a zip of them."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

from volseg.cohort import FILE_ENDING
from volseg.deploy.demo.uploaded_zip import unpack
from volseg.dicom import is_dicom, list_series, listed_grid, read_listed
from volseg.errors import SourceError, UsageError, VolsegError
from volseg.volume import image_suffix, write_volume

# Largest size of a zip, unpacked: three times a whole-body CT of 2,000 slices.
_MAX_BYTES = 3 * 2**30
_ZIP = b"PK"
_WANTED = "send an image file, all files of one DICOM series, or a zip of them"


def received_image(files: Sequence[Path]) -> Path:
    """The one image file in what a client sent; a DICOM series is read as `volseg convert dicom` reads it.

    Args:
        files: What was sent, in one folder, which may be changed and holds nothing else. What a file is, its content
            says; only image files other than DICOM need the ending of their name.

    Returns:
        The file itself, or the series as a NIfTI file in that folder.

    Raises:
        VolsegError: It is none of these, several series, or a series that is no volume, such as one slice.
    """
    if not files:
        raise SourceError(f"no file was sent; {_WANTED}")
    folder = files[0].parent
    if len(files) == 1 and _starts(files[0], _ZIP):
        files = unpack(files[0], folder / "unpacked", max_bytes=_MAX_BYTES, name=files[0].name)
        folder = folder / "unpacked"
    others = [path for path in files if not is_dicom(path)]
    if len(files) == 1 and others:
        if image_suffix(f"x{files[0].name}") is None:
            raise SourceError(f"what was sent is neither an image file that is read nor DICOM; {_WANTED}")
        return files[0]
    images = [path for path in others if image_suffix(path.name) is not None]
    if images or len(others) == len(files):
        raise SourceError(f"{len(files)} files were sent, {len(files) - len(others)} of them DICOM; {_WANTED}")
    return _of_series(folder)  # beside a series may lie notes, or the picture of a person


def _of_series(folder: Path) -> Path:
    lists: list[Path] = []
    try:
        lists = list_series(folder)
        for path in lists if len(lists) > 1 else ():
            listed_grid(path)  # a damaged file stands in a list of its own, which says what is wrong
        if len(lists) > 1:
            raise SourceError(f"{len(lists)} DICOM series were sent, and a case is one; send one of them")
        volume = read_listed(lists[0])
    except VolsegError as error:  # the folder of what was received means nothing to a client
        told = error.message.replace(f"{folder}/", "").replace(str(folder), "what was sent")
        raise type(error)(f"{told}; {_WANTED}" if isinstance(error, UsageError) else told) from error
    finally:
        for path in lists[:1]:
            shutil.rmtree(path.parent, ignore_errors=True)
    path = folder / f"{uuid.uuid4().hex}{FILE_ENDING}"
    write_volume(path, volume)
    return path


def _starts(path: Path, word: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(word)) == word
