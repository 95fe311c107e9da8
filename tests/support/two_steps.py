"""A first network that finds bright blocks, to the voxel, and images that hold them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from tiny_bundle import ROI, write_bundle

from volseg.bundle import Recipe
from volseg.labels import LabelTable

LUNGS = LabelTable.exclusive(["left", "right"])
SHAPE = (24, 20, 10)
LEFT, RIGHT = (slice(3, 8), slice(4, 9), slice(2, 5)), (slice(12, 17), slice(9, 14), slice(4, 8))


def write_lungs(folder: Path) -> Path:
    """A bundle whose network decides voxel by voxel, and its checkpoint, `model.pt` in it."""
    write_bundle(folder)
    content = json.loads((folder / "inference.json").read_text())
    content["network_def"] = {
        "_target_": "torch.nn.Conv3d",
        "in_channels": "$len(@recipe.channel_names)",
        "out_channels": "$@labels.channels",
        "kernel_size": 1,
    }
    (folder / "inference.json").write_text(json.dumps(content))
    # In normalised grey values: nothing below 2.4 (noise alone reaches 1.7), left at 3, right above 5.2.
    weight, bias = torch.tensor([0.0, 10, 40]), torch.tensor([0.0, -24, -180])
    state = {"weight": weight.view(3, 1, 1, 1, 1), "bias": bias}
    recipe = Recipe(LUNGS, ["MR"], [2, 2, 3], list(ROI), {"feature_size": 12, "window_size": 4})
    torch.save({"model": state, "recipe": recipe.state_dict()}, folder / "model.pt")
    return folder


def lungs(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """The label map that the network finds in `image`."""
    label_map = np.zeros(shape, np.uint8)
    label_map[LEFT], label_map[RIGHT] = 1, 2
    return label_map


def image(seed: int, *, blocks: bool = True, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Noise, with a bright block for each lung."""
    noise = np.random.default_rng(seed).integers(0, 100, shape)
    found = lungs(shape) if blocks else np.zeros(shape, np.uint8)
    return (noise + np.array([0, 1950, 3950])[found]).astype(np.int16)
