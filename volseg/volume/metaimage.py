"""MetaImage files (.mha, .mhd): the header, and the voxels on their grid in RAS millimetres.

Format: https://itk.org/Wiki/ITK/MetaIO/Documentation; where it leaves a choice, ITK 5.4's reader decides.
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from volseg.errors import GeometryError, VolumeError
from volseg.volume.geometry import Affine
from volseg.volume.raw_voxels import MILLIMETRES, beside, in_plane, number_of_voxels, split_header, voxels_of
from volseg.volume.volume import Volume

_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",  # 4 bytes on every machine, MetaIO says
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_HERE = ("LOCAL", "Local", "local")  # the spellings that MetaIO takes for voxels behind the header
_RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_metaimage(path: Path, *, oriented: bool = True) -> list[Volume]:
    """Read a `.mha` or `.mhd` file as one volume per channel; errors as in `read_image_file`."""
    header, content = split_header(path, last="ElementDataFile")
    fields = _fields(header)
    try:
        axes = int(fields["NDims"])
        sizes = [int(word) for word in fields["DimSize"].split()]
        channels = int(fields.get("ElementNumberOfChannels", 1))
        code = _TYPES[fields["ElementType"].removesuffix("_ARRAY")]
        source = fields["ElementDataFile"]
        skip = int(fields.get("HeaderSize", 0))
        affine = _affine(fields, axes, path, oriented=oriented)
    except (KeyError, ValueError, IndexError) as error:
        raise VolumeError(f"{path.name} cannot be read as MetaImage ({error}); copy it again") from error
    if len(sizes) != axes or axes not in (2, 3, 4):
        raise VolumeError(f"{path.name} states {sizes} voxels along {axes} axes, expected 2 or 3 and one of channels")
    shape = [channels, *sizes] if channels != 1 else sizes
    dtype = np.dtype((">" if _yes(fields, "BinaryDataByteOrderMSB", "ElementByteOrderMSB") else "<") + code)
    size = number_of_voxels(shape, path) * dtype.itemsize
    if source not in _HERE:
        content = beside(path, source).read_bytes()
    if _yes(fields, "CompressedData"):
        try:
            content = zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(content, size)
        except zlib.error as error:
            raise VolumeError(f"{path.name} cannot be decompressed ({error}); copy it again") from error
    else:
        content = content[-size:] if skip == -1 else content[skip:]
    if fields.get("BinaryData", "True").lower() in ("false", "0", "f"):  # numbers as text, with blanks between
        content = _numbers_of_text(content, dtype, size, path)
    if len(content) < size:
        raise VolumeError(
            f"{path.name} ends after {len(content)} bytes of voxels of {size}; it is cut short, copy it again"
        )
    # MetaImage counts the first axis fastest, channels before X: Fortran order. Channels are moved to the end.
    voxels = np.frombuffer(content, dtype, count=size // dtype.itemsize).reshape(shape, order="F")
    return voxels_of(np.moveaxis(voxels, 0, -1) if channels != 1 else voxels, min(axes, 3), affine, path)


def metaimage_grid(path: Path) -> tuple[tuple[int, ...], Affine]:
    """Read the shape, with channels behind X, Y, Z, and the affine (RAS mm) of a MetaImage from its header alone."""
    fields = _fields(split_header(path, last="ElementDataFile", alone=True)[0])
    try:
        sizes = [int(word) for word in fields["DimSize"].split()]
        channels = int(fields.get("ElementNumberOfChannels", 1))
        affine = _affine(fields, len(sizes), path, oriented=True)
    except (KeyError, ValueError, IndexError) as error:
        raise VolumeError(f"{path.name} cannot be read as MetaImage ({error}); copy it again") from error
    return (*sizes, *(1,) * (3 - len(sizes)), *((channels,) if channels > 1 else ())), affine


def _fields(header: str) -> dict[str, str]:
    """The fields of a header by name."""
    lines = (re.split("[=:]", line, maxsplit=1) for line in header.splitlines())
    return {line[0].strip(): line[1].strip() for line in lines if len(line) == 2}


def _numbers_of_text(content: bytes, dtype: np.dtype[Any], size: int, path: Path) -> bytes:
    """The bytes of numbers that are written as text, no more of them than the image has."""
    words = content.split(None, size // dtype.itemsize)[: size // dtype.itemsize]
    try:
        return np.array(words, np.float64 if dtype.kind == "f" else np.int64).astype(dtype).tobytes()
    except ValueError as error:
        raise VolumeError(f"{path.name} must hold numbers as text (BinaryData is False): {error}") from error


def _affine(fields: dict[str, str], axes: int, path: Path, *, oriented: bool) -> Affine:
    turn = next((fields[name] for name in ("TransformMatrix", "Rotation", "Orientation") if name in fields), None)
    if turn is None and oriented:
        raise GeometryError(
            f"{path.name} states no orientation (no TransformMatrix); write it again with its directions"
        )
    at = next((fields[name] for name in ("Offset", "Position", "Origin") if name in fields), "0 " * axes)
    spacing = [float(word) for word in fields.get("ElementSpacing", fields.get("ElementSize", "1 " * axes)).split()]
    # The file lists the directions axis by axis: they are rows here, and columns of an affine.
    rows = np.array(turn.split(), float).reshape(axes, axes) if turn else np.eye(axes)
    inside = min(axes, 3)
    if axes == 4 and (np.abs(rows[3, :3]).max() > 0 or np.abs(rows[:3, 3]).max() > 0):
        raise GeometryError(f"{path.name} turns its fourth axis into space; write one file per channel")
    lps = np.eye(4)
    lps[:inside, :inside] = (rows[:inside, :inside] * np.array(spacing[:inside])[:, None]).T
    lps[:inside, 3] = [float(word) for word in at.split()[:inside]]
    unit = fields.get("DistanceUnits", "mm").lower()
    if unit not in MILLIMETRES and unit != "?":
        raise GeometryError(f"{path.name} states the unit {unit!r}, expected mm, um, cm or m")
    lps[:inside, [*range(inside), 3]] *= MILLIMETRES.get(unit, 1.0)
    return _RAS_FROM_LPS @ (in_plane(lps) if inside == 2 else lps)


def _yes(fields: dict[str, str], *names: str) -> bool:
    return any(fields.get(name, "").lower() in ("true", "1", "t") for name in names)
