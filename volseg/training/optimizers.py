"""The parameter groups of an optimizer: learning rates by depth, and parameters without weight decay."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn import Parameter
from torch.nn.parallel import DistributedDataParallel

from volseg.errors import UsageError

# Learnt tables that are no weights of a layer: BEiT, Swin and ViT apply no weight decay to them.
_TABLES = re.compile(r"position_embedding|pos_embed|position_bias|cls_token|mask_token")


def optimizer_groups(
    network: nn.Module,
    *,
    lr: float,
    backbone_lr_factor: float = 1.0,
    head_lr_factor: float = 1.0,
    layer_decay: float = 1.0,
    decay_norms: bool = True,
) -> list[dict[str, Any]]:
    """Divide the parameters of a network into as few groups as the options need; into one, with the defaults.

    A network may have an attribute `backbone`, a module whose weights may be pretrained. It can learn more slowly than
    the rest, the head: as a whole, and the more slowly the nearer a layer is to the input (Bao et al. 2022, BEiT,
    arXiv:2106.08254).

    Args:
        network: Network, which may be wrapped for several processes.
        lr: Learning rate that the factors multiply.
        backbone_lr_factor: Factor of the backbone, such as 0.1.
        head_lr_factor: Factor of all other parameters.
        layer_decay: Factor from a layer of the backbone to the one before it, above 0 and at most 1; the last one has
            it once.
        decay_norms: Whether weight decay applies to everything, as torch does by itself; False leaves out biases,
            normalisations and learnt positions.

    Raises:
        UsageError: A factor is out of range, or there is one for the backbone of a network that has none.

    >>> network = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    >>> [len(group["params"]) for group in optimizer_groups(network, lr=0.1)]
    [4]
    >>> groups = optimizer_groups(network, lr=0.1, decay_norms=False)
    >>> [(len(group["params"]), group.get("weight_decay")) for group in groups]
    [(1, None), (3, 0.0)]
    """
    for name, factor in (("backbone_lr_factor", backbone_lr_factor), ("head_lr_factor", head_lr_factor)):
        if not 0 <= factor < float("inf"):
            raise UsageError(f"{name} must be a number of at least 0, such as 0.1, got {factor!r}")
    if not 0 < layer_decay <= 1:
        raise UsageError(f"layer_decay must be a number above 0 and at most 1, such as 0.75, got {layer_decay!r}")
    if isinstance(network, DistributedDataParallel):
        network = network.module
    backbone = getattr(network, "backbone", None)
    if backbone is None and (backbone_lr_factor != 1 or layer_decay != 1):
        raise UsageError(
            f"{type(network).__name__} has no backbone to learn more slowly; leave out backbone_lr_factor and "
            "layer_decay"
        )
    factors: dict[int, float] = {}
    if backbone is not None:
        for parameter, below in _layers(backbone):
            factors[id(parameter)] = backbone_lr_factor * layer_decay**below
    groups: dict[tuple[float, bool], list[Parameter]] = {}
    for name, parameter in network.named_parameters():
        factor = factors.get(id(parameter), head_lr_factor)
        decays = decay_norms or (parameter.ndim > 1 and not _TABLES.search(name))
        groups.setdefault((factor, decays), []).append(parameter)
    return [
        {"params": members, "lr": lr * factor} | ({} if decays else {"weight_decay": 0.0})
        for (factor, decays), members in groups.items()
    ]


def _layers(backbone: nn.Module) -> Iterator[tuple[Parameter, int]]:
    """Each parameter with its number of layers below the head: 1 for the last layer, most for the embeddings.

    The layers are the members of the innermost lists of modules of one kind, as in the networks of `transformers`.
    Other parameters go with the layer before them, as embeddings come before the layers and normalisations after them.
    """
    lists = [
        blocks
        for blocks in backbone.modules()
        if isinstance(blocks, nn.ModuleList) and len({type(block) for block in blocks}) == 1
    ]
    layers = [
        block
        for blocks in lists
        if not any(inner in lists for inner in blocks.modules() if inner is not blocks)
        for block in blocks
    ]
    numbers = {id(parameter): number for number, layer in enumerate(layers, 1) for parameter in layer.parameters()}
    met = 0
    for parameter in backbone.parameters():
        met = numbers.get(id(parameter), met)
        yield parameter, len(layers) + 1 - met
