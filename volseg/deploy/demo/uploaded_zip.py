"""An uploaded zip: it is checked entry by entry, then unpacked into a folder or refused as a whole."""

from __future__ import annotations

import io
import os
import re
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from volseg.errors import SourceError

MAX_FILES = 20_000
# Limit of the list of contents, which `zipfile` reads at once: some 100 to 400 bytes per entry.
_MAX_READ = 8 * 2**20
_BLOCK = 2**20
_LONGEST = 200  # bytes of a name in UTF-8; the longest that file systems keep is 255
_DRIVE = re.compile(r"[A-Za-z]:")
# Files that operating systems add.
_CLUTTER = ("__MACOSX", ".DS_Store", "Thumbs.db")


def unpack(archive: Path, folder: Path, *, max_bytes: int, name: str, max_files: int = MAX_FILES) -> list[Path]:
    """Unpack a zip, once every entry was found harmless; nothing is written outside the folder.

    Args:
        archive: Zip file.
        folder: Folder, which is created if absent.
        max_bytes: Largest size of all files together, unpacked.
        name: Name of the zip, for messages.
        max_files: Largest number of files.

    Returns:
        The files, in the order of the zip.

    Raises:
        SourceError: The file is no zip or damaged, or holds a path that leaves the folder, a link, a device, two files
            of one path, an encrypted file, or too many files or bytes.

    >>> import tempfile
    >>> place = Path(tempfile.mkdtemp())
    >>> with zipfile.ZipFile(place / "a.zip", "w") as content:
    ...     content.writestr("../outside.txt", "x")
    >>> unpack(place / "a.zip", place / "a", max_bytes=100, name="a.zip")
    Traceback (most recent call last):
    volseg.errors.SourceError: a.zip holds the path '../outside.txt', which leaves its folder; pack the files anew
    """
    written: list[Path] = []
    try:
        with _Careful(archive) as file, zipfile.ZipFile(file) as content:
            entries = _chosen(content.infolist(), max_bytes=max_bytes, max_files=max_files, name=name)
            for path, entry in entries.items():
                target = folder.joinpath(*path.parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                # `zipfile` gives no more bytes than the entry states, and these were added up.
                with content.open(entry) as source, target.open("xb") as out:
                    shutil.copyfileobj(source, out, _BLOCK)
                written.append(target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OverflowError) as error:
        raise SourceError(f"{name} cannot be unpacked ({error}); pack the files anew") from error
    except FileExistsError as error:
        raise SourceError(f"{name} holds a file and a folder of one name; pack the files anew") from error
    if not written:
        raise SourceError(f"{name} holds no file")
    return written


class _Careful(io.FileIO):
    """A file that returns at most a few MiB at once; a zip whose list of contents claims more is refused."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as a file does, unless too much is asked for."""
        left = os.fstat(self.fileno()).st_size - self.tell()
        wanted = left if size is None or size < 0 else min(size, left)
        if wanted > _MAX_READ:
            raise zipfile.BadZipFile(f"its list of contents is longer than {_MAX_READ >> 20} MiB")
        return super().read(wanted) or b""


def _chosen(
    entries: list[zipfile.ZipInfo], *, max_bytes: int, max_files: int, name: str
) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """The files to unpack, by their target paths."""
    chosen: dict[PurePosixPath, zipfile.ZipInfo] = {}
    total = 0
    for entry in entries:
        path = _path(entry, name)
        if entry.is_dir() or path.name in _CLUTTER or path.name.startswith("._") or path.parts[0] in _CLUTTER:
            continue
        if entry.flag_bits & 1:
            raise SourceError(f"{name} is encrypted; pack the files without a password")
        if path in chosen:
            raise SourceError(f"{name} holds {str(path)!r} twice; pack the files anew")
        chosen[path] = entry
        total += entry.file_size
        if len(chosen) > max_files:
            raise SourceError(f"{name} holds more than {max_files} files; pack one series alone")
        if total > max_bytes:
            raise SourceError(f"{name} would unpack to more than {max_bytes / 2**20:.0f} MiB; pack one series alone")
    return chosen


def _path(entry: zipfile.ZipInfo, name: str) -> PurePosixPath:
    """The target path of an entry, below the folder."""
    given = entry.filename.replace("\\", "/")
    parts = [part for part in given.split("/") if part not in ("", ".")]
    if given.startswith("/") or _DRIVE.match(given) or ".." in parts or not parts:
        raise SourceError(
            f"{name} holds the path {entry.filename[:80]!r}, which leaves its folder; pack the files anew"
        )
    if not given.isprintable() or any(len(part.encode("utf-8", "replace")) > _LONGEST for part in parts):
        raise SourceError(f"{name} holds the path {entry.filename[:80]!r}, which no file system keeps; rename the file")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise SourceError(
            f"{name} holds {entry.filename[:80]!r}, which is a link or a device; pack the files themselves"
        )
    return PurePosixPath(*parts)
