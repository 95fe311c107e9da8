"""NIfTI files: reading and writing volumes, with checks; files are written whole or not at all."""

from __future__ import annotations

import gzip
import io
import logging
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from volseg.errors import GeometryError, VolumeError
from volseg.files import atomic
from volseg.volume.alignment import aligned
from volseg.volume.geometry import PROVENANCE, Affine, FileAffine, header_of, provenance_of
from volseg.volume.gzip_members import inflate_file
from volseg.volume.header import NiftiHeader
from volseg.volume.volume import Volume

logger = logging.getLogger(__name__)

FILE_ENDING = ".nii.gz"
"""Ending of the volumes that volseg writes."""

# A header may claim any size; beyond this nothing is allocated for it.
MAX_BYTES = 16 * 2**30
# Deflate packs at most 1032 bytes into one.
_MAX_INFLATION = 1032
_GZIP_LEVEL = 1
_HEAD = 4096  # bytes of a compressed file that are read for its header
_DESCRIPTION = 79  # letters, and a zero behind them
_BEGIN = 352  # of the voxels: behind the header, and four bytes that say that no extension follows
_LONGEST = 32767  # voxels along an axis: NIfTI-1 counts them in 16 bits
_COMPLEX = "complex numbers"
# Codes of NIfTI's data types whose voxels are no single real number.
_NOT_REAL = {32: _COMPLEX, 1792: _COMPLEX, 2048: _COMPLEX, 128: "colours (RGB)", 2304: "colours (RGBA)"}
# Bits of the other types; readers go by the type, and not by bitpix beside it, which writers forget to change with it.
_BITS = {2: 8, 4: 16, 8: 32, 16: 32, 64: 64, 256: 8, 512: 16, 768: 32, 1024: 64, 1280: 64, 1536: 128}
# nibabel reports what it would correct; what matters here is reported by `NiftiHeader.notes`.
_SILENT = logging.Logger("volseg.nibabel", level=logging.CRITICAL)


def read_volume(path: str | Path, *, oriented: bool = True) -> Volume:
    """Read a 3D NIfTI file; integer voxels stay integers, scaled ones become float32.

    Args:
        path: File `.nii` or `.nii.gz`.
        oriented: Whether a file that states no orientation (neither qform nor sform) is refused.

    Raises:
        VolumeError: The file is absent, cut short, not NIfTI, too large, or not 3D.
        GeometryError: The file has no orientation or a singular affine.
    """
    channels = read_channels(path, oriented=oriented)
    if len(channels) != 1:
        raise VolumeError(
            f"{Path(path).name} must hold one 3D volume, got {len(channels)} channels; write the one that is meant, of "
            "one-hot masks or probabilities the number of the largest, or give the .seg.nrrd itself if they are layers"
        )
    return channels[0]


def read_channels(path: str | Path, *, oriented: bool = True) -> list[Volume]:
    """Read a NIfTI file of up to five axes as one volume per channel. Errors as in `read_volume`.

    The fourth axis is the channel; the fifth one is if the fourth has length 1, as in vector images of ITK. A file of
    two axes is a volume of one slice. Integers of 64 bits become the smallest type of at most 32 bits that holds them.
    """
    from nibabel.arrayproxy import ArrayProxy

    path = Path(path)
    with _telling(path):
        content = _inflate(path)
        with np.errstate(all="ignore"):  # for numbers in a damaged header, which are checked here and below
            header = _parsed(content, path)
            _check_size(header, len(content), path)
            shape = _shape_of(header)
            if len(shape) not in (2, 3, 4) and not (len(shape) == 5 and shape[3] == 1):
                raise VolumeError(f"{path.name} has shape {shape}, expected X, Y, Z and at most one axis of channels")
            voxels = np.asanyarray(ArrayProxy(io.BytesIO(content), header))
    voxels = real(voxels.reshape(*shape[:3], *(1,) * (3 - len(shape)), -1, order="F"))
    stated = NiftiHeader.of(header)
    if oriented and not stated.oriented:
        filled = "; its sform is filled, set the code if it is true" if any(stated.rows) else ""
        raise GeometryError(
            f"{path.name} states no orientation (qform and sform codes are 0{filled}); write it again with its affine"
        )
    try:
        affine = _affine(header, stated)
        return [Volume(voxels[..., channel], affine) for channel in range(voxels.shape[3])]
    except GeometryError as error:
        raise GeometryError(f"{path.name}: {error}") from error


