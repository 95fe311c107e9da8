"""The picture of one slice: grey image, contours of the prediction, the reference as a filled area; as PNG."""

from __future__ import annotations

import io
from collections.abc import Collection

from PIL import Image

from volseg.pictures import CaseView, Pixels, arrange_panels, convenient_scale, panel

PARTS = ("prediction", "reference")
_WIDE = 480  # approximate pixels of the longer side; a page shows it some 400 high, and letters must stay readable
_LIGHT = 0.3  # opacity of the filled reference


def slice_pixels(case_view: CaseView, place: int, *, parts: Collection[str] = PARTS) -> Pixels:
    """Draw one slice with its scale bar and the letters of the patient's sides.

    Args:
        case_view: Case as it is shown.
        place: Index of the slice on the screen, from 0; beyond the last one the last is drawn.
        parts: Parts that are drawn over the image: `prediction`, `reference`.

    Returns:
        Picture (height, width, 3).
    """
    place = min(max(place, 0), case_view.slices - 1)
    intensity, pixel_mm = case_view.intensity[place], case_view.view.pixel_mm
    scale = convenient_scale((intensity.shape[0], intensity.shape[1]), pixel_mm=pixel_mm, wide=_WIDE)
    picture = panel(
        intensity,
        case_view.reference_masks(place) if "reference" in parts else None,
        [region.colour for region in case_view.labels.regions],
        fill=_LIGHT,
        lines=case_view.prediction_masks(place) if "prediction" in parts else None,
        pixel_mm=pixel_mm,
        scale=scale,
        thickness=2 if scale > 1 else 1,
    )
    return arrange_panels([("", picture)], mm_per_pixel=case_view.mm_per_pixel(scale), edges=case_view.edges)


def png(pixels: Pixels) -> bytes:
    r"""Encode a picture (height, width, 3) as a PNG file.

    >>> import numpy as np
    >>> png(np.zeros((2, 3, 3), np.uint8))[:4]
    b'\x89PNG'
    """
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG", compress_level=3)
    return content.getvalue()
