"""Grey PNG slices: Pillow as oracle, and what is refused before it is decoded."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from volseg.errors import SourceError, VolumeError
from volseg.formats import MAX_PIXELS
from volseg.formats.png import read_grey, write_grey


@given(st.integers(1, 9), st.integers(1, 9), st.randoms(use_true_random=False))
def test_a_written_slice_is_read_back_by_us_and_by_pillow(tmp_path_factory, width, height, random):
    path = tmp_path_factory.mktemp("png") / "slice.png"
    array = np.array([random.randrange(65536) for _ in range(width * height)], np.uint16).reshape(height, width)
    write_grey(path, np.asfortranarray(array))
    np.testing.assert_array_equal(read_grey(path, size=(width, height)), array)
    with Image.open(path) as image:
        assert image.mode == "I;16"
        np.testing.assert_array_equal(np.asarray(image), array)


def encoded(array: np.ndarray, filters: list[int]) -> bytes:
    """A grey PNG whose rows have these filters: none, left, above, their mean, Paeth's choice."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    (rows, columns), size = array.shape, array.dtype.itemsize
    values = array.astype(array.dtype.newbyteorder(">")).view(np.uint8).reshape(rows, -1).astype(int)
    padded = np.pad(values, ((1, 0), (size, 0)))
    above, left, corner = padded[:-1, size:], padded[1:, :-size], padded[:-1, :-size]
    guess = left + above - corner
    by_left, by_above, by_corner = (abs(guess - other) for other in (left, above, corner))
    nearest = np.where(by_above <= by_corner, above, corner)
    paeth = np.where((by_left <= by_above) & (by_left <= by_corner), left, nearest)
    expected = np.stack([np.zeros_like(values), left, above, (left + above) // 2, paeth])
    stored = (values - expected[filters, range(rows)]) % 256
    packed = zlib.compress(np.column_stack([filters, stored]).astype(np.uint8).tobytes())
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8 * size, 0, 0, 0, 0))
    parts = chunk(b"IDAT", packed[:9]) + chunk(b"IDAT", packed[9:])
    return b"\x89PNG\r\n\x1a\n" + header + parts + chunk(b"IEND", b"")


@given(st.lists(st.integers(0, 4), min_size=1, max_size=9), st.integers(1, 9), st.booleans(), st.integers(0, 9))
def test_every_filter_of_a_row_is_undone(tmp_path_factory, filters, columns, deep, seed):
    path = tmp_path_factory.mktemp("png") / "slice.png"
    values = np.random.default_rng(seed).integers(0, 65536 if deep else 256, (len(filters), columns))
    array = values.astype(np.uint16 if deep else np.uint8)
    path.write_bytes(encoded(array, filters))
    assert read_grey(path).dtype == array.dtype
    np.testing.assert_array_equal(read_grey(path), array)
    with Image.open(path) as image:
        np.testing.assert_array_equal(np.asarray(image), array)


def test_an_8_bit_slice_is_read_as_it_is(tmp_path):
    Image.fromarray(np.array([[1, 255]], np.uint8)).save(tmp_path / "a.png")
    assert read_grey(tmp_path / "a.png").dtype == np.uint8
    assert read_grey(tmp_path / "a.png").tolist() == [[1, 255]]


def test_a_claimed_size_beyond_reason_is_refused_before_decoding(tmp_path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", MAX_PIXELS, 2, 16, 0, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    with pytest.raises(SourceError, match="claims"):
        read_grey(tmp_path / "bomb.png")
    header = struct.pack(">IIBBBBB", 100, 100, 16, 0, 0, 0, 0)  # pixels end early, checksums are right
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")
    (tmp_path / "short.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    with pytest.raises(SourceError, match="cannot be decoded"):
        read_grey(tmp_path / "short.png")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, ">u2"])
def test_every_unsigned_type_is_written_at_16_bits(tmp_path, dtype):
    write_grey(tmp_path / "a.png", np.array([[7, 200]], dtype))
    assert read_grey(tmp_path / "a.png").dtype == np.uint16
    assert read_grey(tmp_path / "a.png").tolist() == [[7, 200]]


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 2), np.int16),
        np.zeros((2, 2), np.float32),
        np.zeros((1, 2, 2), np.uint16),
        np.zeros((0, 2), np.uint8),
    ],
)
def test_what_would_lose_values_is_not_written(tmp_path, array):
    with pytest.raises(VolumeError, match="does not go into a grey PNG"):
        write_grey(tmp_path / "a.png", array)
    assert not list(tmp_path.iterdir())


def test_every_cut_and_every_flipped_byte_is_refused(tmp_path: Path):
    stream = io.BytesIO()
    Image.fromarray(np.arange(48, dtype=np.uint16).reshape(6, 8)).save(stream, "PNG")
    content = stream.getvalue()
    path = tmp_path / "slice.png"
    for at in range(len(content)):
        path.write_bytes(content[:at])
        with pytest.raises(SourceError):
            read_grey(path)
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :])
        with pytest.raises(SourceError):
            read_grey(path)
    path.write_bytes(content)
    assert read_grey(path)[5, 7] == 47


def test_a_folder_or_an_absent_file_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "absent.png"):
        with pytest.raises(SourceError, match="cannot be opened"):
            read_grey(path)