def read_aligned(images: Sequence[str | Path | Volume]) -> list[Volume]:
    """Read one volume per file, all on the grid of the first; volumes that have been read are taken as they are.

    Axes in another order or direction are turned, see `volseg.volume.aligned`.

    Raises:
        VolumeError: A file is on another grid than the first, or the error is one of `read_volume`.
        GeometryError: The error is one of `read_volume`.
    """
    volumes = [image if isinstance(image, Volume) else read_volume(image) for image in images]
    for place, image in enumerate(images[1:], start=1):
        one, other = ("a channel" if isinstance(name, Volume) else Path(name).name for name in (image, images[0]))
        try:
            volumes[place], note = aligned(volumes[place], volumes[0].grid)
        except GeometryError as error:
            raise VolumeError(f"{one} is not on the grid of {other}: {error}") from error
        if note:
            logger.warning("%s: %s", one, note)
    return volumes


def read_grid(path: str | Path) -> tuple[tuple[int, ...], Affine]:
    """Read shape and affine (RAS mm) of a NIfTI file from its header alone, by the rule of `NiftiHeader`."""
    path = Path(path)
    with _telling(path), np.errstate(all="ignore"):
        header = _parsed(_head(path), path)
        shape = _shape_of(header)
    try:
        return (*shape, *(1,) * (3 - len(shape))), _affine(header, NiftiHeader.of(header))
    except GeometryError as error:
        raise GeometryError(f"{path.name}: {error}") from error


def write_volume(path: str | Path, volume: Volume) -> None:
    """Write a volume as NIfTI, whole or not at all; `.gz` is compressed, and equal volumes give equal bytes.

    A volume on the grid of a file that was read gets that file's qform, sform and codes, so that every program shows
    both at one position. Otherwise both forms are the affine, with code 1.

    Args:
        path: File `.nii` or `.nii.gz`.
        volume: Volume; bool voxels are written as uint8; 64-bit integers are refused.

    Raises:
        VolumeError: The voxels have a type that other readers refuse, or an axis is too long for NIfTI-1.
    """
    from isal import igzip

    path = Path(path)
    voxels = volume.voxels.view(np.uint8) if volume.voxels.dtype == np.bool_ else volume.voxels
    if voxels.dtype.name not in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"):
        raise VolumeError(f"voxels of type {voxels.dtype} do not go into NIfTI; convert them to float32 or int32")
    if max(voxels.shape) > _LONGEST:
        raise VolumeError(
            f"an axis of a NIfTI-1 file must have at most {_LONGEST} voxels, got {max(voxels.shape)}; cut the image "
            "into parts, or make its voxels larger"
        )
    content = _nifti(voxels, volume.affine_ras)
    with atomic(path) as partial:
        zipped = igzip.compress(content, compresslevel=_GZIP_LEVEL, mtime=0) if path.suffix == ".gz" else content
        partial.write_bytes(zipped)


def _nifti(voxels: NDArray[Any], affine_ras: Affine) -> bytearray:
    """The bytes of nibabel's `to_bytes()`, with one copy of the voxels instead of three; with the forms of a header."""
    import nibabel

    header = nibabel.Nifti1Header()
    header.set_data_dtype(voxels.dtype)
    header.set_data_shape(voxels.shape)
    header.set_xyzt_units("mm")
    header.set_slope_inter(1, 0)
    header["magic"], header["vox_offset"] = b"n+1", _BEGIN
    stated = header_of(affine_ras)
    if stated is None or not stated.write_to(header):
        affine = np.asarray(affine_ras)
        header.set_sform(affine, code=1)
        header.set_qform(affine, code=1)
    describe(header, affine_ras)
    content = bytearray(_BEGIN + voxels.nbytes)
    content[: header.sizeof_hdr] = header.binaryblock
    np.ndarray(voxels.shape, header.get_data_dtype(), content, offset=_BEGIN, order="F")[...] = voxels
    return content


def describe(header: Any, affine_ras: Affine) -> None:  # noqa: ANN401 - nibabel's header has no type
    """Write the record of the series that an affine remembers into the description of a header."""
    header["descrip"] = provenance_of(affine_ras).encode("ascii", "replace")[:_DESCRIPTION]


