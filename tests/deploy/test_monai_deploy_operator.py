"""Packages in MONAI Deploy App SDK 4.0.0: its own operators read a DICOM series and run the package, voxel for voxel.

`VOLSEG_MONAI_DEPLOY_PYTHON=ENV/bin/python pytest tests/deploy/test_monai_deploy_operator.py`, where ENV holds the SDK
(with holoscan, which needs no GPU) and what volseg needs.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import dicom_series
import numpy as np
import pytest
import tiny_bundle
from command import told

from volseg.deploy.pack import pack
from volseg.labels import LabelTable
from volseg.volume import read_volume

ROOT = Path(__file__).resolve().parents[2]
PYTHON = os.environ.get("VOLSEG_MONAI_DEPLOY_PYTHON")
OTHERS = LabelTable.of({"liver": 2, "spleen": 5})

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PYTHON is None, reason="VOLSEG_MONAI_DEPLOY_PYTHON names no Python with MONAI Deploy"),
]


@pytest.mark.parametrize(
    ("labels", "how", "form"),
    [
        (tiny_bundle.LABELS, "graph", "folder"),
        (OTHERS, "memory", "folder"),
        (OTHERS, "memory", "model.ts"),
    ],
)
def test_a_series_gets_the_label_map_of_predict(
    labels: LabelTable, how: str, form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tiny_bundle.write_bundle(tmp_path / "of" / "tiny")
    checkpoint = tiny_bundle.write_checkpoint(tmp_path / "of" / "model.pt", labels)
    formats = ["torchscript"] if form == "model.ts" else []
    package = pack(bundle, checkpoint=checkpoint, output=tmp_path / "mine", formats=formats)
    voxels = dicom_series.noise((40, 36, 20)) + 40 * np.arange(20, dtype=np.int16)
    affine = dicom_series.grid(voxels.shape, spacing=(2, 2, 3))
    dicom_series.save(tmp_path / "dicom", dicom_series.series(voxels, affine))
    code, printed = told(capsys, "predict", package, tmp_path / "dicom", "--precision", "fp32", "-o", tmp_path / "out")
    assert code == 0, printed
    (file,) = (tmp_path / "out").glob("*.nii.gz")
    expected = read_volume(file).voxels
    (tmp_path / "here").mkdir()
    environment = {
        "PATH": f"{Path(str(PYTHON)).parent}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    given = package / "models" / "model.ts" if form == "model.ts" else package
    words = [ROOT / "tests/support/monai_deploy_app.py", given, tmp_path / "dicom", tmp_path / "pred.npy", how]
    done = subprocess.run(
        [str(PYTHON), *map(str, words)],
        cwd=tmp_path / "here",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    got = np.load(tmp_path / "pred.npy")
    assert len(np.unique(expected)) > 2
    assert np.array_equal(got, expected)
