"""The published sizes of 2D segmentation networks, by name, and the configs of `transformers` made of them."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any

from volseg.errors import UsageError

# Sizes as the authors published them. Segformer: Xie et al. 2021 (arXiv:2105.15203). UPerNet: Xiao et al. 2018
# (doi:10.1007/978-3-030-01228-1_26), on ConvNeXt and Swin as MMSegmentation has it. DPT: Ranftl et al. 2021
# (arXiv:2103.13413), and BEiT: Bao et al. 2021 (arXiv:2106.08254), as released for ADE20K.
_MIT = {"model_type": "segformer", "hidden_sizes": [64, 128, 320, 512], "decoder_hidden_size": 768}
_STAGES = {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
# ConvNeXt's own initial scale of its residual branches, 1e-6, is for ImageNet; MMSegmentation starts with 1.
_CONVNEXT = {"model_type": "convnext", "hidden_sizes": [96, 192, 384, 768], "layer_scale_init_value": 1.0, **_STAGES}
_SWIN = {"model_type": "swin", "embed_dim": 96, "num_heads": [3, 6, 12, 24], "window_size": 7, **_STAGES}
_DPT = {"model_type": "dpt", "image_size": 384, "use_batch_norm_in_fusion_residual": True}
_BEIT = {"model_type": "beit", "image_size": 640, "use_relative_position_bias": True}
_LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}


def _upernet(backbone: Mapping[str, Any], **sizes: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"model_type": "upernet", "hidden_size": 512, "backbone_config": {**backbone, **sizes}}


_SIZES: Mapping[str, Mapping[str, Any]] = {
    "segformer-b0": {"model_type": "segformer", "hidden_sizes": [32, 64, 160, 256], "decoder_hidden_size": 256},
    "segformer-b1": {**_MIT, "decoder_hidden_size": 256},
    "segformer-b2": {**_MIT, "depths": [3, 4, 6, 3]},
    "segformer-b3": {**_MIT, "depths": [3, 4, 18, 3]},
    "segformer-b4": {**_MIT, "depths": [3, 8, 27, 3]},
    "segformer-b5": {**_MIT, "depths": [3, 6, 40, 3]},
    "upernet-convnext-tiny": _upernet(_CONVNEXT, depths=[3, 3, 9, 3]),
    "upernet-convnext-small": _upernet(_CONVNEXT, depths=[3, 3, 27, 3]),
    "upernet-convnext-base": _upernet(_CONVNEXT, depths=[3, 3, 27, 3], hidden_sizes=[128, 256, 512, 1024]),
    "upernet-swin-tiny": _upernet(_SWIN, depths=[2, 2, 6, 2]),
    "upernet-swin-small": _upernet(_SWIN, depths=[2, 2, 18, 2]),
    "upernet-swin-base": _upernet(_SWIN, depths=[2, 2, 18, 2], embed_dim=128, num_heads=[4, 8, 16, 32], window_size=12),
    "dpt-base": _DPT,
    "dpt-large": {
        **_DPT,
        **_LARGE,
        "backbone_out_indices": [5, 11, 17, 23],
        "neck_hidden_sizes": [256, 512, 1024, 1024],
    },
    "beit-base": {**_BEIT, "out_indices": [3, 5, 7, 11]},
    "beit-large": {**_BEIT, **_LARGE, "out_indices": [7, 11, 15, 23]},
}

# Trained on ADE20K. DPT-base was not published for segmentation.
_PUBLISHED = {
    **{f"segformer-b{n}": f"nvidia/segformer-b{n}-finetuned-ade-512-512" for n in range(5)},
    "segformer-b5": "nvidia/segformer-b5-finetuned-ade-640-640",
    **{name: f"openmmlab/{name}" for name in _SIZES if name.startswith("upernet-")},
    "dpt-large": "Intel/dpt-large-ade",
    "beit-base": "microsoft/beit-base-finetuned-ade-640-640",
    "beit-large": "microsoft/beit-large-finetuned-ade-640-640",
}

# Settings that are set anew for each network.
_ANEW = {"num_channels", "num_labels", "use_auxiliary_head"}


def published_weights(base_model: str | None) -> str | None:
    """The hub name of the weights that the authors of a network published, trained on ADE20K.

    >>> published_weights("segformer-b0"), published_weights("dpt-base")
    ('nvidia/segformer-b0-finetuned-ade-512-512', None)
    """
    return _PUBLISHED.get(base_model or "")


def published_sizes(base_model: str | None) -> dict[str, Any]:
    """The settings of a network for `transformers`, by its name; empty without a name.

    Raises:
        UsageError: There is no such name; the message tells the nearest ones.

    >>> published_sizes("segformer-b2")["depths"]
    [3, 4, 6, 3]
    >>> published_sizes("segformer-b6")
    Traceback (most recent call last):
    volseg.errors.UsageError: base_model 'segformer-b6' is not known; nearest: segformer-b5, ...; all: segformer-b0, ...
    """
    if base_model is None:
        return {}
    if base_model not in _SIZES:
        near = difflib.get_close_matches(base_model, _SIZES, n=2, cutoff=0.4)
        nearest = f"; nearest: {', '.join(near)}" if near else ""
        raise UsageError(f"base_model {base_model!r} is not known{nearest}; all: {', '.join(_SIZES)}")
    return dict(_SIZES[base_model])


def merge(sizes: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Override sizes, level by level.

    >>> merge({"a": 1, "backbone_config": {"depths": [2, 2], "embed_dim": 96}}, {"backbone_config": {"embed_dim": 8}})
    {'a': 1, 'backbone_config': {'depths': [2, 2], 'embed_dim': 8}}
    """
    merged = dict(sizes)
    for name, value in overrides.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = merge(merged[name], value) if both else value
    return merged


