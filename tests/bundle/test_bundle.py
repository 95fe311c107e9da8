"""Bundles: found wherever MONAI or a user stands, and windows that fit a cohort."""

from __future__ import annotations

import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volseg.bundle import config, data_dir, root
from volseg.bundle import folder as room
from volseg.bundle.folder import find
from volseg.errors import BundleError
from volseg.plan import fit_roi


def make(folder, *, inside="."):
    (folder / inside).mkdir(parents=True)
    for name in ("train.json", "inference.json"):
        (folder / inside / name).write_text("{}")
    return folder


@pytest.fixture
def run(tmp_path, monkeypatch):
    """What `root` would answer to a working directory, an extra entry of sys.path and a command line."""
    (tmp_path / "elsewhere").mkdir()

    def run(*, cwd="elsewhere", path=(), words=()):
        monkeypatch.chdir(tmp_path / cwd)
        # As `python -m` leaves it: the working directory first; MONAI inserts behind it.
        monkeypatch.setattr(sys, "path", [str(tmp_path / cwd), *map(str, path), str(tmp_path / "site-packages")])
        monkeypatch.setattr(sys, "argv", ["monai.bundle", "run", "training", *words])
        return root()

    return run


@pytest.mark.parametrize("inside", [".", "configs"])
def test_the_root_is_what_monai_put_on_the_path(tmp_path, run, inside):
    one = make(tmp_path / "one", inside=inside)
    assert run(path=[one]) == str(one)
    make(tmp_path / "other")
    assert run(path=[one], cwd="other") == str(one)
    assert run(path=[one, tmp_path / "other"], words=["--config_file", "x.json"]) == str(one)


@pytest.mark.parametrize("inside", ["", "configs/"])
@pytest.mark.parametrize(
    "words",
    [
        ["--config_file", "{}"],
        ["--config_file={}"],
        ["--config_file", "['{}']"],
        ["--config_file", "['{}','more.json']"],
        ["--config_file=[{}, more.json]"],
        ["--meta_file", "x.json", "--config_file", "{}", "--fold", "1"],
    ],
)
@pytest.mark.parametrize("cwd", ["elsewhere", "other"])
def test_else_the_root_is_the_folder_of_the_config_file(tmp_path, run, inside, words, cwd):
    make(tmp_path / "other")
    one = make(tmp_path / "one", inside=inside or ".")
    for path in (f"../one/{inside}train.json", f"{one}/{inside}train.json"):
        assert run(words=[word.format(path) for word in words], cwd=cwd) == str(one)


def test_else_the_root_is_the_working_directory(tmp_path, run):
    assert run() == str(tmp_path / "elsewhere")


def test_a_bundle_of_a_checkout_writes_into_its_data_folder(tmp_path):
    one = make(tmp_path / "bundles" / "one")
    assert data_dir(one) == str(one / "data")
    (tmp_path / "setup.cfg").touch()
    assert data_dir(one) == str(tmp_path / "data")
    assert data_dir(make(tmp_path / "one")) == str(tmp_path / "one" / "data")


shapes = st.lists(st.integers(1, 700), min_size=3, max_size=3)
divisors = st.lists(st.sampled_from([1, 2, 8, 16, 32]), min_size=3, max_size=3)


