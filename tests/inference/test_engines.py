"""Engines: the same logits whichever computes them, the faster one chosen, and what cannot be is said."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import tiny_bundle
import torch
from torch import Tensor, nn

from volseg.errors import UsageError, VolsegError
from volseg.inference import (
    CompiledEngine,
    Engine,
    OpenVinoEngine,
    Predictor,
    TorchEngine,
    check_training,
    choose,
    difference,
    find_inputs,
    installed,
    openvino_core,
    runs_bf16,
)
from volseg.inference.engines import choice
from volseg.volume import Volume, read_volume, write_volume

WINDOW = (1, *tiny_bundle.ROI)
CPU = torch.device("cpu")
needs_openvino = pytest.mark.skipif(not installed(), reason="openvino is absent")


class Slow(nn.Module):
    """A network that PyTorch waits for; a conversion leaves the wait out."""

    def forward(self, windows: Tensor) -> Tensor:
        time.sleep(0.2)
        return 2 * windows + 1


class Undecided(nn.Module):
    """What it computes depends on the image, which a conversion decides once for all images."""

    def forward(self, windows: Tensor) -> Tensor:
        return 2 * windows if windows.std() > 0.5 else -windows


class Cancelling(nn.Sequential):
    """The difference of large numbers, of which bfloat16 leaves little."""

    def __init__(self) -> None:
        super().__init__(nn.Conv3d(1, 2, 1, bias=False), nn.Conv3d(2, 1, 1, bias=False))
        with torch.no_grad():
            self[0].weight[:, 0] = torch.tensor([1000.0, 999.0]).view(2, 1, 1, 1)
            self[1].weight[0] = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)


class Foreign(nn.Module):
    """Leaves PyTorch on its way."""

    def forward(self, windows: Tensor) -> Tensor:
        return torch.linalg.eigvals(windows.mean((0, 1, 4))[:2, :2]).real.sum() * windows


def drawn(count: int = 3) -> Tensor:
    return torch.randn(count, *WINDOW, generator=torch.Generator().manual_seed(1))


@needs_openvino
def test_openvino_computes_what_the_network_does() -> None:
    network = tiny_bundle.network()
    engine = OpenVinoEngine(network, window=WINDOW, precision="fp32")
    with torch.inference_mode():
        expected = network(drawn())
        got = engine(drawn())
    assert got.dtype == torch.float32
    assert torch.allclose(got, expected, atol=1e-4)
    assert (engine.name, engine.precision) == ("openvino", "fp32")
    with pytest.raises(VolsegError, match=r"windows must be \(1, 32, 16, 16\) on the CPU"):
        engine(torch.zeros(1, 1, 16, 16, 16))


@needs_openvino
def test_openvino_tells_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its `convert_model` makes an id of the user in the home folder and reports to its makers."""
    monkeypatch.setenv("HOME", str(tmp_path))
    OpenVinoEngine(tiny_bundle.network(), window=WINDOW)
    assert not list(tmp_path.iterdir())


@needs_openvino
def test_bf16_is_claimed_only_where_the_cpu_has_it(caplog: pytest.LogCaptureFixture) -> None:
    engine = OpenVinoEngine(tiny_bundle.network(), window=WINDOW, precision="bf16")
    if "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert engine.precision == "bf16"
    else:
        assert engine.precision == "fp32"
        assert "no bfloat16" in caplog.text


@needs_openvino
@pytest.mark.skipif(sys.platform != "linux", reason="/proc/self/maps")
def test_engines_that_come_and_go_leave_signals_working() -> None:
    """OpenVINO freed the alternate signal stack of the thread: the next child that ended took the process with it."""
    script = """
import signal, subprocess, sys
import torch
from volseg.engines import OpenVinoEngine

def engine():
    return OpenVinoEngine(torch.nn.Conv3d(1, 2, 3).eval(), window=(1, 8, 8, 8), precision="fp32")

signal.signal(signal.SIGCHLD, lambda *_: None)  # as torch's DataLoader does
for _ in range(2):
    first, second = engine(), engine()
    del first
    third = engine()
    del second, third
for _ in range(3):
    subprocess.run([sys.executable, "-c", ""], check=True)
print("alive")
"""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "alive\n", f"{done.returncode}: {done.stderr}"


