"""What lies in a TIFF, looked at before anything is decoded: which image, which axes, how many pixels, which end."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from volseg.errors import SourceError

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries

# PhotometricInterpretation of TIFF 6.0.
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, MASK, YCBCR = 0, 1, 2, 3, 4, 6
# Compression: JPEG in its four forms, and decoders that go by a size inside their own stream.
JPEG = (6, 7, 33007, 34892)
STREAMS = {33003: "JP2", 33004: "JP2", 33005: "JP2", 34712: "JP2", 34887: "LERC", 34933: "PNG", 50001: "WEBP"}
# Axes of pages of which nothing is said.
UNSAID = "QI"

# No compression, the fax codes, LZW, Deflate, PackBits, LZMA, Zstandard: decoded into as many bytes as the part has.
# Whatever stands in none of the three tables is not read.
_BOUNDED = (1, 2, 3, 4, 5, 8, 32773, 32946, 34925, 50000)
_AXES = {"T": "time points", "C": "channels", "R": "tiles or positions", "M": "tiles of a mosaic", "E": "wavelengths"}
_INK = {5: "CMYK", 6: "YCbCr", 8: "Lab", 9: "Lab", 10: "Lab", 32803: "raw sensor (CFA)", 34892: "raw sensor"}


def _written_one_by_one(series: Sequence[TiffPageSeries]) -> TiffPageSeries | None:
    """The stack of images of one kind that a program wrote with tifffile one after the other; None if they differ."""
    from tifffile import TiffPageSeries

    first = series[0]
    kinds = {(one.kind, len(one.pages), one.shape, one.dtype, one.axes, one.keyframe.photometric) for one in series}
    if len(kinds) > 1 or first.kind != "shaped" or len(first.pages) != 1:
        return None
    pages = [one.keyframe for one in series]
    return TiffPageSeries(pages, (len(pages), *first.shape), first.dtype, f"I{first.axes}", kind="generic")


def main_series(file: TiffFile, name: str) -> TiffPageSeries:
    """The one image or stack of a file; smaller copies of it, thumbnails and transparency masks are left aside."""
    if not file.series:
        raise SourceError(f"{name} holds no image; copy it again")
    first, *others = file.series
    if (file.is_ome and first.kind != "ome") or first.is_multifile or any(page is None for page in first.pages):
        raise SourceError(
            f"{name} is one file of a data set of several (OME-XML or Micro-Manager), whose other files are not read; "
            "save the stack as one file"
        )
    if file.is_svs or file.is_scn or file.is_bif or file.is_philips or file.is_ndpi:
        return first  # a slide, then its thumbnail and label
    whole = [series for series in (first, *others) if not _aside(series.keyframe)] or [first]
    if len(whole) > 1 and (stack := _written_one_by_one(whole)):
        return stack
    if len(whole) > 1:
        sizes = ", ".join("x".join(map(str, series.shape)) for series in whole[:4])
        raise SourceError(
            f"{name} holds {len(whole)} images of different kinds ({sizes}), and no option chooses one; save the one "
            "that is meant as a file"
        )
    return whole[0]


def _aside(page: TiffPage) -> bool:
    return bool(int(page.subfiletype) & 5) or (page.photometric == MASK and page.index > 0)


def check_axes(series: TiffPageSeries, name: str) -> str:
    """The axes of a series that count: YX or YXS, after them one of slices."""
    axes = "".join(axis for axis, size in zip(series.axes, series.shape, strict=True) if axis in "YXS" or size > 1)
    if "Y" not in axes or "X" not in axes:
        raise SourceError(f"{name} holds axes {series.axes}, expected rows and columns; save it as an image")
    more = [axis for axis in axes if axis not in "YXSZ"]
    unsaid = [axis for axis in more if axis in UNSAID]
    sizes = dict(zip(series.axes, series.shape, strict=True))
    if unsaid == more and len(more) + axes.count("Z") <= 1:
        if unsaid and "S" in axes:
            raise SourceError(
                f"{name} holds {sizes[unsaid[0]]} pages, and no option chooses one; pages of colours are slices only "
                "where the file says so (axis Z), so save the one that is meant as a file"
            )
        return axes
    told = " and ".join(
        f"{size} {_AXES.get(axis, f'images along the axis {axis}')}"
        for axis, size in zip(series.axes, series.shape, strict=True)
        if axis in more
    )
    raise SourceError(
        f"{name} holds {told}, and no option chooses one; save the one that is meant as a file, slices with the axis Z"
    )


def check_kind(page: TiffPage, name: str) -> None:
    """Refuse what would be misread."""
    kind = page.photometric
    told = getattr(kind, "name", str(kind))
    if kind not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, MASK, YCBCR) or (
        kind == YCBCR and page.compression not in JPEG
    ):
        raise SourceError(f"{name} holds {_INK.get(int(kind), told)} colours, expected grey or RGB; save it as RGB")
    if page.dtype is None:
        raise SourceError(
            f"{name} holds {page.bitspersample} bits of sample format {page.sampleformat}, which no type of number "
            "has; save it with 8 or 16 bits"
        )
    if page.dtype.kind not in "biuf":
        raise SourceError(f"{name} holds complex numbers; save their magnitude")
    wanted = 3 if kind in (RGB, YCBCR) else 1
    extra = page.samplesperpixel - wanted
    if extra < 0:
        raise SourceError(f"{name} holds {page.samplesperpixel} samples a pixel, expected {wanted}; save it anew")
    if extra and (wanted == 1 or extra > 1) and not (extra == 1 and page.extrasamples[:1] in ((1,), (2,))):
        raise SourceError(
            f"{name} holds {page.samplesperpixel} samples a pixel and does not say what they are; save each as an image"
        )
    interleaved = page.samplesperpixel > 1 and page.planarconfig == 1
    if interleaved and page.bitspersample == 1 and page.software.startswith("tifffile"):
        raise SourceError(
            f"{name} holds colours of one bit that tifffile has stored in an order that no program reads; save them "
            "with 8 bits"
        )
    if kind == PALETTE and page.colormap is None:
        raise SourceError(f"{name} holds numbers of colours without their palette; save it as grey or RGB")


def check_size(series: TiffPageSeries, name: str, max_pixels: int) -> None:
    """Refuse more pixels than are allowed, those of all slices together."""
    page = series.keyframe
    plane = page.imagewidth * page.imagelength
    slices = max(1, int(np.prod(series.shape, dtype=object)) // max(1, plane * page.samplesperpixel))
    if plane * slices > max_pixels:
        of_slices = f" x {slices}" if slices > 1 else ""
        raise SourceError(
            f"{name} claims {page.imagewidth} x {page.imagelength}{of_slices} pixels, more than {max_pixels}; if it is "
            f"no damaged file, raise the limit with --max-pixels {plane * slices}"
        )


def check_data(file: TiffFile, series: TiffPageSeries, name: str) -> None:
    """Refuse data that end before they should, and streams that claim another size than their part of the image."""
    size = file.filehandle.size
    pages: Sequence[Any] = series.pages
    page = series.keyframe
    _check_pages(file, series, name)
    if int(page.compression) not in (*_BOUNDED, *STREAMS, *JPEG):
        told = getattr(page.compression, "name", str(page.compression))
        raise SourceError(f"{name} is compressed by {told}, which is not read; save it with LZW or Deflate")
    if len(pages) == 1 and series.is_truncated:  # all slices behind one header
        end = page.dataoffsets[0] + series.nbytes
        if end > size:
            raise SourceError(f"{name} is cut short at {size} bytes of at least {end}; copy it again")
        return
    for number, one in enumerate(pages):
        segments = list(zip(one.dataoffsets, one.databytecounts, strict=False))
        where = f" of page {number + 1}" if len(pages) > 1 else ""
        expected = int(np.prod(page.chunked, dtype=object))
        if len(segments) < expected or any(count == 0 or at == 0 for at, count in segments[:expected]):
            raise SourceError(f"{name} lacks the pixels of some strips or tiles{where}; save it anew, without gaps")
        end = max(at + count for at, count in segments)
        if end > size:
            raise SourceError(f"{name} is cut short at {size} bytes of at least {end}{where}; copy it again")
        if page.compression in STREAMS or page.compression in JPEG:
            _check_streams(file, page, segments, name)


def _check_pages(file: TiffFile, series: TiffPageSeries, name: str) -> None:
    """Refuse a file that names more pages than it has, as one that was cut does."""
    size = file.filehandle.size
    last, form = file.pages[-1], file.tiff
    if last.offset and not file.is_ndpi:  # NDPI has offsets of its own
        file.filehandle.seek(last.offset)
        (entries,) = struct.unpack(form.tagnoformat, file.filehandle.read(form.tagnosize))
        file.filehandle.seek(last.offset + form.tagnosize + entries * form.tagsize)
        (following,) = struct.unpack(form.offsetformat, file.filehandle.read(form.offsetsize))
        if following >= size:
            raise SourceError(
                f"{name} is cut short at {size} bytes; page {len(file.pages) + 1} begins at {following}; copy it again"
            )
    if file.is_imagej:
        stated = int((file.imagej_metadata or {}).get("images", 1))
        planes = math.prod(size for axis, size in zip(series.axes, series.shape, strict=True) if axis not in "YXS")
        if stated > planes:
            raise SourceError(
                f"{name} is cut short at {size} bytes; ImageJ says that it holds {stated} images, and {planes} are "
                "there; copy it again"
            )


def _check_streams(file: TiffFile, page: TiffPage, segments: Sequence[tuple[int, int]], name: str) -> None:
    """Compare the size that each compressed part states with the part of the image that it fills."""
    part = page.tile[-2:] if page.tile else (min(page.rowsperstrip, page.imagelength), page.imagewidth)
    most = 2 * (part[0] + 16) * (part[1] + 16)
    if page.is_ndpi:
        most = 2 * page.imagewidth * page.imagelength
    for at, count in segments:
        file.filehandle.seek(at)
        width, height = _stream_size(file.filehandle.read(count), page)
        if width * height > most:
            raise SourceError(
                f"{name} holds a part of {width} x {height} pixels where {part[1]} x {part[0]} belong; it is damaged, "
                "copy it again"
            )


def _stream_size(stream: bytes, page: TiffPage) -> tuple[int, int]:
    """Width and height that a compressed part of an image states; of JPEG (maybe without tables), or of `STREAMS`."""
    kind = STREAMS.get(int(page.compression), "JPEG")
    if kind == "LERC":
        if stream[:6] != b"Lerc2 ":
            raise ValueError("a LERC part that is packed once more or of version 1")
        version = int.from_bytes(stream[6:10], "little", signed=True)
        height, width = struct.unpack_from("<ii", stream, 14 if version >= 3 else 10)
        return width, height
    if kind == "JPEG":
        return _jpeg_size(stream)
    opened = {"JP2": Jpeg2KImageFile, "PNG": PngImageFile, "WEBP": WebPImageFile}[kind]
    return opened(io.BytesIO(stream)).size


def _jpeg_size(stream: bytes) -> tuple[int, int]:
    """Width and height of the frame of a JPEG stream; Pillow cannot open one whose tables stand elsewhere."""
    at = 2
    while at + 9 <= len(stream):
        if stream[at] != 0xFF:
            at += 1
            continue
        marker = stream[at + 1]
        if marker in range(0xC0, 0xD0) and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", stream, at + 5)
            return width, height
        if marker == 0xFF or marker in range(0xD0, 0xD9) or marker == 1:
            at += 1 if marker == 0xFF else 2
            continue
        at += 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
    raise ValueError("a JPEG part without a frame")
