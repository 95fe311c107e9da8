"""DICOM files that are deflated as a whole: inflated with a bound, since a small file may hold any size."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import IO

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from volseg.errors import SourceError

# A segmentation of 1,000 slices of 512 x 512 pixels with 30 segments, one bit a pixel.
MAX_INFLATED_BYTES = 2**30
_BLOCK_BYTES = 2**16
_META = 132  # where the meta header begins
_LONG = (b"OB", b"OW", b"SQ", b"UN", b"UT", b"UC", b"UR", b"OD", b"OF", b"OL", b"OV", b"SV", b"UV")


class Inflating(io.RawIOBase):
    """A file whose end is deflated, inflated as far as it is read.

    Args:
        head: what comes before the deflated bytes.
        file: at the first of the deflated bytes.
        limit: bytes that may come out.
    """

    def __init__(self, head: bytes, file: IO[bytes], *, limit: int = MAX_INFLATED_BYTES) -> None:
        super().__init__()
        self._content = bytearray(head)
        self._file, self._limit, self._at = file, limit, 0
        self._stream = zlib.decompressobj(-zlib.MAX_WBITS)

    def read(self, size: int | None = -1) -> bytes:
        """As a file's.

        Raises:
            SourceError: more comes out than is allowed, or the stream has no end.
            zlib.error: damaged.
        """
        end = None if size is None or size < 0 else self._at + size
        while (end is None or len(self._content) < end) and not self._stream.eof:
            taken = self._stream.unconsumed_tail or self._file.read(_BLOCK_BYTES)
            if not taken:
                raise SourceError("the file is deflated, and its stream has no end; it is cut short, copy it again")
            self._content += self._stream.decompress(taken, _BLOCK_BYTES)
            if len(self._content) > self._limit:
                raise SourceError(f"the file is deflated and holds more than {self._limit >> 20} MiB; expand it first")
        part = bytes(self._content[self._at : end])
        self._at += len(part)
        return part

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As a file's; to go to the end is to inflate all of it."""
        if whence == os.SEEK_END:
            self.read()
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at}.get(whence, len(self._content)))
        return self._at

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._at


def inflating(file: IO[bytes], *, limit: int = MAX_INFLATED_BYTES) -> Inflating | None:
    """What a deflated file holds, as one of Explicit VR; None for any other file, which is left at its beginning.

    Args:
        file: at its beginning.
        limit: bytes that it may hold.
    """
    head = file.read(4096)
    file.seek(0)
    if head[128:_META] != b"DICM" or DeflatedExplicitVRLittleEndian.encode() not in head:
        return None
    at, deflated, meta = _META, False, head[:_META]
    while at + 12 <= len(head) and head[at : at + 2] == b"\x02\x00":
        long = head[at + 4 : at + 6] in _LONG
        begins = at + (12 if long else 8)
        (length,) = struct.unpack("<L" if long else "<H", head[begins - (4 if long else 2) : begins])
        value = head[begins : begins + length].strip(b"\0 ")
        if head[at + 2 : at + 4] == b"\x10\x00" and value == DeflatedExplicitVRLittleEndian.encode():
            deflated = True
            plain = ExplicitVRLittleEndian.encode() + b"\0"
            meta += head[at : at + 6] + struct.pack("<H", len(plain)) + plain
        else:
            meta += head[at : begins + length]
        at = begins + length
    if not deflated:
        return None
    file.seek(at)
    return Inflating(meta, file, limit=limit)


def held_bytes(path: Path) -> int:
    """How many bytes a file holds, inflated where it is deflated.

    Raises:
        SourceError: more than is allowed, or no end.
        OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        content = inflating(file)
        try:
            return path.stat().st_size if content is None else content.seek(0, os.SEEK_END)
        except zlib.error as error:
            raise SourceError("the file is deflated and damaged; copy it again") from error
