"""Segmentations that come back from 3D Slicer: `.seg.nrrd`, whoever saved it last.

Read by Slicer's own rules (its developer guide, "Segmentations", and vtkMRMLSegmentationStorageNode): a segment is a
layer and a value in it, its name says what it is, and neither its number nor its place in the file does, since Slicer
gives both anew when segments are moved or deleted. SimpleITK writes the same file with a first axis of kind `vector`.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.errors import GeometryError, LabelError, VolumeError
from volseg.labels import Code
from volseg.volume import MAX_BYTES, Affine, check_affine, ras_to_lps

SEGMENTATION_SUFFIX = ".seg.nrrd"

_MAX_HEADER = 16 * 2**20
_TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("unsigned char", "uchar", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("unsigned short", "ushort", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("unsigned int", "uint", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "signed long long", "int64", "int64_t"), "i8"),
    **dict.fromkeys(("unsigned long long", "ulonglong", "uint64", "uint64_t"), "u8"),
}
# Sign of x and y that takes each space to LPS.
_SPACES = {
    "left-posterior-superior": (1, 1),
    "lps": (1, 1),
    "right-anterior-superior": (-1, -1),
    "ras": (-1, -1),
    "left-anterior-superior": (1, -1),
    "las": (1, -1),
}


@dataclass(frozen=True)
class Segment:
    """One segment of a file.

    Attributes:
        name: What the user sees, such as `stomach`.
        code: Its type of the terminology; None where the file states none.
        layer: Number of the layer that holds it, from 0.
        value: Its value in that layer.
        status: `inprogress`, `completed` or `flagged` as Slicer's user set it; empty if not.
    """

    name: str
    code: Code | None
    layer: int
    value: int
    status: str = ""


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A segmentation as its file has it.

    Attributes:
        layers: (L, X, Y, Z), whole numbers.
        affine_ras: (4, 4), voxel index to RAS millimetres.
        segments: In the order of the file, which Slicer shows.
    """

    layers: NDArray[Any]
    affine_ras: Affine
    segments: tuple[Segment, ...]

    def mask(self, segment: Segment) -> NDArray[np.bool_]:
        """(X, Y, Z), where a segment is."""
        found: NDArray[np.bool_] = self.layers[segment.layer] == segment.value
        return found


def read_segmentation(path: str | Path) -> Segmentation:
    """Read a `.seg.nrrd` file as 3D Slicer does.

    Args:
        path: NRRD with the header keys `SegmentN_...`, data in the same file, raw or gzip.

    Raises:
        VolumeError: No NRRD, data elsewhere or in an encoding that Slicer does not write, cut short, or not whole
            numbers.
        LabelError: No segment, a segment in a layer that is not there, or a representation other than binary labels.
        GeometryError: No orientation.
    """
    path = Path(path)
    try:
        content = path.read_bytes() if path.stat().st_size <= MAX_BYTES else b""
    except FileNotFoundError as error:
        raise VolumeError(f"{path} is not there") from error
    if not content:
        raise VolumeError(f"{path.name} is empty, or holds more than {MAX_BYTES >> 30} GiB")
    fields, pairs, begin = _header(content, path.name)
    _check_representation(pairs, path.name)
    layers = _layers(content, begin, fields, path.name)
    segments = _segments(pairs, path.name, flat=layers.shape[0] == 1)
    for segment in segments:
        if not 0 <= segment.layer < layers.shape[0]:
            raise LabelError(
                f"{path.name}: segment {segment.name!r} must be in one of {layers.shape[0]} layers, got layer "
                f"{segment.layer}; save the segmentation again in 3D Slicer"
            )
    return Segmentation(layers, _affine(fields, path.name), segments)


def _header(content: bytes, name: str) -> tuple[dict[str, str], dict[str, str], int]:
    """Fields, key-value pairs, and where the data begin."""
    if not content.startswith(b"NRRD000"):
        raise VolumeError(f"{name} is no NRRD file; a segmentation of 3D Slicer begins with NRRD0004 or NRRD0005")
    end = re.search(rb"\r?\n\r?\n", content[:_MAX_HEADER])
    if end is None:
        raise VolumeError(f"{name} has no end of its header; it is cut short, or its data are in another file")
    fields: dict[str, str] = {}
    pairs: dict[str, str] = {}
    for line in content[: end.start()].decode("utf-8", errors="replace").splitlines()[1:]:
        if line.startswith("#"):
            continue
        key, pair, value = line.partition(":=")
        if pair and ": " not in key:
            pairs[key] = value.replace("\\n", "\n").replace("\\\\", "\\")
        else:
            key, _, value = line.partition(":")
            fields[key.strip().lower()] = value.strip()
    return fields, pairs, end.end()


def _check_representation(pairs: Mapping[str, str], name: str) -> None:
    for key in ("Segmentation_MasterRepresentation", "Segmentation_SourceRepresentation"):
        kind = pairs.get(key, "Binary labelmap")
        if kind != "Binary labelmap":
            raise LabelError(
                f"{name} must hold a binary labelmap, got {kind}; in 3D Slicer make the binary labelmap the source "
                "representation and save again"
            )