@pytest.mark.parametrize(("amx", "avx512"), [(True, True), (False, True), (False, False)])
def test_bf16_in_training_by_cpu_and_inferer(monkeypatch: pytest.MonkeyPatch, *, amx: bool, avx512: bool) -> None:
    """Its gradients held what stood in memory before: a training of Swin UNETR ended in inf, now and then."""
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    for careful in (False, True):
        for precision in ("auto", "fp32", "bf16"):
            refused = precision == "bf16" and not (amx or (avx512 and careful))
            with pytest.raises(UsageError, match="take --precision auto or fp32") if refused else nullcontext():
                check_training(CPU, precision=precision, careful=careful)
        assert runs_bf16(CPU, precision="auto", training=careful) == (amx or (avx512 and careful))


def test_pytorch_in_bf16_gives_float32() -> None:
    network = tiny_bundle.network()
    engine = TorchEngine(network, device=CPU, precision="bf16")
    apart, scale = difference(engine, network, window=WINDOW)
    assert engine(drawn(1)).dtype == torch.float32
    assert 0 < apart < 0.1 * scale


@pytest.mark.slow
def test_the_compiled_network_computes_what_the_network_does() -> None:
    """In fp32 to rounding, nine times in a process (PyTorch compiles a class eight times at most), and in bf16."""
    for number in range(9):
        network = tiny_bundle.network()
        with torch.no_grad():
            list(network.parameters())[-1].fill_(number)
        engine = CompiledEngine(network, window=WINDOW, precision="fp32")
        with torch.inference_mode():
            assert torch.allclose(engine(drawn()), network(drawn()), atol=1e-4)
    assert (engine.name, engine.precision) == ("compiled", "fp32")
    volume = torch.zeros(1, *(2 * n for n in WINDOW))
    view = volume[:, :1, : WINDOW[1], : WINDOW[2], 1 : 1 + WINDOW[3]]
    with torch.compiler.set_stance("fail_on_recompile"):  # whatever the tensor's kind and the mode
        for mode in (torch.no_grad, torch.inference_mode, torch.enable_grad):
            with mode():
                engine(view)
                engine(view.clone())
    with pytest.raises(VolsegError, match=r"windows must be \(1, 32, 16, 16\) on the CPU"):
        engine(torch.zeros(1, 1, 16, 16, 16))
    rough = choose(network, name="compiled", window=WINDOW, device=CPU, precision="bf16")
    apart, scale = difference(rough, network, window=WINDOW)
    assert 0 < apart < 0.1 * scale


def test_without_a_compiler_the_network_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(*_: object, **__: object) -> None:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: cannot)
    with pytest.raises(VolsegError, match=r"no C\+\+ compiler.*use --engine torch"):
        choose(tiny_bundle.network(), name="compiled", window=WINDOW, device=CPU)
    monkeypatch.setattr(choice, "installed", lambda: False)
    assert choose(Slow(), name="auto", window=WINDOW, device=CPU, windows=10**6).name == "torch"


def test_compiling_is_tried_where_much_is_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def compiled(network: nn.Module, **_: object) -> Engine:
        asked.append(network)
        engine = TorchEngine(nn.Identity(), device=CPU, precision="fp32")
        engine.name = "compiled"
        return engine

    monkeypatch.setattr(choice, "installed", lambda: False)
    monkeypatch.setattr(choice, "CompiledEngine", compiled)
    monkeypatch.setitem(choice._TOLERANCE, "fp32", np.inf)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # what sleeps could do so side by side
    for windows, name in ((1000, "torch"), (10_000, "compiled"), (None, "torch")):
        assert choose(Slow(), name="auto", window=WINDOW, device=CPU, windows=windows, precision="fp32").name == name
    assert len(asked) == 1


@needs_openvino
def test_a_saved_network_is_read_and_that_of_another_is_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    network, path = tiny_bundle.network(), tmp_path / "model.xml"
    OpenVinoEngine(network, window=WINDOW).save(path)
    same = OpenVinoEngine(network, window=WINDOW, precision="fp32", exported=path)
    assert difference(same, network, window=WINDOW)[0] < 1e-4
    with torch.no_grad():
        list(network.parameters())[-2].mul_(1.5)
    engine = choose(network, name="openvino", window=WINDOW, device=CPU, precision="fp32", exported=path)
    assert "not of this network" in caplog.text
    assert difference(engine, network, window=WINDOW)[0] < 1e-4


