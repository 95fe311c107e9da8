"""The bundle swinunetr with a network of a few hundred weights in its place, and a checkpoint for it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets import UNet

from volseg.bundle import Recipe
from volseg.labels import LabelTable

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "swinunetr"
LABELS = LabelTable.overlapping(["large_bowel", "small_bowel", "stomach"])
ROI = (32, 16, 16)
_WIDTHS: dict[str, Any] = {"spatial_dims": 3, "channels": [4, 8], "strides": [2]}


def write_bundle(folder: Path) -> Path:
    """A flat bundle that differs from swinunetr in its network alone."""
    shutil.copytree(BUNDLE, folder)
    for name, recipe in (("train.json", "cohort"), ("inference.json", "recipe")):
        content = json.loads((folder / name).read_text())
        channels = f"$len(@{recipe}.channel_names)"
        content["network_def"] = {
            "_target_": "monai.networks.nets.UNet",
            **_WIDTHS,
            "in_channels": channels,
            "out_channels": "$@labels.channels",
        }
        if name == "train.json":
            content |= {"roi_divisor": 2, "roi_voxels": 8192}
        (folder / name).write_text(json.dumps(content, indent=4))
    return folder


def network(labels: LabelTable = LABELS, *, channels: int = 1) -> UNet:
    """The network with random weights, always the same, whose outputs are far from zero."""
    torch.manual_seed(0)
    made = UNet(in_channels=channels, out_channels=labels.channels, **_WIDTHS).eval()
    with torch.no_grad():
        for weight in made.parameters():
            weight *= 3
    return made


def write_checkpoint(
    path: Path,
    labels: LabelTable = LABELS,
    *,
    channels: int = 1,
    spacing_mm: Sequence[float] = (2, 2, 3),
    **facts: object,
) -> Path:
    """What a training of the bundle leaves."""
    names = ["MR", "MR2", "MR3"][:channels]
    recipe = Recipe(labels, names, list(spacing_mm), list(ROI), {"feature_size": 12, "window_size": 4}, facts)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": network(labels, channels=channels).state_dict(), "recipe": recipe.state_dict()}, path)
    return path
