"""Gzip data with other bytes behind them: read as gzip and zlib read them, without these bytes."""

from __future__ import annotations

import logging
import zlib
from pathlib import Path
from typing import IO

logger = logging.getLogger(__name__)

_MAGIC = b"\x1f\x8b"
_SHORTEST = 18  # bytes of a member: header and end
_BLOCK_BYTES = 2**16


def inflate_members(content: bytes, limit: int, *, name: str) -> bytes:
    """Decompress the gzip members at the beginning of some bytes, and leave out what lies behind the last one.

    Zeros behind it are padding, of tapes and blocks. Other bytes are left out with a warning, as gzip does.

    Args:
        content: Bytes that begin with a member.
        limit: Number of bytes after which decompression stops.
        name: Name of the file, for the warning.

    Raises:
        EOFError: A member is cut short.
        zlib.error: A member is damaged.

    >>> import gzip
    >>> inflate_members(gzip.compress(b"voxels") + gzip.compress(b" and more") + bytes(512), 99, name="a.nii.gz")
    b'voxels and more'
    """
    parts: list[bytes] = []
    at = 0
    # In blocks: what zlib has not used of its input is a copy, which would be of the whole rest for each member.
    while content.startswith(_MAGIC, at) and limit > 0:
        member, begin = zlib.decompressobj(wbits=31), at
        of_member: list[bytes] = []
        few = bool(parts) and len(content) - begin < _SHORTEST  # no member is so short, so these two bytes begin none
        try:
            while not member.eof and limit > 0 and at < len(content):
                block = content[at : at + _BLOCK_BYTES]
                found = member.decompress(block, limit)
                at += len(block) - len(member.unused_data) - len(member.unconsumed_tail)
                limit -= len(found)
                of_member.append(found)
        except zlib.error:
            if not few:
                raise
        if not member.eof and limit > 0:
            if not few:
                raise EOFError("Compressed file ended before the end-of-stream marker was reached")
            at = begin
            break
        parts += of_member
        at = _behind_zeros(content, at)
    if at < len(content) and limit > 0:
        told = "%s: %d bytes behind its compressed data are none of them, and are left out"
        logger.warning(told, name, len(content) - at)
    return b"".join(parts)


def _behind_zeros(content: bytes, at: int) -> int:
    """The place of the first byte from `at` on that is not 0."""
    while block := content[at : at + _BLOCK_BYTES]:
        left = len(block.lstrip(b"\0"))
        at += len(block) - left
        if left:
            break
    return at


def inflate_file(path: Path, limit: int) -> bytes:
    """As `inflate_members`, for a whole file."""
    return inflate_members(path.read_bytes(), limit, name=path.name)


class MemberStream:
    """A stream of decompressed bytes that goes on where isal's ends with an error at bytes behind the last member.

    Args:
        path: File.
        stream: isal's stream of it.
        limit: Number of bytes that are read at most.
    """

    def __init__(self, path: Path, stream: IO[bytes], limit: int) -> None:
        self._path, self._limit = path, limit
        self._stream = stream
        self._rest: bytes | None = None
        self._at = 0

    def __enter__(self) -> MemberStream:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def seek(self, at: int) -> None:
        """Go to a place of the decompressed bytes."""
        if self._rest is None:
            try:
                self._stream.seek(at)
            except (EOFError, OSError):
                self._rest = inflate_file(self._path, self._limit)
        self._at = at

    def read(self, size: int) -> bytes:
        """The next bytes; fewer, or none, at the end."""
        if self._rest is None:
            try:
                part = self._stream.read(size)
            except (EOFError, OSError):
                self._rest = inflate_file(self._path, self._limit)
                return self.read(size)
        else:
            part = self._rest[self._at : self._at + size]
        self._at += len(part)
        return part
