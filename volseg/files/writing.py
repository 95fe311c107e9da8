"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SERIES = ".series"
"""Ending of a file that lists the images of one DICOM series, see `volseg.dicom.list_series`."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Numbers of the errors of a disk, a quota or a file that can grow no further."""

PARTIAL = ".partial-"
"""Beginning of the name of whatever is not whole yet; nobody reads it as data."""


def is_partial(name: str) -> bool:
    """Whether a file or folder of this name is not whole yet.

    >>> is_partial(".partial-x1-case1.nii.gz"), is_partial("case1.nii.gz")
    (True, False)
    """
    return name.startswith(PARTIAL)


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; what is written there appears under `path` at once, or never.

    The name starts with `.partial-`, so a killed run leaves nothing that anyone reads as data.

    Raises:
        OSError: The folder cannot be written, or the disk is full; the error names `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        partial = _beside(path)
    except OSError as error:
        error.filename = str(path)  # not that of a temporary file, which says nothing to anyone
        raise
    try:
        yield partial
        with partial.open("r+b") as file:  # Windows flushes no file that is open for reading alone
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        if error.filename == str(partial) or (error.filename is None and error.errno in FULL):
            error.filename = str(path)  # writing to an open file names none
        raise
    finally:
        partial.unlink(missing_ok=True)


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`, at once or never: a hard link; else a copy with the time of the source.

    Of a symbolic link, the file that it names is taken: a link to the link would lead nowhere from another folder.

    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "a").write_text("weights")
    >>> link_or_copy(folder / "a", folder / "there" / "b")
    >>> (folder / "there" / "b").read_text(), sorted(path.name for path in (folder / "there").iterdir())
    ('weights', ['b'])
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{PARTIAL}{os.getpid()}-{target.name}")
    partial.unlink(missing_ok=True)
    try:
        try:
            os.link(source.resolve(), partial)  # the system links the link itself
        except OSError:
            shutil.copy2(source, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)  # POSIX renames nothing, without an error, if the target is this file already


def ignores_case(folder: Path) -> bool:
    """Whether the file system of a folder takes `A` and `a` for one name, as those of Windows and macOS do."""
    place = folder
    while not place.is_dir():
        place = place.parent
    try:
        with tempfile.NamedTemporaryFile(prefix=f"{PARTIAL}CASE-", dir=place) as file:
            return Path(file.name.replace(f"{PARTIAL}CASE-", f"{PARTIAL}case-")).exists()
    except OSError:
        return False


def _beside(path: Path) -> Path:
    """Make an empty file beside a path, with the rights that the system gives to a new file.

    `tempfile` makes files for their owner alone, and to learn the rights of others a process has to take its mask off
    for a moment, in which other threads make files that everyone may write.
    """
    while True:
        made = path.with_name(f"{PARTIAL}{secrets.token_hex(4)}-{path.name}")
        try:
            os.close(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        except FileExistsError:
            continue
        return made


def read_json_object(path: Path) -> dict[str, Any] | None:
    """The object that a JSON file holds; None if the file is absent or damaged.

    >>> read_json_object(Path("absent.json")) is None
    True
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
