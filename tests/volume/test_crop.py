"""Crops: boxes of a volume's own voxels that stay where they are in space and go back exactly; masks grown by mm."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from affines import AFFINES

from volseg.metrics import grown as margin_grown
from volseg.volume import Crop, Volume, grown
from volseg.volume import crop as crops

SHAPE = (12, 9, 7)


def mask_of(*voxels: tuple[int, int, int], shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for voxel in voxels:
        mask[voxel] = True
    return mask


@pytest.mark.parametrize("affine", AFFINES)
def test_each_voxel_of_a_crop_is_where_it_was(affine: np.ndarray) -> None:
    volume = Volume(np.random.default_rng(0).integers(-900, 900, SHAPE).astype(np.int16), affine)
    crop = Crop.around(mask_of((4, 3, 2), (6, 3, 4)), spacing_mm=volume.spacing_mm, margin_mm=1)
    assert crop is not None
    part = crop.cut(volume)
    assert part.voxels.dtype == np.int16
    for index in itertools.product(*map(range, part.shape)):
        before = [i + start for i, start in zip(index, crop.starts, strict=True)]
        assert part.voxels[index] == volume.voxels[tuple(before)]
        place = part.affine_ras @ [*index, 1]
        assert np.allclose(place, affine @ [*before, 1], atol=1e-10)
    assert volume.affine_ras is not part.affine_ras
    assert np.array_equal(volume.affine_ras, affine)


def test_what_is_cut_and_pasted_is_what_it_was() -> None:
    volume = Volume(np.random.default_rng(0).integers(1, 9, SHAPE).astype(np.uint8), AFFINES[0])
    crop = Crop((2, 0, 6), (5, 9, 7), SHAPE)
    whole = crop.paste(crop.cut(volume).voxels)
    assert whole.dtype == np.uint8
    inside = np.zeros(SHAPE, bool)
    inside[crop.box] = True
    assert np.array_equal(whole, np.where(inside, volume.voxels, 0))
    channels = crop.paste(np.ones((2, 3, 9, 1), np.float32), outside=(0.25, 0.5))
    assert channels.dtype == np.float32
    assert channels[:, 0, 0, 0].tolist() == [0.25, 0.5]
    assert channels[:, 2, 0, 6].tolist() == [1, 1]


def test_the_margin_is_in_millimetres_and_ends_at_the_edge() -> None:
    box = Crop.around(mask_of((5, 4, 3)), spacing_mm=(1.0, 2.0, 3.0), margin_mm=4)
    assert box == Crop((1, 2, 1), (10, 7, 6), SHAPE)  # 4, 2 and 4/3 voxels: at least the margin
    box = Crop.around(mask_of((0, 8, 3)), spacing_mm=(1.0, 2.0, 3.0), margin_mm=4)
    assert box == Crop((0, 6, 1), (5, 9, 6), SHAPE)
    box = Crop.around(mask_of((5, 4, 3)), spacing_mm=(0.1, 0.1, 0.1), margin_mm=0.3)
    assert box == Crop((2, 1, 0), (9, 8, 7), SHAPE)  # 0.3 / 0.1 is a little less than 3
    assert Crop.around(mask_of((5, 4, 3)), spacing_mm=(1, 1, 1)) == Crop((5, 4, 3), (6, 5, 4), SHAPE)
    assert Crop.around(mask_of(), spacing_mm=(1, 1, 1), margin_mm=9) is None


def test_a_single_slice_has_a_box_too() -> None:
    box = Crop.around(mask_of((5, 4, 0), shape=(12, 9, 1)), spacing_mm=(1, 1, 1), margin_mm=2)
    assert box == Crop((3, 2, 0), (8, 7, 1), (12, 9, 1))


@pytest.mark.parametrize("slab", [1, 2, 32])
def test_a_grown_mask_holds_what_is_near(slab: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crops, "_SLAB", slab)
    spacing = np.array((1.2, 0.7, 3.1))
    mask = np.random.default_rng(1).random(SHAPE) > 0.98
    voxels = np.argwhere(np.ones(SHAPE, bool)) * spacing
    distances = np.linalg.norm(voxels[:, None] - np.argwhere(mask) * spacing, axis=-1).min(axis=1).reshape(SHAPE)
    for margin in (0, 0.7, 1.5, 3.1, 6.2, 50):
        got = grown(mask, spacing_mm=tuple(spacing), margin_mm=margin)
        assert np.array_equal(got, distances <= margin + 1e-6), margin
        box = Crop.around(mask, spacing_mm=tuple(spacing), margin_mm=margin)
        assert box is not None
        assert got[box.box].sum() == got.sum(), "the box holds the margin"


def test_nothing_grows_from_nothing() -> None:
    assert not grown(mask_of(), spacing_mm=(1, 1, 1), margin_mm=5).any()
    one = mask_of((1, 1, 1))
    assert grown(one, spacing_mm=(1, 1, 1), margin_mm=0) is not one


@pytest.mark.parametrize("margin_mm", [2, 5, 10])
def test_a_margin_around_nothing_is_nothing(margin_mm):
    """scikit-image fills a corner of the image: `findings/margin_around_nothing.sh`."""
    nothing = np.zeros((20, 20, 20), dtype=bool)
    assert not grown(nothing, spacing_mm=(1, 1, 1), margin_mm=margin_mm).any()
    assert not margin_grown(nothing, margin_mm, (1, 1, 1)).any()
