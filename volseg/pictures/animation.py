"""Picture files: PNG, and frames joined to a GIF or WebP animation; they are written whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from volseg.errors import UsageError
from volseg.files import atomic
from volseg.pictures.rendering import Colour, Pixels

STILL = (".png",)
MOVING = (".gif", ".webp")

_SAMPLES = 8  # number of frames that determine the palette
_LAST_MS = 1500  # ms for which the last frame is shown


def write_png(path: str | Path, picture: Pixels) -> None:
    """Write one picture.

    Args:
        path: File with the ending .png.
        picture: Picture (height, width, 3).

    Raises:
        UsageError: The file has another ending.
    """
    path = Path(path)
    if path.suffix.lower() not in STILL:
        raise UsageError(f"the picture must be a .png file, got {path.name}; give another name")
    with atomic(path) as partial:
        Image.fromarray(picture).save(partial, format="PNG", optimize=True)


def write_animation(
    path: str | Path, frames: Sequence[Pixels], *, colours: Sequence[Colour] = (), ms: int = 120
) -> None:
    """Write frames of one size as an endless animation.

    A GIF has one palette of 256 colours for all frames, without dithering, which contains `colours` exactly; a WebP is
    written without loss.

    Args:
        path: File with the ending .gif or .webp.
        frames: Pictures (height, width, 3), at least one.
        colours: Colours that a GIF must show exactly.
        ms: Milliseconds for which a frame is shown; the last one is shown longer.

    Raises:
        UsageError: There is no frame, frames differ in size, or the file has another ending.
    """
    path = Path(path)
    if path.suffix.lower() not in MOVING:
        raise UsageError(f"an animation must be a {' or '.join(MOVING)} file, got {path.name}; give another name")
    if len({frame.shape for frame in frames}) != 1:
        raise UsageError(
            f"the frames must be at least one and all of one size, got {len(frames)}; take those of one case"
        )
    times = [ms] * (len(frames) - 1) + [_LAST_MS]
    pictures = [Image.fromarray(frame) for frame in frames]
    with atomic(path) as partial:
        if path.suffix.lower() == ".webp":
            pictures[0].save(
                partial,
                format="WEBP",
                save_all=True,
                append_images=pictures[1:],
                duration=times,
                loop=0,
                lossless=True,
                method=4,
            )
            return
        palette = _palette(frames, colours)
        mapped = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
        # `optimize` leaves out what has not changed since the previous frame: most of the image, a third of the bytes.
        mapped[0].save(
            partial, format="GIF", save_all=True, append_images=mapped[1:], duration=times, loop=0, optimize=True
        )


def _palette(frames: Sequence[Pixels], colours: Sequence[Colour]) -> Image.Image:
    """256 colours: those that must be exact, and the best ones for some of the frames."""
    exact = list(dict.fromkeys(colours))[:64]
    chosen = np.linspace(0, len(frames) - 1, min(_SAMPLES, len(frames))).round().astype(int).tolist()
    mosaic = Image.fromarray(np.concatenate([frames[i] for i in chosen]))
    best = mosaic.quantize(256 - len(exact), method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    found = (best.getpalette() or [])[: 3 * (256 - len(exact))]
    levels = [*(level for colour in exact for level in colour), *found]
    palette = Image.new("P", (1, 1))
    palette.putpalette(levels + [0] * (768 - len(levels)))
    return palette
