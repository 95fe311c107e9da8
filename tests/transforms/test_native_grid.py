"""Back to the native grid: what MONAI's inverse gives, for any orientation and spacing."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from monai import transforms as mt
from monai.data import MetaTensor

from volseg.labels import LabelTable
from volseg.transforms import NativeProbabilitiesd, preprocessing
from volseg.transforms.native_grid import regrid
from volseg.volume import Volume, write_volume

LABELS = LabelTable.overlapping(["a", "b"])


def affine(order: tuple[int, ...], signs: tuple[int, ...], *, angle: float = 0.0) -> np.ndarray:
    """Voxels of 1.2 x 1.7 x 3.1 mm whose axes run along the world's in that order, turned about the third one."""
    turned = np.eye(4)
    turned[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    made = np.eye(4)
    made[:3, :3] = 0
    for axis, (world, sign, mm) in enumerate(zip(order, signs, (1.2, 1.7, 3.1), strict=True)):
        made[world, axis] = sign * mm
    made[:3, 3] = 11, -7, 5
    return turned @ made


CASES = [
    *((order, signs, 0.0) for order in itertools.permutations(range(3)) for signs in ((1, 1, 1), (-1, 1, -1))),
    ((0, 1, 2), (-1, -1, 1), 0.3),
    ((2, 0, 1), (1, -1, 1), 0.2),
]


def both(tmp_path: Path, where: np.ndarray, spacing: list[float], *, shape=(14, 11, 9), labels=LABELS, extra=()):
    """The native probabilities by MONAI's transforms and by ours."""
    draw = np.random.default_rng(0)
    write_volume(tmp_path / "a.nii.gz", Volume(draw.normal(size=shape).astype(np.float32), where))
    before = mt.Compose([*preprocessing(labels, channels=1, spacing_mm=spacing, label=False).transforms, *extra])
    item = before({"key": "a", "image": str(tmp_path / "a.nii.gz")})
    logits = torch.from_numpy(draw.normal(size=(labels.channels, *item["image"].shape[1:])).astype(np.float32))
    sigmoid = labels.activation == "sigmoid"
    oracle = mt.Compose(
        [
            mt.Activationsd("pred", sigmoid=sigmoid, softmax=not sigmoid),
            mt.Invertd("pred", transform=before, orig_keys="image", nearest_interp=False, to_tensor=True),
        ]
    )
    ours = NativeProbabilitiesd("pred", before=before, activation=labels.activation)
    return oracle({**item, "pred": logits.clone()})["pred"], ours({**item, "pred": logits})["pred"]


@pytest.mark.parametrize("spacing", [[1.2, 1.7, 3.1], [2.0, 2.0, 2.0], [0.9, 1.1, 1.3]], ids=str)
@pytest.mark.parametrize(("order", "signs", "angle"), CASES)
def test_it_is_what_monai_gives(tmp_path: Path, order, signs, angle, spacing) -> None:
    expected, got = both(tmp_path, affine(order, signs, angle=angle), spacing)
    assert got.shape == expected.shape == (2, 14, 11, 9)
    assert torch.allclose(got.as_tensor(), expected.as_tensor(), atol=1e-5)
    assert np.allclose(got.affine, affine(order, signs, angle=angle))


@pytest.mark.parametrize("shape", [(14, 11, 1), (1, 6, 5), (2, 2, 2)])
def test_single_slices_and_softmax_too(tmp_path: Path, shape: tuple[int, ...]) -> None:
    where, labels = affine((0, 1, 2), (1, -1, 1)), LabelTable.exclusive(["a", "b"])
    expected, got = both(tmp_path, where, [2.0, 2.0, 3.1], shape=shape, labels=labels)
    assert torch.allclose(got.as_tensor(), expected.as_tensor(), atol=1e-5)
    assert torch.allclose(got.sum(0), torch.ones(shape), atol=1e-5)


def test_other_preprocessing_is_undone_by_monai(tmp_path: Path) -> None:
    extra = [mt.SpatialPadd("image", spatial_size=(20, 20, 20))]
    expected, got = both(tmp_path, affine((1, 0, 2), (1, -1, 1)), [2.0, 2.0, 2.0], extra=extra)
    assert torch.allclose(got.as_tensor(), expected.as_tensor(), atol=1e-5)


def test_logits_are_left_as_they_were(tmp_path: Path) -> None:
    logits = torch.randn(2, 4, 5, 6)
    meta = {"original_affine": torch.eye(4, dtype=torch.float64), "spatial_shape": np.array((4, 5, 6))}
    image = MetaTensor(torch.zeros(1, 4, 5, 6), affine=torch.eye(4, dtype=torch.float64), meta=meta)
    before = logits.clone()
    done = NativeProbabilitiesd("pred", before=mt.Compose([]), activation="sigmoid")({"pred": logits, "image": image})
    assert torch.equal(logits, before)
    assert torch.allclose(done["pred"].as_tensor(), logits.sigmoid(), atol=1e-6)  # SIMD rounds by place in memory


def test_axes_that_run_aslant_are_refused() -> None:
    aslant = np.eye(4)
    aslant[0, 1] = 0.1
    with pytest.raises(ValueError, match="aslant"):
        regrid(torch.zeros(3, 4, 5), aslant, (3, 4, 5))