@given(shapes, divisors, st.integers(1, 300**3))
def test_a_window_is_on_the_grid_and_within_the_budget_or_minimal(shape, divisor, voxels):
    roi = fit_roi(shape, divisor=divisor, voxels=voxels)
    steps = [n // step for n, step in zip(roi, divisor, strict=True)]
    assert roi == [step * n for step, n in zip(divisor, steps, strict=True)]
    assert min(steps) >= 1
    halved = [n for n, step in zip(steps, divisor, strict=True) if step > 1]
    assert not halved or max(halved) > 1, "more than one voxel is left at the bottom"
    assert math.prod(roi) <= voxels or sorted(steps) in ([1, 1, 1], [1, 1, 2])


@given(shapes, st.sampled_from([8, 16, 32]), st.integers(1, 300**3))
def test_one_divisor_is_that_of_each_axis(shape, divisor, voxels):
    assert fit_roi(shape, divisor=divisor, voxels=voxels) == fit_roi(shape, divisor=[divisor] * 3, voxels=voxels)


@given(shapes, divisors)
def test_without_a_limit_the_window_is_the_shape_to_half_a_step(shape, divisor):
    roi = fit_roi(shape, divisor=divisor, voxels=2**62)
    if any(n > 1.5 * step for n, step in zip(shape, divisor, strict=True) if step > 1):
        near = (abs(a - n) <= step / 2 or a == step for a, n, step in zip(roi, shape, divisor, strict=True))
        assert all(near)


@given(shapes, divisors, st.integers(1, 200**3), st.integers(1, 200**3))
def test_more_voxels_give_no_smaller_window(shape, divisor, a, b):
    small, large = (fit_roi(shape, divisor=divisor, voxels=voxels) for voxels in sorted((a, b)))
    assert math.prod(small) <= math.prod(large)


@given(shapes, st.sampled_from([1, 8, 16, 32]), st.integers(1, 300**3))
def test_slices_give_way_before_their_size_does(shape, step, voxels):
    roi = fit_roi(shape, divisor=[step, step, 1], voxels=voxels, slices=2)
    whole = fit_roi(shape, divisor=[step, step, 1], voxels=2**62)
    assert roi[2] <= 8 or roi[:2] == whole[:2]


def test_one_slice_stays_one_slice():
    assert fit_roi([266, 266, 1], divisor=[32, 32, 1], voxels=2**62) == [256, 256, 1]
    assert fit_roi([20, 30, 1], divisor=[32, 32, 1], voxels=2**62) == [32, 64, 1], "an axis that is halved grows"
    assert fit_roi([266, 266, 9], divisor=[32, 32, 1], voxels=64 * 64) == [64, 32, 2]


@pytest.mark.parametrize("divisor", [0, [32, 32], [32, 32, 0], [32, 32, 1.5], "32"])
def test_a_divisor_that_is_none_is_refused(divisor):
    with pytest.raises(BundleError, match="roi_divisor is"):
        fit_roi([64, 64, 64], divisor=divisor, voxels=1)


def test_a_window_by_hand():
    # 266 -> 256, 266 -> 256, 144 -> 160 (half up); the largest axis gives way until 128 x 128 x 128 fits.
    assert fit_roi([266, 266, 144], divisor=32, voxels=2**62) == [256, 256, 160]
    assert fit_roi([266, 266, 144], divisor=32, voxels=128**3) == [128, 128, 128]
    assert fit_roi([10, 10, 10], divisor=32, voxels=1) == [64, 32, 32]
    # 91 x 75 x 52 on the grid of a network of slices: 96 x 80 x 52, and 9 slices of that size fit.
    assert fit_roi([91, 75, 52], divisor=[16, 16, 1], voxels=48 * 48 * 32, slices=2) == [96, 80, 9]
    assert fit_roi([91, 75, 52], divisor=[16, 16, 1], voxels=32 * 32 * 8, slices=2) == [32, 32, 8]


def test_a_bundle_is_found_by_path_and_by_name(tmp_path, monkeypatch):
    one = make(tmp_path / "bundles" / "one")
    two = make(tmp_path / "bundles" / "two")
    zoo = make(tmp_path / "zoo", inside="configs")
    monkeypatch.chdir(tmp_path)
    assert find("one") == find(one) == find("bundles/one") == one
    assert find("zoo") == zoo
    assert config(one, "train.json") == one / "train.json"
    assert config(zoo, "train.json") == zoo / "configs" / "train.json"
    with pytest.raises(BundleError, match=r"the bundle .*one has no evaluate\.json"):
        config(one, "evaluate.json")
    with pytest.raises(
        BundleError,
        match=r"^onne is no bundle: it needs train\.json and .*; did you mean one\?; /.*bundles holds one, two; /.*",
    ):
        find("onne")
    (two / "inference.json").unlink()
    with pytest.raises(BundleError, match=r"two is no bundle: it needs train\.json and inference\.json"):
        find("two")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.pt").touch()
    for network in ("run", "run/model.pt"):
        with pytest.raises(BundleError, match=f"{network} is a trained network and no bundle; .* with --checkpoint"):
            find(network)


def test_where_there_are_no_bundles_none_is_listed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(room, "installed", lambda: tmp_path / "nowhere")
    with pytest.raises(BundleError) as caught:
        find("one")
    assert str(caught.value) == "one is no bundle: it needs train.json and inference.json"
