"""What a command sets for its process and those that it starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

NAMES = ("OMP_WAIT_POLICY", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_ARENA_MAX")
SCRIPT = f"import os; from volseg.cli.process import settle; settle(); print(*(os.environ[name] for name in {NAMES!r}))"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "passive 4294967296 8589934592 1"),
        ({"OMP_WAIT_POLICY": "active", "MALLOC_TRIM_THRESHOLD_": "1000"}, "active 4294967296 1000 1"),
    ],
)
def test_what_the_environment_says_stays(given: dict[str, str], expected: str) -> None:
    inherited = {name: value for name, value in os.environ.items() if name not in NAMES}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=inherited | given, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == expected.split()


def test_nibabel_is_loaded_without_pydicom_and_both_work_afterwards(tmp_path: Path) -> None:
    """A NIfTI file with an extension of DICOM is read all the same, and mosaics need its reader of CSA headers."""
    code = f"""
import sys
from volseg.cli.process import load_nibabel
load_nibabel()
assert "nibabel" in sys.modules and "pydicom" not in sys.modules
import nibabel, numpy as np
image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4))
image.header.extensions.append(nibabel.nifti1.Nifti1Extension(2, b"\\x08\\x00\\x60\\x00CS\\x02\\x00MR"))
path = {str(tmp_path / "a.nii.gz")!r}
nibabel.save(image, path)
from volseg.volume import read_volume
assert read_volume(path).shape == (2, 2, 2)
import pydicom
from nibabel.nicom import csareader
assert pydicom.Dataset and csareader.read
load_nibabel()
assert sys.modules["pydicom"] is pydicom
"""
    subprocess.run([sys.executable, "-c", code], check=True)