def _affine(header: Any, stated: NiftiHeader) -> FileAffine:  # noqa: ANN401 - nibabel's header has no type
    """The affine of a file, with its header and the record of the series that it was made from."""
    told = bytes(header["descrip"].item()).split(b"\0")[0].decode("ascii", "replace").rstrip()
    return FileAffine(stated.affine_ras, stated, told if told.startswith(PROVENANCE) else "")


def _shape_of(header: Any) -> tuple[int, ...]:  # noqa: ANN401 - nibabel's header has no type
    """The number of voxels along each axis, without further axes of length 1 behind the fourth one."""
    shape = [int(n) for n in header.get_data_shape()]
    while len(shape) > 4 and shape[-1] == 1:
        shape.pop()
    return tuple(shape)


def real(voxels: NDArray[Any]) -> NDArray[Any]:
    """Voxels in a native type of at most 32 bits, as all readers of formats give them: integers stay if they fit."""
    if voxels.dtype.kind in "iu" and voxels.dtype.itemsize == 8:
        low, high = int(voxels.min()), int(voxels.max())
        for name in ("uint8", "int16", "uint16", "int32", "uint32"):
            if np.iinfo(name).min <= low and high <= np.iinfo(name).max:
                return voxels.astype(name)
    if voxels.dtype.kind == "f" or voxels.dtype.itemsize == 8:
        with np.errstate(over="ignore"):  # beyond float32 is infinity, which is reported where the image is used
            return voxels.astype(np.float32, copy=False)
    return voxels if voxels.dtype.isnative else voxels.astype(voxels.dtype.newbyteorder("="))


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    """Turn errors of nibabel and the decompressors at a damaged file into a VolumeError that tells the cause."""
    from isal.igzip_lib import IsalError
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    squeezed = (cast(type[Exception], IsalError), zlib.error, gzip.BadGzipFile)  # isal's stub is wrong
    wrong = (ImageFileError, HeaderDataError, WrapStructError, ValueError, OverflowError, TypeError, KeyError)
    try:
        yield
    except FileNotFoundError as error:
        raise VolumeError(f"{path} is not there") from error
    except EOFError as error:
        raise VolumeError(f"{path.name} cannot be read as NIfTI ({error}); it is cut short, copy it again") from error
    except squeezed as error:
        raise VolumeError(
            f"{path.name} cannot be read as NIfTI: its compressed data are damaged ({error}); copy it again"
        ) from error
    except OSError as error:
        raise VolumeError(f"{path.name} cannot be read ({error})") from error
    except (struct.error, *wrong) as error:
        raise VolumeError(
            f"{path.name} cannot be read as NIfTI: its header makes no sense ({error}); write it again from its source"
        ) from error


def _parsed(content: bytes, path: Path) -> Any:  # noqa: ANN401 - nibabel's header has no type
    """Parse the header of a single-file NIfTI-1 or NIfTI-2 file as it is stored, after nibabel's checks.

    Raises:
        VolumeError: The file has another format, which the message names if it is known.
    """
    import nibabel

    if not content:
        raise VolumeError(f"{path.name} cannot be read: it is empty; copy it again")
    for order in "<>":
        size = struct.unpack_from(f"{order}i", content)[0] if len(content) >= 4 else 0
        if size in (348, 540):
            break
    else:
        raise VolumeError(f"{path.name} is no NIfTI file: it begins with {content[:8]!r}; name a .nii or .nii.gz file")
    if len(content) < size:
        raise VolumeError(
            f"{path.name} ends after {len(content)} bytes, within its header; it is cut short, copy it again"
        )
    magic = content[344:348] if size == 348 else content[4:8]
    if magic in (b"ni1\0", b"ni2\0"):
        raise VolumeError(
            f"{path.name} is the header of a pair of files (.hdr and .img), expected one file; write it as .nii.gz"
        )
    if size == 348 and magic != b"n+1\0":
        raise VolumeError(
            f"{path.name} has no NIfTI magic, as files of Analyze 7.5, which state no orientation; write it as NIfTI "
            "with its true affine"
        )
    kind = nibabel.Nifti1Header if size == 348 else nibabel.Nifti2Header
    header: Any = kind(content[:size], endianness=order, check=False)  # type: ignore[no-untyped-call]
    header.copy().check_fix(logger=_SILENT, error_level=40)
    code = int(header["datatype"])
    if code in _NOT_REAL:
        cure = "write their magnitude" if _NOT_REAL[code] == _COMPLEX else "one file per channel of a colour"
        raise VolumeError(f"{path.name} holds {_NOT_REAL[code]}, expected real numbers: {cure}")
    if code not in nibabel.nifti1.data_type_codes.code:
        raise VolumeError(f"{path.name} states the data type {code}, which NIfTI does not know; write it again")
    if not header["vox_offset"] >= size + 4:  # nibabel lets 0 pass and reads the header as voxels
        raise VolumeError(
            f"{path.name} states that its voxels begin at byte {float(header['vox_offset']):g}, within its header of "
            f"{size} bytes; programs read such a file in several ways, so write it again (vox_offset {size + 4})"
        )
    return header


