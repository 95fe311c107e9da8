"""A DICOM series of another modality than the network was trained with is told, since any image can be segmented."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

logger = logging.getLogger(__name__)

# Words of channel names that name a modality of DICOM; a map such as ADC may come from several.
_NAMES = {
    "CT": "ct cta ctp cbct ncct cect ldct hdct hrct hu",
    "MR": "mr mri t1 t2 t1w t2w t1c t1ce t1gd flair pd dwi swi bold",
    "PT": "pet pt suv suvbw suvlbm fdg psma dotatate dotatoc",
    "DX": "dx cr rg cxr xray radiograph radiography",
    "MG": "mg mammography mammogram ffdm",
}
_ALIKE = {"CR": "DX", "RG": "DX"}  # radiographs, by another detector
_WORDS = {word: modality for modality, words in _NAMES.items() for word in words.split()}
_SHOWN = 3


def modality_of_channel(name: str) -> str:
    """The modality of DICOM that a channel's name tells; empty if it tells none.

    >>> [modality_of_channel(name) for name in ("MR", "T1w", "ct_portal", "PET", "image", "ADC")]
    ['MR', 'MR', 'CT', 'PT', '', '']
    """
    words = re.findall(r"[a-z]+\d*[a-z]*", name.casefold().replace("x-ray", "xray"))
    return next((_WORDS[word] for word in words if word in _WORDS), "")


def other_modality(modality: str, channel: str) -> str:
    """The note on a series of another modality than that of the network's channel; empty if they agree or say nothing.

    >>> other_modality("PT", "MR")
    'a PT series, and the network was trained with MR'
    >>> other_modality("MR", "T1w"), other_modality("", "CT"), other_modality("NM", "image"), other_modality("CR", "DX")
    ('', '', '', '')
    """
    expected = modality_of_channel(channel)
    if not expected or not modality or _ALIKE.get(modality.upper(), modality.upper()) == expected:
        return ""
    return f"a {modality.upper()} series, and the network was trained with {channel}"


def tell_modalities(files: Sequence[Path], channels: Sequence[str]) -> None:
    """Warn once of the series of another modality, by the lists `KEY_0000.series` of `volseg.dicom.list_series`.

    Args:
        files: Lists of series.
        channels: Names of the network's channels, in the order of the numbers in the names of the lists.
    """
    from volseg.dicom import listed_modality

    found: dict[str, list[str]] = {}
    for file in files:
        key, _, number = file.stem.rpartition("_")
        if number.isdigit() and int(number) < len(channels):
            note = other_modality(listed_modality(file), channels[int(number)])
            if note:
                found.setdefault(note, []).append(key)
    for note, keys in found.items():
        shown = ", ".join(keys[:_SHOWN]) + (f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else "")
        logger.warning(
            "warning: %s: %s; its predictions mean nothing if that is a mistake: --modality %s takes the series of it",
            *(shown, note, modality_of_channel(channels[0]) or "MODALITY"),
        )
