"""A NIfTI file slice by slice: statistics of large volumes in little memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from volseg.errors import VolumeError
from volseg.volume.geometry import Affine
from volseg.volume.gzip_members import MemberStream
from volseg.volume.header import NiftiHeader
from volseg.volume.nifti import MAX_BYTES, _parsed, _telling

_CHUNK_BYTES = 8 * 2**20


@dataclass(frozen=True)
class SliceStream:
    """The voxels of a NIfTI file of one volume, in chunks of whole slices along its last axis.

    The values are those of `read_volume`: integers stay integers, scaled ones become float32.

    Attributes:
        path: File `.nii` or `.nii.gz`.
        shape: Number of voxels along X, Y, Z.
        affine_ras: Affine (4, 4) from voxel index to RAS mm.
    """

    path: Path
    shape: tuple[int, ...]
    affine_ras: Affine

    @classmethod
    def open(cls, path: str | Path) -> SliceStream:
        """Read the header.

        Raises:
            VolumeError: The file is absent, not NIfTI, too large, or not 3D.
            GeometryError: The affine is singular.
        """
        path = Path(path)
        with _telling(path), np.errstate(all="ignore"), _opened(path) as file:
            header = _header(file, path)
            return cls(path, _shape(header, path), NiftiHeader.of(header).affine_ras)

    def chunks(self, slices: int | None = None) -> Iterator[tuple[int, NDArray[Any]]]:
        """The index of each chunk's first slice, and its voxels [X, Y, slices].

        Args:
            slices: Number of slices per chunk; None (the default) for about 8 MiB.

        Raises:
            VolumeError: The file is cut short or damaged.
        """
        with _telling(self.path), np.errstate(all="ignore"), _opened(self.path) as file:
            header = _header(file, self.path)
            kind = header.get_data_dtype()
            file.seek(max(int(header["vox_offset"]), int(header["sizeof_hdr"]) + 4))
            width, height, depth = self.shape
            a_slice = width * height * kind.itemsize
            count = slices or max(1, _CHUNK_BYTES // max(1, a_slice))
            slope, intercept = header.get_slope_inter()
            scaled = slope is not None and (slope, intercept) != (1, 0)
            for first in range(0, depth, count):
                n = min(count, depth - first)
                content = _exactly(file, n * a_slice)
                if len(content) < n * a_slice:
                    raise VolumeError(
                        f"{self.path.name} ends in slice {first + len(content) // a_slice} of {depth}; it is cut "
                        "short, copy it again"
                    )
                voxels = np.frombuffer(content, kind).reshape((width, height, n), order="F")
                if scaled:
                    voxels = (voxels * np.float64(slope) + np.float64(intercept or 0)).astype(np.float32)
                elif voxels.dtype.kind == "f":
                    voxels = voxels.astype(np.float32, copy=False)
                elif not voxels.dtype.isnative:
                    voxels = voxels.astype(voxels.dtype.newbyteorder("="))
                yield first, voxels


def _exactly(file: IO[bytes] | MemberStream, size: int) -> bytes:
    """As many bytes as that, or all that are left: a decompressor may give fewer at once."""
    parts, got = [], 0
    while got < size:
        part = file.read(size - got)
        if not part:
            break
        parts.append(part)
        got += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _opened(path: Path) -> IO[bytes] | MemberStream:
    from isal import igzip

    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return MemberStream(path, igzip.open(path, "rb"), MAX_BYTES) if zipped else path.open("rb")


def _header(file: IO[bytes] | MemberStream, path: Path) -> Any:  # noqa: ANN401 - nibabel's header has no type
    return _parsed(_exactly(file, 540), path)


def _shape(header: Any, path: Path) -> tuple[int, ...]:  # noqa: ANN401 - nibabel's header has no type
    shape = tuple(int(n) for n in header.get_data_shape())
    if min(shape, default=0) < 1 or len(shape) < 2 or math.prod(shape[3:]) != 1:
        raise VolumeError(f"{path.name} has shape {shape}, expected one volume of X, Y, Z")
    claimed = math.prod(shape) * header.get_data_dtype().itemsize
    if claimed > MAX_BYTES:
        raise VolumeError(f"{path.name} claims {claimed / 2**30:.0f} GiB of voxels, more than {MAX_BYTES >> 30} GiB")
    return (*shape, 1)[:3] if len(shape) == 2 else shape[:3]
