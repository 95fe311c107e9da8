"""A volume: voxels [X, Y, Z] with an affine in RAS millimetres; NIfTI in and out, checked and atomic."""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from volseg.errors import GeometryError, VolumeError
from volseg.files import atomic
from volseg.volume.geometry import Affine, check_affine
from volseg.volume.volume import Volume

# A header may claim any size; beyond this nothing is allocated for it.
MAX_BYTES = 16 * 2**30
# Deflate packs at most 1032 bytes into one.
_MAX_INFLATION = 1032
_GZIP_LEVEL = 1


def read_volume(path: str | Path, *, oriented: bool = True) -> Volume:
    """Read a 3D NIfTI file; integer voxels stay integers, scaled ones become float32.

    Args:
        path: `.nii` or `.nii.gz`.
        oriented: refuse a file that states no orientation (neither qform nor sform).

    Raises:
        VolumeError: absent, cut short, not NIfTI, too large, or not 3D.
        GeometryError: no orientation or a singular affine.
    """
    channels = read_channels(path, oriented=oriented)
    if len(channels) != 1:
        raise VolumeError(f"{Path(path).name} has {len(channels)} channels, expected one 3D volume")
    return channels[0]


def read_channels(path: str | Path, *, oriented: bool = True) -> list[Volume]:
    """Read a 3D or 4D NIfTI file as one volume a channel (the fourth axis). Errors as in `read_volume`."""
    import nibabel

    path = Path(path)
    kind = nibabel.Nifti1Image
    try:
        content = _inflate(path)
        if content[:4] in (b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c"):
            kind = nibabel.Nifti2Image
        with np.errstate(all="ignore"):  # of numbers in a damaged header, which are checked here and below
            image = kind.from_bytes(content)
            header = image.header
            _check_size(header, len(content), path)
            voxels = np.asanyarray(image.dataobj)
    except FileNotFoundError as error:
        raise VolumeError(f"{path} is not there") from error
    except _unreadable() as error:
        raise VolumeError(
            f"{path.name} cannot be read as NIfTI ({error}); it may be cut short, copy it again"
        ) from error
    if voxels.ndim == 4 and voxels.shape[3] == 1:
        voxels = voxels[..., 0]
    if voxels.ndim not in (3, 4):
        raise VolumeError(f"{path.name} has shape {voxels.shape}, expected X, Y, Z and at most one axis of channels")
    if voxels.dtype.kind not in "iuf":
        raise VolumeError(f"{path.name} holds voxels of type {voxels.dtype}, expected real numbers")
    if voxels.dtype.kind == "f":
        voxels = voxels.astype(np.float32, copy=False)
    elif not voxels.dtype.isnative:
        voxels = voxels.astype(voxels.dtype.newbyteorder("="))
    if oriented and int(header["qform_code"]) == 0 and int(header["sform_code"]) == 0:
        raise GeometryError(
            f"{path.name} states no orientation (qform and sform codes are 0); write it again with its affine"
        )
    try:
        parts = [voxels] if voxels.ndim == 3 else [voxels[..., c] for c in range(voxels.shape[3])]
        return [Volume(part, image.affine) for part in parts]
    except GeometryError as error:
        raise GeometryError(f"{path.name}: {error}") from error


def read_aligned(images: Sequence[str | Path | Volume]) -> list[Volume]:
    """Read one volume a file, all on the grid of the first; those that have been read are taken as they are.

    Raises:
        VolumeError: on another grid than the first, or as in `read_volume`.
        GeometryError: as in `read_volume`.
    """
    volumes = [image if isinstance(image, Volume) else read_volume(image) for image in images]
    for image, volume in zip(images[1:], volumes[1:], strict=True):
        difference = volumes[0].grid.difference(volume.grid)
        if difference:
            one, other = ("a channel" if isinstance(name, Volume) else Path(name).name for name in (image, images[0]))
            raise VolumeError(f"{one} is not on the grid of {other}: {difference}")
    return volumes


def read_grid(path: str | Path) -> tuple[tuple[int, ...], Affine]:
    """Shape and affine (RAS mm) of a NIfTI file from its header alone."""
    import nibabel

    try:
        with np.errstate(all="ignore"):
            image: Any = nibabel.load(path)
        return tuple(int(n) for n in image.shape), check_affine(image.affine)
    except FileNotFoundError as error:
        raise VolumeError(f"{path} is not there") from error
    except GeometryError as error:
        raise GeometryError(f"{Path(path).name}: {error}") from error
    except _unreadable() as error:
        raise VolumeError(f"{Path(path).name} cannot be read as NIfTI ({error})") from error


def write_volume(path: str | Path, volume: Volume) -> None:
    """Write a volume as NIfTI, whole or not at all; `.gz` is compressed, and equal volumes give equal bytes.

    Args:
        path: `.nii` or `.nii.gz`.
        volume: bool voxels are written as uint8; 64-bit integers are refused.

    Raises:
        VolumeError: voxels of a type that other readers refuse.
    """
    import nibabel
    from isal import igzip

    path = Path(path)
    voxels = volume.voxels.view(np.uint8) if volume.voxels.dtype == np.bool_ else volume.voxels
    if voxels.dtype.name not in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"):
        raise VolumeError(f"voxels of type {voxels.dtype} do not go into NIfTI; convert them to float32 or int32")
    image = nibabel.Nifti1Image(voxels, volume.affine_ras)
    image.header.set_xyzt_units("mm")
    image.set_sform(volume.affine_ras, code=1)
    image.set_qform(volume.affine_ras, code=1)
    content = _nifti(image, voxels)
    with atomic(path) as partial:
        zipped = igzip.compress(content, compresslevel=_GZIP_LEVEL, mtime=0) if path.suffix == ".gz" else content
        partial.write_bytes(zipped)


def _nifti(image: Any, voxels: NDArray[Any]) -> bytearray:  # noqa: ANN401 - nibabel's image has no type
    """What `image.to_bytes()` gives, with one copy of the voxels instead of three."""
    image.update_header()
    image.header.set_slope_inter(1, 0)
    head = io.BytesIO()
    image.header.write_to(head)
    begin = int(image.header["vox_offset"])
    content = bytearray(begin + voxels.nbytes)
    content[: head.tell()] = head.getbuffer()
    np.ndarray(voxels.shape, image.header.get_data_dtype(), content, offset=begin, order="F")[...] = voxels
    return content


def _unreadable() -> tuple[type[Exception], ...]:
    """What nibabel and the decompressors raise at a damaged file."""
    from isal.igzip_lib import IsalError
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    wrong = (ValueError, OverflowError, TypeError, KeyError)  # a header whose numbers make no sense
    squeezed = (cast(type[Exception], IsalError), zlib.error, EOFError, struct.error)  # isal's stub is wrong
    return (ImageFileError, HeaderDataError, WrapStructError, OSError, *squeezed, *wrong)


def _inflate(path: Path) -> bytes:
    """The file's content, decompressed, after the header's claimed size was found acceptable."""
    from isal import igzip

    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    if not zipped:
        if path.stat().st_size > MAX_BYTES:
            raise VolumeError(f"{path.name} holds more than {MAX_BYTES >> 30} GiB")
        return path.read_bytes()
    with igzip.open(path, "rb") as stream:
        head = stream.read(540)
        claimed = _claimed_bytes(head)
        if claimed > MAX_BYTES:
            raise _too_large(path, claimed)
        limit = min(claimed + 2**20, _MAX_INFLATION * path.stat().st_size)  # 1 MiB for header and extensions
        content: bytes = head + stream.read(limit)
        if stream.read(1):
            raise VolumeError(f"{path.name} inflates to more than its header claims; it is damaged or not NIfTI")
    return content


def _claimed_bytes(head: bytes) -> int:
    """Bytes of voxels that a NIfTI-1 or NIfTI-2 header claims; 0 where it is no such header."""
    for order in "<>":
        if len(head) >= 348 and struct.unpack_from(order + "i", head)[0] == 348:
            dims, bits = struct.unpack_from(order + "8h", head, 40), struct.unpack_from(order + "h", head, 72)[0]
        elif len(head) >= 540 and struct.unpack_from(order + "i", head)[0] == 540:
            dims, bits = struct.unpack_from(order + "8q", head, 16), struct.unpack_from(order + "h", head, 14)[0]
        else:
            continue
        rank = min(max(dims[0], 0), 7)
        size: int = math.prod(max(n, 1) for n in dims[1 : rank + 1]) * max(bits, 8) // 8
        return size
    return 0


def _check_size(
    header: Any,  # noqa: ANN401 - nibabel's header has no type
    got: int,
    path: Path,
) -> None:
    shape = header.get_data_shape()
    if min(shape, default=0) < 1:
        raise VolumeError(f"{path.name} claims the shape {shape}, expected at least one voxel along each axis")
    expected = math.prod(shape) * header.get_data_dtype().itemsize
    if expected > MAX_BYTES:
        raise _too_large(path, expected)
    if got < int(header["vox_offset"]) + expected:
        raise VolumeError(f"{path.name} ends after {got} bytes of {expected}; it is cut short, copy it again")


def _too_large(path: Path, claimed: int) -> VolumeError:
    return VolumeError(
        f"{path.name} claims {claimed / 2**30:.0f} GiB of voxels, more than {MAX_BYTES >> 30} GiB; "
        "it is damaged, or must be cut into parts"
    )
