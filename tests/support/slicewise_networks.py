"""Small 2D networks of every family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from volseg.networks import SlicewiseNetwork
from volseg.networks.architecture import make_config, merge, published_sizes

_VIT = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 64}


TINY: dict[str, dict[str, Any]] = {
    "segformer-b0": {
        "hidden_sizes": [8, 16, 16, 16],
        "num_attention_heads": [1, 2, 2, 2],
        "depths": [1, 1, 1, 1],
        "decoder_hidden_size": 16,
    },
    "upernet-convnext-tiny": {
        "hidden_size": 16,
        "auxiliary_channels": 8,
        "backbone_config": {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]},
    },
    "upernet-swin-tiny": {
        "hidden_size": 16,
        "auxiliary_channels": 8,
        "backbone_config": {"embed_dim": 8, "depths": [1, 1, 2, 1], "num_heads": [1, 1, 2, 2]},
    },
    "dpt-base": {
        **_VIT,
        "neck_hidden_sizes": [8, 8, 16, 16],
        "fusion_hidden_size": 16,
        "backbone_out_indices": [0, 1, 2, 3],
    },
    "beit-base": {**_VIT, "out_indices": [1, 2, 3, 4], "auxiliary_channels": 8},
}


families = pytest.mark.parametrize("family", TINY)


def build(family: str = "segformer-b0", *, channels: int = 1, **options: Any) -> SlicewiseNetwork:
    """A tiny network as if it were trained, unless it has weights: what starts at zero does not stay there."""
    torch.manual_seed(0)
    network = SlicewiseNetwork(family, in_channels=channels, out_channels=3, **{"config": TINY[family], **options})
    if "weights" not in options:
        stir(network)
    return network.eval()


@torch.no_grad()
def stir(network: nn.Module) -> None:
    for parameter in network.parameters():
        parameter += 0.05 * torch.randn_like(parameter)


def image(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def run(network: nn.Module, volumes: Tensor) -> Tensor:
    logits: Tensor = network(volumes)
    return logits


def save_weights(family: str, folder: Path, *, task: str = "AutoModelForSemanticSegmentation", **sizes: Any) -> Any:
    """Write weights for three colours and seven classes to a folder, as `save_pretrained` does, and return them."""
    torch.manual_seed(7)
    config = make_config(merge(published_sizes(family), {**TINY[family], **sizes}), in_channels=3, out_channels=7)
    network = getattr(transformers, task).from_config(config).eval()
    stir(network)
    network.save_pretrained(folder)
    return network
