"""Netpbm files (PBM, PGM, PPM): the numbers as stored, which others scale to 255 where the largest is another."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.errors import SourceError

_TOKEN = re.compile(rb"(?:\s|#[^\n]*\n)*([0-9]+)")
_MOST_DIGITS = 9  # of a number as text, which may begin with zeros


def is_netpbm(head: bytes) -> bool:
    """Whether a file begins as PBM, PGM or PPM does."""
    return len(head) > 2 and head[:1] == b"P" and head[1:2] in b"123456" and head[2:3] in b" \t\r\n#"


def read_netpbm(content: bytes, *, name: str, max_pixels: int) -> tuple[NDArray[Any], int]:
    r"""The numbers of a file and how many bits they fill: 1 of a bitmap, else 8 or 16.

    A bitmap stores 1 for black; it comes back with 1 for white, as every other reader shows it.

    Args:
        content: Content of the file.
        name: Name of the file in messages.
        max_pixels: Largest number of pixels that is decoded.

    Returns:
        (rows, columns) or (rows, columns, 3), uint8 or uint16, and 1, 8 or 16.

    Raises:
        SourceError: The file is cut short, has no numbers at a place of some, or too many pixels.

    >>> read_netpbm(b"P5 3 1 7\n\x00\x05\x07", name="a.pgm", max_pixels=9)[0].tolist()
    [[0, 5, 7]]
    """
    kind, at, header = content[1] - ord("0"), 2, []
    for _ in range(2 if kind in (1, 4) else 3):
        match = _TOKEN.match(content, at)
        if match is None:
            raise SourceError(f"{name} has a damaged Netpbm header; copy it again")
        header.append(int(match[1]))
        at = match.end()
    width, height, largest = (*header, 1)[:3]
    if width * height > max_pixels:
        raise SourceError(
            f"{name} claims {width} x {height} pixels, more than {max_pixels}; if it is no damaged file, raise the "
            f"limit with --max-pixels {width * height}"
        )
    if not (width and height and 1 <= largest < 65536):
        raise SourceError(f"{name} has a damaged Netpbm header; copy it again")
    shape = (height, width, 3) if kind in (3, 6) else (height, width)
    deep = largest > 255
    if kind == 1:
        text = re.sub(rb"#[^\n]*\n|\s", b"", content[at:])
        values = np.frombuffer(text, np.uint8)[: width * height] - ord("0")
    elif kind in (2, 3):
        values = _numbers(re.sub(rb"#[^\n]*\n", b" ", content[at:]).split()[: math.prod(shape)], name)
    elif kind == 4:
        packed = np.frombuffer(content[at + 1 :], np.uint8)
        row = -(-width // 8)
        if len(packed) < row * height:
            raise SourceError(f"{name} is cut short at {len(content)} bytes; copy it again")
        values = np.unpackbits(packed[: row * height].reshape(height, row), axis=1)[:, :width].ravel()
    else:
        number = np.dtype(">u2" if deep else np.uint8)
        count = min(math.prod(shape), max(0, len(content) - at - 1) // number.itemsize)
        values = np.frombuffer(content, number, count=count, offset=min(at + 1, len(content)))
    if len(values) < math.prod(shape):
        raise SourceError(f"{name} is cut short at {len(content)} bytes; copy it again")
    if values.max() > largest:
        raise SourceError(f"{name} holds {values.max()}, more than its largest number {largest}; copy it again")
    raster = values.astype(np.uint16 if deep else np.uint8).reshape(shape)
    if kind in (1, 4):
        return 1 - raster, 1
    return raster, 16 if deep else 8


def _numbers(words: list[bytes], name: str) -> NDArray[Any]:
    """Numbers of 0 and above that are written as text."""
    wrong = next((word for word in words if not word.isdigit() or len(word) > _MOST_DIGITS), None)
    if wrong is not None:
        raise SourceError(f"{name} holds {wrong[:20]!r} where a number from 0 to 65535 belongs; copy it again")
    return np.array(words).astype(np.int64)
