"""The names of tensors in a checkpoint, the same with each version of `transformers`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

# `transformers` renames modules between its versions; save_pretrained keeps the old names on disk, a state_dict does
# not. Each pair is a pattern of an earlier name and its replacement in 5.23, which checkpoints hold. Seen in
# 5.0.0, 5.8.1, 5.9.0 and 5.23.0: tests/tensor_names.json has the names of the first and the last.
_Rules = Sequence[tuple[str, str]]

# Query, key and value inside a layer, of most kinds of networks.
_ATTENTION: _Rules = (
    (r"\.attention\.(?:self|attention)\.query\.", ".attention.q_proj."),
    (r"\.attention\.(?:self|attention)\.key\.", ".attention.k_proj."),
    (r"\.attention\.(?:self|attention)\.value\.", ".attention.v_proj."),
    (r"\.attention\.output\.(?:dense\.)?", ".attention.o_proj."),
)
_FEED_FORWARD: _Rules = ((r"\.intermediate\.dense\.", ".mlp.fc1."), (r"(?<!attention)\.output\.dense\.", ".mlp.fc2."))
_BEIT_LAYERS: _Rules = (
    *_ATTENTION,
    *_FEED_FORWARD,
    (r"\.attention\.attention\.relative_position_bias\.", ".relative_position_bias."),
    (r"\bbeit\.encoder\.layer\.", "beit.layers."),
)
_BEIT_HEAD: _Rules = (
    (r"\bdecode_head\.bottleneck\.", "decode_head.psp_bottleneck."),
    (r"\bpsp_modules\.(\d+)\.1\.", r"psp_modules.blocks.\1.conv."),
    (r"\b((?:decode|auxiliary)_head\..*)\.conv\.(weight|bias)$", r"\1.convolution.\2"),
    (r"\b((?:decode|auxiliary)_head\..*)\.bn\.", r"\1.normalization."),
)
_RULES: Mapping[str, _Rules] = {
    "segformer": (
        *_ATTENTION,
        (r"\.attention\.self\.sr\.", ".attention.sequence_reduction.sequence_reduction."),
        (r"\.attention\.self\.layer_norm\.", ".attention.sequence_reduction.layer_norm."),
        (r"\.mlp\.dense1\.", ".mlp.fc1."),
        (r"\.mlp\.dense2\.", ".mlp.fc2."),
        (r"\.layer_norm_1\.", ".layernorm_before."),
        (r"\.layer_norm_2\.", ".layernorm_after."),
        (r"\bencoder\.patch_embeddings\.(\d+)\.", r"stages.\1.patch_embeddings."),
        (r"\bencoder\.block\.(\d+)\.(\d+)\.", r"stages.\1.blocks.\2."),
        (r"\bencoder\.layer_norm\.(\d+)\.", r"stages.\1.layer_norm."),
        (r"\bdecode_head\.linear_c\.", "decode_head.linear_projections."),
    ),
    "beit": (
        *_BEIT_LAYERS,
        *_BEIT_HEAD,
        (r"\bmodel\.fpn1\.0\.", "model.fpn.fpn1.conv_transpose1."),
        (r"\bmodel\.fpn1\.1\.", "model.fpn.fpn1.normalization."),
        (r"\bmodel\.fpn1\.3\.", "model.fpn.fpn1.conv_transpose2."),
        (r"\bmodel\.fpn2\.0\.", "model.fpn.fpn2."),
    ),
    "data2vec-vision": _BEIT_HEAD,
    "backbone beit": ((r"\bbackbone\.(embeddings|encoder)\.", r"backbone.beit.\1."), *_BEIT_LAYERS),
    "backbone swin": (
        *_ATTENTION,
        *_FEED_FORWARD,
        (
            r"\.attention\.self\.relative_position_bias_table",
            ".attention.relative_position_bias.relative_position_bias_table",
        ),
        (r"\bbackbone\.(embeddings|encoder)\.", r"backbone.swin.\1."),
    ),
    "backbone dinov2": _ATTENTION,
    "backbone dinov2_with_registers": _ATTENTION,
    "backbone lw_detr_vit": _ATTENTION,
    "backbone dinov3_vit": ((r"\bbackbone\.layer\.", "backbone.model.layer."),),
    "backbone dinov3_convnext": ((r"\bbackbone\.stages\.", "backbone.model.stages."),),
}
# Tensors that only some versions have, and on which no output depends.
_IDLE = re.compile(r"\.relative_position_index$|\bbackbone\.swin\.layernorm\.(weight|bias)$")


def stable_name(name: str, config: Any) -> str:  # noqa: ANN401 - a config of transformers
    """The name of a tensor in checkpoints, for its name in any version of `transformers`.

    Args:
        name: Name of a tensor of `volseg.networks.SlicewiseNetwork`.
        config: Config of its network.

    >>> from transformers import SegformerConfig
    >>> stable_name("model.segformer.encoder.block.0.1.attention.self.query.weight", SegformerConfig())
    'model.segformer.stages.0.blocks.1.attention.q_proj.weight'
    """
    backbone = getattr(config, "backbone_config", None)
    kinds = (config.model_type, f"backbone {backbone.model_type}" if backbone is not None else "")
    for pattern, now in (rule for kind in kinds for rule in _RULES.get(kind, ())):
        name = re.sub(pattern, now, name)
    return name


def keep_names(network: nn.Module) -> None:
    """Make a network save and load its tensors by names that are the same with each version of `transformers`.

    Args:
        network: Network with a network of `transformers` as its `model`.
    """
    hooked: Any = network  # whose methods carry no types in torch
    hooked.register_load_state_dict_pre_hook(_take)
    if any(stable_name(name, hooked.model.config) != name for name in hooked.state_dict()):
        hooked.register_state_dict_post_hook(_give)


def _give(network: Any, state: dict[str, Any], prefix: str, _: object) -> None:  # noqa: ANN401
    """Rename the tensors from `state_dict`; the order stays."""
    config = network.model.config
    for name in [name for name in state if name.startswith(prefix)]:
        state[prefix + stable_name(name.removeprefix(prefix), config)] = state.pop(name)


def _take(network: Any, state: dict[str, Any], prefix: str, *_: object) -> None:  # noqa: ANN401
    """Rename the tensors for `load_state_dict` to the names of this version of `transformers`.

    A tensor that only one of the versions has, and on which no output depends, is left out or kept as it is.
    """
    config = network.model.config
    own = {f"{prefix}model.{name}": value for name, value in network.model.state_dict().items()}
    now = {stable_name(name.removeprefix(prefix), config): name for name in own}
    for name in [name for name in state if name.startswith(prefix) and name not in own]:
        called = now.get(stable_name(name.removeprefix(prefix), config))
        if called is not None and called not in state:
            state[called] = state.pop(name)
        elif called is None and _IDLE.search(name):
            del state[name]
    given = {name for name in state if name.startswith(prefix)}
    if given:
        state.update({name: value for name, value in own.items() if name not in given and _IDLE.search(name)})
