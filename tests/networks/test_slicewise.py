"""2D networks of transformers slice by slice: laws of slices, stems and weights, and each family in small."""

from __future__ import annotations

import copy
import json
import logging
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from monai.data import MetaTensor
from monai.inferers import sliding_window_inference
from slicewise_networks import TINY, build, families, image, run, save_weights
from torch import Tensor, nn

from volseg.errors import BundleError, CheckpointError, UsageError
from volseg.networks import SlicewiseNetwork
from volseg.networks.architecture import make_config, published_sizes, published_weights
from volseg.networks.pretrained import backbone_of, classifiers, warn_of_scratch
from volseg.networks.stem import adapt_stem


def differ(a: Tensor, b: Tensor) -> list[int]:
    """The slices in which two results differ."""
    return (a - b).abs().amax((0, 1, 2, 3)).gt(1e-5).nonzero().flatten().tolist()


# From scratch


@families
def test_blank_slices_do_not_blow_up_the_gradients(family: str) -> None:
    torch.manual_seed(0)
    network = SlicewiseNetwork(family, in_channels=1, out_channels=3, config=TINY[family], context=1).train()
    norms = []
    for visible in (1.0, 0.0):
        network.zero_grad()
        volumes = image(2, 1, 64, 64, 3)
        volumes[1] *= visible
        logits = network(volumes)
        (logits * image(*logits.shape, seed=2)).mean().backward()
        gradients = [parameter.grad.norm() for parameter in network.parameters() if parameter.grad is not None]
        norms.append(float(torch.stack(gradients).norm()))
    assert norms[1] < 3 * norms[0]


# Slices


@families
@pytest.mark.parametrize("shape", [(64, 32, 3), (35, 50, 2), (20, 7, 1)])
def test_logits_have_the_shape_of_the_volume(family: str, shape: tuple[int, ...]) -> None:
    network = build(family, channels=2, context=1)
    logits = run(network, image(2, 2, *shape))
    assert logits.shape == (2, 3, *shape)
    assert type(logits) is Tensor
    assert logits.is_contiguous()
    assert logits.std() > 0


@families
def test_without_context_slices_do_not_see_each_other(family: str) -> None:
    network = build(family)
    volume = image(1, 1, 32, 32, 5)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(run(network, volume[..., order]), run(network, volume)[..., order], atol=1e-5, rtol=0)
    changed = volume.clone()
    changed[..., 2] += 1
    assert differ(run(network, volume), run(network, changed)) == [2]


@pytest.mark.parametrize(
    ("context", "stride", "seen_by"), [(1, 1, [3, 4, 5]), (1, 2, [2, 4, 6]), (2, 2, [0, 2, 4, 6, 8])]
)
def test_a_slice_is_seen_by_its_neighbours_in_steps(context: int, stride: int, seen_by: list[int]) -> None:
    network = build(context=context, stride=stride)
    volume = image(1, 1, 32, 32, 9)
    changed = volume.clone()
    changed[..., 4] += 1
    assert differ(run(network, volume), run(network, changed)) == seen_by


@pytest.mark.parametrize(("context", "stride"), [(1, 1), (2, 3)])
def test_beyond_the_ends_the_last_slice_is_repeated(context: int, stride: int) -> None:
    network = build(context=context, stride=stride)
    volume = image(1, 1, 32, 32, 4)
    reach = context * stride
    longer = torch.cat([volume[..., :1]] * reach + [volume] + [volume[..., -1:]] * reach, dim=-1)
    torch.testing.assert_close(run(network, volume), run(network, longer)[..., reach:-reach], atol=1e-5, rtol=0)


def test_channels_are_ordered_by_image_channel_and_then_by_slice() -> None:
    network = build(channels=2, context=1)
    volume = image(1, 2, 32, 32, 3)
    slices = network._slices(volume)
    assert slices.shape == (3, 6, 32, 32)
    expected = [volume[0, channel, :, :, z] for channel in (0, 1) for z in (0, 1, 2)]
    torch.testing.assert_close(slices[1], torch.stack(expected), atol=0, rtol=0)


