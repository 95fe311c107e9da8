"""One image file: PNG, JPEG, TIFF, BMP, GIF, WebP or Netpbm, checked before it is decoded, read at its full depth."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from volseg.errors import SourceError
from volseg.formats.netpbm import is_netpbm, read_netpbm
from volseg.formats.picture import Picture, spacing_of_dpi
from volseg.formats.png import check_chunks
from volseg.formats.tiff import TIFF_HEADS, is_colour_tiff, read_tiff

# Pillow's own limit, beyond which it warns: a header may claim any size.
MAX_PIXELS = 2**30 // 12
DICOM_SUFFIXES = (".dcm", ".dicom")
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".pbm", ".pgm", ".ppm", ".pnm")

_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "F")
_COLOUR = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX")
_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_ORIENTATION = 274  # tag of EXIF
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, TypeError, KeyError, IndexError, ArithmeticError)
# First bytes of files that are called images and are not read, or none of ours.
_NAMED = (
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"P7\n", "PAM (Netpbm)"),
    (b"%PDF", "PDF"),
    (b"8BPS", "Photoshop"),
    (b"\x93NUMPY", "NumPy array"),
    (b"\x89HDF", "HDF5"),
    (b"\x1f\x8b", "gzip (NIfTI?)"),
    (b"PK\3\4", "zip"),
)


class DicomImage(Protocol):
    """One image of a DICOM file, as `volseg.dicom.read_x_ray` gives it."""

    @property
    def pixels(self) -> NDArray[Any]:
        """(rows, columns)."""

    @property
    def spacing_mm(self) -> tuple[float, float] | None:
        """Distance in mm between columns and between rows; None if the file does not state it."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know."""


ReadDicom = Callable[[Path, int], DicomImage]
"""A reader of DICOM files of one image: the file, and the largest number of pixels that is decoded."""


def read_picture(
    path: Path, *, name: str, max_pixels: int = MAX_PIXELS, read_dicom: ReadDicom | None = None
) -> Picture:
    """Read an image file; its orientation tag, if it has one, is obeyed.

    Args:
        path: Path of the file.
        name: Name of the file in messages.
        max_pixels: Largest number of pixels that is decoded.
        read_dicom: Reader of X-ray images in DICOM, which are refused without one.

    Raises:
        SourceError: Absent, empty, cut short, damaged, of another format, of several frames or channels, too many
            pixels, or colours that have no agreed meaning (CMYK, Lab) or more than 8 bits in a PNG.
    """
    try:
        with path.open("rb") as file:
            head = file.read(12)
            content = b"" if head[:4] in TIFF_HEADS else head + file.read()
    except OSError as error:
        raise SourceError(f"{name} cannot be opened ({error.strerror}); copy it again") from error
    if head[:4] in TIFF_HEADS:
        return read_tiff(path, name=name, max_pixels=max_pixels)
    if content[128:132] == b"DICM":
        return _dicom(path, name, max_pixels, read_dicom)
    if is_netpbm(head):
        return _netpbm(content, name, max_pixels)
    bits = check_chunks(content, name)[2] if content[:4] == b"\x89PNG" else 8
    if content[:3] == b"\xff\xd8\xff" and b"\xff\xd9" not in content:
        raise SourceError(f"{name} is cut short at {len(content)} bytes (no end of image); copy it again")
    try:
        with _open(io.BytesIO(content), name) as image:
            _check(image, bits, name, max_pixels)
            image.load()
            turned = int(image.getexif().get(_ORIENTATION, 0))
            spacing_mm, told = spacing_of_dpi(image.info.get("dpi"))
            lossy = isinstance(image, JpegImageFile) or (isinstance(image, WebPImageFile) and _is_lossy_webp(content))
            pixels, numbers, clear = _pixels(image, bits)
    except SourceError:
        raise
    except (*_BROKEN, zlib.error, struct.error, MemoryError) as error:
        raise SourceError(f"{name} cannot be decoded ({error}); copy it again") from error
    notes = (f"turned as the orientation tag {turned} of the file says",) if turned in range(2, 9) else ()
    tag = turned if turned in range(1, 9) else None
    picture = Picture(
        pixels=pixels,
        numbers=numbers,
        spacing_mm=spacing_mm,
        lossy=lossy,
        clear=clear,
        notes=notes,
        colour=pixels.ndim == 3,
        spacing_note=told,
        orientation=tag,
    )
    return picture.turned(tag or 1)


