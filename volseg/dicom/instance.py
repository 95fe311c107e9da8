"""One DICOM object and one series, as their headers describe them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pydicom.uid import (
    BreastTomosynthesisImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    LegacyConvertedEnhancedPETImageStorage,
    XRay3DAngiographicImageStorage,
    XRay3DCraniofacialImageStorage,
)

# Multi-frame objects that place their frames and state slope and intercept in functional groups.
ENHANCED = frozenset(
    {EnhancedCTImageStorage, EnhancedMRImageStorage, EnhancedPETImageStorage}
    | {LegacyConvertedEnhancedCTImageStorage, LegacyConvertedEnhancedMRImageStorage}
    | {LegacyConvertedEnhancedPETImageStorage}
    | {BreastTomosynthesisImageStorage, XRay3DAngiographicImageStorage, XRay3DCraniofacialImageStorage}
)
# X-ray images, of which each is a case by itself: computed and digital radiography, mammography, teeth, fluoroscopy.
PROJECTIONS = frozenset({"CR", "DX", "RG", "MG", "IO", "PX", "RF", "XA"})
RADIOGRAPHS = frozenset({"CR", "DX", "RG"})
"""Modalities of plain X-ray images, which differ by the detector alone."""
# Digits, and hexadecimal words with one, count as equal in the names of files.
_COUNTED = re.compile(r"[0-9A-Fa-f]*[0-9][0-9A-Fa-f]*")
_NOT_WHOLE = frozenset({".gz", ".bz2", ".xz", ".part", ".partial", ".filepart", ".crdownload", ".download", ".tmp"})
# Defined Terms of Modality (PS3.3 C.7.3.1.1.1), retired ones too.
_MODALITIES = frozenset(
    {
        *("ANN", "AR", "ASMT", "AU", "BDUS", "BI", "BMD", "CD", "CF", "CP", "CR", "CS", "CT", "CTPROTOCOL", "DD"),
        *("DF", "DG", "DM", "DMS", "DOC", "DS", "DX", "EC", "ECG", "EEG", "EMG", "EOG", "EPS", "ES", "FA", "FID"),
        *("FS", "GM", "HC", "HD", "IO", "IOL", "IVOCT", "IVUS", "KER", "KO", "LEN", "LP", "LS", "M3D", "MA", "MG"),
        *("MR", "MS", "NM", "OAM", "OCT", "OP", "OPM", "OPR", "OPT", "OPTBSV", "OPTENF", "OPV", "OSS", "OT", "PA"),
        *("PLAN", "POS", "PR", "PT", "PX", "REG", "RESP", "RF", "RG", "RTDOSE", "RTIMAGE", "RTINTENT", "RTPLAN"),
        *("RTRAD", "RTRECORD", "RTSEGANN", "RTSTRUCT", "RWV", "SEG", "SM", "SMR", "SR", "SRF", "ST", "STAIN", "STL"),
        *("TEXTUREMAP", "TG", "US", "VA", "VF", "XA", "XAPROTOCOL", "XC"),
    }
)


def known_modality(text: str) -> str:
    """A modality of the standard, empty for any other text: what a damaged file holds there may be anything.

    >>> known_modality("CT"), known_modality("Lovelace^Ada")
    ('CT', '')
    """
    return text if text in _MODALITIES else ""


def name_shape(path: Path) -> str:
    """What the names of the files of one series share: all but the digits, and what an unfinished copy has behind them.

    >>> name_shape(Path("IM0001.dcm")) == name_shape(Path("IM0012.dcm")) == name_shape(Path("IM0013.dcm.part"))
    True
    """
    return _COUNTED.sub("#", whole_name(path))


def whole_name(path: Path) -> str:
    """The name of a file without what a compressed file or an unfinished copy has behind it.

    >>> whole_name(Path("003.dcm.gz")), whole_name(Path("003.dcm"))
    ('003.dcm', '003.dcm')
    """
    return path.stem if path.suffix.lower() in _NOT_WHOLE else path.name


@dataclass(frozen=True, slots=True)
class Instance:
    """One DICOM object: what its header says of where it belongs.

    `name` is its path below the folder, `patient` and the UIDs are as stored, or empty. `modality` is one of the
    standard, or empty. `order` is its InstanceNumber, `stated` how many images its series has by the header, 0 where
    that is not stated. `person` is name, birth date and sex, as they tell patients apart; `acquired` the day and time
    of acquisition, as in `20240103101500.5`, or the day alone, or empty; `begun` the time of the study, and day and
    time of the series. `units` are those of PET and of nuclear medicine. `mosaic` tells that one image holds many
    slices side by side. `samples` is 3 for the colours of a table too. `concatenation` is the UID that the parts of one
    multi-frame object share which was stored in several, `part_number` which of the `parts` this is; 0 if not stated.
    """

    path: Path
    name: str
    sop_class: str
    sop_uid: str
    series_uid: str
    study_uid: str
    frame_uid: str
    patient: str
    study_date: str
    modality: str
    number: str
    description: str
    image_type: str
    frames: int
    samples: int
    rows: int
    columns: int
    placed: bool
    order: int | None = None
    stated: int = 0
    position_lps: tuple[float, ...] = ()
    person: tuple[str, ...] = ()
    acquired: str = ""
    begun: str = ""
    protocol: str = ""
    units: str = ""
    mosaic: bool = False
    concatenation: str = ""
    part_number: int = 0
    parts: int = 0

    @property
    def enhanced(self) -> bool:
        """Whether it is a multi-frame object that states the place of each frame."""
        return self.sop_class in ENHANCED

    @property
    def projection(self) -> bool:
        """Whether it is an X-ray image, which has no place in the patient and is a case by itself."""
        flat = not self.placed and self.frames == 1 and self.samples == 1
        return self.modality in PROJECTIONS and flat and not self.enhanced

    @property
    def whole(self) -> bool:
        """Whether it is a case by itself, not a slice of one."""
        return self.enhanced or self.projection


@dataclass(frozen=True)
class Series:
    """The images that make one volume, or ought to.

    `uid` is that of the series, of a multi-frame object or an X-ray image its own, and without either the least of the
    images'. `damage` says why it lacks a slice, where that is known; `warnings` what a reader should know. `day` is the
    day of the scan (YYYYMMDD) where the study's is not it, and `part` tells it from other scans under its UIDs.
    """

    uid: str
    instances: tuple[Instance, ...]
    damage: str = ""
    warnings: tuple[str, ...] = ()
    day: str = ""
    part: str = ""

    @property
    def first(self) -> Instance:
        """The instance that speaks for all: the one of the smallest UID."""
        return self.instances[0]

    @property
    def modality(self) -> str:
        """That of most images; one of them may be damaged."""
        found = Counter(instance.modality for instance in self.instances if instance.modality)
        return min(found, key=lambda name: (-found[name], name)) if found else ""
