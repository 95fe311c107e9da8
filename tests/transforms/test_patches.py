"""The grid of patches: as many as the formula says, each where it should be, for image and label alike."""

from __future__ import annotations

import math

import pytest
import torch
from monai.data import MetaTensor

from volseg.errors import UsageError
from volseg.transforms import grid_patches
from volseg.transforms.pipelines import patch_counts


@pytest.mark.parametrize(
    ("rows", "columns", "size", "stride"),
    [(300, 256, 128, 20), (128, 128, 128, 20), (147, 148, 128, 20), (40, 31, 16, 5), (9, 9, 3, 3), (12, 7, 4, 1)],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_counts_and_places(rows, columns, size, stride, channels):
    image = torch.arange(channels * columns * rows, dtype=torch.float32).reshape(channels, columns, rows, 1)
    item = grid_patches(size=size, stride=stride)({"image": MetaTensor(image), "label": MetaTensor(image[:1] * 2)})
    across, down = patch_counts((columns, rows), size=size, stride=stride)
    assert (across, down) == tuple(math.floor((n - size) / stride) + 1 for n in (columns, rows))
    assert item["image"].shape == (across * down, channels, size, size, 1)
    assert item["label"].shape == (across * down, 1, size, size, 1)
    for number in range(across * down):
        x, y = (stride * place for place in divmod(number, down))
        assert torch.equal(item["image"][number].as_tensor(), image[:, x : x + size, y : y + size])
        assert torch.equal(item["label"][number].as_tensor(), 2 * image[:1, x : x + size, y : y + size])


def test_the_published_protocol_on_an_x_ray():
    assert patch_counts((512, 512)) == (20, 20)


def test_the_border_beyond_the_last_patch_is_left_out():
    image = torch.zeros(1, 150, 128, 1)
    image[:, 148:] = 1  # 128 + 20 = 148
    patches = grid_patches(["image"])({"image": MetaTensor(image)})["image"]
    assert len(patches) == 2
    assert not patches.any()


@pytest.mark.parametrize(("size", "stride"), [(128, 0), (128, 129), (0, 0)])
def test_strides_that_cannot_be(size, stride):
    with pytest.raises(UsageError, match="stride is 1 to"):
        grid_patches(size=size, stride=stride)
