"""Grey PNG slices of 8 or 16 bits: read checked and at full depth, written fast at 16 bits."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from isal import isal_zlib
from kornia_rs.io import decode_image_png_u8, decode_image_png_u16
from numpy.typing import NDArray
from PIL import Image

from volseg.errors import SourceError, VolumeError

# A header may claim any size; beyond this nothing is decoded.
MAX_PIXELS = 2**26

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGB with alpha"}
_UP = 2  # the filter of a row that leaves differences to the row above


def read_grey(path: str | Path, *, size: tuple[int, int] | None = None) -> NDArray[Any]:
    """Read a grey PNG without touching its values.

    Every checksum of the file is verified, so a file that was cut or damaged on its way is never taken for an image.

    Args:
        path: Path of the file.
        size: (width, height) that the image must have, width first as in the UW-Madison file names.

    Returns:
        (rows, columns), uint16 for 16 bits, uint8 for 8 bits.

    Raises:
        SourceError: Absent, unreadable, cut short, not grey of 8 or 16 bits, of another size than `size`, or of more
            than `MAX_PIXELS` pixels.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "slice.png"
    ...     write_grey(path, np.array([[0, 1, 65535], [256, 5, 6]], np.uint16))
    ...     read_grey(path, size=(3, 2)).tolist()
    [[0, 1, 65535], [256, 5, 6]]
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path.name} cannot be opened ({error.strerror}); copy it again") from error
    chunks = _chunks(content, path.name)
    width, height, bits = _check(chunks, path.name)
    if size is not None and (width, height) != tuple(size):
        raise SourceError(
            f"{path.name} is {width} wide and {height} high, expected {size[0]} wide and {size[1]} high "
            "(width stands first); the file is another slice or was renamed"
        )
    decoded = _decode(content, width, height, bits)
    if decoded is not None:
        return decoded
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            pixels = np.asarray(image)
    except (OSError, SyntaxError, ValueError, EOFError, zlib.error, struct.error) as error:
        raise SourceError(f"{path.name} cannot be decoded ({error}); copy it again") from error
    if pixels.shape != (height, width):
        raise SourceError(f"{path.name} decodes to shape {pixels.shape}, expected {(height, width)}; copy it again")
    return pixels.astype(np.uint16 if bits == 16 else np.uint8, copy=False)


def write_grey(path: str | Path, array: NDArray[Any]) -> None:
    """Write a 16-bit grey PNG. The file is written plainly: whoever makes the folder makes it appear whole.

    Args:
        path: Path of the file.
        array: (rows, columns), uint8 or uint16; stored as it is, without scaling.

    Raises:
        VolumeError: The pixels have another type or not two axes.
    """
    if array.ndim != 2 or 0 in array.shape or array.dtype.kind != "u" or array.dtype.itemsize > 2:
        raise VolumeError(
            f"a slice of shape {array.shape} and type {array.dtype} does not go into a grey PNG; "
            "expected rows and columns of uint8 or uint16"
        )
    rows, columns = array.shape
    big_endian = np.ascontiguousarray(array, dtype=">u2").view(np.uint8)  # (rows, 2 * columns)
    filtered = np.empty((rows, 1 + 2 * columns), dtype=np.uint8)
    filtered[:, 0] = _UP
    filtered[0, 1:] = big_endian[0]
    np.subtract(big_endian[1:], big_endian[:-1], out=filtered[1:, 1:])  # modulo 256, as PNG wants it
    header = struct.pack(">IIBBBBB", columns, rows, 16, 0, 0, 0, 0)
    pixels = isal_zlib.compress(filtered.data, 1)
    content = _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")
    Path(path).write_bytes(content)


def check_chunks(content: bytes, name: str) -> tuple[int, int, int, int]:
    """Width, height, bits a sample and colour type of a PNG file, as its header states them.

    Args:
        content: Content of the file.
        name: Name of the file in errors.

    Raises:
        SourceError: The file is no PNG or cut short, or the checksum of a part is wrong.
    """
    width, height, bits, colour = struct.unpack_from(">IIBB", _chunks(content, name)[0][1])
    return width, height, bits, colour


def _chunks(content: bytes, name: str) -> list[tuple[bytes, memoryview]]:
    """Kind and data of all parts of a PNG file, its header first, each compared with its checksum."""
    if content[:8] != _SIGNATURE:
        what = "is empty" if not content else "is no PNG file"
        raise SourceError(f"{name} {what}; copy it again")
    view = memoryview(content)
    chunks: list[tuple[bytes, memoryview]] = []
    at, kind = 8, b""
    # A chunk is: length of the data (4 bytes), kind (4), data, checksum of kind and data (4).
    while kind != b"IEND":
        if at + 12 > len(content):
            raise SourceError(f"{name} is cut short at {len(content)} bytes; copy it again")
        length = int.from_bytes(view[at : at + 4], "big")
        kind = content[at + 4 : at + 8]
        end = at + 8 + length
        if end + 4 > len(content):
            raise SourceError(f"{name} is cut short at {len(content)} bytes of at least {end + 4}; copy it again")
        if isal_zlib.crc32(view[at + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            raise SourceError(f"{name} is damaged (checksum of its {kind.decode('latin-1')} part); copy it again")
        if not chunks and (kind != b"IHDR" or length != 13):
            raise SourceError(f"{name} has no PNG header; copy it again")
        chunks.append((kind, view[at + 8 : end]))
        at = end + 4
    return chunks


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", isal_zlib.crc32(kind + data))


def _check(chunks: list[tuple[bytes, memoryview]], name: str) -> tuple[int, int, int]:
    """Width, height and bits of a grey PNG, or raise."""
    width, height, bits, colour = struct.unpack_from(">IIBB", chunks[0][1])
    if colour != 0 or bits not in (8, 16):
        found = f"{bits}-bit {_COLOUR_TYPES.get(colour, f'colour type {colour}')}"
        raise SourceError(
            f"{name} is {found}, expected grey of 8 or 16 bits; use the original slices, not pictures of them"
        )
    if width * height > MAX_PIXELS:
        raise SourceError(f"{name} claims {width} x {height} pixels, more than {MAX_PIXELS}; it is damaged or no slice")
    return width, height, bits


def _decode(content: bytes, width: int, height: int, bits: int) -> NDArray[Any] | None:
    """(rows, columns) by kornia-rs, in less than half of Pillow's time; None where it cannot.

    Pillow takes the file then, and tells what is wrong with a damaged one.
    """
    decode = decode_image_png_u16 if bits == 16 else decode_image_png_u8
    try:
        pixels: NDArray[Any] = decode(content, (height, width), "mono")
    except Exception:  # noqa: BLE001 - it raises nothing of a kind of its own
        return None
    return pixels[..., 0]
