"""NRRD files: the header, and the voxels on their grid in RAS millimetres.

Format: Teem's definition of NRRD0001 to NRRD0005, https://teem.sourceforge.net/nrrd/format.html.
"""

from __future__ import annotations

import bz2
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.errors import GeometryError, VolumeError
from volseg.files import atomic
from volseg.volume.geometry import Affine, affine_lps_axes, ras_to_lps
from volseg.volume.raw_voxels import (
    MILLIMETRES,
    beside,
    decompressed,
    in_plane,
    number_of_voxels,
    split_header,
    voxels_of,
)
from volseg.volume.volume import Volume

_TYPES = {
    "i1": "signed char, int8, int8_t",
    "u1": "uchar, unsigned char, uint8, uint8_t",
    "i2": "short, short int, signed short, signed short int, int16, int16_t",
    "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
    "i4": "int, signed int, int32, int32_t",
    "u4": "uint, unsigned int, uint32, uint32_t",
    "i8": "longlong, long long, long long int, signed long long, signed long long int, int64, int64_t",
    "u8": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
    "f4": "float",
    "f8": "double",
}
_CODES = {name: code for code, names in _TYPES.items() for name in names.split(", ")}
_LPS_FROM = {
    "left-posterior-superior": (1, 1, 1),
    "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
}
# The same spaces with a time behind them, as for a series of volumes.
_LPS_FROM |= {
    **{f"{name}-time": signs for name, signs in _LPS_FROM.items() if "-" in name},
    **{f"{name}t": signs for name, signs in _LPS_FROM.items() if "-" not in name},
}
_RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Names of fields that the format lets a writer spell in two ways.
_SPELLINGS = {
    "datafile": "data file",
    "lineskip": "line skip",
    "byteskip": "byte skip",
    "centering": "centerings",
    "centers": "centerings",
}
_TEXT = ("ascii", "txt", "text")
# Words that stand for an absent unit.
_NO_UNIT = ("", "???")


def read_nrrd(path: Path, *, oriented: bool = True) -> list[Volume]:
    """Read a `.nrrd` or `.nhdr` file as one volume per channel; errors as in `read_image_file`."""
    return read_nrrd_with_pairs(path, oriented=oriented)[0]


def write_nrrd(path: Path, volume: Volume) -> None:
    """Write a volume as NRRD in one file, compressed, whole or not at all.

    Args:
        path: File `.nrrd`.
        volume: Volume (X, Y, Z).

    Raises:
        VolumeError: The voxels have a type that NRRD has not.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_nrrd(Path(folder) / "a.nrrd", Volume(np.arange(6, dtype=np.uint8).reshape(1, 2, 3), np.eye(4)))
    ...     read_nrrd(Path(folder) / "a.nrrd")[0].voxels.tolist()
    [[[0, 1, 2], [3, 4, 5]]]
    """
    from isal import igzip

    code = volume.voxels.dtype.str[1:]
    if code not in _TYPES:
        raise VolumeError(f"voxels of type {volume.voxels.dtype} do not go into NRRD; convert them to float32 or int32")
    lps = ras_to_lps(volume.affine_ras)
    columns = [f"({','.join(map(repr, (lps[:3, axis] + 0.0).tolist()))})" for axis in range(4)]
    fields = [
        *("NRRD0004", f"type: {_TYPES[code].partition(',')[0]}", "dimension: 3", "space: left-posterior-superior"),
        *(f"sizes: {' '.join(map(str, volume.shape))}", f"space directions: {' '.join(columns[:3])}"),
        *("kinds: domain domain domain", "endian: little", "encoding: gzip", f"space origin: {columns[3]}"),
    ]
    # NRRD counts the first axis fastest: X, Y, Z. In C order that is [Z, Y, X].
    content = np.ascontiguousarray(volume.voxels.T).astype(volume.voxels.dtype.newbyteorder("<"), copy=False)
    with atomic(path) as partial:
        partial.write_bytes("\n".join([*fields, "", ""]).encode() + igzip.compress(content, compresslevel=1, mtime=0))


