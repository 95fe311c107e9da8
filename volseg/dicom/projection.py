"""X-ray images: each is a volume of one slice that lies as it is shown on a screen, as other images do in a cohort."""

from __future__ import annotations

from contextlib import suppress

from pydicom import Dataset
from pydicom.uid import (
    BreastProjectionXRayImageStorageForProcessing,
    DigitalIntraOralXRayImageStorageForProcessing,
    DigitalMammographyXRayImageStorageForProcessing,
    DigitalXRayImageStorageForProcessing,
)

from volseg.dicom.file import number, numbers, plain, whole
from volseg.dicom.stack import Plane
from volseg.errors import SourceError

THICKNESS_MM = 1.0
"""Thickness of the slice, so that 0.001 ml of a report are 1 mm2 of area."""
NO_SPACING = "the image states no size of a pixel, and 1 mm was taken"
_ASPECT = "PixelAspectRatio"  # height of a pixel and its width, two whole numbers of no unit
# Rows of a screen run to the patient's left and columns to the back, as in `volseg.volume.affine_lps_axes`.
_ON_SCREEN = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
# In the order of what they are worth; the second number of each is the distance between columns.
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
_FOR_PROCESSING = frozenset(
    {
        *(DigitalXRayImageStorageForProcessing, DigitalMammographyXRayImageStorageForProcessing),
        *(DigitalIntraOralXRayImageStorageForProcessing, BreastProjectionXRayImageStorageForProcessing),
    }
)
_UNIFORM = 1e-3  # relative difference below which two spacings are equal


def plane_on_screen(header: Dataset) -> Plane:
    """The plane of an X-ray image, whose first pixel is the origin.

    Raises:
        SourceError: The spacing is no two positive numbers.
    """
    _, spacing = _spacing_of(header)
    return Plane((0.0, 0.0, 0.0), _ON_SCREEN, spacing, whole(header, "Rows"), whole(header, "Columns"))


def told_of_projection(header: Dataset) -> list[str]:
    """What a reader should know of an X-ray image: whose spacing was taken, and what was done to its numbers."""
    told = _told_of_spacing(header)
    if plain(header, "PhotometricInterpretation") == "MONOCHROME1":
        told.append("low numbers are to be shown bright (MONOCHROME1), and the numbers were inverted, as by SimpleITK")
    if plain(header, "PresentationIntentType") == "FOR PROCESSING" or plain(header, "SOPClassUID") in _FOR_PROCESSING:
        told.append(
            "its numbers are those of the detector (PresentationIntentType FOR PROCESSING), in which bones may be dark "
            "and contrast is another than in the image for presentation; keep one of the two kinds"
        )
    if plain(header, "PatientOrientation").upper().startswith("R"):
        told.append("its columns run to the patient's right (PatientOrientation), and were left as they are")
    return told


def _told_of_spacing(header: Dataset) -> list[str]:
    """What to say of the size of a pixel."""
    name, spacing = _spacing_of(header)
    if not name:
        return [NO_SPACING]
    if name == _ASPECT:
        return [
            f"the image states no size of a pixel, and 1 mm was taken for its width; its height is {spacing[0]:g} "
            f"times that ({_ASPECT})"
        ]
    if name == "ImagerPixelSpacing":
        factor = number(header, "EstimatedRadiographicMagnificationFactor")
        estimated = f", {factor:g} as the file estimates it" if factor else ""
        return [
            "the size of a pixel is that at the detector (ImagerPixelSpacing); in the body it is smaller, by the "
            f"magnification{estimated}"
        ]
    if name == "NominalScannedPixelSpacing":
        return ["the size of a pixel is that of the scanned film (NominalScannedPixelSpacing)"]
    detector = numbers(header, "ImagerPixelSpacing", 2)
    if detector and any(abs(a - b) > _UNIFORM * a for a, b in zip(spacing, detector, strict=True)):
        return [
            "the size of a pixel is the calibrated one (PixelSpacing), as for dcm2niix, and not that at the detector "
            "(ImagerPixelSpacing), which SimpleITK takes"
        ]
    return []


def _spacing_of(header: Dataset) -> tuple[str, tuple[float, ...]]:
    """The attribute that states the size of a pixel, empty if none does, and the distance of rows and of columns."""
    for name in _SPACINGS:
        stated = numbers(header, name, 2)
        if stated is not None:
            if min(stated) <= 0:
                raise SourceError(f"{name} is {stated[0]:g} x {stated[1]:g} mm; write the true size of a pixel")
            return name, stated
    height, width = 1.0, 1.0
    with suppress(SourceError):  # of no more worth than none, where it is damaged
        height, width = numbers(header, _ASPECT, 2) or (1.0, 1.0)
    if height != width and min(height, width) > 0:
        return _ASPECT, (height / width, 1.0)
    return "", (1.0, 1.0)
