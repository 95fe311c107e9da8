"""Many classes are decided channel by channel: the same label map and uncertainty as with all of them in memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from volseg.labels import Cleanup, LabelTable
from volseg.transforms import Decided, NativeProbabilitiesd, postprocessing, preprocessing
from volseg.transforms.native_grid import NativeChannels, log_sum_exp
from volseg.volume import Volume

LABELS = LabelTable.exclusive([f"r{number}" for number in range(1, 21)])
SPACING = [2.0, 2.0, 3.0]


def item_of(affine, shape=(23, 17, 11)):
    """Logits of a network on its own grid, smooth enough that regions have parts and holes."""
    draw = np.random.default_rng(0)
    before = preprocessing(LABELS, channels=1, spacing_mm=SPACING, label=False)
    image = Volume(draw.normal(size=shape).astype(np.float32), affine)
    item = before({"key": "p", "image": [image]})
    logits = torch.from_numpy(draw.normal(size=(LABELS.channels, *item["image"].shape[1:])).astype(np.float32)) * 4
    logits[0] += 3
    return before, item, logits


@pytest.mark.parametrize("cleanup", [Cleanup(), Cleanup(["r3", "r4"], {"r5": 0.02}, ["r6", "r3"])])
@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize(
    "affine",
    [
        np.diag([-1.0, -1.0, 1.5, 1.0]),  # finer than the network's grid
        np.diag([4.0, 2.0, -3.0, 1.0]),  # coarser, and the same
        np.array([[0, 0, 2.5, 1], [-1.2, 0, 0, 2], [0, 1.7, 0, 3], [0, 0, 0, 1.0]]),  # axes in another order
        np.array([[1, 0.1, 0, 0], [-0.1, 1, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1.0]]),  # oblique: MONAI inverts
    ],
)
def test_channel_by_channel_gives_the_same_bits(affine, kept, cleanup):
    before, item, logits = item_of(affine)
    mask = {"kept": np.random.default_rng(1).random(item["image"].meta["spatial_shape"]) < 0.7} if kept else {}
    found = []
    for many in (None, 8):
        native = NativeProbabilitiesd("pred", before=before, activation="softmax", many=many)
        step = native({"image": item["image"], "pred": MetaTensor(logits), **mask})
        done = Decided("pred", labels=LABELS, cleanup=cleanup)(step)
        found.append((done["pred"].numpy(), done["pred"].affine.numpy(), done["uncertainty"]))
    (one, at, expected), (other, there, got) = found
    assert one.any()
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(at, there)
    assert got == expected  # to the last bit


def test_all_channels_at_once_where_few_or_kept():
    before, item, logits = item_of(np.diag([1.0, 1.0, 2.0, 1.0]))
    plain = postprocessing(LABELS, before).transforms[0]({"image": item["image"], "pred": MetaTensor(logits)})
    assert isinstance(plain["pred"], NativeChannels)
    kept = postprocessing(LABELS, before, save_probabilities=True)({"image": item["image"], "pred": MetaTensor(logits)})
    np.testing.assert_array_equal(plain["pred"].as_tensor().numpy(), kept["probabilities"])
    few = LabelTable.exclusive(["a", "b"])
    small = postprocessing(few, before).transforms[0]({"image": item["image"], "pred": MetaTensor(logits[:3])})
    assert isinstance(small["pred"], MetaTensor)


@pytest.mark.parametrize("shape", [(9, 13, 7), (40, 24, 10), (64, 5, 5), (1, 1, 3)])
@pytest.mark.parametrize("padded", [False, True])
def test_the_logarithm_of_the_sum_in_slabs_has_the_bits_of_the_whole(shape, padded, monkeypatch):
    torch.manual_seed(0)
    wide = (shape[0] + 4, shape[1] + 2, shape[2]) if padded else shape
    logits = (torch.randn(105, *wide) * 8)[:, : shape[0], : shape[1]]
    assert logits.is_contiguous() != padded
    monkeypatch.setattr("volseg.transforms.native_grid._SLAB", 105 * 200)
    assert torch.equal(log_sum_exp(logits), logits.logsumexp(dim=0))
