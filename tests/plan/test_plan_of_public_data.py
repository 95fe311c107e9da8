"""Four public data sets, planned here and by nnU-Net v2.8.1 from the same shapes and spacings.

The rows span each data set as its publication describes it (BTCV: 512 x 512 x 85 to 198 at 0.54 to 0.98 and 2.5 to 5
mm; KiTS19: 0.44 to 1.04 and 0.5 to 5 mm; BraTS: 240 x 240 x 155 at 1 mm, whose brain is about 138 x 170 x 136; ACDC:
1.37 to 1.68 and 5 to 10 mm, 8 to 18 slices): spacing in the plane, spacing between slices, number of slices, and size
of a slice. nnU-Net's values are those of its ExperimentPlanner for a `dataset_fingerprint.json` of these rows, axes
reversed to X, Y, Z.
`docs/explanation/planning.md` has the table and the reason of each difference.
"""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from volseg.plan import Fingerprint, fit_divisor, fit_pyramid, fit_roi, plan_spacing

_PLANE = (512, 512)
ROWS: dict[str, list[tuple[float, float, int, tuple[int, int]]]] = {
    "BTCV": [
        *[(0.59, 2.5, 198, _PLANE), (0.64, 2.5, 184, _PLANE), (0.68, 3, 163, _PLANE), (0.72, 3, 153, _PLANE)],
        *[(0.76, 3, 148, _PLANE), (0.76, 3, 147, _PLANE), (0.8, 3, 144, _PLANE), (0.84, 3, 131, _PLANE)],
        *[(0.9, 5, 100, _PLANE), (0.98, 5, 89, _PLANE)],
    ],
    "KiTS": [
        *[(0.44, 0.5, 834, _PLANE), (0.62, 1, 437, _PLANE), (0.7, 1, 390, _PLANE), (0.74, 2.5, 180, _PLANE)],
        *[(0.78, 3, 120, _PLANE), (0.78, 3, 107, _PLANE), (0.82, 3, 102, _PLANE), (0.88, 5, 64, _PLANE)],
        *[(0.94, 5, 58, _PLANE), (1.04, 5, 50, _PLANE)],
    ],
    "BraTS": [(1.0, 1.0, 155, (240, 240))] * 10,
    "ACDC": [
        *[(1.37, 5, 18, (256, 216)), (1.45, 5, 17, (232, 256)), (1.52, 5, 16, (216, 256)), (1.56, 6.5, 14, (256, 216))],
        *[(1.56, 10, 10, (216, 256)), (1.56, 10, 10, (256, 216)), (1.56, 10, 9, (208, 256)), (1.64, 10, 9, (224, 180))],
        *[(1.68, 10, 8, (216, 256)), (1.68, 10, 8, (428, 512))],
    ],
}
# Spacing in mm, window, windows per step and stages of 3d_fullres; nnunetv2 2.8.1, its default of 8 GB.
NNUNET: dict[str, tuple[list[float], list[int], int, int]] = {
    "BTCV": ([0.76, 0.76, 2.5], [160, 192, 64], 2, 6),
    "KiTS": ([0.78, 0.78, 0.95], [128, 160, 112], 2, 6),
    "BraTS": ([1.0, 1.0, 1.0], [112, 160, 128], 2, 6),
    "ACDC": ([1.56, 1.56, 5.0], [256, 256, 20], 2, 7),
}
# Of the U-Net's bundle on a GPU: window and stages.
OURS: dict[str, tuple[list[int], int]] = {
    "BTCV": ([144, 144, 48], 5),
    "KiTS": ([112, 96, 96], 5),
    "BraTS": ([112, 96, 96], 5),
    "ACDC": ([224, 224, 20], 6),
}
GPU_VOXELS = 128 * 128 * 64


def fingerprint(rows: list[tuple[float, float, int, tuple[int, int]]]) -> Fingerprint:
    shapes = [(*plane, slices) for _, _, slices, plane in rows]
    spacings = [(fine, fine, coarse) for fine, coarse, _, _ in rows]
    return Fingerprint(
        len(rows),
        len(rows),
        tuple(round(statistics.median(along)) for along in zip(*shapes, strict=True)),
        tuple((min(along), max(along)) for along in zip(*shapes, strict=True)),
        tuple(statistics.median(along) for along in zip(*spacings, strict=True)),
        tuple(
            (min(along), *(float(q) for q in np.quantile(along, [0.1, 0.9])), max(along))
            for along in zip(*spacings, strict=True)
        ),
        ("CT",),
        False,
        (),
    )


def planned(name: str) -> dict[str, Any]:
    spacing = plan_spacing(fingerprint(ROWS[name])).value
    sizes = [
        [n * mm / to for n, mm, to in zip((*plane, slices), (fine, fine, coarse), spacing, strict=True)]
        for fine, coarse, slices, plane in ROWS[name]
    ]
    shape = [round(statistics.median(along)) for along in zip(*sizes, strict=True)]
    roi = fit_roi(shape, divisor=fit_divisor(shape, most=16), voxels=GPU_VOXELS, spacing_mm=spacing)
    return {"spacing": spacing, "shape": shape, "roi": roi, "pyramid": fit_pyramid(roi, spacing)}


@pytest.mark.parametrize("name", ROWS)
def test_the_grid_is_that_of_nnu_net_and_the_window_has_its_form_and_half_its_voxels(name: str) -> None:
    ours, (spacing, window, batch, stages) = planned(name), NNUNET[name]
    assert ours["spacing"] == pytest.approx(spacing, abs=1e-9)
    assert (ours["roi"], len(ours["pyramid"].strides)) == OURS[name]
    # Two windows of each of two cases, against two of twice the size.
    assert 0.7 <= 2 * 2 * math.prod(ours["roi"]) / (batch * math.prod(window)) <= 2.0
    mm = [n * to for n, to in zip(ours["roi"], spacing, strict=True)]
    theirs_mm = [n * to for n, to in zip(window, spacing, strict=True)]
    assert all(0.5 <= one / other <= 1.2 for one, other in zip(mm, theirs_mm, strict=True))
    assert stages - len(ours["pyramid"].strides) in (0, 1), "one halving less in windows of half the voxels"
    # The same network comes out for nnU-Net's own window.
    assert len(fit_pyramid(window, spacing).strides) == stages


def test_the_page_has_these_values() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "explanation" / "planning.md").read_text(encoding="utf-8")
    for name, (spacing, window, batch, stages) in NNUNET.items():
        roi, depth = OURS[name]
        own, theirs = " x ".join(map(str, roi)), " x ".join(map(str, window))
        mm = " x ".join(f"{to:g}" for to in spacing)
        assert f"| {name} | {mm} | the same | {own} | {theirs} | 4 | {batch} | {depth} | {stages} |" in page
