"""Siemens mosaics for the tests: a volume as tiles of one image, with the private headers that explain them."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from dicom_series import image, place, set_pixels
from pydicom import Dataset


def mosaic(voxels: np.ndarray, affine: np.ndarray, **elements: Any) -> Dataset:
    """One image of a volume [X, Y, Z] on a grid in LPS mm; its slices may follow against the normal of the rows."""
    columns, rows, count = voxels.shape
    side = int(np.ceil(np.sqrt(count)))
    pixels = np.zeros((side * rows, side * columns), voxels.dtype)
    for z in range(count):
        top, left = z // side * rows, z % side * columns
        pixels[top : top + rows, left : left + columns] = voxels[:, :, z].T
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / spacing
    dataset = image("MR", **{"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"], **elements})
    place(dataset, affine, 0)
    corner = affine[:3, 3] - (side - 1) / 2 * (columns * affine[:3, 0] + rows * affine[:3, 1])
    dataset.ImagePositionPatient = [f"{value:.10f}"[:16] for value in corner]
    dataset.SpacingBetweenSlices = f"{spacing[2]:.10f}"[:16]
    dataset.InstanceNumber = 1
    dataset.Manufacturer = "SIEMENS"
    set_pixels(dataset, pixels)
    dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", count)
    header = [
        ("NumberOfImagesInMosaic", "US", [str(count)]),
        ("SliceNormalVector", "FD", [f"{value:.8f}" for value in directions[:, 2]]),
    ]
    dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", csa_header(header))
    return dataset


def csa_header(tags: list[tuple[str, str, list[str]]]) -> bytes:
    """A private header of Siemens of the second kind (SV10): names, kinds and values."""
    content = b"SV10\4\3\2\1" + struct.pack("<2I", len(tags), 77)
    for name, vr, values in tags:
        count = max(6, len(values))
        content += struct.pack("<64si4s3i", name.encode(), len(values), vr.encode(), 0, count, 77)
        for place_ in range(count):
            value = values[place_].encode() + b"\0" if place_ < len(values) else b""
            content += struct.pack("<4i", len(value), len(value), 77, len(value)) + value + b"\0" * (-len(value) % 4)
    return content