def _layers(content: bytes, begin: int, fields: Mapping[str, str], name: str) -> NDArray[Any]:
    """(L, X, Y, Z) of the file's data."""
    for field in ("data file", "datafile"):
        if field in fields:
            raise VolumeError(f"{name} keeps its voxels in {fields[field]!r}; save the segmentation as one file")
    kind = _TYPES.get(fields.get("type", ""))
    if kind is None:
        raise VolumeError(f"{name} must hold whole numbers, got type {fields.get('type')!r}; save a binary labelmap")
    try:
        sizes = [int(size) for size in fields["sizes"].split()]
    except (KeyError, ValueError):
        sizes = []
    kinds = fields.get("kinds", "domain domain domain").split()
    if (
        len(sizes) not in (3, 4)
        or min(sizes, default=0) < 1
        or (len(sizes) == 4 and kinds[0] not in ("list", "vector"))
    ):
        raise VolumeError(
            f"{name} must have the axes X, Y, Z, after one of layers (kind list or vector), got sizes {sizes} and "
            "kinds "
            f"{' '.join(kinds)}; save it again in 3D Slicer"
        )
    dtype = np.dtype(kind).newbyteorder(">" if fields.get("endian") == "big" else "<")
    expected = math.prod(sizes) * dtype.itemsize
    if expected > MAX_BYTES:
        raise VolumeError(f"{name} claims {expected / 2**30:.0f} GiB of voxels, more than {MAX_BYTES >> 30} GiB")
    encoding = fields.get("encoding", "raw").lower()
    data = content[begin:]
    if encoding in ("gzip", "gz"):
        data = _inflate(data, expected, name)
    elif encoding != "raw":
        raise VolumeError(f"{name} must be raw or gzip, got encoding {encoding!r}; save it again in 3D Slicer")
    if len(data) < expected:
        raise VolumeError(
            f"{name} ends after {len(data)} bytes of {expected} of voxels; it is cut short, copy it again"
        )
    # NRRD counts the first axis fastest.
    voxels = np.frombuffer(data, dtype, count=math.prod(sizes)).reshape(sizes, order="F")
    return voxels if len(sizes) == 4 else voxels[None]


def _inflate(data: bytes, expected: int, name: str) -> bytes:
    """The voxels, not a byte more than the header claims."""
    try:
        stream = zlib.decompressobj(wbits=31)
        found = stream.decompress(data, expected)
    except zlib.error as error:
        raise VolumeError(f"{name} cannot be decompressed ({error}); it is damaged, copy it again") from error
    return found


def _affine(fields: Mapping[str, str], name: str) -> Affine:
    """Index to RAS millimetres."""
    signs = _SPACES.get(fields.get("space", "").lower())
    columns = re.findall(r"\(([^)]*)\)", fields.get("space directions", ""))
    origin = re.findall(r"\(([^)]*)\)", fields.get("space origin", ""))
    if signs is None or len(columns) != 3 or len(origin) != 1:
        raise GeometryError(
            f"{name} must state space, space directions and space origin, got space {fields.get('space')!r}; save it "
            "again in 3D Slicer"
        )
    try:
        numbers = np.array([[float(part) for part in vector.split(",")] for vector in [*columns, *origin]])
        affine = np.eye(4)
        affine[:3] = numbers.T
    except ValueError as error:
        raise GeometryError(f"{name} states directions that are no numbers ({error})") from error
    affine[:2] *= np.array(signs)[:, None]
    try:
        return check_affine(ras_to_lps(affine))  # the turn is its own inverse
    except GeometryError as error:
        raise GeometryError(f"{name}: {error.message}") from error


def _segments(pairs: Mapping[str, str], name: str, *, flat: bool) -> tuple[Segment, ...]:
    segments: list[Segment] = []
    while f"Segment{len(segments)}_ID" in pairs:
        number = len(segments)
        facts = {fact: pairs.get(f"Segment{number}_{fact}", "") for fact in ("Name", "LabelValue", "Layer", "Tags")}
        try:
            value = int(facts["LabelValue"] or 1)
            layer = int(facts["Layer"] or (0 if flat else number))
        except ValueError as error:
            raise LabelError(
                f"{name}: segment {number} has a LabelValue or Layer that is no number ({error})"
            ) from error
        if value == 0:
            raise LabelError(f"{name}: segment {facts['Name']!r} has the value 0, which is background; save it again")
        tags = dict(tag.split(":", 1) for tag in facts["Tags"].split("|") if ":" in tag)
        status = tags.get("Segmentation.Status", "")
        segments.append(Segment(facts["Name"].strip(), _code(tags.get("TerminologyEntry", "")), layer, value, status))
    if not segments:
        raise LabelError(
            f"{name} names no segment: it is a plain NRRD volume, or a program that does not know segmentations "
            "saved it; "
            "export it from 3D Slicer as a segmentation"
        )
    names = [segment.name for segment in segments]
    if twice := sorted({one for one in names if names.count(one) > 1}):
        raise LabelError(
            f"{name} has {names.count(twice[0])} segments named {twice[0]!r}; rename or remove all but one"
        )
    return tuple(segments)


def _code(terminology: str) -> Code | None:
    """The type of a terminology entry `context~category~type~...`, each a triple `scheme^value^meaning`."""
    parts = terminology.split("~")
    words = parts[2].split("^") if len(parts) > 2 else []
    return Code(words[1], words[2], words[0]) if len(words) == 3 and all(words) else None
