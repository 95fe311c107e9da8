"""`--crop-first`: the label map of the whole grid, by fewer windows; and all windows where the coarse pass may err."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_bundle import LABELS, write_bundle, write_checkpoint

from volseg.errors import UsageError
from volseg.inference import array_predictor
from volseg.inference.arrays import reading
from volseg.inference.arrays.crop_first import MARGIN_MM, _possible, absent, calibrated_margin_mm, coarse, within
from volseg.inference.arrays.memory import Way
from volseg.inference.arrays.native import NativeGrid
from volseg.jobs import Predicting
from volseg.labels import LabelTable
from volseg.volume import Crop, Volume

PERMUTED = np.array([[0, -2.0, 0, 3], [2.0, 0, 0, -40], [0, 0, -3.0, 5], [0, 0, 0, 1]])
OBLIQUE = np.array([[1.97, -0.3, 0, 3], [0.3, 1.97, 0, -40], [0, 0, 3.1, 5], [0, 0, 0, 1]])
AFFINES = {
    "as the network's": np.diag([2.0, 2, 3, 1]),
    "turned and flipped": PERMUTED,
    "resampled": np.diag([-1.7, 2.3, 2.6, 1]),
    "oblique": OBLIQUE,
}
VALUES = (300, 500, 700)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("crop")
    write_bundle(place / "bundle")
    write_checkpoint(place / "model.pt")
    return place


def volume(affine, *, regions=3, shape=(130, 84, 60), line=False):
    """A body with a blob per region near its middle, and perhaps a line that only the full resolution sees."""
    voxels = np.full(shape, 100, np.int16)
    voxels[0] = 0  # air
    x, y, z = (n // 2 for n in shape)
    for number, value in enumerate(VALUES[:regions]):
        voxels[x - 6 : x, y + 8 * number - 8 : y + 8 * number, z - 4 : z + 4] = value
    if line:
        voxels[x:, y, z] = VALUES[1]
    return Volume(voxels, affine)


class ByIntensity:
    """Logits of each voxel by its own intensity, and the number of windows that were asked for."""

    name, precision, windows_at_once = "torch", "fp32", 1

    def __init__(self):
        self.count = 0

    def __call__(self, windows):
        self.count += len(windows)
        return np.concatenate([20 - 30 * np.abs(windows - np.float32(value / 100)) for value in VALUES], axis=1)


@pytest.fixture(autouse=True)
def plain_intensities(monkeypatch):
    """Intensities as in the file, in hundreds, so that the logits are known."""
    monkeypatch.setattr(reading, "normalise", lambda channel, _: np.divide(channel, 100, out=channel))


def predictors(folder, **overrides):
    """The same network, whole and with a coarse pass."""
    member = (str(folder / "bundle"), folder / "model.pt")
    found = [array_predictor([member], device="cpu", overrides=overrides, crop_first=asked) for asked in (False, True)]
    return [replace(one, windows=ByIntensity()) for one in found]


@pytest.mark.parametrize("slabs", [False, True])
@pytest.mark.parametrize("name", AFFINES)
def test_the_label_map_is_that_of_all_windows(folder, name, slabs):
    image = volume(AFFINES[name])
    maps = []
    for one in predictors(folder):
        item = one.preprocess([image], key="case")
        if slabs and item["grid"].axes is None:
            pytest.skip("an oblique grid is decided whole")
        made = one.postprocess(one.infer({**item, "way": Way(slabs=slabs)}))
        maps.append((made, one.windows.count))
    (whole, every), (cropped, few) = maps
    assert len(np.unique(whole.label_map.voxels)) == 4
    assert np.array_equal(cropped.label_map.voxels, whole.label_map.voxels)
    assert np.array_equal(cropped.label_map.affine_ras, image.affine_ras)
    assert cropped.uncertainty == pytest.approx(whole.uncertainty, abs=1e-4)
    assert few < every
    assert cropped.note.startswith(f"crop first: {few} of {every} windows")
    assert not whole.note


def test_probabilities_and_clean_up_are_those_of_the_whole_grid(folder):
    image = volume(AFFINES["turned and flipped"])
    more = {"save_probabilities": True, "cleanup": {"keep_largest": ["stomach"]}}
    whole, cropped = (one.predict([image], key="case") for one in predictors(folder, **more))
    assert np.array_equal(cropped.label_map.voxels, whole.label_map.voxels)
    assert np.abs(cropped.probabilities - whole.probabilities).max() < 1e-6
    assert cropped.probabilities.shape[1:] == image.shape


def test_a_box_grows_where_a_region_reaches_its_side(folder):
    image = volume(AFFINES["as the network's"], shape=(200, 60, 40), line=True)
    whole, cropped = (one.predict([image], key="case") for one in predictors(folder))
    assert np.array_equal(cropped.label_map.voxels, whole.label_map.voxels)
    assert (cropped.label_map.voxels[-1] != 0).any()


@pytest.mark.parametrize(
    ("made", "told"),
    [
        ({"regions": 2}, "the coarse pass does not find stomach"),
        ({"regions": 0}, "the coarse pass does not find large_bowel and small_bowel and stomach"),
        ({"shape": (34, 20, 20)}, "windows in all, of which none is worth skipping"),
    ],
)
def test_the_whole_grid_where_the_coarse_pass_may_err(folder, made, told):
    image = volume(AFFINES["as the network's"], **made)
    whole, cropped = (one.predict([image], key="case") for one in predictors(folder))
    assert told in cropped.note
    assert "the whole grid was predicted" in cropped.note
    assert np.array_equal(cropped.label_map.voxels, whole.label_map.voxels)


def test_regions_that_may_be_there_and_that_are():
    """By hand: p = e^x / (e^0 + e^x + e^-9) of a softmax, 1 / (1 + e^-x) of a sigmoid; 0.3 is at x = -0.85."""
    for table, channels in ((LabelTable.exclusive(["a", "b"]), (0.0, -0.8, -9.0)), (LABELS, (-0.8, -0.9, 0.1))):
        logits = np.full((len(channels), 2, 2, 2), -9, np.float32)
        logits[:, 0, 0, 0] = channels
        if not table.overlap:
            logits[0] = 0
        assert _possible(logits, table) == ([True, False, True] if table.overlap else [True, False])
        held = ["large_bowel", "small_bowel"] if table.overlap else ["a", "b"]
        assert absent({"pred": logits}, table) == held
        decided = np.zeros((2, 2, 2), np.uint8)
        decided[0] = table.regions[0].values[0]
        missed = absent({"decided": (decided, None)}, table)
        assert table.names[0] not in missed
        assert table.names[1] in missed or table.regions[0].values[0] in table.regions[1].values


def test_a_part_of_the_file_has_the_positions_of_the_whole():
    matrix = np.array([[0, 0.8, 0, 1.5], [-1.1, 0, 0, 40], [0, 0, 0.5, -2], [0, 0, 0, 1]])
    grid = NativeGrid(matrix, (50, 40, 60), (33, 60, 28))
    crop = Crop((5, 0, 10), (20, 30, 28), (33, 60, 28))
    part, native = within(grid, crop)
    index = np.array([3, 4, 2, 1.0])
    moved = [*(index[:3] + native.starts), 1]
    assert np.allclose(part.matrix @ index, grid.matrix @ moved - [*crop.starts, 0])
    assert part.shape == tuple(b - a for a, b in zip(native.starts, native.stops, strict=True))
    # By hand: y = 40 - 1.1 i from 29.5 down to the end; x = 1.5 + 0.8 j from 4.5 to 19.5; z = 0.5 k - 2 from 9.5 on.
    assert (native.starts, native.stops) == ((10, 4, 23), (50, 23, 60))


def test_coarse_keeps_the_mean_of_whole_blocks():
    image = np.random.default_rng(0).normal(size=(2, 6, 4, 1)).astype(np.float32)
    small = coarse(image, (2, 2, 2))
    assert small.shape == (2, 3, 2, 1)
    assert np.allclose(small.mean(), image.mean(), atol=1e-6)


def test_the_margin_of_a_calibration_counts_where_it_is_larger(tmp_path, monkeypatch):
    assert calibrated_margin_mm(tmp_path / "model.pt") == MARGIN_MM
    (tmp_path / "calibration.json").write_text("{}")

    def region(bound):
        return SimpleNamespace(margin=SimpleNamespace(bound=lambda _: bound), ranges={"doubt": (0.0, 0.1)})

    for bounds, expected in (((4.0, 17.5), 17.5), ((4.0, 5.0), MARGIN_MM), ((float("inf"),), MARGIN_MM)):
        regions = {str(number): region(bound) for number, bound in enumerate(bounds)}
        monkeypatch.setattr("volseg.calibration.read_calibration", lambda _, r=regions: SimpleNamespace(regions=r))
        assert calibrated_margin_mm(tmp_path / "model.pt") == expected


@pytest.mark.parametrize("more", [{"device": "cuda"}, {"flips": "0"}, {"two": True}])
def test_a_coarse_pass_that_cannot_be_made_is_refused_at_once(folder, more, monkeypatch):
    monkeypatch.setattr("volseg.inference.words.gpu_may_be_there", lambda: True)
    members = [(str(folder / "bundle"), folder / "model.pt")] * (2 if more.get("two") else 1)
    work = Predicting(members, device=more.get("device", "cpu"), crop_first=True)
    with pytest.raises(UsageError, match="--crop-first is for one network"):
        work.check(flips=more.get("flips", "none"))


def test_what_was_predicted_whole_is_not_taken_for_the_box(folder):
    members = [(str(folder / "bundle"), folder / "model.pt")]
    works = [Predicting(members, device="cpu", crop_first=asked) for asked in (False, True)]
    whole, cropped = (work.of(work.check(flips="none")) for work in works)
    assert whole.digest != cropped.digest
    assert (whole.options.get("crop_first"), cropped.options["crop_first"]) == (None, True)
    assert cropped.made_with(LABELS)["crop_first"] is True
    assert "crop_first" not in whole.made_with(LABELS)
