"""The transfer syntaxes of DICOM: which are read, and what to do about each of the others."""

from __future__ import annotations

import re

from pydicom.pixels.decoders.base import Decoder, get_decoder
from pydicom.uid import UID

from volseg.dicom.file import known_name

ENCAPSULATED_UNCOMPRESSED = UID("1.2.840.10008.1.2.1.98")
DEFLATED_FRAMES = UID("1.2.840.10008.1.2.8.1")
JPEG_XL = frozenset(map(UID, ("1.2.840.10008.1.2.4.110", "1.2.840.10008.1.2.4.111", "1.2.840.10008.1.2.4.112")))
OWN = frozenset({ENCAPSULATED_UNCOMPRESSED, DEFLATED_FRAMES}) | JPEG_XL
"""Those that are read here, and that pydicom 3.0 does not decode."""
# Newer than pydicom's table.
_NAMES = {
    "1.2.840.10008.1.2.4.110": "JPEG XL Lossless",
    "1.2.840.10008.1.2.4.111": "JPEG XL JPEG Recompression",
    "1.2.840.10008.1.2.4.112": "JPEG XL",
    "1.2.840.10008.1.2.8.1": "Deflated Image Frame Compression",
    "1.2.840.113619.5.2": "Implicit VR Big Endian of GE",
}
_EXPAND = "write it anew without compression (gdcmconv --raw, or dcmconv of dcmtk), and convert that"
_VIDEO = "it is a video, which is no volume; export the images one by one"
_REMEDIES = {
    **{f"1.2.840.10008.1.2.4.{number}": _VIDEO for number in range(100, 109)},
    **{f"1.2.840.10008.1.2.4.{number}.1": _VIDEO for number in range(100, 107)},
    **{f"1.2.840.10008.1.2.7.{number}": _VIDEO for number in (1, 2, 3)},
    **{
        f"1.2.840.10008.1.2.4.{number}": "the file holds no pixels, which stay on a server (JPIP); fetch the series "
        "again in another transfer syntax"
        for number in (94, 95, 204, 205)
    },
    **{f"1.2.840.10008.1.2.6.{number}": "it is no encoding of images; export the series again" for number in (1, 2)},
}
_UID = re.compile(r"1\.2\.840\.(?:10008|113619)(?:\.\d{1,6}){1,8}")


def syntax_name(uid: str) -> str:
    """What a transfer syntax is called; one that nobody knows by its UID, where that is one of DICOM's.

    >>> syntax_name("1.2.840.10008.1.2.4.110"), syntax_name("1.2.840.10008.1.2.4.999"), syntax_name("Lovelace^Ada")
    ('JPEG XL Lossless', 'transfer syntax 1.2.840.10008.1.2.4.999', 'unknown transfer syntax')
    """
    known = _NAMES.get(uid) or known_name(uid)
    return known or (f"transfer syntax {uid}" if _UID.fullmatch(uid) else "unknown transfer syntax")


def remedy(uid: str) -> str:
    """What to do where a transfer syntax cannot be read here, empty where it can.

    >>> remedy("1.2.840.10008.1.2.5"), remedy("1.2.840.10008.1.2.4.110")
    ('', '')
    >>> remedy("1.2.840.10008.1.2.4.100")
    'it is a video, which is no volume; export the images one by one'
    """
    if uid in OWN:
        return ""
    if uid in _REMEDIES:
        return _REMEDIES[uid]
    if not _UID.fullmatch(uid):
        return "the transfer syntax is none of DICOM's; the file is damaged"
    decoder = _decoder(uid)
    if decoder is None:
        return f"nothing here decodes it; {_EXPAND}"
    return "" if decoder.is_available else "no decoder is installed; pip install 'volseg[dicom]'"


def _decoder(uid: str) -> Decoder | None:
    try:
        return get_decoder(UID(uid))
    except (NotImplementedError, ValueError):
        return None