def _head(path: Path) -> bytes:
    """The first bytes of a file, decompressed: at least its header, if it has one."""
    from isal import igzip, isal_zlib

    with path.open("rb") as file:
        begin = file.read(_HEAD)
    if begin[:2] != b"\x1f\x8b":
        return begin[:540]
    with suppress(cast(type[Exception], isal_zlib.error)):  # what is wrong with it is told below; isal's stub is wrong
        head: bytes = isal_zlib.decompressobj(wbits=31).decompress(begin, 540)
        if len(head) == 540:
            return head
    with igzip.open(path, "rb") as stream:  # which inflates much more at once
        try:
            return bytes(stream.read(540))
        except (EOFError, gzip.BadGzipFile):
            return inflate_file(path, 540)


def _inflate(path: Path) -> bytes:
    """Decompress the file's content, after a check of the size that its header claims."""
    from isal import igzip

    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    if not zipped:
        if path.stat().st_size > MAX_BYTES:
            raise VolumeError(f"{path.name} holds more than {MAX_BYTES >> 30} GiB")
        return path.read_bytes()
    with igzip.open(path, "rb") as stream:
        try:
            head = stream.read(540)
        except (EOFError, gzip.BadGzipFile):
            head = inflate_file(path, 540)
        claimed = _claimed_bytes(head)
        if claimed > MAX_BYTES:
            raise _too_large(path, claimed)
        before = _bytes_before(head) + 2**20  # header and extensions, some of which hold all that DICOM stated
        limit = min(claimed + before, _MAX_INFLATION * path.stat().st_size)
        try:
            content: bytes = head + stream.read(limit) + stream.read(1)
        except (EOFError, gzip.BadGzipFile):  # cut short, or with other bytes behind its data
            content = inflate_file(path, len(head) + limit + 1)
    if len(content) > len(head) + limit:
        raise VolumeError(f"{path.name} inflates to more than its header claims; it is damaged or not NIfTI")
    return content


def _claimed_bytes(head: bytes) -> int:
    """Bytes of voxels that a NIfTI-1 or NIfTI-2 header claims; 0 if it is no such header."""
    for order in "<>":
        if len(head) >= 348 and struct.unpack_from(order + "i", head)[0] == 348:
            dims, (code, bits) = struct.unpack_from(order + "8h", head, 40), struct.unpack_from(order + "2h", head, 70)
        elif len(head) >= 540 and struct.unpack_from(order + "i", head)[0] == 540:
            dims, (code, bits) = struct.unpack_from(order + "8q", head, 16), struct.unpack_from(order + "2h", head, 12)
        else:
            continue
        rank = min(max(dims[0], 0), 7)
        size: int = math.prod(max(n, 1) for n in dims[1 : rank + 1]) * max(bits, _BITS.get(code, 8)) // 8
        return size
    return 0


def _bytes_before(head: bytes) -> int:
    """Bytes that a NIfTI-1 or NIfTI-2 header claims before its voxels; 0 if it is no such header, or makes no sense."""
    for order in "<>":
        for size, kind, place in ((348, "f", 108), (540, "q", 168)):
            if len(head) >= size and struct.unpack_from(order + "i", head)[0] == size:
                offset = struct.unpack_from(order + kind, head, place)[0]
                return int(offset) if 0 <= offset <= MAX_BYTES else 0
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
    whole = int(header["vox_offset"]) + expected
    if got < whole:
        raise VolumeError(f"{path.name} ends after {got} bytes of {whole}; it is cut short, copy it again")


def _too_large(path: Path, claimed: int) -> VolumeError:
    return VolumeError(
        f"{path.name} claims {claimed / 2**30:.0f} GiB of voxels, more than {MAX_BYTES >> 30} GiB; "
        "it is damaged, or must be cut into parts"
    )
