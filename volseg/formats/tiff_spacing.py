"""Distances between the pixels and the slices of a TIFF: OME's, ImageJ's, those of slide scanners, and the tags."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from volseg.formats.picture import INCH_MM, spacing_of_dpi

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

Distances = tuple["tuple[float, float] | None", "float | None", str]

_UNITS_MM = {
    "pm": 1e-9, "Å": 1e-7, "angstrom": 1e-7, "nm": 1e-6, "nanometer": 1e-6, "µm": 1e-3, "μm": 1e-3, "um": 1e-3,
    "micron": 1e-3, "microns": 1e-3, "micrometer": 1e-3, "micrometre": 1e-3, "mm": 1.0, "millimeter": 1.0,
    "millimetre": 1.0, "cm": 10.0, "centimeter": 10.0, "m": 1000.0, "meter": 1000.0, "inch": INCH_MM, "in": INCH_MM,
    "inches": INCH_MM,
}  # fmt: skip
# ResolutionUnit of TIFF 6.0 is 2 or 3; libraries write 4 and 5 for millimetre and micrometre.
_PER_MM = {2: 1 / INCH_MM, 3: 0.1, 4: 1.0, 5: 1000.0}


def distances(file: TiffFile, page: TiffPage) -> Distances:
    """Distance in mm between columns and rows, between slices, and where they come from; None where none is stated.

    OME-XML comes first, then ImageJ's description, the micrometres per pixel of Aperio slides, and the resolution tags.
    A length in pixels is none.

    Args:
        file: Open file.
        page: Page, whose tags count.
    """
    if file.is_ome and file.ome_metadata:
        found = _of_ome(file.ome_metadata)
    elif file.is_imagej:
        found = _of_imagej(file.imagej_metadata or {}, page)
    elif match := re.search(r"\bMPP = ([0-9.eE+-]+)", page.description if file.is_svs else ""):
        found = _told(_length(match[1], "µm"), _length(match[1], "µm"), None, "Aperio's micrometres per pixel")
    else:
        found = None, None, ""
    return found if found[0] or found[1] else _of_tags(page)


def _of_ome(text: str) -> Distances:
    try:
        root = ET.fromstring(text)
    except ET.ParseError:
        return None, None, ""
    for element in root.iter():
        if element.tag.rpartition("}")[2] == "Pixels":
            x, y, z = (
                _length(element.get(f"PhysicalSize{axis}"), element.get(f"PhysicalSize{axis}Unit", "µm"))
                for axis in "XYZ"
            )
            return _told(x, y, z, "OME-XML")
    return None, None, ""


def _of_imagej(metadata: Mapping[str, Any], page: TiffPage) -> Distances:
    unit = str(metadata.get("unit", ""))
    x, y = (_per_unit(page, tag) for tag in (282, 283))
    of_x, of_y = (_length(1 / value, unit) if value else None for value in (x, y))
    return _told(of_x, of_y, _length(metadata.get("spacing"), unit), "ImageJ")


def _of_tags(page: TiffPage) -> Distances:
    unit = page.tags.valueof(296, 2)
    scale = _PER_MM.get(int(unit)) if isinstance(unit, int) else None
    x, y = (_per_unit(page, tag) for tag in (282, 283))
    if scale is None or not x or not y:
        return None, None, ""
    if x == 1 and y == 1:  # what writers put where nothing is known
        return None, None, ""
    spacing_mm, told = spacing_of_dpi((x * scale * INCH_MM, y * scale * INCH_MM))
    return spacing_mm, None, told


def _told(x: float | None, y: float | None, z: float | None, source: str) -> Distances:
    if x is None or y is None:
        return None, z, f"distance between slices from {source}" if z else ""
    return (x, y), z, f"spacing from {source}"


def _per_unit(page: TiffPage, tag: int) -> float:
    """The resolution of a tag, 0 where it is absent or no number."""
    value = page.tags.valueof(tag)
    try:
        numerator, denominator = value
        found = numerator / denominator
    except (TypeError, ValueError, ZeroDivisionError):
        return 0.0
    return found if math.isfinite(found) and found > 0 else 0.0


def _length(value: object, unit: str) -> float | None:
    """A length in mm, None where there is none."""
    scale = _UNITS_MM.get(unit.strip().replace("\\u00B5", "µ").replace("\\u03BC", "μ"))
    try:
        length = float(value) * scale  # type: ignore[arg-type,operator]
    except (TypeError, ValueError):
        return None
    return length if math.isfinite(length) and 1e-9 < length < 1e6 else None
