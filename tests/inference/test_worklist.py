"""How much work a list of cases is: the windows that MONAI's sliding window would visit. `find_inputs` is in
test_inference.py."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.utils import dense_patch_slices
from monai.inferers.utils import _get_scan_interval

from volseg.inference import count_windows

sizes = st.tuples(*[st.integers(1, 90)] * 3)
rois = st.tuples(*[st.sampled_from([8, 16, 32])] * 2, st.sampled_from([1, 16, 32]))


def write(folder: Path, shape: tuple[int, ...], affine: np.ndarray) -> list[tuple[str, list[Path]]]:
    path = folder / "a.nii"
    nib.Nifti1Image(np.zeros(shape, np.uint8), affine).to_filename(path)
    return [("a", [path])]


@settings(max_examples=50, deadline=None)  # MONAI lists each window
@given(sizes, rois, st.sampled_from([0.0, 0.25, 0.5, 0.625]))
def test_the_count_is_monais(tmp_path_factory, shape, roi, overlap):
    cases = write(tmp_path_factory.getbasetemp(), shape, np.diag([-2.0, 2.0, 3.0, 1.0]))
    padded = [max(n, r) for n, r in zip(shape, roi, strict=True)]
    expected = len(dense_patch_slices(padded, roi, _get_scan_interval(padded, roi, 3, [overlap] * 3)))
    assert count_windows(cases, grid_mm=[2, 2, 3], roi_size=roi, overlap=overlap) == expected


def test_turned_and_resampled_volumes_count_on_the_network_s_grid(tmp_path):
    affine = np.diag([2.0, 2.0, 3.0, 1.0])[:, [2, 0, 1, 3]]  # voxel axes: superior, right, anterior
    cases = write(tmp_path, (32, 64, 16), affine)  # 96 mm superior, 128 mm right, 32 mm anterior
    assert count_windows(cases, grid_mm=[1, 1, 1], roi_size=[64, 32, 96], overlap=0) == 2 * 1 * 1


def test_what_cannot_be_read_counts_nothing_and_enough_is_enough(tmp_path):
    cases = write(tmp_path, (64, 64, 64), np.eye(4))
    told = {"grid_mm": [1, 1, 1], "roi_size": [32, 32, 32], "overlap": 0.0}
    assert count_windows([("b", [tmp_path / "absent.nii"]), *cases], **told) == 8
    assert count_windows(cases * 10, **told, enough=20) == 24
