"""Parameter groups: every parameter once, the backbone and its layers more slowly, and what is not decayed."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from monai.networks.nets import UNETR, SwinUNETR
from torch import Tensor, nn
from torch.optim import SGD, AdamW

from volseg.errors import UsageError
from volseg.training import optimizer_groups


class WithBackbone(nn.Module):
    """What a network over a pretrained one looks like."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Conv2d(2, 3, 1)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.backbone(x))


def rates(network: nn.Module, **options: Any) -> dict[str, float]:
    """The learning rate of each parameter by its name, of 1."""
    groups = optimizer_groups(network, lr=1.0, **options)
    by_id = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    assert len(by_id) == sum(len(group["params"]) for group in groups), "no parameter twice"
    return {name: by_id.pop(id(parameter)) for name, parameter in network.named_parameters()}


def undecayed(network: nn.Module) -> set[str]:
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = optimizer_groups(network, lr=1.0, decay_norms=False)
    return {names[id(p)] for group in groups if group.get("weight_decay") == 0 for p in group["params"]}


def swin() -> nn.Module:
    network: nn.Module = SwinUNETR(in_channels=1, out_channels=2, feature_size=12, window_size=4)
    return network


def test_a_plain_network_has_one_group_in_its_own_order() -> None:
    network = swin()
    (group,) = optimizer_groups(network, lr=0.5)
    assert set(group) == {"params", "lr"}
    assert group["lr"] == 0.5
    assert [id(p) for p in group["params"]] == [id(p) for p in network.parameters()]


def test_training_with_one_group_is_training_with_the_parameters() -> None:
    def after(grouped: bool) -> list[float]:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 1))
        optimizer = AdamW(
            optimizer_groups(network, lr=0.1) if grouped else network.parameters(), lr=0.1, weight_decay=0.05
        )
        for _ in range(3):
            optimizer.zero_grad()
            network(torch.ones(2, 3)).square().sum().backward()
            optimizer.step()
        return torch.cat([p.detach().ravel() for p in network.parameters()]).tolist()

    assert after(True) == after(False)


def test_norms_biases_and_learnt_positions_are_not_decayed_where_asked() -> None:
    names = undecayed(swin())
    assert "swinViT.layers1.0.blocks.0.attn.relative_position_bias_table" in names
    assert "swinViT.layers1.0.blocks.0.norm1.weight" in names
    assert "swinViT.layers1.0.blocks.0.attn.qkv.bias" in names
    assert "swinViT.layers1.0.blocks.0.attn.qkv.weight" not in names
    assert "encoder1.layer.conv1.conv.weight" not in names
    names = undecayed(UNETR(1, 2, (32, 32, 32), hidden_size=12, mlp_dim=12, num_heads=2))
    assert "vit.patch_embedding.position_embeddings" in names
    assert "vit.patch_embedding.patch_embeddings.1.weight" not in names


def test_weight_decay_leaves_alone_what_it_should() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    optimizer = SGD(optimizer_groups(network, lr=1.0, decay_norms=False), lr=1.0, weight_decay=0.5)
    before = [p.detach().clone() for p in network.parameters()]
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    changed = [not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True)]
    assert changed == [True, False, False, False]


def test_backbone_and_head_learn_at_their_own_rates() -> None:
    network = WithBackbone(nn.Conv2d(1, 2, 1))
    found = rates(network, backbone_lr_factor=0.1, head_lr_factor=2)
    assert found == {"backbone.weight": 0.1, "backbone.bias": 0.1, "head.weight": 2, "head.bias": 2}
    assert len(optimizer_groups(network, lr=1.0, backbone_lr_factor=0.1)) == 2
    assert len(optimizer_groups(network, lr=1.0, backbone_lr_factor=0.1, decay_norms=False)) == 4
    assert len(optimizer_groups(network, lr=1.0)) == 1


