"""What tells images of one place apart: echo, phase, b-value, kind of image, and whatever else differs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.datadict import dictionary_VR, tag_for_keyword

from volseg.dicom.file import DAMAGE, Quiet, number, plain, text
from volseg.errors import SourceError

Value = float | str
_B_VALUE_OF_SEQUENCE = re.compile(r"b(\d{1,5})(?:#\d+|t)?$")  # Siemens, as in *ep_b1000#12
# Siemens and Philips write one letter, others a word.
_SYNONYMS = {
    **{"M": "MAGNITUDE", "P": "PHASE", "R": "REAL", "I": "IMAGINARY", "W": "WATER", "F": "FAT"},
    **{"IP": "IN_PHASE", "INPHASE": "IN_PHASE", "OP": "OPP_PHASE", "OUT_PHASE": "OPP_PHASE", "OPPOSED": "OPP_PHASE"},
}
_OF_GE = ("MAGNITUDE", "PHASE", "REAL", "IMAGINARY")


@dataclass(frozen=True)
class Attribute:
    """An attribute that may differ between images of one place.

    Attributes:
        name: the keyword of DICOM that messages name.
        option: the option that chooses by it; empty where that is `--where NAME=VALUE`.
        read: its value in the description of a frame, None where it is absent.
        unit: Unit of the value.
    """

    name: str
    option: str
    read: Callable[[Dataset], Value | None]
    unit: str = ""


def of_keyword(keyword: str) -> Callable[[Dataset], Value | None]:
    """A reader of one element: a number where it is one, else text."""

    def read(frame: Dataset) -> Value | None:
        if keyword not in frame:
            return None
        stated = text(frame, keyword)
        try:
            return float(stated)
        except ValueError:
            return stated.casefold() or None

    return read


def _first_number(*keywords: str) -> Callable[[Dataset], Value | None]:
    def read(frame: Dataset) -> Value | None:
        for keyword in keywords:
            if keyword in frame:
                try:
                    found = number(frame, keyword)
                except SourceError:
                    found = None
                if found is not None:
                    return found
        return None

    return read


def b_value(frame: Dataset) -> float | None:
    """The b-value in s/mm2: the standard's element, or those of Siemens, GE, Philips and United Imaging.

    >>> frame = Dataset()
    >>> frame.add_new(0x00430010, "LO", "GEMS_PARM_01")
    >>> frame.add_new(0x00431039, "IS", [1000000800, 8, 0, 0])
    >>> b_value(frame)
    800.0
    """
    stated = _first_number("DiffusionBValue")(frame)
    if isinstance(stated, float):
        return stated
    for creator, group, element in (
        *(("SIEMENS MR HEADER", 0x0019, 0x0C), ("GEMS_PARM_01", 0x0043, 0x39)),
        *(("Philips Imaging DD 001", 0x2001, 0x03), ("Image Private Header", 0x0065, 0x09)),
    ):
        value = _private(frame, group, creator, element)
        if value is not None:
            return value % 100_000 if creator == "GEMS_PARM_01" else value  # GE adds 1e9 as a mark
    named = _B_VALUE_OF_SEQUENCE.search(plain(frame, "SequenceName"))
    return float(named[1]) if named else None


def kinds(frame: Dataset) -> frozenset[str]:
    """The words of ImageType and FrameType, of the complex component, and what GE keeps in a number.

    >>> frame = Dataset()
    >>> frame.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    >>> sorted(kinds(frame))
    ['M', 'MAGNITUDE', 'ND', 'ORIGINAL', 'PRIMARY']
    """
    found: list[str] = []
    for keyword in ("ImageType", "FrameType", "ComplexImageComponent"):
        found += [word.strip().upper() for word in plain(frame, keyword).split("\\") if word.strip()]
    raw = _private(frame, 0x0043, "GEMS_PARM_01", 0x2F)
    if raw is not None and raw in range(len(_OF_GE)):
        found.append(_OF_GE[int(raw)])
    return frozenset(found) | {_SYNONYMS[word] for word in found if word in _SYNONYMS}


def _kind(frame: Dataset) -> Value | None:
    return "\\".join(sorted(kinds(frame))) or None


def _private(frame: Dataset, group: int, creator: str, element: int) -> float | None:
    """The first number of a private element."""
    try:
        with Quiet():
            for block in range(0x10, 0x100):
                if (group << 16 | block) not in frame:
                    if block > 0x20:
                        return None
                    continue
                if plain(frame, group << 16 | block) == creator:
                    tag = group << 16 | block << 8 | element
                    if tag not in frame:
                        return None
                    value = frame[tag].value
                    if isinstance(value, bytes):
                        value = value.decode("ascii").strip("\0 ").split("\\")
                    return float(value if isinstance(value, (str, int, float)) else value[0])
    except DAMAGE:
        return None
    return None


def _direction(frame: Dataset) -> Value | None:
    stated = text(frame, "DiffusionGradientOrientation")
    return stated or None


STACK = Attribute("StackID", "", of_keyword("StackID"))
"""Frames of one stack lie in one geometry (PS3.3 C.7.6.16.2.2), so that an object of several holds several volumes."""
ECHO = Attribute("EchoTime", "--echo", _first_number("EffectiveEchoTime", "EchoTime"), "ms")
B_VALUE = Attribute("DiffusionBValue", "--b-value", b_value)
KIND = Attribute("ImageType", "--image-type", _kind)
PHASES = (
    Attribute(
        "TemporalPositionIdentifier", "--phase", _first_number("TemporalPositionIndex", "TemporalPositionIdentifier")
    ),
    Attribute("NominalPercentageOfCardiacPhase", "--phase", _first_number("NominalPercentageOfCardiacPhase"), "%"),
    Attribute("TriggerTime", "--phase", _first_number("NominalCardiacTriggerDelayTime", "TriggerTime"), "ms"),
    Attribute(
        "NominalPercentageOfRespiratoryPhase", "--phase", _first_number("NominalPercentageOfRespiratoryPhase"), "%"
    ),
    Attribute("TemporalPositionTimeOffset", "--phase", _first_number("TemporalPositionTimeOffset"), "s"),
    Attribute("FrameReferenceTime", "--phase", _first_number("FrameReferenceTime"), "ms"),
)
# They differ between slices too, and between echoes: the last that are looked at.
TIMES = tuple(
    Attribute(name, "--phase", of_keyword(name))
    for name in (
        "AcquisitionNumber",
        "FrameAcquisitionDateTime",
        "AcquisitionDateTime",
        "AcquisitionTime",
        "ContentTime",
    )
)
OTHERS = (
    Attribute("DiffusionGradientOrientation", "", _direction),
    STACK,
    *(
        Attribute(name, "", of_keyword(name))
        for name in (
            *("InversionTime", "InversionTimes", "FlipAngle", "RepetitionTime", "ContrastBolusAgent", "SequenceName"),
            *("ScanningSequence", "VelocityEncodingDirection", "VelocityEncodingMaximumValue"),
            *("ConvolutionKernel", "KVP", "FilterType", "ReconstructionDiameter", "EnergyWindowName", "SliceThickness"),
            *(
                "DiffusionDirectionality",
                "EchoNumbers",
                "CardiacRRIntervalSpecified",
                "SeriesNumber",
                "AcquisitionContrast",
            ),
        )
    ),
)
ATTRIBUTES: Sequence[Attribute] = (ECHO, B_VALUE, KIND, *PHASES, *OTHERS, *TIMES)
"""In the order in which they are told."""
MOST_TOLD = 12
"""Values that a message names."""


_PATIENT_GROUP = 0x0010
_UNTOLD = ("DA", "DT", "PN", "UI")  # kinds of values that say whose an image is, or of which day


def may_be_told(value: Value) -> bool:
    """Whether a value may stand in a message: a number, or the short capital word of a code."""
    return isinstance(value, float) or bool(re.fullmatch(r"[A-Z0-9_\\./ -]{1,200}", value))


def told_value(keyword: str, value: Value) -> str:
    """A value as a message may tell it; empty if it may not. Codes (CS) are capitals, however they were compared.

    Nothing of the patient is told, and no date and no UID, which may be numbers.

    >>> told_value("ScanningSequence", "gr"), told_value("EchoTime", 4.6), told_value("PatientID", 4711.0)
    ('GR', '4.6', '')
    """
    tag = tag_for_keyword(keyword)
    kind = "" if tag is None else dictionary_VR(tag)
    if tag is not None and (tag >> 16 == _PATIENT_GROUP or kind in _UNTOLD):
        return ""
    if isinstance(value, float):
        return f"{value:g}"
    word = value.upper() if kind == "CS" else value
    return word if may_be_told(word) else ""


def in_order(value: Value | None) -> tuple[bool, float, str]:
    """What values are sorted by: numbers before texts."""
    return (isinstance(value, str), value, "") if isinstance(value, float) else (True, 0.0, value or "")
