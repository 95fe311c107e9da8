"""Normalisation channel by channel: what a network is given of each modality."""

from __future__ import annotations

import monai.transforms as mt
import numpy as np
import pytest
import torch

from volseg.errors import UsageError
from volseg.labels import LabelTable
from volseg.transforms import CONSTANT, NormaliseIntensityd, normalise_, preprocessing, split_at_normalisation
from volseg.volume import ChannelNormalisation, InputSpacing, Volume, body_statistics

SHAPE = (40, 36, 30)
LABELS = LabelTable.exclusive(["lesion"])
CT = {"scheme": "ct", "lower": -100.0, "upper": 250.0, "mean": 60.0, "std": 40.0}


def given(voxels, entry):
    channel = torch.from_numpy(np.ascontiguousarray(voxels, np.float32).copy())
    normalise_(channel, ChannelNormalisation.from_json(entry))
    assert channel.isfinite().all()
    return channel.numpy()


def hot(seed=0):
    """Uptake as in a PET scan: a lesion of 0.2 % of the voxels at 21, a bladder of 0.6 % at 7."""
    rng = np.random.default_rng(seed)
    voxels = rng.gamma(2, 0.25, SHAPE).astype(np.float32)
    lesion, bladder = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    lesion[5:9, 5:9, 5:10], bladder[20:28, 20:28, 10:14] = True, True
    voxels[lesion], voxels[bladder] = rng.normal(21, 1.5, lesion.sum()), rng.normal(7, 0.5, bladder.sum())
    return voxels, lesion, bladder


def head(scale=1.0, air=0.6, seed=0):
    """A body of 300 +- 60 in noisy air, and a few voxels of a bright vessel."""
    rng = np.random.default_rng(seed)
    voxels = np.abs(rng.normal(0, 3, SHAPE))
    body = np.zeros(SHAPE, bool)
    body[int(air * SHAPE[0]) :] = True
    voxels[body] = rng.normal(300, 60, body.sum())
    voxels[-3:, :3, :3] = 2000
    return (scale * voxels).astype(np.float32), body


@pytest.mark.parametrize("entry", [{"scheme": "pet", "std": 0.5}, {"scheme": "mr"}])
def test_a_hot_lesion_stays_apart_from_the_bladder(entry):
    voxels, lesion, bladder = hot()
    seen = given(voxels, entry)
    assert seen[lesion].min() > seen[bladder].max()
    apart = seen[lesion].mean() - seen[bladder].mean()
    assert apart > 5 * max(seen[lesion].std(), seen[bladder].std())
    # Before there were schemes both were one number but for noise.
    before = given(voxels, {"scheme": "percentiles"})
    assert before[lesion].mean() - before[bladder].mean() < 1.5 * before[bladder].std()


@pytest.mark.parametrize("entry", [{"scheme": "pet", "std": 0.5}, {"scheme": "mr"}, {"scheme": "zscore"}])
def test_the_order_of_values_is_kept_and_none_become_equal(entry):
    voxels = np.concatenate([hot()[0].ravel(), [1e4, 1e5, 1.7e6]]).astype(np.float32)
    values = np.unique(voxels)
    seen = given(voxels, entry)[np.unique(voxels, return_index=True)[1]]
    steps = np.diff(seen)
    assert (steps >= 0).all()
    large = np.diff(values) > 0.01 * values[1:]
    assert (steps[large] > 0).all()


def test_quantities_are_the_same_number_in_every_volume():
    """A standardised uptake of 5 is 5 whatever else the scan holds."""
    entry = {"scheme": "pet", "std": 0.8}
    for seed, high in ((0, 5.0), (1, 40.0)):
        voxels = hot(seed)[0]
        voxels[0, 0, :2] = 5.0, high
        assert given(voxels, entry)[0, 0].tolist()[:1] == pytest.approx([np.arcsinh(5 / 0.8)], rel=1e-6)
    assert given(np.array([[0.0, -0.2, 0.2]]), entry)[0].tolist() == pytest.approx([0, -0.247466, 0.247466], abs=1e-5)


