"""MONOCHROME1, low numbers are bright: pydicom 3.0.2 and dcm2niix 1.0.20260724 keep them, SimpleITK 2.5.7 does not."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from dicom_series import noise, save, series

from volseg.dicom import read_stack, scan
from volseg.dicom.image import read_image

TOLD = "to be shown with low numbers bright (MONOCHROME1), and the numbers are taken as stored"


def read(folder):
    (found,) = scan(folder).series
    stack = read_stack(found)
    return stack, read_image(stack).voxels


@pytest.mark.parametrize(("modality", "dtype"), [("CT", np.int16), ("MR", np.uint16), ("PT", np.uint16)])
def test_the_numbers_are_those_of_pydicom_and_dcm2niix(tmp_path, modality, dtype):
    """SimpleITK gives -1 less the number for 16 bits with sign, 65535 less the number for those without."""
    voxels = noise(dtype=dtype)
    paths = save(tmp_path, series(voxels, modality=modality, PhotometricInterpretation="MONOCHROME1"))
    stack, found = read(tmp_path)
    assert any(f"its slices are {TOLD}" in warning for warning in stack.warnings)
    np.testing.assert_array_equal(found, voxels)
    np.testing.assert_array_equal(found[:, :, 0], pydicom.dcmread(paths[0]).pixel_array.T)


def test_some_slices_only_are_counted_and_the_usual_kind_needs_no_word(tmp_path):
    voxels = noise()
    images = series(voxels)
    save(tmp_path / "usual", images)
    assert not any("MONOCHROME1" in warning for warning in read(tmp_path / "usual")[0].warnings)
    images[2].PhotometricInterpretation = "MONOCHROME1"
    save(tmp_path / "mixed", images)
    stack, found = read(tmp_path / "mixed")
    assert any(f"1 of 5 slices are {TOLD}" in warning for warning in stack.warnings)
    np.testing.assert_array_equal(found, voxels)
