"""The frames of a DICOM file as stored numbers; compressed ones are decoded in a process of its own.

Decoders are native code that trusts its input. With flipped bytes GDCM aborts, and others allocate or run for what the
damaged stream claims. A process of its own keeps that from the run: it has a limit of memory and of time, and when it
dies the series is refused.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import as_pixel_options, iter_pixels
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEGExtended12Bit

from volseg.dicom.deflated import held_bytes
from volseg.dicom.file import DAMAGE, Quiet, read_whole, whole
from volseg.dicom.syntaxes import DEFLATED_FRAMES, JPEG_XL, OWN, remedy, syntax_name
from volseg.errors import SourceError
from volseg.volume import MAX_BYTES

_DECODER_BYTES = 3 * 2**30
# A blank frame may shrink this much in JPEG 2000; below the floor nothing is refused.
_MAX_COMPRESSION = 2000
_FLOOR_BYTES = 2**26
_OTHER_PIXELS = ("FloatPixelData", "DoubleFloatPixelData")
_ITEM = b"\xfe\xff\x00\xe0"  # which the pixels of a file begin with that are compressed


def check_claims(path: Path, header: Dataset) -> None:
    """Refuse a header whose image cannot be in the file, before anything is allocated for it.

    Raises:
        SourceError: cut short, or sizes that make no sense.
    """
    rows, columns = whole(header, "Rows"), whole(header, "Columns")
    frames, bits = whole(header, "NumberOfFrames", default=1), whole(header, "BitsAllocated")
    if min(rows, columns, frames) < 1 or bits not in (1, 8, 16, 32, 64):
        raise SourceError(
            f"the header claims {rows} x {columns} pixels of {bits} bits in {frames} frames; the file is damaged"
        )
    claimed = rows * columns * frames * max(1, whole(header, "SamplesPerPixel", default=1)) * bits // 8
    got = held_bytes(path) if _is_deflated(header) else path.stat().st_size
    limit = max(_FLOOR_BYTES, _MAX_COMPRESSION * got) if compressed(header) else got
    if claimed > min(limit, MAX_BYTES):
        raise SourceError(
            f"the header claims {claimed:,} bytes of pixels and the file has {got:,}; it is damaged or cut short"
        )


def check_high_bit(path: Path, header: Dataset) -> None:
    """Refuse values that stand in the upper bits, as in files of before 1993; readers take them in several ways.

    A file that states it, and whose lowest bits are in use all the same, is read as it is; so is one whose HighBit
    lies outside of its values, which no reader heeds.

    Raises:
        SourceError: such values.
    """
    stored, high = whole(header, "BitsStored"), whole(header, "HighBit", default=-1)
    unused = high + 1 - stored
    allocated = whole(header, "BitsAllocated")
    if unused <= 0 or allocated not in (8, 16, 32) or not 0 <= high < allocated or compressed(header):
        return
    content = getattr(read_whole(path), "PixelData", b"")
    values = np.frombuffer(content[: len(content) // (allocated // 8) * (allocated // 8)], f"<u{allocated // 8}")
    if values.any() and not (values & ((1 << unused) - 1)).any():
        raise SourceError(
            f"its values stand in the bits {unused} to {high} (HighBit), which DICOM gave up and programs read in "
            "several ways; write it anew (gdcmconv --raw), and convert that"
        )


def _is_deflated(header: Dataset) -> bool:
    meta = getattr(header, "file_meta", None)
    return meta is not None and meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian


def compressed(header: Dataset) -> bool:
    """Whether the pixels are encoded. An unknown transfer syntax counts as such."""
    syntax = header.file_meta.get("TransferSyntaxUID") if hasattr(header, "file_meta") else None
    if syntax is None:
        return False
    try:
        return bool(syntax.is_compressed)
    except (ValueError, AttributeError):
        return True


def _without_decoder(header: Dataset) -> bool:
    """Whether no native decoder of images is needed."""
    return not compressed(header) or header.file_meta.TransferSyntaxUID in OWN - JPEG_XL


class Frames:
    """Reads the frames of files one after the other; a context, since it may keep a decoder running.

    Args:
        seconds: how long the decoder may take for a frame.

    >>> with Frames() as frames:
    ...     pass
    """

    def __init__(self, *, seconds: float = 60.0) -> None:
        self._seconds = seconds
        self._decoder: subprocess.Popen[bytes] | None = None
        self._busy = False

    def __enter__(self) -> Frames:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def read(self, path: Path) -> Iterator[NDArray[Any]]:
        """Each frame (rows, columns) in the order of the file.

        Raises:
            SourceError: damaged, cut short, too large for its file, or compressed in a way that nothing here decodes.
        """
        dataset = _image(path)
        if "PixelData" not in dataset and not whole(dataset, "Rows"):  # pydicom gives up what it has read by then
            raise SourceError("the file ends within its pixels; it is cut short, copy it again")
        if "PixelData" not in dataset and any(name in dataset for name in _OTHER_PIXELS):
            raise SourceError(
                "its pixels are floating-point numbers (Float Pixel Data), which are not read; write them as whole "
                "numbers with a rescale slope"
            )
        if compressed(dataset) and (cure := remedy(syntax := str(dataset.file_meta.TransferSyntaxUID))):
            raise SourceError(f"the pixels cannot be decoded ({syntax_name(syntax)}): {cure}")
        check_claims(path, dataset)
        shape = whole(dataset, "Rows"), whole(dataset, "Columns")
        expected, count = whole(dataset, "NumberOfFrames", default=1), 0
        frames = _plain(dataset) if _without_decoder(dataset) else self._decoded(path, dataset)
        for count, frame in enumerate(frames, start=1):
            if frame.shape != shape or count > expected:
                raise SourceError(f"frame {count} has the shape {frame.shape}, the header claims {expected} of {shape}")
            yield frame
        if count != expected:
            raise SourceError(f"the file holds {count} frames, its header claims {expected}; copy it again")

    def _decoded(self, path: Path, header: Dataset) -> Iterator[NDArray[Any]]:
        if self._busy:  # a former file was left before its end, and its frames are still in the pipe
            self._stop()
        process = self._decoder = self._decoder or _start()
        self._busy = True
        if process.stdin is None or process.stdout is None:
            raise SourceError("the decoder has no pipes")
        with suppress(BrokenPipeError):  # told below, where nothing comes back
            request = [str(path.resolve()), header.file_meta.TransferSyntaxUID in JPEG_XL]
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        while True:
            told = self._answer(process)
            if "error" in told:
                self._busy = False
                syntax = syntax_name(str(header.file_meta.TransferSyntaxUID))
                raise SourceError(f"the pixels cannot be decoded ({syntax}): {told['error']}")
            if "shape" not in told:
                self._busy = False
                return
            yield told["frame"]

    def _answer(self, process: subprocess.Popen[bytes]) -> dict[str, Any]:
        """The decoder's next word, with the frame that follows; it is stopped where that takes too long."""
        expired = threading.Event()

        def give_up() -> None:
            expired.set()
            process.kill()

        late = threading.Timer(self._seconds, give_up)
        late.start()
        try:
            line = process.stdout.readline() if process.stdout else b""
            told: dict[str, Any] = json.loads(line) if line.endswith(b"\n") else {}
            if "shape" in told and process.stdout:
                dtype, size = np.dtype(told["dtype"]), math.prod(told["shape"])
                content = process.stdout.read(size * dtype.itemsize)
                if len(content) == size * dtype.itemsize:
                    return {**told, "frame": np.frombuffer(content, dtype).reshape(told["shape"])}
            elif line.endswith(b"\n"):
                return told
        finally:
            late.cancel()
        self._stop()
        if expired.is_set():
            return {
                "error": f"it took more than {self._seconds:g} s; the frame is damaged, or the machine is too busy now"
            }
        return {"error": "a damaged frame stopped the decoder"}

    def _stop(self) -> None:
        process, self._decoder, self._busy = self._decoder, None, False
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()