def settings_of(config: Any) -> dict[str, Any]:  # noqa: ANN401 - a config of transformers
    """Reduce a config to the settings that build the same network again, fit for JSON.

    Settings of any model, such as names of labels and files, are left out: they differ between equal networks.
    """
    from transformers import PreTrainedConfig

    general = (set(PreTrainedConfig().to_dict()) | _ANEW | {"_name_or_path", "architectures"}) - {"model_type"}

    def own(content: Mapping[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in content.items() if name not in general}
        return {name: own(value) if isinstance(value, Mapping) else value for name, value in kept.items()}

    return own(config.to_diff_dict())


def make_config(settings: Mapping[str, Any], *, in_channels: int, out_channels: int, auxiliary: bool = False) -> Any:  # noqa: ANN401 - a config of transformers
    """Make the config of a network with given numbers of channels.

    Args:
        settings: `model_type`, as `transformers` names it, and the differences from its defaults.
        in_channels: Number of channels of a slice with its neighbours.
        out_channels: Number of channels of the logits.
        auxiliary: Whether there is the second head on middle layers, for deep supervision.

    Raises:
        UsageError: `transformers` has no such model or setting, or refuses a value.
    """
    from transformers import AutoConfig

    model_type = settings.get("model_type")
    if not isinstance(model_type, str):
        raise UsageError("a network needs a base_model, weights, or a config with model_type")
    check_kind(model_type)
    own = {name: value for name, value in settings.items() if name not in {"model_type", "backbone_config"}}
    try:
        _check_names(own, AutoConfig.for_model(model_type))
        own |= {"num_labels": out_channels, "use_auxiliary_head": auxiliary}
        backbone = settings.get("backbone_config")
        if backbone is None:
            own["num_channels"] = in_channels
        else:
            kind = backbone.get("model_type")
            if not isinstance(kind, str):
                raise UsageError(
                    f"the backbone_config of {model_type} names no model_type; add one, such as convnext or dinov2"
                )
            rest = {name: value for name, value in backbone.items() if name != "model_type"}
            _check_names(rest, AutoConfig.for_model(kind))
            inner = AutoConfig.for_model(kind, **rest, num_channels=in_channels)
            own["backbone_config"] = inner
            third = _third_stage(inner)
            if third is not None:
                own["auxiliary_in_channels"] = third
            elif auxiliary:
                raise UsageError(
                    f"the auxiliary head looks at the third feature map of {kind}, which gives fewer; name more "
                    "out_features in backbone_config, or leave deep_supervision off"
                )
        return AutoConfig.for_model(model_type, **own)
    except UsageError:
        raise
    except Exception as error:  # transformers has errors of many kinds
        raise UsageError(f"the config makes no {model_type} network: {str(error).strip().splitlines()[0]}") from error


def divisor(config: Any) -> int:  # noqa: ANN401 - a config of transformers
    """The number of which both sides of a slice must be multiples, so that each stage of the network divides evenly.

    >>> divisor(make_config(published_sizes("segformer-b0"), in_channels=1, out_channels=2))
    32
    """
    inner = getattr(config, "backbone_config", None) or config
    if isinstance(getattr(inner, "output_stride", None), int) and not hasattr(
        inner, "depths"
    ):  # MobileViT and its like
        patch = getattr(inner, "patch_size", None)
        return int(inner.output_stride) * (patch if isinstance(patch, int) else 1)
    if hasattr(inner, "sr_ratios"):  # each stage halves, and its attention reduces keys once more
        steps = [math.prod(inner.strides[: stage + 1]) for stage in range(len(inner.strides))]
        return math.lcm(*(step * ratio for step, ratio in zip(steps, inner.sr_ratios, strict=True)))
    patch = getattr(inner, "patch_size", None)
    if not isinstance(patch, int):
        return 32
    depths = getattr(
        inner, "depths", None
    )  # a pyramid halves between stages; plain transformers halve once, in the head
    return patch * (2 ** (len(depths) - 1) if depths else 2)


def check_kind(model_type: str) -> None:
    """Refuse a network that does not give one logit per pixel and class.

    Raises:
        UsageError: The network predicts masks, such as Mask2Former, or is for another task; the message says what to
            do.

    >>> check_kind("mask2former")
    Traceback (most recent call last):
    volseg.errors.UsageError: mask2former is not supported: it predicts a set of masks with a class each, ...
    """
    from transformers.models.auto import modeling_auto as known

    semantic = known.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES
    tables = ("UNIVERSAL", "INSTANCE", "IMAGE")
    masks = {name for kind in tables for name in getattr(known, f"MODEL_FOR_{kind}_SEGMENTATION_MAPPING_NAMES", {})}
    if model_type in masks and model_type not in semantic:
        others = ", ".join(sorted(semantic))
        raise UsageError(
            f"{model_type} is not supported: it predicts a set of masks with a class each, which are matched to "
            f"objects in training, where volseg needs a logit per pixel and region; take one of {others}"
        )


def narrow_head(base_model: str | None) -> dict[str, Any] | None:
    """The config that makes a named network affordable on a CPU: a narrow head for Segformer, else None.

    >>> narrow_head("segformer-b2")["decoder_hidden_size"], narrow_head("dpt-base"), narrow_head(None)
    (64, None, None)
    """
    if published_sizes(base_model).get("model_type") != "segformer":
        return None
    return {"decoder_hidden_size": 64, "drop_path_rate": 0.0, "classifier_dropout_prob": 0.0}


def _third_stage(backbone: Any) -> int | None:  # noqa: ANN401
    """Channels of the third feature map, the input of UPerNet's auxiliary head; None if there are fewer maps."""
    import torch
    from transformers import AutoBackbone

    builder: Any = AutoBackbone
    with torch.device("meta"):
        channels = list(builder.from_config(backbone).channels)
    return int(channels[2]) if len(channels) > 2 else None


def _check_names(settings: Mapping[str, Any], defaults: Any) -> None:  # noqa: ANN401
    known = set(defaults.to_dict()) | {"out_features", "out_indices"} | set(getattr(defaults, "attribute_map", {}))
    for name in settings:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"config has {name!r}, which {defaults.model_type} does not know{hint}")
