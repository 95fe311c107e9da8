"""TIFF files: what lies in them is looked at before anything is decoded, then read by tifffile and imagecodecs.

What becomes of each photometric kind, of pages and of axes stands in `docs/reference/formats.md`.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from volseg.errors import SourceError
from volseg.formats.picture import Picture
from volseg.formats.tiff_calibration import calibrated
from volseg.formats.tiff_checks import (
    JPEG,
    PALETTE,
    RGB,
    STREAMS,
    UNSAID,
    WHITE_IS_ZERO,
    YCBCR,
    check_axes,
    check_data,
    check_kind,
    check_size,
    main_series,
)
from volseg.formats.tiff_spacing import distances

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries

TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_BROKEN = (
    *(OSError, SyntaxError, ValueError, EOFError, TypeError, KeyError, IndexError, ArithmeticError, AttributeError),
    *(RuntimeError, struct.error, zlib.error, MemoryError, AssertionError),
)


def read_tiff(path: Path, *, name: str, max_pixels: int) -> Picture:
    """Read the image or the stack of slices of a TIFF or BigTIFF; its orientation tag, if it has one, is obeyed.

    Args:
        path: Path of the file.
        name: Name of the file in messages.
        max_pixels: Largest number of pixels of all slices together that is decoded.

    Raises:
        SourceError: The file is damaged, cut short, too large, holds several images that are no slices, or is not read.
    """
    from tifffile import TiffFile, TiffFileError

    try:
        with path.open("rb") as raw, TiffFile(raw, _multifile=False) as file:
            series = main_series(file, name)
            page = series.keyframe
            axes = check_axes(series, name)
            check_kind(page, name)
            check_size(series, name, max_pixels)
            check_data(file, series, name)
            notes: list[str] = []
            if any(axis in UNSAID for axis in axes):
                notes.append(
                    f"{series.shape[0]} pages taken as slices of a volume; the file does not say what they are"
                )
            if series.kind == "shaped" and series.axes == "SYX" and page.photometric == RGB and not page.extrasamples:
                notes.append(
                    "three planes taken as red, green and blue; tifffile stores a stack of three slices in the same way"
                )
            samples = _samples(series, axes, name)
            picture = _picture(file, page, samples, stacked="Z" in axes or len(axes) > 2, notes=notes, name=name)
            tag = page.tags.valueof(274)
    except SourceError:
        raise
    except (TiffFileError, *_BROKEN) as error:
        raise SourceError(f"{name} is a damaged TIFF ({_short(error)}); copy it again") from error
    if not isinstance(tag, int) or tag not in range(1, 9):
        return picture
    return _oriented(picture, tag)


def is_colour_tiff(path: Path) -> bool:
    """Whether a TIFF says that it holds colours; False where it cannot be read, which `read_tiff` will tell."""
    from tifffile import TiffFile, TiffFileError

    try:
        with path.open("rb") as raw, TiffFile(raw, _multifile=False) as file:
            page = file.pages.first
            if page.photometric == PALETTE:
                palette = np.asarray(page.colormap)
                return bool((palette != palette[:1]).any())
            return page.photometric in (RGB, YCBCR)
    except (TiffFileError, *_BROKEN):
        return False


def _oriented(picture: Picture, tag: int) -> Picture:
    said = (f"turned as the orientation tag {tag} of the file says",) if tag > 1 else ()
    return replace(picture.turned(tag), orientation=tag, notes=(*picture.notes, *said))


def _samples(series: TiffPageSeries, axes: str, name: str) -> NDArray[Any]:
    """(slices or 1, rows, columns, samples), native byte order."""
    from tifffile import TiffFileError

    try:
        data = np.asarray(series.asarray(maxworkers=1))
    except NotImplementedError as error:
        raise SourceError(
            f"{name} is of a kind that is not read ({_short(error)}); save it as plain grey or RGB"
        ) from error
    except (TiffFileError, *_BROKEN) as error:
        raise SourceError(f"{name} cannot be decoded ({_short(error)}); copy it again") from error
    kept = [number for number, axis in enumerate(series.axes) if axis in "YXS" or series.shape[number] > 1]
    data = data.reshape([series.shape[number] for number in kept])
    order = [axes.index(axis) for axis in axes if axis not in "YXS"] + [axes.index("Y"), axes.index("X")]
    if "S" in axes:
        order.append(axes.index("S"))
    data = data.transpose(order)
    data = data if "S" in axes else data[..., None]
    return data if data.ndim == 4 else data[None]


def _picture(
    file: TiffFile, page: TiffPage, samples: NDArray[Any], *, stacked: bool, notes: list[str], name: str
) -> Picture:
    """The picture of samples (slices, rows, columns, samples)."""
    stacked = stacked and len(samples) > 1
    samples = samples if stacked else samples[0]
    kind, bits = int(page.photometric), page.bitspersample if isinstance(page.bitspersample, int) else 8
    colour = kind in (RGB, YCBCR)
    clear = 0
    if page.samplesperpixel > (3 if colour else 1):
        if page.extrasamples[:1] in ((1,), (2,)):
            opaque = np.iinfo(samples.dtype).max if samples.dtype.kind in "ui" else 1
            clear = int(np.count_nonzero(samples[..., -1] != opaque))
        else:
            notes.append("a fourth sample beside red, green and blue was dropped; the file does not say what it is")
    stored = _plain(samples[..., :3] if colour else samples[..., 0], name)
    numbers = None if colour else stored
    pixels = stored
    if kind == PALETTE:
        palette = np.asarray(page.colormap)
        shift = 0 if palette.max() < 256 else 8  # old writers fill 8 of the 16 bits
        pixels, colour = np.asarray(palette >> shift, dtype=np.uint8).T[stored], True
    elif numbers is not None and bits in (1, 2, 4) and stored.dtype == np.uint8:
        pixels = stored * np.uint8(255 // (2**bits - 1))  # as shown: few bits spread over black to white
    inverted = kind == WHITE_IS_ZERO
    if inverted and pixels.dtype.kind == "u" and bits <= 16:
        largest = 255 if bits < 8 else 2**bits - 1
        pixels = np.asarray(largest - pixels, dtype=pixels.dtype)
        notes.append(f"white is zero in the file: turned round to {largest} less the stored value, as shown")
    elif inverted:
        notes.append("white is zero in the file, whose numbers have no largest one: kept as stored")
    elif numbers is not None and file.is_imagej and kind != PALETTE:
        pixels, said = calibrated(pixels, file.imagej_metadata or {})
        notes += [said] if said else []
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise SourceError(f"{name} holds NaN or infinity; replace them by the background's value")
    spacing_mm, slice_mm, told = distances(file, page)
    return Picture(
        pixels=pixels,
        numbers=numbers,
        spacing_mm=spacing_mm,
        lossy=page.compression in JPEG or _is_lossy(file, page),
        clear=clear,
        notes=tuple(notes),
        colour=colour,
        stacked=stacked,
        slice_mm=slice_mm if stacked else None,
        spacing_note=told,
        inverted=inverted,
        writer="ImageJ" if file.is_imagej else "tifffile" if page.software.startswith("tifffile") else "",
    )


def _plain(stored: NDArray[Any], name: str) -> NDArray[Any]:
    """The same numbers in a type that a volume has."""
    stored = np.ascontiguousarray(stored)
    if stored.dtype.kind == "b":
        return stored.view(np.uint8)
    if stored.dtype == np.float16:
        return stored.astype(np.float32)
    if stored.dtype == np.int8:
        return stored.astype(np.int16)
    if stored.dtype.kind in "iu" and stored.dtype.itemsize == 8:
        low, high = int(stored.min()), int(stored.max())
        for narrow in (np.int32, np.uint32):
            if np.iinfo(narrow).min <= low and high <= np.iinfo(narrow).max:
                return stored.astype(narrow)
        raise SourceError(f"{name} holds {low} to {high} in 64 bits, more than 32 bits keep; save it with 32")
    return stored.astype(stored.dtype.newbyteorder("="), copy=False)


def _is_lossy(file: TiffFile, page: TiffPage) -> bool:
    """Whether the first part of an image is compressed with loss by JPEG 2000 or WebP; that of LERC is not known."""
    kind = STREAMS.get(int(page.compression))
    if kind not in ("JP2", "WEBP"):
        return False
    file.filehandle.seek(page.dataoffsets[0])
    stream = file.filehandle.read(page.databytecounts[0])
    if kind == "WEBP":
        return b"VP8L" not in stream[:64]
    at = stream.find(b"\xff\x52")  # COD: its fourteenth byte from the marker is the wavelet, 0 for the one with loss
    return at < 0 or stream[at + 13] == 0


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
