"""What the slices of one volume share; where some differ, two scans may lie one above the other under one UID."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from pydicom import Dataset

from volseg.dicom.file import plain
from volseg.errors import SourceError

_KEYWORDS = (
    *("FrameOfReferenceUID", "SOPClassUID", "ImageType", "PatientPosition", "EchoTime", "InversionTime"),
    *("DiffusionBValue", "ConvolutionKernel", "AcquisitionNumber"),
)
# A scan may be acquired part by part, one above the other; two acquisitions among each other may be two scans.
_OF_PARTS = frozenset({"AcquisitionNumber"})
# Times are rounded; in their unit, ms.
_NUMBERS = frozenset({"EchoTime", "InversionTime", "DiffusionBValue"})
_SAME_NUMBER = 0.1


def traits_of(header: Dataset) -> tuple[str, ...]:
    """What the header of a single image says of the keywords that slices of one volume share."""
    return tuple(plain(header, keyword) for keyword in _KEYWORDS)


def unlike(traits: Sequence[tuple[str, ...]]) -> list[str]:
    """A warning where slices of a stack differ in what they ought to share; it names keywords and no value.

    Args:
        traits: What `traits_of` gives for each slice, in order; empty for frames of a multi-frame object.
    """
    if not all(traits):
        return []
    differing: dict[str, int] = {}
    for keyword, values in zip(_KEYWORDS, zip(*traits, strict=True), strict=True):
        in_parts = keyword in _OF_PARTS and len(list(groupby(values))) == len(set(values))
        if len(set(values)) > 1 and not in_parts and not (keyword in _NUMBERS and _are_near(values)):
            differing[keyword] = len(values) - max(Counter(values).values())
    if not differing:
        return []
    most = max(differing.values())
    also = ", so their positions may not be of one space" if "FrameOfReferenceUID" in differing else ""
    return [
        f"{most} of {len(traits)} slices differ from the others in {', '.join(differing)}{also}; if they are of "
        "another scan, --where KEYWORD=VALUE leaves them out"
    ]


def _are_near(texts: Sequence[str]) -> bool:
    """Whether numbers differ by rounding alone."""
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        return False
    return max(numbers) - min(numbers) <= _SAME_NUMBER


def rescaled_in_part(rescaled: Sequence[bool], modality: str) -> str:
    """What to say of a stack of which some slices state slope or intercept, and others neither.

    Args:
        rescaled: Whether each slice states one of the two.
        modality: That of the series.

    Raises:
        SourceError: CT, whose every image must state them.
    """
    bare = rescaled.count(False)
    if bare in (0, len(rescaled)):
        return ""
    told = f"{bare} of {len(rescaled)} slices state no RescaleSlope and no RescaleIntercept"
    if modality == "CT":
        raise SourceError(f"{told}, which each image of CT must have; copy the series again")
    return f"{told}, and were taken as stored"