def nrrd_grid(path: Path) -> tuple[tuple[int, ...], Affine]:
    """Read the shape, with channels behind X, Y, Z, and the affine (RAS mm) of a NRRD file from its header alone."""
    fields = _fields(split_header(path, end=b"\n\n", alone=True)[0])
    shape = _numbers(fields, "sizes", path, int)
    affine, domain = _grid(fields, len(shape), path, oriented=True)
    channels = [n for axis, n in enumerate(shape) if axis not in domain]
    return (*(shape[axis] for axis in domain), *(1,) * (3 - len(domain)), *channels), affine


def read_nrrd_with_pairs(path: Path, *, oriented: bool = True) -> tuple[list[Volume], dict[str, str]]:
    """As `read_nrrd`, with the key/value pairs of the header, in which 3D Slicer keeps what a segmentation is.

    Args:
        path: `.nrrd` or `.nhdr` file.
        oriented: Whether a file that states no orientation is refused.
    """
    header, content = split_header(path, end=b"\n\n")
    if not header.startswith("NRRD000"):
        raise VolumeError(f"{path.name} does not begin as NRRD does; copy it again, or name it after its true format")
    fields = _fields(header)
    shape = _numbers(fields, "sizes", path, int)
    if len(shape) != _numbers(fields, "dimension", path, int)[0] or not shape:
        raise VolumeError(f"{path.name} states the sizes {shape}, which are not as many as its dimension")
    word = " ".join(fields.get("type", "").lower().split())
    if word not in _CODES:
        raise VolumeError(f"{path.name} holds voxels of type {word!r}, expected numbers")
    order = fields.get("endian", "").lower()
    dtype = np.dtype((">" if order == "big" else "<") + _CODES[word])
    if order not in ("little", "big") and dtype.itemsize > 1 and fields.get("encoding", "").lower() not in _TEXT:
        raise VolumeError(f"{path.name} must state the order of bytes (endian: little or big), got {order!r}; add it")
    size = number_of_voxels(shape, path) * dtype.itemsize
    try:
        flat = _data(fields, content, size, path, dtype)
        affine, domain = _grid(fields, len(shape), path, oriented=oriented)
        channels = [axis for axis in range(len(shape)) if axis not in domain]
        # NRRD counts the first axis fastest: Fortran order. The axis of channels, wherever it is, is moved to the end.
        voxels = flat.reshape(shape, order="F").transpose([*domain, *channels])
    except (ValueError, OverflowError, OSError, EOFError) as error:  # numbers that are none, damaged bzip2
        raise VolumeError(f"{path.name} cannot be read as NRRD ({error}); copy it again") from error
    return voxels_of(voxels, len(domain), affine, path), _pairs(header)


def _pairs(header: str) -> dict[str, str]:
    """The key/value pairs of a header: `key:=value`, in which a line break and a backslash are escaped."""
    found = {}
    for line in header.splitlines()[1:]:
        key, pair, value = line.partition(":=")
        if pair and ": " not in key and not line.startswith("#"):
            found[key] = re.sub(r"\\([n\\])", lambda escaped: "\n" if escaped[1] == "n" else "\\", value)
    return found


def _fields(header: str) -> dict[str, str]:
    """The fields of a header by name, in small letters, without comments and key/value pairs."""
    found = {}
    for line in header.splitlines()[1:]:
        name, colon, value = line.partition(": ")
        if colon and not line.startswith("#") and ":=" not in name:
            name = name.strip().lower()
            found[_SPELLINGS.get(name, name)] = value.strip()
    return found


def _numbers(fields: dict[str, str], name: str, path: Path, kind: type) -> list[Any]:
    try:
        return [kind(word) for word in fields[name].split()]
    except KeyError:
        raise VolumeError(f"{path.name} states no {name!r}; it is damaged, copy it again") from None
    except ValueError:
        raise VolumeError(f"{path.name} states {name!r} as {fields[name]!r}, expected numbers") from None


