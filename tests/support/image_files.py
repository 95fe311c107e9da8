"""Image files of all kinds, made for tests."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def save(path: Path, pixels: np.ndarray, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def encoded(pixels: np.ndarray, form: str, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def colours(rows: int = 24, columns: int = 40, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), dtype=np.uint8)


def png(width: int, height: int, bits: int, colour: int, rows: bytes) -> bytes:
    """A PNG of any kind, from rows that begin with their filter."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(pixels: np.ndarray, *, photometric: int, samples: int = 1) -> bytes:
    """An uncompressed little-endian TIFF of one strip, with 8 or 16 bits a sample."""
    rows, columns = pixels.shape[:2]
    bits = 8 * pixels.itemsize
    data = pixels.tobytes()
    start = 8 + 2 + 12 * 9 + 4 + 2 * samples
    spread = 8 + 2 + 12 * 9 + 4 if samples > 2 else bits
    entries = [(256, 3, 1, columns), (257, 3, 1, rows), (258, 3, samples, spread), (259, 3, 1, 1)]
    entries += [(262, 3, 1, photometric), (273, 4, 1, start), (277, 3, 1, samples), (278, 4, 1, rows)]
    entries += [(279, 4, 1, len(data))]
    body = b"II*\0" + struct.pack("<IH", 8, len(entries))
    for tag, kind, count, value in entries:
        body += struct.pack("<HHII", tag, kind, count, value)
    return body + struct.pack("<I", 0) + struct.pack(f"<{samples}H", *[bits] * samples) + data
