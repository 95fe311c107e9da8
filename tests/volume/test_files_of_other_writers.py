"""NRRD, MetaImage and NIfTI files that SimpleITK 2.5.7, ITK 5.4.7 and pynrrd 1.1.3 wrote, where these say voxels lie.

`written_by_others.json` holds the bytes of each file, and what SimpleITK 2.5.7 reads from it: the position and the size
of the grid in LPS, and its voxels with the last axis first.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from volseg.volume import read_image_file, read_image_grid

WRITTEN: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "written_by_others.json").read_text())


@pytest.mark.parametrize("name", WRITTEN)
def test_other_writers_files_lie_where_they_say(name: str, tmp_path: Path) -> None:
    told = WRITTEN[name]
    for file, content in told["files"].items():
        (tmp_path / file).write_bytes(base64.b64decode(content))
    flat = len(told["shape"]) == 2
    volumes = read_image_file(tmp_path / name)
    axes = np.array(told["direction_lps"]).reshape(len(told["shape"]), -1) * told["spacing_mm"]
    lps = np.eye(4)
    lps[: len(axes), : len(axes)], lps[: len(axes), 3] = axes, told["origin_lps"]
    expected = np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps
    shape = (*told["shape"], *((1,) if flat else ()))
    voxels = np.array(told["voxels"]).reshape(*shape[::-1], told["channels"])
    assert len(volumes) == told["channels"]
    for number, volume in enumerate(volumes):
        assert volume.shape == shape
        # NIfTI keeps numbers in 32 bits.
        np.testing.assert_allclose(volume.affine_ras, expected, atol=1e-5)
        np.testing.assert_array_equal(volume.voxels, voxels[..., number].T)
    grid, affine = read_image_grid(tmp_path / name)
    assert grid[:3] == shape
    np.testing.assert_array_equal(affine, volumes[0].affine_ras)


def test_each_writer_and_form_is_there() -> None:
    """So that a file that could not be written is not passed over."""
    assert {told["program"].split(",")[0] for told in WRITTEN.values()} == {
        "SimpleITK 2.5.7",
        "ITK 5.4.7",
        "pynrrd 1.1.3",
    }
    assert {Path(name).suffix for name in WRITTEN} == {".nrrd", ".mha", ".gz", ".mhd", ".nhdr"}
    assert len(WRITTEN) > 20
