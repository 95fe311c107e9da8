"""The picture of a case: image, reference and prediction of the slice that shows most of the organs, as WebP."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from volseg.pictures.case import ReviewCase
from volseg.pictures.orientation import Plane, View, plane_of_slices
from volseg.pictures.rendering import colour_levels, convenient_scale, grey_levels, triptych

_PANEL = 360  # approximate number of pixels of a panel's longer side
_QUALITY = 86
_FILL = 0.16


@dataclass(frozen=True)
class CasePicture:
    """Three panels side by side, and the facts of what they show.

    Attributes:
        webp: Encoded picture.
        size: Width and height in pixels.
        plane: Plane of the slice.
        slice: Number of the slice, see `View.number`.
        slices: Number of slices.
        edges: Sides of the patient at the left and at the top of each panel, such as `("R", "A")`.
    """

    webp: bytes
    size: tuple[int, int]
    plane: Plane
    slice: int
    slices: int
    edges: tuple[str, str]


def draw_case(review_case: ReviewCase) -> CasePicture:
    """Draw the slice with most voxels of the reference's organs (of the prediction's, if there is no reference).

    The plane is that of the acquisition if slices are at least twice as thick as pixels, else axial. CT is shown in
    a window of 400 HU around 40 HU, any other image from the slice's 1st to its 99th percentile.
    """
    view = View.of(review_case.image.affine_ras, acquired_plane(review_case))
    reference, prediction = view.apply(review_case.reference.voxels), view.apply(review_case.prediction.voxels)
    place = fullest_slice(reference, prediction)
    if review_case.colours is None:
        intensity = grey_levels(view.apply(review_case.image.voxels)[place], window=review_case.window)
    else:
        intensity = np.moveaxis(colour_levels(view.apply(review_case.colours)[:, place]), 0, -1)
    rows, columns = intensity.shape[:2]
    picture = triptych(
        intensity,
        review_case.labels.masks(reference[place].astype(np.uint8)),
        review_case.labels.masks(prediction[place].astype(np.uint8)),
        review_case.labels,
        fill=_FILL,
        line=True,
        pixel_mm=view.pixel_mm,
        scale=convenient_scale((rows, columns), pixel_mm=view.pixel_mm, wide=_PANEL),
    )
    encoded = io.BytesIO()
    Image.fromarray(picture).save(encoded, "WEBP", quality=_QUALITY, method=5)
    height, width_all = picture.shape[:2]
    number = view.number(place, len(reference))
    return CasePicture(encoded.getvalue(), (width_all, height), view.plane, number, len(reference), view.edges)


def acquired_plane(review_case: ReviewCase) -> Plane:
    """The plane of a single slice, else that of thick slices with fine pixels; axial if no axis differs."""
    return plane_of_slices(review_case.image.affine_ras, review_case.image.shape)


def fullest_slice(reference: NDArray[np.generic], prediction: NDArray[np.generic]) -> int:
    """The slice with most labelled voxels of the reference, else of the prediction, else the middle one.

    Args:
        reference: Label map (slices, rows, columns) of the reference.
        prediction: Label map (slices, rows, columns) of the prediction.

    >>> label_map = np.zeros((5, 2, 2), np.uint8)
    >>> fullest_slice(label_map, label_map)
    2
    >>> label_map[4, 0, 0] = 1
    >>> fullest_slice(np.zeros((5, 2, 2), np.uint8), label_map)
    4
    """
    for label_map in (reference, prediction):
        counts = np.count_nonzero(label_map, axis=(1, 2))
        if counts.any():
            return int(counts.argmax())
    return len(reference) // 2
