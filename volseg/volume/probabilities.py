"""Probabilities as a NIfTI file: 16 bits per voxel and channel, on the grid of the image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.errors import VolumeError
from volseg.files import atomic
from volseg.volume.geometry import Affine, header_of
from volseg.volume.nifti import describe

_STEPS = 65535  # of the range 0 to 1: rounding is at most 8e-6, sixty times finer than half precision


def write_probabilities(path: str | Path, probabilities: NDArray[np.floating[Any]], affine_ras: Affine) -> None:
    """Write probabilities as one 4D `.nii.gz`, whole or not at all, one channel at a time.

    Voxels are uint16 with the scale 1/65535 in the header, which nibabel, SimpleITK, ITK-SNAP and 3D Slicer apply: they
    read 0 to 1, in an eighth of the size that float32 has once compressed, or less. The fourth axis is the channel.

    Args:
        path: File `.nii.gz`.
        probabilities: Probabilities (channels, X, Y, Z), 0 to 1.
        affine_ras: Affine (4, 4) from voxel index to RAS mm.

    Raises:
        VolumeError: The array has other axes, or an axis too long for NIfTI-1.

    >>> import tempfile, nibabel
    >>> file = Path(tempfile.mkdtemp()) / "p.nii.gz"
    >>> write_probabilities(file, np.full((2, 4, 5, 6), 0.25), np.eye(4))
    >>> read = nibabel.load(file)
    >>> read.shape, round(float(read.dataobj[0, 0, 0, 1]), 4)
    ((4, 5, 6, 2), 0.25)
    """
    import nibabel
    from isal import igzip

    path = Path(path)
    if probabilities.ndim != 4 or max(probabilities.shape) > 32767:
        raise VolumeError(f"probabilities of shape {probabilities.shape} were given, expected channels, X, Y, Z")
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.uint16)
    header.set_data_shape((*probabilities.shape[1:], probabilities.shape[0]))
    header.set_xyzt_units("mm")
    stated = header_of(affine_ras)
    if stated is None or not stated.write_to(header):
        header.set_sform(np.asarray(affine_ras), code=1)
        header.set_qform(np.asarray(affine_ras), code=1)
    describe(header, affine_ras)
    header.set_slope_inter(1 / _STEPS, 0)
    header["magic"] = b"n+1"
    header["vox_offset"] = 352
    with (
        atomic(path) as partial,
        partial.open("wb") as file,
        # The stream has neither name nor time: equal probabilities give equal bytes.
        igzip.IGzipFile("", "wb", fileobj=file, compresslevel=1, mtime=0) as stream,
    ):
        stream.write(header.binaryblock + bytes(4))  # no extension follows
        for channel in probabilities:
            steps = np.rint(channel * _STEPS).astype("<u2")
            stream.write(steps.tobytes(order="F"))


def read_probabilities(path: str | Path) -> NDArray[np.float32]:
    """Read probabilities (channels, X, Y, Z) as `write_probabilities` writes them.

    Raises:
        VolumeError: The file is absent, damaged, or has other axes.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "p.nii.gz"
    >>> write_probabilities(file, np.full((2, 4, 5, 6), 0.25), np.eye(4))
    >>> read_probabilities(file).shape
    (2, 4, 5, 6)
    """
    import nibabel

    try:
        stored = np.asarray(nibabel.load(path).dataobj, dtype=np.float32)  # type: ignore[attr-defined]
    except (OSError, EOFError, ValueError, nibabel.filebasedimages.ImageFileError) as error:
        raise VolumeError(f"the probabilities {path} cannot be read ({error}); predict the case again") from error
    if stored.ndim == 3:  # of a single channel, whose axis NIfTI leaves out
        stored = stored[..., None]
    if stored.ndim != 4:
        raise VolumeError(f"{path} must have four axes, X, Y, Z and channel, got {stored.ndim}")
    return np.ascontiguousarray(np.moveaxis(stored, -1, 0))