@pytest.mark.parametrize("axis", [0, 1])
def test_slices_may_run_along_any_axis(axis: int) -> None:
    along_z = build(context=1)
    along = build(context=1, axis=axis)
    along.load_state_dict(along_z.state_dict())
    volume = image(1, 1, 32, 40, 3)
    turned = volume.movedim(-1, 2 + axis)
    torch.testing.assert_close(run(along, turned), run(along_z, volume).movedim(-1, 2 + axis), atol=1e-5, rtol=0)


@families
def test_the_number_of_slices_at_once_does_not_matter(family: str) -> None:
    network = build(family, context=1)
    volumes = image(2, 1, 32, 32, 5)
    whole = run(network, volumes)
    network.slices_at_once = 3  # across the border of the two volumes
    torch.testing.assert_close(run(network, volumes), whole, atol=1e-5, rtol=0)


@families
def test_an_odd_slice_is_extended_by_its_edge_and_cropped(family: str) -> None:
    network = build(family)
    volume = image(1, 1, 40, 33, 2)
    longer = nn.functional.pad(volume, (0, 0, 0, 31, 0, 24), mode="replicate")
    torch.testing.assert_close(run(network, volume), run(network, longer)[:, :, :40, :33], atol=1e-5, rtol=0)


def test_a_slice_may_be_enlarged_before_the_network() -> None:
    network, plain = build(upsample=2), build()
    plain.load_state_dict(network.state_dict())
    volume = image(1, 1, 32, 48, 2)
    large = nn.functional.interpolate(volume, scale_factor=(2, 2, 1), mode="trilinear")
    # Logits come at half the size of the slice; enlarging them at once or in two steps differs by a little.
    expected = nn.functional.interpolate(run(plain, large), size=volume.shape[2:], mode="trilinear")
    torch.testing.assert_close(run(network, volume), expected, atol=0.1 * float(expected.std()), rtol=0)
    assert run(network, image(1, 1, 33, 16, 1)).shape == (1, 3, 33, 16, 1)


@families
def test_windows_of_a_long_volume_are_its_network(family: str) -> None:
    network = build(family)
    volume = image(1, 1, 32, 32, 8)
    windows = sliding_window_inference(volume, (32, 32, 3), 2, network, overlap=0)
    torch.testing.assert_close(windows, run(network, volume), atol=1e-5, rtol=0)  # no context, so no seams


def test_a_metatensor_goes_in_and_a_tensor_comes_out() -> None:
    network = build(context=1)
    volume = image(1, 1, 32, 32, 2)
    logits = run(network, MetaTensor(volume))
    assert type(logits) is Tensor
    torch.testing.assert_close(logits, run(network, volume), atol=0, rtol=0)


# Learning


@families
def test_a_network_learns_one_volume(family: str) -> None:
    network = build(family, context=1).train()
    volume = image(1, 1, 32, 32, 4)
    target = (volume[:, 0] > 0.5).long() + (volume[:, 0] > 1).long()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    losses = []
    for _ in range(12):
        loss = nn.functional.cross_entropy(network(volume), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@families
def test_every_parameter_that_wants_a_gradient_gets_one(family: str) -> None:
    network = build(family, deep_supervision=family != "segformer-b0").train()
    outputs = network(image(2, 1, 32, 32, 2))
    sum(output.square().mean() for output in ([outputs] if isinstance(outputs, Tensor) else outputs)).backward()
    wanting = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert not wanting  # DistributedDataParallel would wait for them
    inside = {id(parameter) for parameter in network.backbone.parameters()}
    assert 0 < len(inside) < len(list(network.parameters()))


@pytest.mark.parametrize("family", [name for name in TINY if name != "segformer-b0"])
def test_deep_supervision_adds_the_auxiliary_head_in_training(family: str) -> None:
    network = build(family, deep_supervision=True)
    volumes = image(2, 1, 40, 33, 2)
    assert isinstance(run(network, volumes), Tensor)
    full, auxiliary = network.train()(volumes)
    assert full.shape == auxiliary.shape == (2, 3, 40, 33, 2)
    auxiliary.sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in network.backbone.parameters())
    copied = copy.deepcopy(network).eval()  # averages of weights copy a network in the midst of training
    torch.testing.assert_close(run(copied, volumes), run(network.eval(), volumes))