def test_a_backbone_that_is_wrapped_or_a_property_is_found() -> None:
    class Property(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = WithBackbone(nn.Conv2d(1, 2, 1))

        @property
        def backbone(self) -> nn.Module:
            return self.inner.backbone

    found = rates(Property(), backbone_lr_factor=0.1)
    assert found["inner.backbone.weight"] == 0.1
    assert found["inner.head.weight"] == 1


# --- layers of the networks of transformers, whatever their names


def hugging_face(name: str) -> nn.Module:
    import transformers as hf

    if name == "segformer":
        config = hf.SegformerConfig(depths=[2, 1, 1, 1], hidden_sizes=[8, 8, 8, 8], num_attention_heads=[1] * 4)
        return hf.SegformerForSemanticSegmentation(config).segformer
    if name == "beit":
        small = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8, "num_hidden_layers": 4}
        config = hf.BeitConfig(
            **small,
            image_size=32,
            out_indices=[1, 2, 3, 4],
            use_relative_position_bias=True,
            layer_scale_init_value=0.1,
        )
        return hf.BeitForSemanticSegmentation(config).beit
    if name == "swin":
        config = hf.SwinConfig(depths=[1, 2], embed_dim=8, num_heads=[1, 1], image_size=32)
        return hf.SwinModel(config)
    if name == "convnext":
        return hf.ConvNextModel(hf.ConvNextConfig(depths=[1, 2], hidden_sizes=[4, 4], num_stages=2))
    if name == "dpt":
        small = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8, "num_hidden_layers": 4}
        config = hf.DPTConfig(**small, image_size=32, backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8] * 4)
        return hf.DPTForSemanticSegmentation(config).dpt
    raise ValueError(name)


@pytest.mark.parametrize(
    ("name", "layers", "first", "last"),
    [
        ("segformer", 5, "patch_embeddings", "blocks.0.layernorm_before.weight"),
        ("beit", 4, "cls_token", "layers.3.layernorm_before.weight"),
        ("swin", 3, "patch_embeddings", "layers.1.blocks.1.layernorm_before.weight"),
        ("convnext", 3, "patch_embeddings", "stages.1.layers.1.pwconv1.weight"),
        ("dpt", 4, "position_embeddings", "layer.3.layernorm_before.weight"),
    ],
)
def test_layers_learn_the_more_slowly_the_nearer_to_the_input(name: str, layers: int, first: str, last: str) -> None:
    network = WithBackbone(hugging_face(name))
    found = rates(network, layer_decay=0.5)
    inner = {key: rate for key, rate in found.items() if key.startswith("backbone.")}
    assert sorted(set(inner.values())) == [0.5**n for n in range(layers + 1, 0, -1)]
    assert next(rate for key, rate in inner.items() if first in key) == 0.5 ** (layers + 1)
    assert [rate for key, rate in inner.items() if key.endswith(last)][-1] == 0.5
    ordered = list(inner.values())
    assert ordered == sorted(ordered), "in the order of the forward pass"
    assert {rate for key, rate in found.items() if key.startswith("head")} == {1}
    # Each layer has one rate.
    for _, members in itertools.groupby(inner.items(), lambda item: item[0].rsplit(".layernorm", 1)[0]):
        assert len({rate for _, rate in members}) == 1


def test_factors_multiply() -> None:
    network = WithBackbone(nn.ModuleList([nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 1)]))
    found = rates(network, layer_decay=0.5, backbone_lr_factor=0.1)
    assert found["backbone.0.weight"] == pytest.approx(0.1 * 0.25)
    assert found["backbone.1.weight"] == pytest.approx(0.1 * 0.5)
    assert found["head.weight"] == 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"backbone_lr_factor": -1}, "backbone_lr_factor must be a number of at least 0, such as 0.1, got -1"),
        ({"head_lr_factor": float("inf")}, "head_lr_factor must be a number of at least 0, such as 0.1, got inf"),
        ({"layer_decay": 0}, "layer_decay must be a number above 0 and at most 1, such as 0.75, got 0"),
        ({"layer_decay": 1.5}, "layer_decay must be a number above 0 and at most 1, such as 0.75, got 1.5"),
    ],
)
def test_a_factor_out_of_range_is_refused(options: dict[str, float], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        optimizer_groups(WithBackbone(nn.Conv2d(1, 2, 1)), lr=1.0, **options)


@pytest.mark.parametrize("options", [{"backbone_lr_factor": 0.1}, {"layer_decay": 0.9}])
def test_a_network_without_a_backbone_cannot_learn_it_more_slowly(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="Linear has no backbone to learn more slowly"):
        optimizer_groups(nn.Linear(1, 1), lr=1.0, **options)