def _image(path: Path) -> Dataset:
    """All elements of a file; what old and damaged ones leave out of grey images has its usual value."""
    dataset = read_whole(path)
    for keyword, usual in (("SamplesPerPixel", 1), ("PhotometricInterpretation", "MONOCHROME2")):
        if keyword not in dataset:
            setattr(dataset, keyword, usual)
    return dataset


def _start() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "volseg.dicom.pixels"]
    # The threads of a linear algebra library would take up the memory that the limit leaves.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    null = subprocess.DEVNULL
    # In a session of its own: Ctrl-C is for the parent, which ends it.
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=null, env=environment, start_new_session=True
    )


def _plain(dataset: Dataset) -> Iterator[NDArray[Any]]:
    """The frames of a file that is not compressed, or by zlib alone."""
    try:
        with Quiet():
            if compressed(dataset):
                yield from _own_frames(dataset)
            elif dataset.PixelData[:4] == _ITEM and dataset["PixelData"].is_undefined_length:
                raise SourceError("its pixels are compressed, and its header does not say how; copy the file again")
            else:
                yield from _bits(dataset) if whole(dataset, "BitsAllocated") == 1 else iter_pixels(dataset, raw=True)
    except DAMAGE as error:
        raise SourceError("the pixels are damaged or cut short; copy the file again") from error