def is_colour(path: Path) -> bool:
    """Whether a file says that it holds colours; False where it cannot be read, which `read_picture` will tell."""
    try:
        with path.open("rb") as file:
            head = file.read(12)
            file.seek(0)
            if head[:4] in TIFF_HEADS:
                return is_colour_tiff(path)
            if is_netpbm(head):
                return head[1:2] in b"36"
            with _open(file, path.name) as image:
                if image.mode == "P":
                    palette = np.asarray(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
                    return bool((palette != palette[:, :1]).any())
                return image.mode in _COLOUR
    except (SourceError, *_BROKEN, zlib.error, struct.error):
        return False


def _open(file: BinaryIO, name: str) -> ImageFile.ImageFile:
    """Read the header by the reader of its first bytes.

    Pillow's own `open` looks at a limit of pixels that is one for the whole program, so it is not asked.
    """
    head = file.read(132)
    file.seek(0)
    if not head:
        raise SourceError(f"{name} is empty (0 bytes); copy it again")
    if head.startswith(b"\x89PNG"):
        return PngImageFile(file)
    if head.startswith(b"\xff\xd8\xff"):
        return JpegImageFile(file)
    if head.startswith(b"GIF8"):
        return GifImageFile(file)
    if head.startswith(b"BM"):
        return BmpImageFile(file)
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return WebPImageFile(file)
    known = next((told for first, told in _NAMED if head.startswith(first)), None)
    if head[4:8] == b"ftyp":
        known = "HEIC or AVIF"
    if known:
        raise SourceError(f"{name} is a {known} file, which is not read; save the image as PNG")
    raise SourceError(
        f"{name} is no PNG, JPEG, TIFF, BMP, GIF, WebP or Netpbm file (it starts with {head[:4]!r}); save the image as "
        "PNG"
    )


def _check(image: ImageFile.ImageFile, bits: int, name: str, max_pixels: int) -> None:
    """Refuse what would be misread, before anything is decoded."""
    width, height = image.size
    if width * height > max_pixels:
        raise SourceError(
            f"{name} claims {width} x {height} pixels, more than {max_pixels}; if it is no damaged file, "
            f"raise the limit with --max-pixels {width * height}"
        )
    frames = int(getattr(image, "n_frames", 1))
    if frames > 1:
        raise SourceError(
            f"{name} holds {frames} frames, and no option chooses one; save the one that is meant as a file"
        )
    if image.mode not in (*_GREY, *_COLOUR):
        raise SourceError(f"{name} holds {image.mode} colours, expected grey or RGB; save it as RGB")
    if bits > 8 and image.mode in (*_COLOUR, *_ALPHA):
        raise SourceError(
            f"{name} holds {bits}-bit {image.mode}, of which Pillow keeps 8 bits; save each channel as a grey image of "
            "16 bits, or the image with 8 bits"
        )


def _pixels(image: Image.Image, bits: int) -> tuple[NDArray[Any], NDArray[Any] | None, int]:
    """Pixels as shown, numbers as stored, and how many pixels are not opaque."""
    clear = 0
    numbers = None
    transparent = image.info.get("transparency")
    if image.mode == "1":
        numbers = np.asarray(image).astype(np.uint8)
        if isinstance(transparent, int):
            clear = int(np.count_nonzero(numbers == bool(transparent)))
        return numbers * np.uint8(255), numbers, clear
    if image.mode == "P":
        numbers = np.asarray(image)
    if image.mode in _ALPHA or (transparent is not None and image.mode in ("L", "P", "RGB")):
        whole = image.convert("RGBA")
        clear = int(np.count_nonzero(np.asarray(whole)[..., 3] != 255))
        image = whole.convert("RGB").convert("L") if image.mode in ("L", "LA", "La") else whole.convert("RGB")
    elif image.mode in _COLOUR:
        image = image.convert("RGB")
    pixels = np.asarray(image)
    if pixels.dtype == np.dtype(">u2"):
        pixels = pixels.astype(np.uint16)
    if bits == 16 and isinstance(transparent, int):
        clear = int(np.count_nonzero(pixels == transparent))
    if pixels.ndim == 2 and numbers is None:
        # Pillow spreads 2 and 4 bits over 0 to 255.
        numbers = pixels // (255 // (2**bits - 1)) if pixels.dtype == np.uint8 and bits in (2, 4) else pixels
    return pixels, numbers, clear


def _netpbm(content: bytes, name: str, max_pixels: int) -> Picture:
    numbers, bits = read_netpbm(content, name=name, max_pixels=max_pixels)
    pixels = numbers * np.uint8(255) if bits == 1 else numbers
    colour = numbers.ndim == 3
    return Picture(pixels, None if colour else numbers, None, lossy=False, clear=0, notes=(), colour=colour)


def _dicom(path: Path, name: str, max_pixels: int, read: ReadDicom | None) -> Picture:
    """An X-ray image in DICOM."""
    if read is None:
        raise SourceError(f"{name} is a DICOM file; use volseg convert dicom")
    try:
        found = read(path, max_pixels)
    except SourceError as error:
        raise SourceError(f"{name}: {error.message}") from error
    return Picture(found.pixels, found.pixels, found.spacing_mm, lossy=False, clear=0, notes=found.notes)


def _is_lossy_webp(content: bytes) -> bool:
    """Whether the first picture of a WebP file is stored with loss (VP8) and not without (VP8L)."""
    at = 12
    while at + 8 <= len(content):
        if content[at : at + 4] in (b"VP8 ", b"VP8L"):
            return content[at : at + 4] == b"VP8 "
        length = int.from_bytes(content[at + 4 : at + 8], "little")
        at += 8 + length + length % 2
    return True
