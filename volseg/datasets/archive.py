"""An archive of somebody else's, unpacked without leaving its folder."""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from volseg.datasets.space import check_space
from volseg.errors import RemoteError

# What macOS adds to archives, of no use elsewhere.
_OF_MACOS = ("._", "__MACOSX", ".DS_Store")


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip or tar file into a folder.

    Args:
        archive: .zip, .tar, .tar.gz and so on; the content tells, not the name.
        folder: Folder, which is made if it is absent.

    Raises:
        RemoteError: The archive is damaged, the disk has too little room, or an entry is a link, a device, or has a
            name with `..` or from the root.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if zipfile.is_zipfile(archive):
            _unzip(archive, folder)
        else:
            _untar(archive, folder)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError) as error:
        raise RemoteError(f"{archive.name} is damaged or no zip or tar file ({error}); download it again") from error


def _unzip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        members = [member for member in opened.infolist() if _wanted(member.filename)]
        for member in members:
            _check_name(member.filename, archive)
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _linked(member.filename, archive)
        check_space(folder, sum(member.file_size for member in members), what=f"unpacking {archive.name}")
        for member in members:
            target = folder / member.filename
            if member.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with opened.open(member) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file, 2**20)


def _untar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as opened:
        members = [member for member in opened.getmembers() if _wanted(member.name)]
        for member in members:
            _check_name(member.name, archive)
            if not (member.isreg() or member.isdir()):
                raise _linked(member.name, archive)
        check_space(folder, sum(member.size for member in members), what=f"unpacking {archive.name}")
        opened.extractall(folder, members=members, filter="data")


def _linked(name: str, archive: Path) -> RemoteError:
    return RemoteError(f"{archive.name} holds {name!r}, which is a link or a device; nothing was unpacked")


def _wanted(name: str) -> bool:
    return not any(part.startswith(_OF_MACOS) for part in PurePosixPath(name).parts)


def _check_name(name: str, archive: Path) -> None:
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\\" in name or ":" in name:
        raise RemoteError(f"{archive.name} holds {name!r}, which would leave the folder; nothing was unpacked")