@pytest.mark.parametrize("family", [name for name in TINY if "convnext" not in name])
def test_checkpointing_changes_no_gradient(family: str) -> None:
    still = {"drop_path_rate": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout_prob": 0.0}
    known = set(make_config(published_sizes(family), in_channels=1, out_channels=1).to_dict())
    config = {**TINY[family], **{name: value for name, value in still.items() if name in known}}
    gradients = []
    for use_checkpoint in (False, True):
        network = build(family, config=config, use_checkpoint=use_checkpoint).train()
        torch.manual_seed(3)
        network(image(2, 1, 32, 32, 2)).square().mean().backward()
        gradients.append([p.grad for p in network.backbone.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 0
    for plain, saved in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, saved, atol=1e-6, rtol=1e-3)


def test_the_same_seed_gives_the_same_network_and_the_same_step() -> None:
    one, other = build(), build()
    volumes = image(1, 1, 32, 32, 2)
    results = []
    for network in (one.train(), other.train()):
        torch.manual_seed(5)  # drop path
        results.append(network(volumes))
    torch.testing.assert_close(*results, atol=0, rtol=0)


def test_bfloat16_is_near() -> None:
    network = build(context=1)
    volume = image(1, 1, 32, 32, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = run(network, volume)
    exact = run(network, volume)
    assert (rough.float() - exact).abs().max() < 0.05 * exact.abs().max()


def test_segformer_from_scratch_starts_as_its_authors_do() -> None:
    """transformers starts every convolution at a deviation of 0.02, which hides the image from the first stages."""
    torch.manual_seed(0)
    network = SlicewiseNetwork("segformer-b0", in_channels=1, out_channels=3)
    depthwise = [layer for layer in network.backbone.modules() if isinstance(layer, nn.Conv2d) and layer.groups > 1]
    assert len(depthwise) == 8
    for layer in depthwise:
        assert float(layer.weight.detach().std()) == pytest.approx((2 / 9) ** 0.5, rel=0.15)
    (classifier,) = classifiers(network.model)
    assert float(classifier.weight.detach().std()) == pytest.approx(0.02, rel=0.2)


# The stem


@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("context", [0, 1, 2])
def test_the_response_to_a_grey_image_stays(channels: int, context: int) -> None:
    weight, grey = image(5, 3, 7, 7).double(), image(2, 1, 16, 16, seed=2).double()
    number = channels * (2 * context + 1)
    adapted = adapt_stem(weight, channels=channels, context=context)
    assert adapted.shape == (5, number, 7, 7)
    response = nn.functional.conv2d(grey.expand(-1, number, -1, -1), adapted)
    torch.testing.assert_close(response, nn.functional.conv2d(grey.expand(-1, 3, -1, -1), weight))


def test_neighbours_weigh_less_than_the_slice_itself_and_the_same_on_both_sides() -> None:
    adapted = adapt_stem(image(5, 3, 3, 3), channels=1, context=2)
    torch.testing.assert_close(adapted, adapted.flip(1))
    norms = adapted.flatten(2).norm(dim=2).mean(0)
    assert norms[0] < norms[1] < norms[2]


# Weights


def backbone_output(network: Any, slices: Tensor) -> Tensor:
    """What the backbone of a network of transformers says last of slices."""
    with torch.no_grad():
        output = backbone_of(network)(pixel_values=slices)
    last: Tensor = output.feature_maps[-1] if "feature_maps" in output else output.last_hidden_state
    return last


@families
def test_a_pretrained_network_sees_a_slice_as_it_saw_a_grey_image(family: str, tmp_path: Path) -> None:
    source = save_weights(family, tmp_path)
    network = SlicewiseNetwork(None, in_channels=1, out_channels=3, weights=tmp_path, context=1).eval()
    assert network.initialisation == f"pretrained: {tmp_path}"
    grey = image(1, 1, 32, 32)
    theirs, ours = (backbone_output(model, grey.expand(-1, 3, -1, -1)) for model in (source, network.model))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    assert run(network, image(1, 1, 32, 32, 2)).shape == (1, 3, 32, 32, 2)


def test_all_is_taken_but_the_last_layer_of_the_head(tmp_path: Path) -> None:
    source = save_weights("segformer-b0", tmp_path).state_dict()
    network = build(weights=tmp_path)
    same = {
        name
        for name, value in network.model.state_dict().items()
        if name in source and torch.equal(value, source[name])
    }
    differing = set(source) - same
    stem = "segformer.stages.0.patch_embeddings.proj.weight"
    assert differing == {stem, "decode_head.classifier.weight", "decode_head.classifier.bias"}


def test_a_head_of_another_width_starts_anew(tmp_path: Path) -> None:
    source = save_weights("segformer-b0", tmp_path)
    network = build(weights=tmp_path, config={**TINY["segformer-b0"], "decoder_hidden_size": 24})
    assert network.initialisation.startswith("pretrained")
    grey = image(1, 3, 32, 32)
    torch.testing.assert_close(
        backbone_output(network.eval().model, grey[:, :1]), backbone_output(source, grey[:, :1].expand(-1, 3, -1, -1))
    )


def test_weights_of_an_image_classifier_fill_the_backbone(tmp_path: Path) -> None:
    save_weights("segformer-b0", tmp_path, task="AutoModelForImageClassification")
    network = build(weights=tmp_path)
    assert network.initialisation == f"pretrained: {tmp_path}"


@pytest.mark.parametrize("family", ["segformer-b0", "upernet-swin-tiny"])
def test_the_settings_build_the_same_network_without_weights(family: str, tmp_path: Path) -> None:
    save_weights(family, tmp_path / "weights")
    options = {"context": 1, "stride": 2, "upsample": 2, "deep_supervision": family != "segformer-b0"}
    network = SlicewiseNetwork(None, in_channels=1, out_channels=3, weights=tmp_path / "weights", **options)
    settings = json.loads(json.dumps(network.settings))  # as a checkpoint's recipe keeps them
    again = SlicewiseNetwork(in_channels=1, out_channels=3, **settings)
    assert again.initialisation == "scratch"
    assert again.settings == network.settings
    again.load_state_dict(network.state_dict())
    volume = image(1, 1, 32, 32, 3)
    torch.testing.assert_close(run(again.eval(), volume), run(network.eval(), volume), atol=0, rtol=0)


def test_default_weights_out_of_reach_mean_scratch_and_one_loud_line(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_scratch.cache_clear()
    with caplog.at_level(logging.WARNING, logger="volseg"):
        build("dpt-base", weights="auto")  # none were published
        network = build("dpt-base", weights="auto")
    assert network.initialisation == "scratch"
    (record,) = caplog.records
    assert record.getMessage().startswith("TRAINING FROM SCRATCH")
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="volseg"):
        network = build(weights="auto")  # no hub in tests; and were there a copy, it has other sizes
    assert network.initialisation == "scratch"
    (record,) = caplog.records
    assert record.getMessage().startswith("TRAINING FROM SCRATCH")


@pytest.mark.parametrize(
    ("weights", "cure"),
    [
        ("./no/such/folder", "there is no folder"),
        ("nobody-here/no-such-weights", "hf download nobody-here/no-such-weights"),
        ("EMPTY", "give a folder that save_pretrained wrote"),
        ("DAMAGED", "give a folder that save_pretrained wrote"),
    ],
)
def test_weights_that_were_asked_for_and_cannot_be_had_are_an_error(weights: str, cure: str, tmp_path: Path) -> None:
    if weights == "EMPTY":
        weights = str(tmp_path)
    if weights == "DAMAGED":
        weights = str(tmp_path)
        save_weights("segformer-b0", tmp_path)
        (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match=cure) as caught:
        build(weights=weights)
    assert "--weights null" in str(caught.value)


def test_what_is_wrong_with_a_folder_of_weights_is_told(tmp_path: Path) -> None:
    """The words of the libraries were passed on: a header that is too large, a report above that is not there."""
    save_weights("segformer-b0", tmp_path / "whole")
    content = (tmp_path / "whole" / "model.safetensors").read_bytes()
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    for file, written, told in (
        ("model.safetensors", content[:3000], "model.safetensors is cut off after 3,000 bytes; copy it again"),
        ("model.safetensors", content[:-10], "model.safetensors is cut off after"),
        ("model.safetensors", b"", "model.safetensors is empty; copy it again"),
        ("model.safetensors", pointer, "model.safetensors is a pointer of Git LFS; get the file itself with `git lfs"),
        ("pytorch_model.bin", pointer, "pytorch_model.bin is a pointer of Git LFS"),
        ("pytorch_model.bin", b"", "pytorch_model.bin is empty; copy it again"),
    ):
        shutil.copytree(tmp_path / "whole", tmp_path / "broken", dirs_exist_ok=True)
        (tmp_path / "broken" / "model.safetensors").unlink()
        (tmp_path / "broken" / file).write_bytes(written)
        with pytest.raises(CheckpointError, match=f"cannot be had: {told}"):
            build(weights=tmp_path / "broken")
        shutil.rmtree(tmp_path / "broken")
    config = json.loads((tmp_path / "whole" / "config.json").read_text())
    (tmp_path / "whole" / "config.json").write_text(json.dumps({**config, "decoder_hidden_size": 24}))
    with pytest.raises(CheckpointError, match=r"its tensors have other sizes than its config\.json states"):
        build(weights=tmp_path / "whole")
    with pytest.raises(CheckpointError, match="must be the folder that save_pretrained wrote, got a file"):
        build(weights=tmp_path / "whole" / "model.safetensors")


def test_weights_of_a_network_for_another_task_are_named_as_such(tmp_path: Path) -> None:
    """With a base_model the cure led to `--base_model null`, and that to an unrecognized class of transformers."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    for base_model in ("segformer-b0", None):
        with pytest.raises(CheckpointError, match=r"must be a network that segments, got vit.*take one of beit"):
            SlicewiseNetwork(base_model, in_channels=1, out_channels=2, weights=tmp_path)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_weights("segformer-b0", tmp_path)
    with pytest.raises(CheckpointError, match=r"model_type segformer.*--base_model null"):
        build("beit-base", weights=tmp_path)
    with pytest.raises(CheckpointError, match=r"hidden_sizes|depths"):
        build(weights=tmp_path, config={})  # b0 itself is larger
    with pytest.raises(CheckpointError, match=r"does not fit the backbone"):
        SlicewiseNetwork(None, in_channels=1, out_channels=3, weights=tmp_path, config={"sr_ratios": [8, 4, 2, 2]})


# Names and numbers


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        # Xie et al. 2021, table 1; with 150 classes
        ("segformer-b0", 3.8),
        ("segformer-b1", 13.7),
        ("segformer-b2", 27.5),
        ("segformer-b3", 47.3),
        ("segformer-b4", 64.1),
        ("segformer-b5", 84.7),
        # Liu et al. 2022 (ConvNeXt), table 5; Liu et al. 2021 (Swin), table 3; with the auxiliary head
        ("upernet-convnext-tiny", 60),
        ("upernet-convnext-small", 82),
        ("upernet-convnext-base", 122),
        ("upernet-swin-tiny", 60),
        ("upernet-swin-small", 81),
        ("upernet-swin-base", 121),
        # Counted by transformers for the published configs
        ("dpt-base", 112),
        ("dpt-large", 343),
        ("beit-base", 163),
        ("beit-large", 441),
    ],
)
def test_a_name_means_the_published_size(name: str, millions: float) -> None:
    config = make_config(
        published_sizes(name), in_channels=3, out_channels=150, auxiliary=not name.startswith("segformer")
    )
    with torch.device("meta"):
        network = transformers.AutoModelForSemanticSegmentation.from_config(config)
    counted = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    assert counted == pytest.approx(millions, rel=0.015)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_model": "segformer-b9"}, "nearest: segformer-b"),
        ({"base_model": None}, "needs a base_model"),
        ({"context": -1}, "context is -1"),
        ({"stride": 0}, "stride is 0"),
        ({"upsample": 1.5}, "upsample is 1.5"),
        ({"slices_at_once": 0}, "slices_at_once is 0"),
        ({"out_channels": 0}, "out_channels is 0"),
        ({"axis": 3}, "expected 0, 1 or 2"),
        ({"config": {"hidden_size": [8]}}, "did you mean hidden_sizes"),
        ({"config": {"hidden_sizes": "wide"}}, "makes no segformer network"),
        ({"config": {"strides": [4, 2, 2]}}, "makes no segformer network"),
        (
            {"base_model": "dpt-base", "config": {**TINY["dpt-base"], "backbone_out_indices": [0, 1]}},
            "network that runs",
        ),
        ({"config": {"model_type": "segfromer"}}, "makes no segfromer network"),
        ({"deep_supervision": True}, "no auxiliary head"),
        (
            {"base_model": "upernet-convnext-tiny", "config": TINY["upernet-convnext-tiny"], "use_checkpoint": True},
            "leave use_checkpoint off",
        ),
    ],
)
def test_arguments_that_make_no_network_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SlicewiseNetwork(**{"base_model": "segformer-b0", "in_channels": 1, "out_channels": 3, **options})


def test_a_batch_that_the_network_cannot_take_is_refused() -> None:
    with pytest.raises(BundleError, match=r"shape \[1, 2, 32, 32, 3\], expected \[B, 1, X, Y, Z\]"):
        build()(image(1, 2, 32, 32, 3))
    with pytest.raises(BundleError, match=r"expected \[B, 1, X, Y, Z\]"):
        build()(image(1, 1, 32, 32))
    network = build("upernet-convnext-tiny").train()
    with pytest.raises(BundleError, match="--batch_size"):
        network(image(1, 1, 32, 32, 1))
    assert network(image(2, 1, 32, 32, 1)).shape == (2, 3, 32, 32, 1)


@families
def test_weights_that_were_published_have_a_name(family: str) -> None:
    name = published_weights(family)
    assert name is None if family == "dpt-base" else name and name.count("/") == 1


# Export


@families
def test_a_trace_gives_the_same_logits(family: str) -> None:
    network = build(family, context=1, slices_at_once=1 if family == "segformer-b0" else 16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a trace is of one size, which torch warns of at every look at a shape
        traced = torch.jit.trace(network, image(1, 1, 32, 64, 2), check_trace=False)  # it is checked here
    volume = image(1, 1, 32, 64, 2, seed=4)
    torch.testing.assert_close(run(traced, volume), run(network, volume), atol=1e-5, rtol=0)


@pytest.mark.slow
@families
def test_onnx_gives_the_same_logits(family: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    network = build(family, context=1)
    with warnings.catch_warnings(), torch.no_grad():  # with gradients, attention is another that does not export
        warnings.simplefilter("ignore")  # of the exporter
        torch.onnx.export(network, (image(1, 1, 32, 64, 2),), tmp_path / "n.onnx", dynamo=True, verbose=False)
    session = runtime.InferenceSession(tmp_path / "n.onnx", providers=["CPUExecutionProvider"])
    volume = image(1, 1, 32, 64, 2, seed=4)
    (logits,) = session.run(None, {session.get_inputs()[0].name: volume.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), run(network, volume), atol=1e-4, rtol=0)
