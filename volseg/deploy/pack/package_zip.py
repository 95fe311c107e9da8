"""Zip files whose bytes depend only on their content."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

_FIRST_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can state
_TEXT = {".json", ".conf", ".md", ".xml", ""}


def write_zip(folder: Path, archive: Path, *, name: str) -> None:
    """Write every file of a folder, in the order of their names, without dates and owners.

    Text is compressed; weights are stored, since they hardly shrink.

    Args:
        folder: Folder whose files are written.
        archive: File that is written.
        name: Name of the folder at the top of the zip, as MONAI's `download` and `load` expect it.
    """
    with zipfile.ZipFile(archive, "w") as content:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = _entry(f"{name}/{path.relative_to(folder).as_posix()}", path.stat().st_size)
            entry.compress_type = zipfile.ZIP_DEFLATED if path.suffix in _TEXT else zipfile.ZIP_STORED
            with path.open("rb") as source, content.open(entry, "w") as target:
                shutil.copyfileobj(source, target, 2**20)


def thin_zip(archive: Path, *, keep: Callable[[str], bool]) -> None:
    """Write a zip anew without some of its files, each as it was stored, without dates.

    Args:
        archive: File that is replaced.
        keep: Function that says whether the file of a name stays.
    """
    thinner = archive.with_name(f"{archive.name}.partial")
    with zipfile.ZipFile(archive) as before, zipfile.ZipFile(thinner, "w") as after:
        for found in before.infolist():
            if keep(found.filename):
                entry = _entry(found.filename, found.file_size)
                entry.compress_type = found.compress_type
                with before.open(found) as source, after.open(entry, "w") as target:
                    shutil.copyfileobj(source, target, 2**20)
    thinner.replace(archive)


def _entry(name: str, size: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _FIRST_DATE)
    entry.external_attr = 0o644 << 16
    entry.create_system = 3  # Unix, so that the permissions count
    entry.file_size = size
    return entry
