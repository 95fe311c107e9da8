"""2D networks of transformers that others made: backbones, stems, base models on a CPU, and names between versions."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from monai.bundle import ConfigParser
from slicewise_networks import TINY, build, families, image, run, save_weights, stir
from torch import Tensor, nn

from volseg.errors import CheckpointError, UsageError
from volseg.networks import SlicewiseNetwork, narrow_head
from volseg.networks.architecture import make_config
from volseg.networks.names import stable_name
from volseg.networks.pretrained import first_convolution
from volseg.networks.stem import adapt_stem

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "segformer"
STAGES = {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
PLAIN: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 64}
VIT: dict[str, Any] = {**PLAIN, "intermediate_size": 32, "patch_size": 16, **STAGES}
CONVNEXT: dict[str, Any] = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], **STAGES}
BACKBONES: dict[str, dict[str, Any]] = {
    "dinov2": {**PLAIN, "patch_size": 14, **STAGES},
    "dinov3_vit": VIT,
    "dinov3_convnext": CONVNEXT,
    "beit": VIT,
    "convnextv2": CONVNEXT,
    "resnet": {**CONVNEXT, "embedding_size": 8, "layer_type": "basic"},
    "pvt_v2": {**CONVNEXT, "num_attention_heads": [1, 1, 2, 2]},
    "lw_detr_vit": {**PLAIN, **STAGES},
}


def upernet(backbone: str, **sizes: Any) -> dict[str, Any]:
    inner = {"model_type": backbone, **BACKBONES.get(backbone, {}), **sizes}
    return {"model_type": "upernet", "hidden_size": 16, "auxiliary_channels": 8, "backbone_config": inner}


def of_config(config: dict[str, Any], **options: Any) -> SlicewiseNetwork:
    torch.manual_seed(0)
    given = {"in_channels": 1, "out_channels": 3, "context": 1, **options}
    network = SlicewiseNetwork(None, config=config, **given)
    stir(network)
    return network.eval()


# Backbones


@pytest.mark.parametrize("deep_supervision", [False, True])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_upernet_stands_on_any_backbone_that_transformers_takes(backbone: str, deep_supervision: bool) -> None:
    network = of_config(upernet(backbone), deep_supervision=deep_supervision)
    assert run(network, image(1, 1, 40, 33, 2)).shape == (1, 3, 40, 33, 2)
    outputs = network.train()(image(2, 1, 40, 33, 2))
    assert len(outputs) == 2 if deep_supervision else outputs.shape[1] == 3
    settings = json.loads(json.dumps(network.settings))
    again = SlicewiseNetwork(in_channels=1, out_channels=3, **settings)
    again.load_state_dict(network.state_dict())


def test_its_logits_are_those_of_transformers() -> None:
    network = of_config(upernet("dinov3_vit"), in_channels=3, context=0)
    slices = image(2, 3, 64, 64)
    with torch.no_grad():
        expected = network.model(pixel_values=slices).logits
    torch.testing.assert_close(run(network, slices.movedim(0, -1)[None]).movedim(-1, 1)[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["beit", "data2vec-vision"])
def test_vision_transformers_take_slices_of_any_shape(kind: str) -> None:
    """transformers reshapes the patches of BEiT (before 5.9) and Data2Vec as if every image had its image_size."""
    config = {"model_type": kind, **VIT, "out_indices": [1, 2, 3, 4], "auxiliary_channels": 8}
    network = of_config({name: value for name, value in config.items() if name != "out_features"})
    assert run(network, image(1, 1, 48, 33, 2)).shape == (1, 3, 48, 33, 2)
    square = image(2, 3, 64, 64)
    with torch.no_grad():
        expected = network.model(pixel_values=square).logits
        from volseg.networks.slicewise import _run

        torch.testing.assert_close(_run(network.model, square), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "mask2former"}, "mask2former is not supported: it predicts a set of masks"),
        ({"model_type": "maskformer"}, "not supported.*take one of beit"),
        ({"model_type": "eomt"}, "not supported"),
        (
            {"model_type": "upernet", "backbone_config": {"depths": [1]}},
            "backbone_config of upernet names no model_type",
        ),
        (upernet("hiera", embed_dim=8, num_heads=[1, 1, 2, 2], depths=[1] * 4, **STAGES), "slices of any size"),
        (upernet("dinov3_vit", wide=True), "config has 'wide', which dinov3_vit does not know"),
    ],
)
def test_what_cannot_be_a_network_for_slices_says_why(config: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        of_config(config)


def test_an_auxiliary_head_needs_a_third_feature_map() -> None:
    config = upernet("resnet", out_features=["stage3", "stage4"])
    assert run(of_config(config), image(1, 1, 32, 32, 1)).shape == (1, 3, 32, 32, 1)
    with pytest.raises(UsageError, match="third feature map of resnet, which gives fewer"):
        of_config(config, deep_supervision=True)


def test_weights_of_a_network_of_masks_are_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mask2former"}))
    with pytest.raises(UsageError, match="mask2former is not supported"):
        SlicewiseNetwork(None, in_channels=1, out_channels=2, weights=tmp_path)


# Base models on a CPU


@families
def test_the_bundle_builds_each_base_model_on_a_cpu(family: str, tiny_cohort: Path, tmp_path: Path) -> None:
    """From scratch and from a folder; the narrow head of the CPU is Segformer's alone."""
    save_weights(family, tmp_path)
    for weights, initialisation in ((None, "scratch"), (str(tmp_path), f"pretrained: {tmp_path}")):
        parser = ConfigParser()
        parser.read_config(str(BUNDLE / "train.json"))
        parser.update({"dataset_dir": str(tiny_cohort), "device": "cpu", "bundle_root": str(BUNDLE)})
        parser.update({"base_model": None if weights else family, "weights": weights})
        if weights is None:  # in small: the published one takes seconds
            parser.update({"config": {**(narrow_head(family) or {}), **TINY[family]}})
        network = parser.get_parsed_content("network_def")
        assert network.initialisation == initialisation
        assert network.model.config.model_type == family.partition("-")[0]
        assert network.eval()(torch.zeros(1, 1, 32, 32, 2)).shape == (1, 2, 32, 32, 2)


