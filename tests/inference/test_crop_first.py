"""`--crop-first`: the label map of the whole grid, by fewer windows; and all windows where the coarse pass may err."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_bundle import LABELS, ROI, write_bundle, write_checkpoint

from volseg.errors import UsageError
from volseg.inference import array_predictor
from volseg.inference.arrays import reading
from volseg.inference.arrays.coarse import Doubts, coarse, coarser, finer, within
from volseg.inference.arrays.crop_first import MARGIN_MM, calibrated_margin_mm
from volseg.inference.arrays.memory import Size, Way
from volseg.inference.arrays.native import NativeGrid
from volseg.inference.arrays.needed import COUNTS, NeededWindows, OpenSum, held_in, in_regions, widened
from volseg.inference.arrays.windows import Windows
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
# The intensities at which each region is: the fourth is where the first two overlap.
VALUES = (300, 500, 700, 900)
SEEN = ((300, 900), (500, 900), (700,))
EXCLUSIVE = LabelTable.exclusive(LABELS.names)
THICK_MM = (1.0, 1.0, 4.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("crop")
    write_bundle(place / "bundle")
    write_checkpoint(place / "model.pt")
    write_checkpoint(place / "exclusive.pt", EXCLUSIVE)
    write_checkpoint(place / "thick.pt", spacing_mm=THICK_MM)
    return place


def volume(affine=AFFINES["as the network's"], *, regions=3, shape=(130, 84, 60), line=False, middle=None):
    """A body with a blob per region in a row, and perhaps a line that only the full resolution sees.

    Args:
        affine: Affine.
        regions: Number of blobs.
        shape: Shape.
        line: Whether there is a line from the middle to the end along x.
        middle: The middle of the row in voxels; that of the volume by default.
    """
    voxels = np.full(shape, 100, np.int16)
    voxels[0] = 0  # air
    x, y, z = middle or (n // 2 for n in shape)
    for number, value in enumerate(VALUES[:regions]):
        first = y + 8 * number - 8
        voxels[max(0, x - 6) : x, max(0, first) : first + 8, max(0, z - 4) : z + 4] = value
    if line:
        voxels[x:, y, z] = VALUES[1]
    return Volume(voxels, affine)


class ByIntensity:
    """Logits of each voxel by its own intensity and, if asked for, by its window; keeps the windows it was given."""

    name, precision, windows_at_once = "torch", "fp32", 1

    def __init__(self, labels=LABELS, *, context=0.0):
        self.labels, self.context, self.asked = labels, context, []

    @property
    def count(self):
        return len(self.asked)

    def __call__(self, windows):
        self.asked += [window.tobytes() for window in windows]
        apart = [np.min([np.abs(windows - np.float32(value / 100)) for value in seen], axis=0) for seen in SEEN]
        channels = [
            20 - 30 * one + np.float32(self.context) * windows.std(axis=(1, 2, 3, 4), keepdims=True) for one in apart
        ]
        background = [] if self.labels.overlap else [np.zeros_like(channels[0])]
        return np.concatenate([*background, *channels], axis=1).astype(np.float32)


@pytest.fixture(autouse=True)
def plain_intensities(monkeypatch):
    """Intensities as in the file, in hundreds, so that the logits are known."""
    monkeypatch.setattr(reading, "normalise", lambda channel, _: np.divide(channel, 100, out=channel))


def predictors(folder, *, checkpoint="model.pt", labels=LABELS, context=0.0, **overrides):
    """The same network, whole and with a coarse pass."""
    member = (str(folder / "bundle"), folder / checkpoint)
    found = [array_predictor([member], device="cpu", overrides=overrides, crop_first=asked) for asked in (False, True)]
    return [replace(one, windows=ByIntensity(labels, context=context)) for one in found]


def both(predictors, image, *, slabs=False):
    """The predictions of a volume, and the numbers of windows."""
    found = []
    for one in predictors:
        item = {**one.preprocess([image], key="case"), "way": Way(slabs=slabs)}
        found.append(one.postprocess(one.infer(item)))
    return found, [one.windows.count for one in predictors]


@pytest.mark.parametrize("slabs", [False, True])
@pytest.mark.parametrize("name", AFFINES)
def test_the_label_map_is_that_of_all_windows(folder, name, slabs):
    image = volume(AFFINES[name])
    if slabs and name == "oblique":
        pytest.skip("an oblique grid is decided whole")
    (whole, cropped), (every, few) = both(predictors(folder), image, slabs=slabs)
    assert len(np.unique(whole.label_map.voxels)) == 4
    assert np.array_equal(cropped.label_map.voxels, whole.label_map.voxels)
    assert np.array_equal(cropped.label_map.affine_ras, image.affine_ras)
    assert cropped.uncertainty == pytest.approx(whole.uncertainty, abs=1e-4)
    assert few < every / 2
    assert cropped.note.startswith(f"crop first: {few} of {every} windows")
    assert not whole.note


@pytest.mark.parametrize("slabs", [False, True])
@pytest.mark.parametrize(
    ("more", "made"),
    [
        ({}, {"regions": 4}),  # two regions overlap
        ({"checkpoint": "exclusive.pt", "labels": EXCLUSIVE}, {}),
        ({"checkpoint": "thick.pt"}, {"affine": np.diag([1.0, 1, 4, 1])}),
        ({}, {"middle": (5, 10, 57)}),  # at three borders
        ({}, {"shape": (200, 84, 9)}),  # thinner than a window
        ({"skip_empty": False}, {}),
    ],
)
def test_overlap_exclusive_regions_thick_slices_borders_and_thin_volumes(folder, more, made, slabs):
    (whole, cropped), (every, few) = both(predictors(folder, **more), volume(**made), slabs=slabs)
    assert len(np.unique(whole.label_map.voxels)) == made.get("regions", 3) + 1
    assert np.array_equal(cropped.label_map.voxels, whole.label_map.voxels)
    assert cropped.note.startswith(f"crop first: {few} of {every} windows")
    assert few < every


def test_voxels_whose_windows_are_all_computed_have_the_very_logits_of_the_whole_grid(folder):
    whole, cropped = predictors(folder, context=3.0)
    cropped = replace(cropped, crop_first=replace(cropped.crop_first, counts=0.0))
    image = volume()
    image.voxels[:] += np.random.default_rng(0).integers(0, 20, image.shape, dtype=np.int16)
    items = [one.infer({**one.preprocess([image], key="case"), "way": Way()}) for one in (whole, cropped)]
    known, crop = items[1]["known"], items[1]["crop"]
    assert 0 < known.sum() < known.size
    assert np.array_equal(items[1]["pred"][:, known], items[0]["pred"][(slice(None), *crop.box)][:, known])
    outside = items[1]["pred"][:, ~known]
    assert (outside == np.array(LABELS.background_logits, np.float32)[:, None]).all()


def test_windows_that_count_little_are_left_out_and_change_logits_little(folder):
    whole, cropped = predictors(folder, context=3.0)
    exact = replace(cropped, windows=ByIntensity(context=3.0), crop_first=replace(cropped.crop_first, counts=0.0))
    items = [one.infer({**one.preprocess([volume()], key="case"), "way": Way()}) for one in (whole, cropped)]
    exact.predict([volume()], key="case")
    assert cropped.windows.count < exact.windows.count
    known, crop = items[1]["known"], items[1]["crop"]
    of_whole = items[0]["pred"][(slice(None), *crop.box)]
    # What a window adds to all logits is 3 times the deviation of its intensities; up to 7 windows of a voxel are left
    # out, each with less than a tenth of the weight of one that is not.
    added = [3 * np.frombuffer(window, np.float32).std() for window in whole.windows.asked]
    most = 7 * COUNTS / (1 + 7 * COUNTS) * (max(added) - min(added))
    assert 0 < np.abs(items[1]["pred"] - of_whole)[:, known].max() < most


@pytest.mark.parametrize("slabs", [False, True])
def test_parts_that_lie_apart_cost_their_own_windows_and_none_is_computed_twice(folder, slabs):
    image = volume(shape=(200, 84, 60), middle=(20, 42, 30))
    image.voxels[170:176, 60:68, 40:48] = VALUES[0]
    image.voxels[:] += np.random.default_rng(0).integers(0, 9, image.shape, dtype=np.int16)  # no two windows are alike
    (whole, cropped), (every, few) = both(them := predictors(folder), image, slabs=slabs)
    assert np.array_equal(cropped.label_map.voxels, whole.label_map.voxels)
    assert (cropped.label_map.voxels[170:] != 0).any()
    assert few < every / 2
    asked = them[1].windows.asked
    assert len(set(asked)) == len(asked)
    # But for those of the coarse pass they are windows of the whole grid.
    assert len(set(asked) - set(them[0].windows.asked)) < 0.15 * every


def test_probabilities_and_clean_up_are_those_of_the_whole_grid(folder):
    image = volume(AFFINES["turned and flipped"])
    more = {"save_probabilities": True, "cleanup": {"keep_largest": ["stomach"]}}
    whole, cropped = (one.predict([image], key="case") for one in predictors(folder, **more))
    assert np.array_equal(cropped.label_map.voxels, whole.label_map.voxels)
    assert np.abs(cropped.probabilities - whole.probabilities).max() < 1e-6
    assert cropped.probabilities.shape[1:] == image.shape


@pytest.mark.parametrize("slabs", [False, True])
def test_what_regions_reach_is_computed_until_they_end(folder, slabs):
    image = volume(shape=(200, 60, 40), line=True)
    (whole, cropped), (every, few) = both(predictors(folder), image, slabs=slabs)
    assert np.array_equal(cropped.label_map.voxels, whole.label_map.voxels)
    assert (cropped.label_map.voxels[-1] != 0).any()
    assert slabs or few < every  # slabs are computed again, and in the end the whole grid is


@pytest.mark.parametrize(
    ("made", "told"),
    [
        ({"regions": 2}, "the coarse pass does not find stomach"),
        ({"regions": 0}, "the coarse pass does not find large_bowel and small_bowel and stomach"),
        ({"shape": (34, 20, 20)}, "windows in all, of which too few can be skipped"),
    ],
)
def test_the_whole_grid_where_the_coarse_pass_may_err(folder, made, told):
    image = volume(**made)
    whole, cropped = (one.predict([image], key="case") for one in predictors(folder))
    assert told in cropped.note
    assert "the whole grid was predicted" in cropped.note
    assert np.array_equal(cropped.label_map.voxels, whole.label_map.voxels)


@pytest.mark.parametrize("slabs", [False, True])
def test_the_whole_grid_where_windows_do_not_hold_what_the_coarse_pass_sees(folder, slabs):
    """Voxels of 300 beside air of 0, and a coarse voxel of 150, which is a region for a network that thinks so."""
    image = volume()
    them = predictors(folder)

    class Mistaken(ByIntensity):
        def __call__(self, windows):
            logits = super().__call__(windows)
            if self.count == 1:  # in the first window of the coarse pass
                logits[:, 2, 0, 0, 0] = 9
            return logits

    image.voxels[image.voxels == VALUES[2]] = 100
    them[1] = replace(them[1], windows=Mistaken())
    (whole, cropped), (every, some) = both(them, image, slabs=slabs)
    assert "the windows near what the coarse pass finds do not hold stomach" in cropped.note
    assert np.array_equal(cropped.label_map.voxels, whole.label_map.voxels)
    assert slabs or every < some < 1.2 * every  # none is computed again


def test_regions_that_may_be_there_and_that_are():
    """By hand: p = e^x / (e^0 + e^x + e^-9) of a softmax, 1 / (1 + e^-x) of a sigmoid; 0.3 is at x = -0.85."""
    for table, channels in ((LabelTable.exclusive(["a", "b"]), (0.0, -0.8, -9.0)), (LABELS, (-0.8, -0.9, 0.1))):
        logits = np.full((len(channels), 2, 2, 2), -9, np.float32)
        logits[:, 1, 0, 0] = channels
        if not table.overlap:
            logits[0] = 0
        doubts = Doubts((2, 2, 2), table, axis=0)
        doubts(0, logits[:, :1])
        doubts(1, logits[:, 1:])
        assert doubts.seen.tolist() == ([True, False, True] if table.overlap else [True, False])
        assert np.argwhere(doubts.mask).tolist() == [[1, 0, 0]]
        held = [False, False, True] if table.overlap else [False, False]
        assert held_in(logits.reshape(len(logits), -1), table).tolist() == held
        assert in_regions(logits, table).sum() == sum(held)


@pytest.mark.parametrize("shape", [(70, 40, 16), (33, 47, 10)])
def test_known_voxels_have_all_windows_that_decide_about_them(shape):
    image = np.random.default_rng(1).normal(size=(1, *shape)).astype(np.float32)
    windows = Windows(image, ROI, overlap=0.5, background=None)
    asked = np.zeros(windows.full, bool)
    asked[20:24, 18:30, 9] = True
    counts = []
    for share in (0.0, COUNTS, 0.5, 1.0):
        needed = NeededWindows(windows, counts=share)
        taken = needed.take(asked)
        counts.append(len(taken))
        assert (needed.known() >= asked).all()
        assert not needed.open(asked).any()
        assert not needed.take(asked)
        holding = [box for box in windows.boxes if asked[box].any()]
        assert taken == holding if share == 0 else set(map(str, taken)) <= set(map(str, holding))
        assert len(needed.taken) + len(needed.left) == len(windows.boxes)
    assert counts == sorted(counts, reverse=True)
    # Where all windows were added, the open sum is the mean of all windows.
    engine, total = ByIntensity(context=1.0), OpenSum(windows.full, ROI, channels=3)
    windows.add(windows.boxes, engine, total, channels=3, at_once=lambda: 2)
    mean = total.finish(windows.inner, background=LABELS.background_logits)
    assert np.array_equal(mean, windows.whole(engine, channels=3, at_once=lambda: 1))


def test_the_memory_of_a_coarse_pass_is_part_of_the_estimate():
    large = Size((512, 512, 600), (512, 512, 600), 1, 104, (96, 96, 96))
    with_pass = replace(large, crop_first=True)
    for slabs in (False, True):
        more = with_pass.total(4, slabs=slabs) - large.total(4, slabs=slabs)
        # At least the two numbers per voxel that tell which windows decide, at most the 12 bytes of all.
        assert 8 < more / np.prod(large.seen) < 13


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


def test_a_mask_widens_by_blocks_and_a_coarse_one_comes_back():
    from scipy.ndimage import binary_dilation

    mask = np.random.default_rng(2).random((9, 7, 4)) > 0.97
    assert np.array_equal(widened(mask, (2, 1, 9)), binary_dilation(mask, np.ones((5, 3, 19))))
    assert not widened(np.zeros((3, 1, 2), bool)).any()
    for factors in ((2, 2, 1), (2, 2, 2)):
        small = coarse(mask[None].astype(np.float32), factors)[0] > 0
        assert (finer(small, factors, mask.shape) >= mask).all()
    assert coarser(THICK_MM) == (2, 2, 1)


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

    for bounds, expected in (((4.0, 17.5), 17.5), ((4.0, 0.5), 4.0), ((float("inf"),), MARGIN_MM)):
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


def test_memory_that_limits_nothing_is_told(folder, caplog):
    work = Predicting([(str(folder / "bundle"), folder / "model.pt")], device="cpu", memory=2**40)
    work.load("cpu", flips="none")
    assert not caplog.text
    work.load("cpu", flips="0")
    assert "--memory is kept by one network on a CPU" in caplog.text


def test_what_was_predicted_whole_is_not_taken_for_the_box(folder):
    members = [(str(folder / "bundle"), folder / "model.pt")]
    works = [Predicting(members, device="cpu", crop_first=asked) for asked in (False, True)]
    whole, cropped = (work.of(work.check(flips="none")) for work in works)
    assert whole.digest != cropped.digest
    assert (whole.options.get("crop_first"), cropped.options["crop_first"]) == (None, True)
    assert cropped.made_with(LABELS)["crop_first"] is True
    assert "crop_first" not in whole.made_with(LABELS)
