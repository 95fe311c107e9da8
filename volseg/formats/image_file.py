"""One image file: PNG, JPEG or TIFF, checked before it is decoded and read at its full depth."""

from __future__ import annotations

import io
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from volseg.errors import SourceError
from volseg.formats.png import check_chunks

# Pillow's own limit, beyond which it warns: a header may claim any size.
MAX_PIXELS = 2**30 // 12
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "F")
_COLOUR = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX")
_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
# Programs write these where nobody measured anything: they are of screens.
_SCREEN_DPI = (72.0, 96.0)
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT, _ORIENTATION = 258, 262, 339, 274  # tags of TIFF 6.0 and EXIF
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, TypeError, KeyError, IndexError, ArithmeticError)


@dataclass(frozen=True, eq=False)
class Picture:
    """What an image file holds.

    Attributes:
        pixels: (rows, columns) or (rows, columns, 3), as shown; uint8, uint16, int32, uint32 or float32.
        numbers: (rows, columns), as stored: the index of a palette, 0 to 15 of 4 bits; None for colours.
        spacing_mm: distance in mm between columns and between rows, as the file states it; None where it does not.
        lossy: whether compression may have changed the pixels (JPEG).
        clear: pixels that are not opaque.
        notes: what a reader should know.
    """

    pixels: NDArray[Any]
    numbers: NDArray[Any] | None
    spacing_mm: tuple[float, float] | None
    lossy: bool
    clear: int
    notes: tuple[str, ...]

    @property
    def size(self) -> str:
        """For messages: `512 wide and 300 high`."""
        return f"{self.pixels.shape[1]} wide and {self.pixels.shape[0]} high"


def read_picture(path: Path, *, name: str, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read an image file; its orientation tag, if it has one, is obeyed.

    Args:
        path: of the file.
        name: for messages.
        max_pixels: more than these are not decoded.

    Raises:
        SourceError: absent, empty, cut short, damaged, no PNG, JPEG or TIFF, of several frames, too many pixels, or
            colours that have no agreed meaning (CMYK, Lab) or more than 8 bits.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{name} cannot be opened ({error.strerror}); copy it again") from error
    bits = check_chunks(content, name)[2] if content[:4] == b"\x89PNG" else 8
    if content[:3] == b"\xff\xd8\xff" and b"\xff\xd9" not in content:
        raise SourceError(f"{name} is cut short at {len(content)} bytes (no end of image); copy it again")
    try:
        with _open(io.BytesIO(content), name) as image:
            tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
            if tags:
                bits = max(tags.get(_BITS, (1,)))
            _check(image, bits, name, max_pixels)
            inverted = image.mode == "I;16" and tags.get(_PHOTOMETRIC) == 0  # Pillow inverts 8 bits only
            unsigned = image.mode == "I" and tags.get(_SAMPLE_FORMAT, (1,))[0] == 1 and bits == 32
            turned = int(image.getexif().get(_ORIENTATION, 1))
            image.load()
            spacing_mm, notes = _spacing(image.info.get("dpi"))
            lossy = isinstance(image, JpegImageFile)
            shown: Image.Image = image
            if turned in range(2, 9):
                shown = ImageOps.exif_transpose(image)  # nothing more is done to a TIFF, which Pillow has turned
                notes.append(f"turned as the orientation tag {turned} of the file says")
            pixels, numbers, clear = _pixels(shown, bits)
    except SourceError:
        raise
    except (*_BROKEN, zlib.error, struct.error, MemoryError) as error:
        raise SourceError(f"{name} cannot be decoded ({error}); copy it again") from error
    if unsigned:
        pixels = pixels.view(np.uint32)
        numbers = pixels
    if inverted:
        pixels = np.iinfo(np.uint16).max - pixels
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise SourceError(f"{name} holds NaN or infinity; replace them by the background's value")
    return Picture(pixels, numbers, spacing_mm, lossy, clear, tuple(notes))


def is_colour(path: Path) -> bool:
    """Whether a file says that it holds colours; False where it cannot be read, which `read_picture` will tell."""
    try:
        with path.open("rb") as file, _open(file, path.name) as image:
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
    head = file.read(12)
    file.seek(0)
    if not head:
        raise SourceError(f"{name} is empty (0 bytes); copy it again")
    if head.startswith(b"\x89PNG"):
        return PngImageFile(file)
    if head.startswith(b"\xff\xd8\xff"):
        return JpegImageFile(file)
    if head[:4] in _TIFF:
        return TiffImageFile(file)
    if head.startswith(b"GIF8"):
        raise SourceError(
            f"{name} is a GIF, which may be animated and has no option to choose a frame; save the image as PNG"
        )
    raise SourceError(f"{name} is no PNG, JPEG or TIFF (it starts with {head[:4]!r}); save the image as PNG")


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
        what = "pages" if isinstance(image, TiffImageFile) else "frames"
        raise SourceError(
            f"{name} holds {frames} {what}, and no option chooses one; save the one that is meant as a file"
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
    if image.mode == "1":
        numbers = np.asarray(image).astype(np.uint8)
        return numbers * np.uint8(255), numbers, 0
    if image.mode == "P":
        numbers = np.asarray(image)
    if image.mode in _ALPHA or ("transparency" in image.info and image.mode in ("L", "P", "RGB")):
        whole = image.convert("RGBA")
        clear = int(np.count_nonzero(np.asarray(whole)[..., 3] != 255))
        image = whole.convert("RGB").convert("L") if image.mode in ("L", "LA", "La") else whole.convert("RGB")
    elif image.mode in _COLOUR:
        image = image.convert("RGB")
    pixels = np.asarray(image)
    if pixels.dtype == np.dtype(">u2"):
        pixels = pixels.astype(np.uint16)
    if pixels.ndim == 2 and numbers is None:
        # Pillow spreads 2 and 4 bits over 0 to 255.
        numbers = pixels // (255 // (2**bits - 1)) if pixels.dtype == np.uint8 and bits in (2, 4) else pixels
    return pixels, numbers, clear


def _spacing(dpi: object) -> tuple[tuple[float, float] | None, list[str]]:
    """Distance in mm between columns and rows of a stated resolution; None where it is absent or of a screen."""
    try:
        x, y = (float(value) for value in dpi)  # type: ignore[attr-defined]
    except (TypeError, ValueError, ZeroDivisionError):
        return None, []
    if not (math.isfinite(x) and math.isfinite(y) and 1 < x <= 1e7 and 1 < y <= 1e7):  # 1 stands for absent
        return None, []
    if any(abs(x - screen) < 0.5 and abs(y - screen) < 0.5 for screen in _SCREEN_DPI):
        return None, []
    return (25.4 / x, 25.4 / y), [f"spacing from the file's {x:.6g} dpi"]
