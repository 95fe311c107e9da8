"""Functions of the readers of NRRD and MetaImage: a text header before plain or compressed numbers."""

from __future__ import annotations

import gzip
import io
import math
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from volseg.errors import GeometryError, VolumeError
from volseg.volume.geometry import Affine
from volseg.volume.gzip_members import inflate_members
from volseg.volume.nifti import MAX_BYTES, real
from volseg.volume.volume import Volume

MILLIMETRES = {
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres"), 1.0),
    **dict.fromkeys(("um", "µm", "micron", "microns", "micrometer", "micrometers", "micrometre"), 1e-3),
    **dict.fromkeys(("cm", "centimeter", "centimeters", "centimetre"), 10.0),
    **dict.fromkeys(("m", "meter", "meters", "metre"), 1000.0),
}
"""Millimetres per unit of length."""
_MAX_HEADER = 2**24
_MAX_VOXELS = MAX_BYTES // 1  # of one byte; the bytes of larger ones are checked as they are read


def split_header(path: Path, *, end: bytes = b"", last: str = "", alone: bool = False) -> tuple[str, bytes]:
    """Split a file into the text before the voxels, and the bytes after it.

    Args:
        path: File to read.
        end: Bytes with which the header ends (a blank line), if any.
        last: Name of the field that ends it.
        alone: Whether the header alone is wanted: then the bytes after it are not all read.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise VolumeError(f"{path.name} holds more than {MAX_BYTES >> 30} GiB")
        with path.open("rb") as file:
            content = file.read(_MAX_HEADER if alone else -1)
    except FileNotFoundError as error:
        raise VolumeError(f"{path} is not there") from error
    except OSError as error:
        raise VolumeError(f"{path.name} cannot be read ({error.strerror})") from error
    head = content[:_MAX_HEADER]
    if end:
        # Some writers end lines as Windows does. A detached header may end without a blank line.
        ends = [(at, len(mark)) for mark in (end, end.replace(b"\n", b"\r\n")) if (at := head.find(mark)) >= 0]
        at, length = min(ends, default=(len(head), 0))
        return head[:at].decode("utf-8", "replace"), content[at + length :]
    found = re.search(rb"^[ \t]*" + last.encode() + rb"[ \t]*[=:]", head, re.MULTILINE)
    if found is None:
        raise VolumeError(f"{path.name} has no {last}; it is damaged or of another format")
    stop = head.find(b"\n", found.end())
    stop = len(head) if stop < 0 else stop
    return head[:stop].decode("utf-8", "replace"), content[stop + 1 :]


def beside(header: Path, name: str) -> Path:
    """The file of voxels that a detached header names: one file, in the header's folder or below.

    Raises:
        VolumeError: The header names a list or a pattern of files, or a file that is elsewhere or absent.
    """
    if "\0" in name:
        raise VolumeError(f"{header.name} names the voxels by what is no name of a file; it is damaged, copy it again")
    if name.startswith("LIST") or "%" in name or (len(name.split()) > 1 and not (header.parent / name).is_file()):
        raise VolumeError(f"{header.name} keeps its voxels in several files ({name}); write it as one file")
    path = header.parent / name
    if not path.resolve().is_relative_to(header.parent.resolve()):
        raise VolumeError(f"{header.name} names the voxels {name}, which lie outside its folder; copy them beside it")
    if not path.is_file():
        raise VolumeError(f"{header.name} names the voxels {name}, which are not there; copy both files")
    if path.stat().st_size > MAX_BYTES:
        raise VolumeError(f"{name} holds more than {MAX_BYTES >> 30} GiB")
    return path


def number_of_voxels(shape: Sequence[int], path: Path) -> int:
    """The product of the sizes, or an error if it is too large to allocate."""
    if min(shape) < 1:
        raise VolumeError(f"{path.name} claims the shape {tuple(shape)}, expected at least one voxel along each axis")
    voxels = math.prod(shape)
    if voxels > _MAX_VOXELS:
        raise VolumeError(f"{path.name} claims {voxels} voxels, more than {_MAX_VOXELS}; it is damaged")
    return voxels


def decompressed(content: bytes, size: int, path: Path) -> bytes:
    """Decompress at most `size` bytes of gzip."""
    from isal import igzip
    from isal.igzip_lib import IsalError

    wrong = (OSError, EOFError, ValueError, zlib.error, cast(type[Exception], IsalError))  # isal's stub is wrong
    try:
        with igzip.open(io.BytesIO(content), "rb") as stream:
            try:
                found: bytes = stream.read(size)
            except (EOFError, gzip.BadGzipFile):  # cut short, or with other bytes behind its data
                found = inflate_members(content, size, name=path.name)
            return found
    except wrong as error:
        raise VolumeError(f"{path.name} cannot be decompressed ({error}); copy it again") from error


def in_plane(affine: Affine) -> Affine:
    """The affine of one slice: its third axis is perpendicular to the first two and 1 mm long."""
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    full = affine.copy()
    full[:3, 2] = normal / (np.linalg.norm(normal) or 1.0)
    return full


def voxels_of(voxels: NDArray[Any], space: int, affine_ras: Affine, path: Path) -> list[Volume]:
    """One volume per channel.

    Args:
        voxels: Voxels (X, Y[, Z][, channels]) of any byte order.
        space: Number of axes that run through space, 2 or 3.
        affine_ras: Affine (4, 4) from voxel index to RAS mm.
        path: File, for messages.
    """
    if space == 2:
        voxels = voxels[:, :, None]  # one slice
    if voxels.ndim > 4:
        raise VolumeError(f"{path.name} has shape {voxels.shape}, expected X, Y, Z and at most one axis of channels")
    voxels = real(voxels)
    parts = [voxels] if voxels.ndim == 3 else [voxels[..., c] for c in range(voxels.shape[3])]
    try:
        return [Volume(part, affine_ras) for part in parts]
    except GeometryError as error:
        raise GeometryError(f"{path.name}: {error}") from error