def test_the_settings_of_a_cpu_fit_every_name() -> None:
    for name in ("segformer-b0", "dpt-base", "beit-base", "upernet-convnext-tiny", "upernet-swin-base"):
        settings = {**make_settings(name), **(narrow_head(name) or {})}
        make_config(settings, in_channels=1, out_channels=2)


def make_settings(name: str) -> dict[str, Any]:
    from volseg.networks.architecture import published_sizes

    return published_sizes(name)


# The stem


def responses(weight: Tensor, colours: Tensor) -> Tensor:
    return nn.functional.conv2d(colours, weight)


@pytest.mark.parametrize("inputs", [1, 3, 4])
def test_as_many_image_channels_as_inputs_keep_the_kernel_as_it_is(inputs: int) -> None:
    weight, colours = image(5, inputs, 3, 3), image(2, inputs, 16, 16, seed=2)
    assert torch.equal(adapt_stem(weight, channels=inputs), weight)
    assert torch.equal(responses(adapt_stem(weight, channels=inputs), colours), responses(weight, colours))


def test_colours_with_neighbours_keep_their_own_kernels() -> None:
    """Of a volume whose slices are all alike the response is the published one, for any colours."""
    weight, colours = image(5, 3, 3, 3).double(), image(2, 3, 16, 16, seed=2).double()
    adapted = adapt_stem(weight, channels=3, context=1)
    assert adapted.shape == (5, 9, 3, 3)
    stacked = colours[:, :, None].expand(-1, -1, 3, -1, -1).flatten(1, 2)  # slices vary fastest
    torch.testing.assert_close(responses(adapted, stacked), responses(weight, colours))
    assert torch.equal(adapted[:, 1], weight[:, 0] / 2), "the slice itself has half"


def test_a_stem_that_was_made_for_such_a_stack_stays() -> None:
    weight = image(5, 10, 3, 3)
    assert torch.equal(adapt_stem(weight, channels=2, context=2), weight)
    colours = image(5, 3, 3, 3)
    adapted = adapt_stem(colours, channels=1, context=1)
    assert not torch.equal(adapted, colours), "three slices of one channel are no colours"
    torch.testing.assert_close(adapted.sum(1), colours.sum(1))


@pytest.mark.parametrize(("inputs", "channels"), [(4, 1), (4, 2), (1, 3), (3, 4)])
def test_other_numbers_keep_the_response_to_a_grey_image(inputs: int, channels: int) -> None:
    weight, grey = image(5, inputs, 3, 3).double(), image(2, 1, 16, 16, seed=2).double()
    adapted = adapt_stem(weight, channels=channels)
    shown = responses(adapted, grey.expand(-1, channels, -1, -1))
    torch.testing.assert_close(shown, responses(weight, grey.expand(-1, inputs, -1, -1)))


