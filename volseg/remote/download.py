"""The download of one object to one file: in ranges, resumed after a stop, verified, and put in place whole."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from volseg.errors import RemoteError
from volseg.remote.listing import Item
from volseg.remote.messages import told

logger = logging.getLogger(__name__)

# Bytes per read: the most that a stop can lose.
CHUNK = 8 * 2**20


def download(
    file_system: Any,  # noqa: ANN401 - fsspec has no types
    path: str,
    target: Path,
    *,
    item: Item,
    part: Path,
    url: str,
    moved: Callable[[int], None],
    compare: bool = True,
    chunk: int = CHUNK,
) -> bool:
    """Write an object to a file, which appears when it is complete.

    Its size is checked, and its MD5 if the store gives one.

    Args:
        file_system: File system of fsspec.
        path: Path of the object in it.
        target: File to write.
        item: Item with the expected version.
        part: File for the bytes so far; those of an earlier attempt at the same version are not read again.
        url: URL, for errors.
        moved: Function that is called with the number of received bytes; a negative one takes bytes back.
        compare: Whether ETags are taken for MD5s.
        chunk: Number of bytes per read.

    Returns:
        Whether the next ETag of this store may be taken for an MD5.

    Raises:
        RemoteError: The transfer stopped, or the content differs from one read to the next.
        OSError: The local disk cannot be written.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    before = part.stat().st_size if part.is_file() else 0
    _read(file_system, path, part, item=item, url=url, moved=moved, chunk=chunk)
    if compare and item.md5 is not None and (got := _md5(part)) != item.md5:
        # Either the existing part was damaged, or the ETag is no MD5: KMS makes ETags of the same form.
        moved(-item.size)
        part.unlink()
        _read(file_system, path, part, item=item, url=url, moved=moved, chunk=chunk)
        again = _md5(part)
        if again not in (got, item.md5) and not before:
            part.unlink()
            raise RemoteError(f"{url}: two reads gave different bytes; check the network, and run again")
        compare = again == item.md5
        if not compare:
            logger.info("%s: the ETag is no MD5, so the sizes alone are compared", url)
    target.parent.mkdir(parents=True, exist_ok=True)
    part.replace(target)
    return compare


def _read(
    file_system: Any,  # noqa: ANN401
    path: str,
    part: Path,
    *,
    item: Item,
    url: str,
    moved: Callable[[int], None],
    chunk: int,
) -> None:
    """Add the missing bytes to a part."""
    have = part.stat().st_size if part.is_file() else 0
    if have > item.size:
        part.unlink()
        have = 0
    moved(have)
    with part.open("ab") as file:
        while have < item.size:
            end = min(have + chunk, item.size)
            with told(url):
                content = file_system.cat_file(path, start=have, end=end)
            if len(content) != end - have:
                raise RemoteError(
                    f"{url}: bytes {have} to {end} were asked for and {len(content)} came; it is being changed, or the "
                    "connection broke: run again"
                )
            file.write(content)
            have = end
            moved(len(content))
        file.flush()
        os.fsync(file.fileno())


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while content := file.read(2**20):
            digest.update(content)
    return digest.hexdigest()
