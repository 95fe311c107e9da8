"""`--weights`: a training starts from another one, from a package, or from nnU-Net, and says what it took."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_bundle
import torch
from monai.networks.nets import DynUNet
from safetensors.torch import save_file
from shipped_bundles import BUNDLES, NAMES, TINY
from torch import nn
from torch.optim.swa_utils import AveragedModel

from volseg.bundle import Recipe
from volseg.deploy.pack import pack
from volseg.errors import CheckpointError
from volseg.labels import LabelTable, prior_channels
from volseg.networks import DenseUNet
from volseg.training import is_trained_network, start_from
from volseg.training.nnunet_names import dynunet_tensors
from volseg.training.start import StartingWeights, read_weights

OTHERS = LabelTable.exclusive(["liver", "spleen"])  # three channels, as those of the tiny bundle
THREE = tiny_bundle.LABELS
NNUNET = os.environ.get("VOLSEG_NNUNET_PYTHON")


def network(channels: int = 3, *, seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"kernels": [[3, 3, 3]] * 2, "strides": [[1, 1, 1], [2, 2, 2]]}
    return DenseUNet(3, in_channels=1, out_channels=channels, growth_rate=2, block_layers=[1, 1], **sizes)


def write(path: Path, labels: LabelTable = THREE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tiny_bundle.write_checkpoint(path, labels)
    recipe = torch.load(path, weights_only=True)["recipe"]
    torch.save({"model": network(labels.channels, seed=7).state_dict(), "recipe": recipe}, path)
    return path


def equal(made: nn.Module, other: nn.Module) -> dict[str, bool]:
    own, theirs = made.state_dict(), other.state_dict()
    return {name: own[name].shape == theirs[name].shape and torch.equal(own[name], theirs[name]) for name in own}


def start(made: nn.Module, weights: str | Path | None, labels: LabelTable = THREE) -> nn.Module:
    return start_from(made, weights, labels=labels, channel_names=["MR"])


def test_all_is_taken_where_the_regions_are_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    write(tmp_path / "run" / "model.pt")
    made = start(network(), tmp_path / "run")
    assert all(equal(made, network(seed=7)).values())
    assert made.initialisation == f"weights of {tmp_path / 'run' / 'model.pt'}"
    assert "100.0 % of the weights" in caplog.text
    assert "anew" not in caplog.text


@pytest.mark.parametrize(("labels", "channels"), [(OTHERS, 3), (LabelTable.exclusive(list("abcd")), 5)])
def test_other_regions_renew_the_last_layers_alone(
    labels: LabelTable, channels: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where their number is the same: a head of large bowel is no start for a liver."""
    caplog.set_level(logging.INFO)
    write(tmp_path / "model.pt")
    before = network(channels, seed=3)
    made = start(network(channels, seed=3), tmp_path / "model.pt", labels)
    for name, is_same in equal(made, network(seed=7)).items():
        assert is_same == (not name.startswith("heads.")), name
        if name.startswith("heads."):
            assert torch.equal(made.state_dict()[name], before.state_dict()[name])
    assert "so the last layers start anew" in caplog.text


def test_a_package_and_files_of_tensors_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bundle = tiny_bundle.write_bundle(tmp_path / "tiny")
    pack(bundle, checkpoint=tiny_bundle.write_checkpoint(tmp_path / "x.pt"), output=tmp_path / "bundles" / "mine")
    torch.manual_seed(2)
    made = start(nn.Sequential(), None)
    assert not hasattr(made, "initialisation"), "nothing was asked for"
    expected = tiny_bundle.network()
    for weights in ("mine", "bundles/mine", "x.pt"):
        other = tiny_bundle.network()
        for value in other.parameters():
            value.data.zero_()
        assert all(equal(start(other, weights), expected).values()), weights
    state = {name: value.clone() for name, value in network(seed=7).state_dict().items()}
    save_file(state, tmp_path / "bare.safetensors")
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "wrapped.pt")
    # `torch.compile` around DistributedDataParallel, and torch's average of a network
    torch.save({f"_orig_mod.module.{name}": value for name, value in state.items()}, tmp_path / "compiled.pt")
    torch.save(AveragedModel(network(seed=7)).state_dict(), tmp_path / "averaged.pt")
    for file in ("bare.safetensors", "wrapped.pt", "compiled.pt", "averaged.pt"):
        same = equal(start(network(), file), network(seed=7))
        assert {name.partition(".")[0] for name, one in same.items() if not one} <= {"heads"}, "no labels are stated"