@pytest.mark.parametrize("family", ["segformer-b0", "beit-base", "upernet-swin-tiny"])
def test_colour_images_are_seen_as_the_published_network_sees_them(family: str, tmp_path: Path) -> None:
    source = save_weights(family, tmp_path)
    ours = SlicewiseNetwork(None, in_channels=3, out_channels=2, weights=tmp_path).eval()
    theirs, mine = first_convolution(source), first_convolution(ours.model)
    assert torch.equal(theirs.weight, mine.weight)
    colours = image(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(theirs(colours), mine(colours))


def test_a_stem_of_four_channels_stays_when_the_cohort_has_four(tmp_path: Path) -> None:
    torch.manual_seed(7)
    config = make_config({**make_settings("segformer-b0"), **TINY["segformer-b0"]}, in_channels=4, out_channels=5)
    source = transformers.AutoModelForSemanticSegmentation.from_config(config)
    source.save_pretrained(tmp_path)
    four = SlicewiseNetwork(None, in_channels=4, out_channels=2, weights=tmp_path)
    assert torch.equal(first_convolution(four.model).weight, first_convolution(source).weight)
    one = SlicewiseNetwork(None, in_channels=1, out_channels=2, weights=tmp_path)
    torch.testing.assert_close(
        first_convolution(one.model).weight, first_convolution(source).weight.sum(1, keepdim=True)
    )


# Names of tensors

RECORDED = json.loads((Path(__file__).parent / "tensor_names.json").read_text())  # of transformers 5.0.0
CONFIGS: dict[str, Any] = {
    **{name: name for name in TINY},
    "data2vec-vision": {
        "model_type": "data2vec-vision",
        **{key: value for key, value in VIT.items() if key != "out_features"},
        "out_indices": [1, 2, 3, 4],
    },
    "backbone beit": upernet("beit"),
    **{name: upernet(name) for name in ("dinov2", "dinov3_vit", "dinov3_convnext", "lw_detr_vit")},
}


def network_of(kind: str) -> SlicewiseNetwork:
    config = CONFIGS[kind]
    if isinstance(config, str):
        return build(config, context=1, deep_supervision=config == "beit-base")
    return of_config(config)


@pytest.mark.parametrize("kind", [kind for kind in RECORDED if kind != "transformers"])
def test_checkpoints_of_other_versions_of_transformers_load(kind: str) -> None:
    """The names of 5.0.0 become those of now, each its own, and the other way round."""
    network = network_of(kind)
    config = network.model.config
    state = network.state_dict()
    before = [f"model.{name}" for name in RECORDED[kind].split()]
    if kind == "beit-base":  # volseg puts the auxiliary head into a module of its own
        assert any(name.startswith("model.auxiliary_head.head.") for name in before)
    called = {stable_name(name, config): name for name in before}
    assert len(called) == len(before)
    idle = {name for name in {*called} ^ {*state} if "relative_position_index" in name or "swin.layernorm" in name}
    assert {*called} - idle == {*state} - idle
    assert all(stable_name(name, config) == name for name in state), "what is written is what stays"

    old = {called[name]: value for name, value in state.items() if name in called}
    old |= {called[name]: torch.zeros(1) for name in idle if name in called}
    again = network_of(kind)
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.zero_()
    again.load_state_dict({name: old[name] for name in reversed(old)})
    volume = image(1, 1, 64, 32, 2)
    torch.testing.assert_close(run(again.eval(), volume), run(network.eval(), volume), atol=0, rtol=0)


def test_a_version_with_other_names_gives_those_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network of transformers 5.0.0, for which one with renamed modules stands in."""
    torch.manual_seed(0)
    network = build(context=1)
    stage = network.model.segformer.stages[0]
    stage.layer_norm_1 = stage._modules.pop("layer_norm")  # a name that this version does not use
    from volseg.networks import names

    monkeypatch.setitem(names._RULES, "segformer", ((r"stages\.0\.layer_norm_1\.", "stages.0.layer_norm."),))  # type: ignore[index]
    names.keep_names(network)
    other = build(context=1)
    assert set(network.state_dict()) == set(other.state_dict())
    network.load_state_dict(other.state_dict())
    wrapped = nn.ModuleDict({"part": network})
    assert "part.model.segformer.stages.0.layer_norm.weight" in wrapped.state_dict()
    wrapped.load_state_dict(wrapped.state_dict())


def test_copies_and_strangers(tmp_path: Path) -> None:
    network = build(context=1)
    again = copy.deepcopy(network)
    again.load_state_dict(network.state_dict())
    with pytest.raises(RuntimeError, match="Missing key"):
        again.load_state_dict({"model.other": torch.zeros(1)})
    with pytest.raises(CheckpointError):
        SlicewiseNetwork(None, in_channels=1, out_channels=2, weights=tmp_path)