@needs_openvino
def test_the_faster_engine_is_chosen_and_named(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert choose(Slow(), name="auto", window=WINDOW, device=CPU).name == "openvino"
    assert "engine: openvino" in caplog.text
    assert choose(Slow(), name="torch", window=WINDOW, device=CPU).name == "torch"


@needs_openvino
def test_little_work_is_not_worth_a_trial(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert choose(Slow(), name="auto", window=WINDOW, device=CPU, windows=8).name == "torch"
    assert "no trial" in caplog.text


@needs_openvino
@pytest.mark.parametrize("network", [Undecided(), Foreign()])
def test_what_openvino_cannot_do_stays_with_pytorch(network: nn.Module) -> None:
    assert choose(network, name="auto", window=WINDOW, device=CPU).name == "torch"
    with pytest.raises(VolsegError, match="use --engine torch"):
        choose(network, name="openvino", window=WINDOW, device=CPU)


@needs_openvino
def test_where_bf16_is_too_rough_auto_takes_fp32(caplog: pytest.LogCaptureFixture) -> None:
    """UNETR's logits in bf16 were refused once, and with them OpenVINO, whose fp32 is right and twice as fast."""
    caplog.set_level(logging.INFO)
    network = Cancelling().eval()
    capable = OpenVinoEngine(network, window=WINDOW).precision == "bf16"
    for name in ("openvino", "auto"):
        engine = choose(network, name=name, window=WINDOW, device=CPU)
        assert engine.precision == "fp32" or engine.name == "torch"
    assert caplog.text.count("OpenVINO's logits in bf16") == 2 * capable
    if capable:
        with pytest.raises(VolsegError, match="logits must be those of PyTorch"):
            choose(network, name="openvino", window=WINDOW, device=CPU, precision="bf16")
    for wide, taken in ((Cancelling().eval(), "fp32"), (tiny_bundle.network(), "bf16")):
        engine = choose(wide, name="torch", window=WINDOW, device=CPU)
        assert engine.precision == (taken if torch.cpu._is_avx512_bf16_supported() else "fp32")


@pytest.mark.parametrize("capable", [True, False])
def test_pytorch_takes_bf16_by_itself_only_where_the_cpu_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, *, capable: bool
) -> None:
    """The rule does not ask how many windows come: workers and resumed runs choose alike."""
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: capable)
    monkeypatch.setattr(choice, "installed", lambda: False)
    for name, windows in (("torch", None), ("auto", 1), ("auto", 8)):
        engine = choose(tiny_bundle.network(), name=name, window=WINDOW, device=CPU, windows=windows)
        assert engine.precision == ("bf16" if capable else "fp32")
        exact = choose(tiny_bundle.network(), name=name, window=WINDOW, device=CPU, windows=windows, precision="fp32")
        assert exact.precision == "fp32"


def test_what_is_not_installed_or_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny_bundle.network()
    with pytest.raises(UsageError, match="--engine must be one of auto, torch, compiled, openvino, got tensorrt"):
        choose(network, name="tensorrt", window=WINDOW, device=CPU)
    for name in ("openvino", "compiled"):
        with pytest.raises(UsageError, match=f"must be cpu with --engine {name}"):
            choose(network, name=name, window=WINDOW, device=torch.device("cuda"))
    with pytest.raises(VolsegError, match="fp16"):
        choose(network, name="torch", window=WINDOW, device=CPU, precision="fp16")
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert choose(network, name="auto", window=WINDOW, device=CPU).name == "torch"
    with pytest.raises(UsageError, match=r"pip install 'volseg\[openvino\]'"):
        choose(network, name="openvino", window=WINDOW, device=CPU)


@needs_openvino
def test_predictions_of_both_engines_agree(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    voxels = (1000 + 100 * rng.normal(size=(40, 36, 20))).astype(np.uint16)
    write_volume(tmp_path / "images" / "a.nii.gz", Volume(voxels, np.diag([-2.0, -2.0, 3.0, 1.0])))
    bundle = tiny_bundle.write_bundle(tmp_path / "tiny")
    checkpoint = tiny_bundle.write_checkpoint(tmp_path / "model.pt")
    predictor = Predictor.from_bundle(bundle, checkpoint=checkpoint, device="cpu", overrides={"precision": "fp32"})
    label_maps = []
    for name in ("torch", "openvino"):
        engine = predictor.with_engine(name)
        assert engine.engine.name == name
        assert not engine.predict_to(find_inputs(tmp_path / "images"), tmp_path / name)
        label_maps.append(read_volume(tmp_path / name / "a.nii.gz").voxels)
    assert len(np.unique(label_maps[0])) > 1
    assert np.mean(label_maps[0] == label_maps[1]) > 0.9999