@pytest.mark.parametrize(
    ("name", "words"),
    [("absent", "there are no weights absent"), ("note.txt", "must end in .pt"), ("empty.pt", "holds no tensors")],
)
def test_what_is_no_file_of_weights_is_refused(
    name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("note.txt").touch()
    torch.save({"model": {}}, "empty.pt")
    with pytest.raises(CheckpointError, match=re.escape(words)):
        start(network(), name)


def test_weights_of_another_kind_of_network_are_refused(tmp_path: Path) -> None:
    torch.save({"model": {"conv.weight": torch.zeros(3, 3)}}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"nothing in .*other\.pt fits this DenseUNet: it holds conv\.weight"):
        start(network(), tmp_path / "other.pt")


def test_published_weights_are_left_to_the_network_that_knows_them(tmp_path: Path) -> None:
    assert not is_trained_network("nvidia/mit-b0")
    assert is_trained_network(write(tmp_path / "model.pt"))
    known = network()
    known.initialisation = "nvidia/mit-b0"  # type: ignore[assignment]
    assert start(known, "nvidia/mit-b0") is known
    assert start(known, "auto").initialisation == "nvidia/mit-b0"


def test_a_file_of_published_weights_is_told_from_one_of_a_training(tmp_path: Path) -> None:
    """Nothing of it fits by name, and the cure was to name weights of the same kind of network, as they are."""
    save_file({"segformer.encoder.block.0.weight": torch.zeros(3, 3)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "segformer"}')
    known = network()
    known.initialisation = "scratch"  # type: ignore[assignment]
    with pytest.raises(CheckpointError, match=f"name their folder, --weights {re.escape(str(tmp_path))}"):
        start(known, tmp_path / "model.safetensors")


@pytest.mark.parametrize("name", NAMES)
def test_each_bundle_hands_its_weights_on(name: str, tiny_cohort: Path, tmp_path: Path) -> None:
    import json

    content = json.loads((BUNDLES / name / "train.json").read_text())
    assert "weights" in content
    assert "@started" in content["network"]
    assert "@weights" in content["started"]
    shared = json.loads((BUNDLES / name / "multi_gpu_train.json").read_text())
    assert "@started" in shared["network"]
    assert name in TINY


# --- nnU-Net


def dynunet(kernels: list[list[int]] = [[3, 3, 3]] * 3) -> DynUNet:
    return DynUNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=3,
        kernel_size=kernels,
        strides=[[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        upsample_kernel_size=[[1, 2, 2], [2, 2, 2]],
        filters=[4, 8, 16],
        deep_supervision=True,
        deep_supr_num=1,
        trans_bias=True,
    )


def test_a_tensor_under_two_names_is_no_rest(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """DynUNet has most tensors under two names: none is left over by weights of the same network."""
    caplog.set_level(logging.INFO)
    state = dynunet().state_dict()
    assert len(state) > len({value.data_ptr() for value in state.values()})
    recipe = torch.load(write(tmp_path / "other.pt"), weights_only=True)["recipe"]
    torch.save({"model": state, "recipe": recipe}, tmp_path / "model.pt")
    start(dynunet(), tmp_path / "model.pt")
    assert "100.0 % of the weights" in caplog.text
    assert "of no use here" not in caplog.text
    torch.save({"model": {**state, "other.weight": torch.zeros(1)}, "recipe": recipe}, tmp_path / "model.pt")
    start(dynunet(), tmp_path / "model.pt")
    assert "1 of its tensors are of no use here, such as other.weight" in caplog.text


def nnunet_weights() -> dict[str, torch.Tensor]:
    """The names and shapes of PlainConvUNet of dynamic_network_architectures 0.4, written out by hand."""
    found: dict[str, torch.Tensor] = {}
    filters, kernels, strides = [4, 8, 16], [(3, 3, 3)] * 3, [(1, 1, 1), (1, 2, 2), (2, 2, 2)]

    def convolutions(prefix: str, into: int, out: int, kernel: tuple[int, ...]) -> None:
        for number, channels in enumerate((into, out)):
            for kind, shape in (("conv.weight", (out, channels, *kernel)), ("conv.bias", (out,))):
                found[f"{prefix}.convs.{number}.{kind}"] = torch.randn(shape)
            for kind in ("norm.weight", "norm.bias"):
                found[f"{prefix}.convs.{number}.{kind}"] = torch.randn(out)
            found[f"{prefix}.convs.{number}.all_modules.0.weight"] = found[f"{prefix}.convs.{number}.conv.weight"]

    for stage, out in enumerate(filters):
        convolutions(f"encoder.stages.{stage}.0", filters[stage - 1] if stage else 1, out, kernels[stage])
    for number, stage in enumerate((1, 0)):
        out, below = filters[stage], filters[stage + 1]
        found[f"decoder.transpconvs.{number}.weight"] = torch.randn(below, out, *strides[stage + 1])
        found[f"decoder.transpconvs.{number}.bias"] = torch.randn(out)
        convolutions(f"decoder.stages.{number}", 2 * out, out, kernels[stage])
        found[f"decoder.seg_layers.{number}.weight"] = torch.randn(3, out, 1, 1, 1)
        found[f"decoder.seg_layers.{number}.bias"] = torch.randn(3)
    return found


def start_all(made: nn.Module, weights: str | Path) -> nn.Module:
    """A network with all tensors of a file, those of its regions too."""
    source = read_weights(weights)
    state = {name: source.of_shape(name, value.shape) for name, value in made.state_dict().items()}
    made.load_state_dict({name: value for name, value in state.items() if value is not None}, strict=False)
    return made


def test_a_smaller_kernel_of_nnunet_gets_zeros_around_it(tmp_path: Path) -> None:
    kernel, wide = torch.randn(4, 2, 1, 3, 3), torch.Size([4, 2, 3, 3, 3])
    source = StartingWeights(tmp_path, {"a.weight": kernel, "transp_conv.weight": kernel}, widen=True)
    widened = source.of_shape("a.weight", wide)
    assert widened is not None
    image = torch.randn(1, 2, 5, 6, 7)
    narrow = torch.nn.functional.conv3d(image, kernel, padding=(0, 1, 1))
    assert torch.allclose(torch.nn.functional.conv3d(image, widened, padding=1), narrow, atol=1e-6)
    assert source.of_shape("transp_conv.weight", wide) is None, "a transposed kernel has no middle"
    for shape in ([4, 2, 2, 3, 3], [4, 2, 1, 1, 3], [4, 3, 3, 3, 3], [4, 2, 3, 3]):
        assert source.of_shape("a.weight", torch.Size(shape)) is None
    assert StartingWeights(tmp_path, {"a.weight": kernel}).of_shape("a.weight", wide) is None, "nnU-Net's alone"


def test_each_tensor_of_dynunet_has_its_place_in_nnunet(tmp_path: Path) -> None:
    weights = nnunet_weights()
    content = {
        "network_weights": weights,
        "init_args": {"plans": {}, "fold": 0},
        "_best_ema": np.float32(0.8),
        "logging": {"ema_fg_dice": [np.float64(0.8)]},
    }
    torch.save(content, tmp_path / "checkpoint_final.pth")
    made = dynunet()
    named = read_weights(tmp_path).tensors
    own = {name: value.shape for name, value in made.state_dict().items() if "skip_layers" not in name}
    assert {name: value.shape for name, value in named.items()} == own
    assert torch.equal(named["input_block.conv1.conv.weight"], weights["encoder.stages.0.0.convs.0.conv.weight"])
    assert torch.equal(named["bottleneck.norm2.bias"], weights["encoder.stages.2.0.convs.1.norm.bias"])
    assert torch.equal(named["output_block.conv.conv.bias"], weights["decoder.seg_layers.1.bias"])
    start(made, tmp_path, OTHERS)
    assert torch.equal(made.state_dict()["upsamples.0.transp_conv.conv.bias"], weights["decoder.transpconvs.0.bias"])


def test_other_architectures_of_nnunet_are_refused() -> None:
    residual = {"encoder.stages.0.blocks.0.conv1.conv.weight": torch.zeros(1)}
    three = nnunet_weights() | {"encoder.stages.0.0.convs.2.conv.weight": torch.zeros(1)}
    for weights in (residual, three, {}):
        with pytest.raises(CheckpointError, match="must be a plain U-Net of nnU-Net v2"):
            dynunet_tensors(weights, path=Path("checkpoint_final.pth"))


@pytest.mark.slow
@pytest.mark.skipif(NNUNET is None, reason="VOLSEG_NNUNET_PYTHON names no Python with nnunetv2")
@pytest.mark.parametrize("finest", [[3, 3, 3], [1, 3, 3]])
def test_the_logits_are_those_of_nnunets_own_network(finest: list[int], tmp_path: Path) -> None:
    """`VOLSEG_NNUNET_PYTHON=ENV/bin/python pytest tests/training/test_start.py`: its network builds, ours repeats.

    DynUNet gives a stage of the decoder the kernel of the next coarser one, so that of the finest is widened there.
    """
    script = textwrap.dedent(
        """
        import json
        import sys
        import torch
        from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
        torch.manual_seed(0)
        arguments = {
            "n_stages": 3, "features_per_stage": [4, 8, 16], "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [json.loads(sys.argv[3]), [3, 3, 3], [3, 3, 3]],
            "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
            "n_conv_per_stage": [2, 2, 2], "n_conv_per_stage_decoder": [2, 2], "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d", "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None, "dropout_op_kwargs": None, "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        }
        name = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
        network = get_network_from_plans(name, arguments, ["conv_op", "norm_op", "dropout_op", "nonlin"], 1, 3,
                                         allow_init=False, deep_supervision=True)
        for value in network.parameters():
            torch.nn.init.normal_(value, std=0.3)
        network.eval()
        image = torch.randn(1, 1, 8, 24, 32)
        with torch.no_grad():
            logits = network(image)[0]
        torch.save({"network_weights": network.state_dict()}, sys.argv[1])
        torch.save({"image": image, "logits": logits}, sys.argv[2])
        """
    )
    files = [str(tmp_path / name) for name in ("checkpoint_final.pth", "case.pt")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(
        [str(NNUNET), "-c", script, *files, json.dumps(finest)], check=True, env=environment, capture_output=True
    )
    case = torch.load(files[1], weights_only=True)
    made = start_all(dynunet([finest, [3, 3, 3], [3, 3, 3]]), files[0])
    with torch.no_grad():
        logits = made.eval()(case["image"])
    assert float((logits - case["logits"]).abs().max()) < 1e-4
    assert float(logits.abs().max()) > 1


@pytest.mark.parametrize("slices", [1, 3])
def test_a_network_with_a_prior_begins_as_the_one_without(
    slices: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    regions = list(THREE.names)
    names = ["MR", *prior_channels(["MR"], regions)]

    def of(channels: int, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv3d(channels * slices, 4, 3, padding=1), nn.Conv3d(4, 3, 1))

    write(tmp_path / "model.pt")
    recipe = torch.load(tmp_path / "model.pt", weights_only=True)["recipe"]
    source = of(1, 7)
    torch.save({"model": source.state_dict(), "recipe": recipe}, tmp_path / "model.pt")
    made = start_from(of(len(names), 1), tmp_path / "model.pt", labels=THREE, channel_names=names)
    image = torch.rand(1, slices, 6, 6, 6)
    with torch.no_grad():
        assert torch.allclose(
            made(torch.cat([image, torch.rand(1, slices * (len(names) - 1), 6, 6, 6)], 1)), source(image)
        )
    assert not made[0].weight[:, slices:].any()
    assert "taken only where it fits" not in caplog.text
    other = of(len(names), 1)
    start_from(other, tmp_path / "model.pt", labels=THREE, channel_names=["CT", *prior_channels(["CT"], regions)])
    assert other[0].weight[:, slices:].any(), "channels of another kind are no reason for zeros"


@pytest.mark.parametrize("context", [0, 1])
@pytest.mark.parametrize("prior", [False, True])
def test_image_channels_in_another_order_take_the_weights_of_their_names(
    context: int, prior: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The first layer was taken as it is, so that T1 was seen with the weights of FLAIR."""
    caplog.set_level(logging.INFO)
    slices = 2 * context + 1

    def of(channels: int, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        made = nn.Sequential(nn.Conv3d(channels * slices, 16, 3, padding=1), nn.Conv3d(16, THREE.channels, 1))
        made.context = context
        return made.eval()

    trained, now = ["T1w", "FLAIR"], ["flair", "T1"]
    source = of(2, 7)
    recipe = Recipe(THREE, trained, [1, 1, 1], [8, 8, 8], {})
    torch.save({"model": source.state_dict(), "recipe": recipe.state_dict()}, tmp_path / "model.pt")
    names = [*now, *prior_channels(now, list(THREE.names))] if prior else now
    made = start_from(of(len(names), 1), tmp_path / "model.pt", labels=THREE, channel_names=names)
    flair, t1 = torch.rand(2, 1, slices, 6, 6, 6)
    more = [torch.rand(1, slices * (len(names) - 2), 6, 6, 6)] if prior else []
    with torch.no_grad():
        found, expected = made(torch.cat([flair, t1, *more], 1)), source(torch.cat([t1, flair], 1))
    assert torch.allclose(found, expected, atol=1e-5)
    assert "taken only where it fits" not in caplog.text
    assert "are T1w, FLAIR and these are flair, T1: each takes the weights of its name" in caplog.text


TRAINED, CASE = os.environ.get("VOLSEG_NNUNET_TRAINING"), os.environ.get("VOLSEG_NNUNET_CASE")


@pytest.mark.slow
@pytest.mark.skipif(
    not (NNUNET and TRAINED and CASE), reason="VOLSEG_NNUNET_TRAINING and _CASE name no trained nnU-Net"
)
def test_a_trained_nnunet_gives_the_logits_of_its_own_predictor(tmp_path: Path) -> None:
    """Its predictor prepares a real case and runs its windows, without mirroring; the same network here repeats them.

    `VOLSEG_NNUNET_PYTHON=ENV/bin/python VOLSEG_NNUNET_TRAINING=RESULTS/Dataset…/…__nnUNetPlans__3d_fullres
    VOLSEG_NNUNET_CASE=CASE_0000.nii.gz`; the predictor adds windows up in half precision, so they are compared before.
    """
    script = textwrap.dedent(
        """
        import json
        import sys
        import torch
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
        from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
        folder, case, output = sys.argv[1:]
        plans = PlansManager(f"{folder}/plans.json")
        dataset = json.load(open(f"{folder}/dataset.json"))
        configuration = plans.get_configuration("3d_fullres")
        checkpoint = torch.load(f"{folder}/fold_0/checkpoint_final.pth", weights_only=False, map_location="cpu")
        labels = plans.get_label_manager(dataset)
        network = get_network_from_plans(
            configuration.network_arch_class_name, configuration.network_arch_init_kwargs,
            configuration.network_arch_init_kwargs_req_import, len(dataset["channel_names"]),
            labels.num_segmentation_heads, deep_supervision=False)
        predictor = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), perform_everything_on_device=False)
        predictor.manual_initialization(network, plans, configuration, [checkpoint["network_weights"]], dataset,
                                        "nnUNetTrainer", None)
        network.load_state_dict(checkpoint["network_weights"])
        network.eval()
        prepared = configuration.preprocessor_class(verbose=False).run_case(
            case.split(","), None, plans, configuration, dataset)[0]
        from acvl_utils.cropping_and_padding.padding import pad_nd_image
        image = pad_nd_image(torch.as_tensor(prepared), configuration.patch_size, "constant", {"value": 0}, False, None)
        windows = [image[place][None] for place in predictor._internal_get_sliding_window_slicers(image.shape[1:])]
        windows = windows[:: max(1, len(windows) // 4)][:4]
        with torch.no_grad():
            logits = [predictor._internal_maybe_mirror_and_predict(window) for window in windows]
        torch.save({"windows": windows, "logits": logits, "sizes": {
            name: configuration.network_arch_init_kwargs[name]
            for name in ("kernel_sizes", "strides", "features_per_stage")}}, output)
        """
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [str(TRAINED), str(CASE), str(tmp_path / "case.pt")]
    subprocess.run([str(NNUNET), "-c", script, *words], check=True, env=environment, capture_output=True)
    case = torch.load(tmp_path / "case.pt", weights_only=True)
    sizes, channels = case["sizes"], case["logits"][0].shape[1]
    made = DynUNet(
        spatial_dims=3,
        in_channels=case["windows"][0].shape[1],
        out_channels=channels,
        kernel_size=sizes["kernel_sizes"],
        strides=sizes["strides"],
        upsample_kernel_size=sizes["strides"][1:],
        filters=sizes["features_per_stage"],
        trans_bias=True,
    )
    made = start_all(made, f"{TRAINED}/fold_0").eval()
    for window, logits in zip(case["windows"], case["logits"], strict=True):
        with torch.no_grad():
            ours = made(window.float())
        assert float((ours - logits).abs().max()) < 1e-4
        assert float(logits.abs().max()) > 1