@pytest.mark.parametrize("air", [0.0, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("scale", [1.0, 0.001, 1e4])
def test_mr_is_measured_by_its_body_whatever_the_scale_and_the_air(air, scale):
    voxels, body = head(scale, air)
    seen = given(voxels, {"scheme": "mr"})
    inside = seen[body & (voxels < 1000 * scale)]
    assert inside.mean() == pytest.approx(0, abs=0.15)
    assert inside.std() == pytest.approx(1, abs=0.3)
    assert seen.max() > 5
    # Shifted numbers, as some scanners store them, give the same.
    assert given(voxels + 500 * scale, {"scheme": "mr"}) == pytest.approx(seen, abs=2e-3)


def test_a_volume_that_is_zero_but_for_a_small_region_keeps_it():
    """Percentiles made such a volume zero everywhere, and its network learnt nothing."""
    rng = np.random.default_rng(0)
    for share in (0.997, 0.99, 0.9):
        voxels = np.zeros(64**3, np.float32)
        count = round((1 - share) * voxels.size)
        voxels[:count] = rng.normal(100, 10, count)
        seen = given(rng.permutation(voxels).reshape(64, 64, 64), {"scheme": "mr"})
        inside, outside = seen[seen > np.median(seen)], seen[seen == np.median(seen)]
        assert len(inside) == count
        assert inside.mean() - outside.mean() > 3
        assert inside.std() > 0.2
    assert np.ptp(given(np.pad(voxels[:count].reshape(-1, 1), 1), {"scheme": "percentiles"})) > 0


def test_the_body_of_a_large_volume_is_found_in_a_sample_of_it():
    small, _ = head()
    mean, std = body_statistics(small)
    tall = np.tile(small, (7, 6, 5))
    assert body_statistics(tall) == pytest.approx((mean, std), rel=0.02)
    sparse = np.zeros(tall.shape, np.float32)
    sparse[100:103, 100:103, 50:60] = 50 + np.arange(10)
    assert body_statistics(sparse)[0] == pytest.approx(54.5, abs=0.5)


def test_ct_is_clipped_as_nnunet_does():
    seen = given(np.array([-1000.0, -100, 60, 250, 3071]), CT)
    assert seen.tolist() == [-4.0, -4.0, 0.0, 4.75, 4.75]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"scheme": "rgb", "upper": 255}, [-2, 0, 2]),
        ({"scheme": "none"}, [0, 127.5, 255]),
        ({"scheme": "rescale_to_0_1"}, [0, 0.5, 1]),
        ({"scheme": "zscore"}, [-1.224745, 0, 1.224745]),
    ],
)
def test_the_other_schemes(entry, expected):
    assert given(np.array([0.0, 127.5, 255.0]), entry).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("scheme", ["mr", "zscore", "rescale_to_0_1", "percentiles"])
@pytest.mark.parametrize("value", [0.0, -1024.0, 1e30])
def test_one_value_everywhere_becomes_zero_and_never_nan(scheme, value):
    assert not given(np.full(SHAPE, value), {"scheme": scheme}).any()
    for voxels in ([[value, value + abs(value) / 2 + 1e-30]], np.eye(3) * 1e-30 + value):
        given(np.array(voxels), {"scheme": scheme})


def items(*channels):
    return {"key": "case7", "image": [Volume(one.astype(np.float32), np.diag([2.0, 2, 2, 1])) for one in channels]}


def test_each_channel_has_its_own_scheme(caplog):
    voxels, _ = head()
    steps = preprocessing(
        LABELS, channels=3, spacing_mm=(2, 2, 2), label=False, normalisation=[CT, {"scheme": "mr"}, {"scheme": "mr"}]
    )
    image = steps(items(voxels, voxels, np.full(SHAPE, 3)))["image"]
    turned = voxels[::1]
    assert image.dtype == torch.float32
    assert image[0].numpy() == pytest.approx(given(turned, CT))
    assert image[1].numpy() == pytest.approx(given(turned, {"scheme": "mr"}))
    assert not image[2].any()
    assert image.meta[CONSTANT] == "2"
    assert "case7: channel 2 has one value everywhere" in caplog.text
    assert (image[1] != image[0]).any()


def test_networks_of_before_get_the_very_same_numbers():
    """Bit by bit what volseg 0.1 gave: MONAI's two transforms."""
    voxels = head()[0]
    for spacing_mm in ((2, 2, 2), InputSpacing.of((2, 2, 2), None), InputSpacing.of((3, 3, 3), None)):
        steps = preprocessing(LABELS, channels=1, spacing_mm=spacing_mm, label=False)
        grid, _ = split_at_normalisation(steps)
        expected = mt.Compose(
            [
                *grid.transforms[:-1],
                mt.ClipIntensityPercentilesd("image", lower=0.5, upper=99.5, channel_wise=True),
                mt.NormalizeIntensityd("image", channel_wise=True),
                mt.EnsureTyped("image", dtype=torch.float32),
            ]
        )
        assert torch.equal(steps(items(voxels))["image"], expected(items(voxels))["image"])
        all_named = preprocessing(
            LABELS, channels=1, spacing_mm=list(spacing_mm), label=False, normalisation=[{"scheme": "percentiles"}]
        )
        assert torch.equal(steps(items(voxels))["image"], all_named(items(voxels))["image"])


def test_the_normalisation_of_a_recipe_comes_with_its_spacing():
    spacing_mm = InputSpacing.of((2, 2, 2), [CT])
    [step] = [
        step
        for step in preprocessing(LABELS, channels=1, spacing_mm=spacing_mm).transforms
        if isinstance(step, NormaliseIntensityd)
    ]
    assert [one.to_json() for one in step.normalisation] == [CT]
    with pytest.raises(UsageError, match="1 normalisations were given for 2 channels"):
        preprocessing(LABELS, channels=2, spacing_mm=spacing_mm)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"scheme": "cat"}, "must be one of ct, mr, pet"),
        ({"scheme": "ct", "lower": 1}, "of channel 0 must state upper, mean, std"),
        ({**CT, "lower": 300}, "must have lower below upper, got 300 and 250"),
        ({**CT, "std": 0}, "std of the normalisation ct must be above 0"),
        ({**CT, "mean": float("nan")}, "mean of the normalisation ct must be a finite number"),
        ({**CT, "mode": 1}, "must be given as"),
        ({"lower": 1}, "must be given as"),
        ({"scheme": "rgb", "upper": -1}, "upper of the normalisation rgb must be above 0"),
        ({"scheme": "pet", "std": "1"}, "must be a finite number, got '1'"),
    ],
)
def test_a_wrong_entry_is_refused(entry, message):
    with pytest.raises(UsageError, match=message):
        preprocessing(LABELS, channels=1, spacing_mm=(1, 1, 1), normalisation=[entry])
