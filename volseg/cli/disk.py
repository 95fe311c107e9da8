"""What the disk refuses, told in one line with the place and the cure."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Sequence
from pathlib import Path

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_HELD = {5, 32, 33}  # what Windows gives for a file that is open elsewhere: access denied, sharing and lock violations
_LITTLE = 2**20  # bytes: a disk with fewer of them left is full


def told_of_disk(error: OSError, words: Sequence[str]) -> tuple[str, int]:
    """The line for an error of the operating system, and the exit code.

    Args:
        error: Error, which may name its file.
        words: Words of the command line, among which the place is looked for if the error names none.

    >>> told_of_disk(OSError(errno.EROFS, "Read-only file system", "/media/cdrom/out"), [])
    ('/media/cdrom/out cannot be written: the file system is read-only; name a folder elsewhere', 2)
    """
    place = str(error.filename) if error.filename is not None else ""
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        given = Path(place)  # which may lie below the file
        place = str(next((path for path in (given, *given.parents) if path.is_file()), place))
        return f"{place} must be a folder, got a file; name another folder, or move the file away", 2
    if error.errno in _FULL:
        place = place or _full_place(words)
        where = f": {place}" if place else ""
        reason = error.strerror or "no space is left"
        return f"{reason}{where}; make room there, and run again: what was finished is kept", 1
    if error.errno == errno.EROFS and place:
        return f"{place} cannot be written: the file system is read-only; name a folder elsewhere", 2
    if getattr(error, "winerror", None) in _HELD and Path(place).is_file():
        return f"{place} cannot be written while a program such as Excel has it open; close it there, and run again", 2
    if isinstance(error, PermissionError) and place:
        return f"{place}: permission denied; take a place of your own, or let its owner change its rights", 2
    if isinstance(error, FileNotFoundError) and place:
        return f"there is no {place}; correct its name", 2
    if isinstance(error, IsADirectoryError) and place:
        return f"{place} must be a file, got a folder; name a file", 2
    reason = f"{error.strerror or error}" + (f": {place}" if place else "")
    return f"{reason}; what was finished is kept, run again to go on", 1


def _full_place(words: Sequence[str]) -> str:
    """The first path of the command line that lies on a full disk; empty if there is none."""
    for word in words:
        path = Path(word.partition("=")[2] or word)
        try:
            if path.parent.is_dir() and shutil.disk_usage(path.parent).free < _LITTLE:
                return str(path)
        except OSError:
            continue
    return ""