def _data(fields: dict[str, str], content: bytes, size: int, path: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The file's numbers, decoded, (voxels,)."""
    if "data file" in fields:
        content = beside(path, fields["data file"]).read_bytes()
    encoding = fields.get("encoding", "").lower()
    for _ in range(int(fields.get("line skip", 0))):
        content = content.partition(b"\n")[2]
    skip = int(fields.get("byte skip", 0))
    if encoding in ("gzip", "gz"):
        data = decompressed(content, size + max(skip, 0), path)[max(skip, 0) :]
    elif encoding in ("bzip2", "bz2"):
        data = bz2.BZ2Decompressor().decompress(content, size + max(skip, 0))[max(skip, 0) :]
    elif encoding == "hex":
        data = bytes.fromhex(content.decode("ascii", "replace"))
    elif encoding == "raw":
        data = content[-size:] if skip == -1 else content[skip:]
    elif encoding in _TEXT:
        return np.array(content.split(), np.float64 if dtype.kind == "f" else np.int64).astype(dtype)
    else:
        raise VolumeError(f"{path.name} has the encoding {encoding!r}, expected raw, gzip, bzip2, ascii or hex")
    if len(data) < size:
        raise VolumeError(
            f"{path.name} ends after {len(data)} bytes of voxels of {size}; it is cut short, copy it again"
        )
    return np.frombuffer(data, dtype, count=size // dtype.itemsize)


def _grid(fields: dict[str, str], axes: int, path: Path, *, oriented: bool) -> tuple[Affine, list[int]]:
    """The affine (RAS mm), and the axes of the array that run through space."""
    space = fields.get("space", "").lower()
    if not space and fields.get("space dimension") in ("2", "4"):
        space = "lps"  # as ITK writes images of one slice (axial, as it and MetaImage take it) and series of volumes
    if space not in _LPS_FROM or "space directions" not in fields:
        if oriented:
            raise GeometryError(
                f"{path.name} states no orientation (space {space or 'absent'!r}, directions "
                f"{'stated' if 'space directions' in fields else 'absent'}); write it again in the space "
                "left-posterior-superior with its directions"
            )
        words = fields.get("spacings", "").split() or ["1"] * axes
        domain = [axis for axis, word in enumerate(words) if word.lower() != "nan"][:3]
        return affine_lps_axes([abs(float(words[a])) for a in domain] + [1.0] * (3 - len(domain))), domain
    words = re.findall(r"\([^()]*\)|[^\s()]+", fields["space directions"])
    vectors = [_vector(word, path) for word in words]
    domain = [axis for axis, vector in enumerate(vectors) if vector is not None]
    if len(vectors) != axes or len(domain) not in (2, 3):
        raise GeometryError(f"{path.name} states {len(domain)} directions in space for {axes} axes, expected 2 or 3")
    stated = re.findall(r'"([^"]*)"|(\S+)', fields.get("space units", ""))
    units = [(quoted or bare).strip().lower() for quoted, bare in stated] or ["mm"] * 3
    units = ["mm" if unit in _NO_UNIT else unit for unit in units]
    units = units[:3] + units[-1:] * (len(units) == 2)
    if len(units) != 3 or any(unit not in MILLIMETRES for unit in units):
        raise GeometryError(f"{path.name} states the units {fields['space units']!r}, expected mm, um, cm or m")
    lps = np.eye(4)
    for column, axis in enumerate(domain):
        lps[:3, column] = vectors[axis]
    if "space origin" in fields:
        lps[:3, 3] = _numbers_of(fields["space origin"], path)[:3]
    scale = np.array([MILLIMETRES[unit] for unit in units]) * _LPS_FROM[space]
    lps[:3, [*range(len(domain)), 3]] *= scale[:, None]
    return _RAS_FROM_LPS @ (in_plane(lps) if len(domain) == 2 else lps), domain


def _vector(word: str, path: Path) -> NDArray[np.float64] | None:
    """The vector "(x,y,z)" in space; None for "none", and for an axis of time, "(0,0,0,t)"."""
    if word.strip().lower() == "none":
        return None
    numbers = _numbers_of(word, path)
    if np.isnan(numbers).all():
        return None
    if numbers[3:].any():
        if numbers[:3].any():
            raise GeometryError(f"{path.name} turns an axis of space into time, {word}; write one file per volume")
        return None
    return numbers[:3]


def _numbers_of(word: str, path: Path) -> NDArray[np.float64]:
    """The three numbers of "(x,y,z)", with z 0 for "(x,y)"; the four of "(x,y,z,t)"."""
    try:
        numbers = [float(number) for number in word.strip().strip("()").split(",")]
        if len(numbers) not in (2, 3, 4):
            raise ValueError(len(numbers))
    except ValueError:
        raise GeometryError(f"{path.name} states the vector {word!r}, expected (x,y,z)") from None
    return np.array(numbers + [0.0] * (len(numbers) == 2))
