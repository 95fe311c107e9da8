"""Volumes of all formats that segmentation data come in: NIfTI, NRRD, MetaImage and FreeSurfer's MGH."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from volseg.errors import GeometryError, VolumeError
from volseg.volume.geometry import Affine, check_affine
from volseg.volume.metaimage import metaimage_grid, read_metaimage
from volseg.volume.nifti import MAX_BYTES, read_channels, read_grid
from volseg.volume.nrrd import nrrd_grid, read_nrrd
from volseg.volume.raw_voxels import decompressed, voxels_of
from volseg.volume.volume import Volume

IMAGE_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".mgh.gz", ".mgh")
"""The endings of the files that `read_image_file` reads."""
_PACKED = {".zst": "Zstandard", ".bz2": "bzip2", ".xz": "xz", ".zip": "zip", ".7z": "7-Zip"}
_MGH_HEADER = 284


def image_suffix(name: str) -> str | None:
    """The ending of a file name that `read_image_file` reads, as it is spelt there; None if it has none.

    >>> image_suffix("case1_0000.nii.gz"), image_suffix("T1.MHA"), image_suffix("notes.txt")
    ('.nii.gz', '.MHA', None)
    """
    low = name.lower()
    return next((name[len(name) - len(end) :] for end in IMAGE_SUFFIXES if low.endswith(end) and low != end), None)


def read_image_file(path: str | Path, *, oriented: bool = True) -> list[Volume]:
    """Read a NIfTI, NRRD, MetaImage or MGH file as one volume per channel, in RAS millimetres.

    Two-dimensional images become one slice. Integers stay integers, those of 64 bits in the smallest type of at most 32
    bits that holds them; others become float32.

    Args:
        path: File whose name ends with one of `IMAGE_SUFFIXES`.
        oriented: Whether a file that states no orientation is refused; else its axes are taken to run left, back and
            up.

    Raises:
        VolumeError: The file is absent, of another format, cut short, too large, or has too many axes.
        GeometryError: The file has no orientation or a singular affine.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "a.nrrd"
    ...     lines = ["NRRD0004", "type: uchar", "dimension: 3", "sizes: 2 1 1", "encoding: raw", "space: LPS"]
    ...     lines += ["space directions: (1.5,0,0) (0,1.5,0) (0,0,3)", "", ""]
    ...     _ = path.write_bytes(chr(10).join(lines).encode() + bytes([7, 8]))
    ...     volume = read_image_file(path)[0]
    >>> volume.voxels[:, 0, 0].tolist(), volume.spacing_mm, volume.grid.orientation
    ([7, 8], (1.5, 1.5, 3.0), 'LPS')
    """
    path = Path(path)
    suffix = (image_suffix(path.name) or "").lower()
    if suffix in (".nii.gz", ".nii"):
        return read_channels(path, oriented=oriented)
    if suffix in (".nrrd", ".nhdr"):
        return read_nrrd(path, oriented=oriented)
    if suffix in (".mha", ".mhd"):
        return read_metaimage(path, oriented=oriented)
    if suffix:
        return _read_mgh(path, oriented=oriented)
    if path.suffix.lower() == ".mnc":
        raise VolumeError(
            f"{path.name} is of MINC, which is not read; convert it with mnc2nii or nibabel (SimpleITK 2.5 turns it by "
            "half a turn: left is right, front is back)"
        )
    packed = _PACKED.get(path.suffix.lower())
    raise VolumeError(
        f"{path.name} is packed with {packed}, which is not read; unpack it first"
        if packed
        else f"{path.name} is of no format that is read; expected one of {', '.join(IMAGE_SUFFIXES)}"
    )


def read_image_grid(path: str | Path) -> tuple[tuple[int, ...], Affine]:
    """Read shape and affine (RAS mm) of a file that `read_image_file` reads, from its header alone.

    A file of several channels has their number behind X, Y, Z. Errors as in `read_image_file`.
    """
    path = Path(path)
    suffix = (image_suffix(path.name) or "").lower()
    if suffix in (".nii.gz", ".nii"):
        return read_grid(path)
    if suffix in (".nrrd", ".nhdr", ".mha", ".mhd"):
        shape, affine = nrrd_grid(path) if suffix in (".nrrd", ".nhdr") else metaimage_grid(path)
        try:
            return shape, check_affine(affine)
        except GeometryError as error:
            raise GeometryError(f"{path.name}: {error}") from error
    volumes = read_image_file(path)  # FreeSurfer's files are a few megabytes
    return (*volumes[0].shape, *((len(volumes),) if len(volumes) > 1 else ())), volumes[0].affine_ras


def _read_mgh(path: Path, *, oriented: bool) -> list[Volume]:
    from nibabel.freesurfer.mghformat import MGHHeader, MGHImage

    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise VolumeError(f"{path} is not there") from error
    zipped = content[:2] == b"\x1f\x8b"
    head = decompressed(content, _MGH_HEADER, path) if zipped else content[:_MGH_HEADER]
    try:
        with np.errstate(all="ignore"):
            header = MGHHeader(head)
        shape = header.get_data_shape()
        size = int(np.prod([float(n) for n in shape])) * header.get_data_dtype().itemsize
        if min(shape) < 1 or size > MAX_BYTES:
            raise VolumeError(f"{path.name} claims the shape {shape}; it is damaged")
        if oriented and not int(header["goodRASFlag"]):
            raise GeometryError(f"{path.name} states no orientation (goodRASFlag is 0); write it again with its affine")
        if zipped:
            content = decompressed(content, _MGH_HEADER + size, path)
        if len(content) < _MGH_HEADER + size:
            raise VolumeError(
                f"{path.name} ends after {len(content)} bytes of {_MGH_HEADER + size}; it is cut short, copy it again"
            )
        image = MGHImage.from_bytes(content[: _MGH_HEADER + size])
        return voxels_of(np.asanyarray(image.dataobj), 3, image.affine, path)
    except VolumeError:
        raise
    except Exception as error:  # nibabel raises many kinds at a damaged header
        raise VolumeError(f"{path.name} cannot be read as MGH ({error}); copy it again") from error