def _bits(dataset: Dataset) -> Iterator[NDArray[np.uint8]]:
    """Frames of one bit a pixel, packed from the lowest bit on and without a gap between frames (PS3.5 8.1.1).

    pydicom 3.0 reads frames that end within a byte one by one wrongly.
    """
    content = np.frombuffer(dataset.PixelData, np.uint8)
    rows, columns = whole(dataset, "Rows"), whole(dataset, "Columns")
    for frame in range(whole(dataset, "NumberOfFrames", default=1)):
        start = frame * rows * columns
        held = content[start // 8 : (start + rows * columns + 7) // 8]
        bits = np.unpackbits(held, bitorder="little")[start % 8 :]
        yield bits[: rows * columns].reshape(rows, columns)


def _own_frames(dataset: Dataset) -> Iterator[NDArray[Any]]:
    """The frames of a file in one of the transfer syntaxes that pydicom does not decode."""
    syntax = dataset.file_meta.TransferSyntaxUID
    rows, columns, count = (whole(dataset, name, default=1) for name in ("Rows", "Columns", "NumberOfFrames"))
    signed, allocated = whole(dataset, "PixelRepresentation"), whole(dataset, "BitsAllocated")
    stored = whole(dataset, "BitsStored")
    if allocated not in (8, 16, 32) or (syntax in JPEG_XL and signed):
        raise SourceError(f"{allocated} bits, {'signed' if signed else 'unsigned'}, are not read in this encoding")
    if whole(dataset, "SamplesPerPixel", default=1) > 1:
        raise SourceError("colours are not read in this encoding")
    dtype = np.dtype(f"<{'i' if signed else 'u'}{allocated // 8}")
    size = rows * columns * dtype.itemsize
    if syntax in JPEG_XL:
        import imagecodecs  # 80 MB, for this alone
    for content in generate_frames(dataset.PixelData, number_of_frames=count):
        if syntax in JPEG_XL:
            yield imagecodecs.jpegxl_decode(content)
            continue
        if syntax == DEFLATED_FRAMES:
            content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, size + 2)
        if len(content) not in (size, size + size % 2):
            raise SourceError(f"a frame holds {len(content)} bytes, the header claims {size}")
        frame = np.frombuffer(content[:size], dtype).reshape(rows, columns)
        unused = 8 * dtype.itemsize - stored
        yield frame if unused <= 0 else (frame << unused) >> unused  # what is not stored is no value


def _decoded_frames(dataset: Dataset) -> Iterator[NDArray[Any]]:
    """The frames of a file by pydicom's decoders, each handed to them as an image of one frame.

    `iter_pixels` of pydicom 3.0.2 ends with an error where the sign of a value has to be mended: at signed JPEG-LS of
    fewer bits than its words have, and at JPEG 2000 whose stream states another sign than the header.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    decoder = get_decoder(syntax)
    options = as_pixel_options(dataset, number_of_frames=1, pixel_keyword="PixelData")
    offsets, count = options.pop("extended_offsets", None), whole(dataset, "NumberOfFrames", default=1)
    for content in generate_frames(dataset.PixelData, number_of_frames=count, extended_offsets=offsets):
        try:
            yield decoder.as_array(encapsulate([content]), index=0, raw=True, **options)[0]
        except RuntimeError:
            if syntax != JPEGExtended12Bit:
                raise
            yield _of_twelve_bits(content, dataset)


def _of_twelve_bits(content: bytes, dataset: Dataset) -> NDArray[Any]:
    """A frame in JPEG of 12 bits, which GDCM and Pillow do not decode."""
    import imagecodecs  # 80 MB, for few files alone

    frame: NDArray[Any] = imagecodecs.jpeg8_decode(content)
    unused = 8 * frame.dtype.itemsize - whole(dataset, "BitsStored")
    return (
        (frame.view(f"i{frame.dtype.itemsize}") << unused) >> unused if whole(dataset, "PixelRepresentation") else frame
    )


def _serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """The decoder's life: a request a line comes in; for each frame a line and its bytes go out, then an empty object.

    A request is a path, and whether the file is in one of the transfer syntaxes that pydicom does not decode.
    """
    with suppress(ImportError, ValueError, OSError):  # not on every system
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_DECODER_BYTES, _DECODER_BYTES))
    for line in requests:
        try:
            path, own = json.loads(line)
            dataset = _image(Path(path))
            for frame in _own_frames(dataset) if own else _decoded_frames(dataset):
                answers.write(json.dumps({"shape": frame.shape, "dtype": frame.dtype.str}).encode() + b"\n")
                answers.write(np.ascontiguousarray(frame).tobytes())
            answers.write(b"{}\n")
        except SourceError as error:
            answers.write(json.dumps({"error": error.message}).encode() + b"\n")
        except DAMAGE:
            reason = "the stream is damaged"
            answers.write(json.dumps({"error": reason}).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    with Quiet():
        _serve(sys.stdin.buffer, sys.stdout.buffer)
