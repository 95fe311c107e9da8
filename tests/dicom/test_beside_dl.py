"""A folder called `dl` in the working directory is taken for a module by python-gdcm 3.2.6, which pydicom imports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("own", [False, True])
def test_dicom_is_read_beside_a_folder_called_dl(tmp_path: Path, *, own: bool) -> None:
    pytest.importorskip("gdcm", reason="python-gdcm is not installed: pip install 'volseg[dicom]'")
    (tmp_path / "dl").mkdir()
    if own:
        (tmp_path / "dl" / "__init__.py").write_text("LAYERS = 3\n")
    lines = [
        *(["import dl"] * own),
        "from volseg.dicom import Dicom",
        "import pydicom",
        *(["assert dl is __import__('dl') and dl.LAYERS == 3"] * own),
        "print(pydicom.__version__)",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
