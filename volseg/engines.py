"""What turns windows into logits: PyTorch on any device, or OpenVINO on a CPU."""

from __future__ import annotations

import functools
import importlib.util
import logging
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from volseg.errors import UsageError, VolsegError

logger = logging.getLogger(__name__)

EXPORTED = Path("models", "model.xml")  # the network for OpenVINO, in a packed bundle
ENGINES = ("auto", "torch", "openvino")
# OpenVINO needs some ten seconds to convert a network, so less work than this is not worth a trial.
WORTH_A_TRIAL_S = 30.0
# Largest difference of logits that an engine may show, as a share of the largest logit: see `difference`.
_TOLERANCE = {"fp32": 1e-3, "bf16": 0.1}


class Engine(Protocol):
    """Logits (B, channels, X, Y, Z), float32, of windows (B, C, X, Y, Z), float32, on the same device.

    Attributes:
        name: `torch` or `openvino`.
        precision: `fp32` or `bf16`, as it is, not as it was asked for.
    """

    name: str
    precision: str

    def __call__(self, windows: Tensor) -> Tensor:
        """Logits of windows."""
        ...


def check_precision(precision: str) -> None:
    """Refuse what is neither auto, fp32 nor bf16.

    Raises:
        VolsegError: it is none of them.
    """
    if precision not in ("auto", "fp32", "bf16"):
        raise VolsegError(f"precision {precision!r} was asked for, expected auto, fp32 or bf16")


def runs_bf16(device: torch.device, *, precision: str) -> bool:
    """Whether PyTorch runs in bfloat16; `auto`: where the device multiplies it in hardware (CUDA 8.0, CPUs with AMX).

    >>> runs_bf16(torch.device("cpu"), precision="bf16")
    True
    """
    check_precision(precision)
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and torch.cpu._is_amx_tile_supported()


class TorchEngine:
    """The network itself, under bfloat16 autocast where asked.

    Args:
        network: in evaluation mode, on `device`.
        device: where it runs.
        precision: auto, fp32 or bf16.

    >>> engine = TorchEngine(nn.Conv3d(1, 2, 1), device=torch.device("cpu"), precision="bf16")
    >>> engine(torch.ones(1, 1, 4, 4, 4)).dtype
    torch.float32
    """

    name = "torch"

    def __init__(self, network: nn.Module, *, device: torch.device, precision: str = "auto") -> None:
        self.network = network
        self.precision = "bf16" if runs_bf16(device, precision=precision) else "fp32"

    def __call__(self, windows: Tensor) -> Tensor:
        """Logits of windows."""
        with torch.autocast(windows.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            logits: Tensor = self.network(windows)
        return logits.float()


class OpenVinoEngine:
    """The network converted by OpenVINO, compiled for the CPU and for one window size.

    Nothing is sent to anyone: OpenVINO's own `convert_model` reports its use to its makers, so it is not called.

    Args:
        network: in evaluation mode, on the CPU.
        window: (C, X, Y, Z); windows of other sizes are refused.
        precision: auto takes bf16 where the CPU computes it. OpenVINO answers bf16 with fp32 elsewhere.
        exported: an `.xml` that `save` wrote, instead of the conversion.

    Raises:
        UsageError: openvino is not installed.
        VolsegError: a network that it cannot convert.
    """

    name = "openvino"

    def __init__(
        self, network: nn.Module, *, window: Sequence[int], precision: str = "auto", exported: Path | None = None
    ) -> None:
        if not installed():
            raise UsageError(
                "--engine openvino needs the package: pip install 'volseg[openvino]', or use --engine torch"
            )
        check_precision(precision)
        core = openvino_core()
        self._window = tuple(window)
        self._model = core.read_model(exported) if exported else _converted(network, self._window)
        if precision == "auto":
            capable = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
            precision = "bf16" if capable else "fp32"
        self._compiled = core.compile_model(
            self._model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
                "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            },
        )
        got = self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        self.precision = "bf16" if got == "bf16" else "fp32"
        if self.precision != precision:
            logger.warning("this CPU has no bfloat16, so OpenVINO computes in fp32")

    def __call__(self, windows: Tensor) -> Tensor:
        """Logits of windows, one after the other: on a CPU a batch is not faster."""
        if windows.device.type != "cpu" or tuple(windows.shape[1:]) != self._window:
            raise VolsegError(
                f"windows of {tuple(windows.shape[1:])} on {windows.device} were given, "
                f"OpenVINO was compiled for {self._window} on the CPU; use --engine torch"
            )
        parts = [self._compiled(window[None].numpy())[0] for window in windows.contiguous()]
        return torch.cat([torch.from_numpy(part) for part in parts])

    def save(self, path: Path) -> None:
        """Write the converted network in single precision: `path`, an `.xml`, and the `.bin` beside it."""
        import openvino

        self._model.set_friendly_name(path.stem)  # its own one counts the models of the process
        openvino.save_model(self._model, path, compress_to_fp16=False)


@functools.cache
def openvino_core() -> Any:  # noqa: ANN401 - openvino.Core
    """OpenVINO's `Core`, one for the life of the process.

    Its CPU plugin gives the thread an alternate signal stack and frees that when the last `Core` ends. With a second
    `Core` made in between, the thread is left with a stack that is gone, and the next signal whose handler wants one
    (SIGCHLD after a DataLoader with workers) ends the process with a segmentation fault.
    """
    import openvino

    return openvino.Core()


def installed() -> bool:
    """Whether OpenVINO can be imported."""
    return importlib.util.find_spec("openvino") is not None


def _converted(network: nn.Module, window: tuple[int, ...]) -> Any:  # noqa: ANN401 - openvino.Model
    """The network as an OpenVINO model with one input of static shape (1, C, X, Y, Z)."""
    from openvino import PartialShape, Type
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    shape = (1, *window)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the trace, about branches that a fixed window decides
            decoder = TorchScriptPythonDecoder(network, example_input=(torch.zeros(shape),))
        frontend = FrontEndManager().load_by_framework("pytorch")
        loaded = frontend.load(decoder)
        place = loaded.get_inputs()[0]
        loaded.set_partial_shape(place, PartialShape(shape))
        loaded.set_element_type(place, Type.f32)
        return frontend.convert(loaded)
    except Exception as error:  # of many kinds, all meaning that this network cannot be converted
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise VolsegError(f"OpenVINO cannot convert this network ({reason}); use --engine torch") from error


def difference(
    engine: Callable[[Tensor], Tensor], network: nn.Module, *, window: Sequence[int], draws: int = 1
) -> tuple[float, float]:
    """How far an engine's logits are from the eager network's in fp32, on random windows.

    Args:
        engine: the one in question.
        network: in evaluation mode, on the CPU.
        window: (C, X, Y, Z).
        draws: windows of normal noise, from a fixed seed.

    Returns:
        The largest absolute difference, and the largest absolute logit.
    """
    generator = torch.Generator().manual_seed(0)
    apart = scale = 0.0
    with torch.inference_mode():
        for _ in range(draws):
            drawn = torch.randn(1, *window, generator=generator)
            expected = network(drawn)
            apart = max(apart, float((engine(drawn) - expected).abs().max()))
            scale = max(scale, float(expected.abs().max()))
    return apart, scale


def choose(
    network: nn.Module,
    *,
    name: str,
    window: Sequence[int],
    device: torch.device,
    precision: str = "auto",
    windows: int | None = None,
    exported: Path | None = None,
) -> Engine:
    """The engine of that name; `auto` is OpenVINO where it is installed, on the CPU, and faster in a short trial.

    Args:
        network: in evaluation mode, on `device`.
        name: auto, torch or openvino.
        window: (C, X, Y, Z).
        device: where the network is.
        precision: auto, fp32 or bf16.
        windows: how many are to come, if known; few are not worth a trial.
        exported: the network as `OpenVinoEngine.save` wrote it; not used where its logits differ.

    Raises:
        UsageError: no such engine, or not on this device, or not installed.
        VolsegError: OpenVINO was asked for and cannot convert the network or computes something else.
    """
    if name not in ENGINES:
        raise UsageError(f"--engine {name} was asked for, expected {', '.join(ENGINES)}")
    if name == "openvino":
        if device.type != "cpu":
            raise UsageError(f"--engine openvino runs on the CPU, not on {device}; add --device cpu")
        return _checked(network, window=window, precision=precision, exported=exported)
    plain = TorchEngine(network, device=device, precision=precision)
    if device.type == "cpu" and plain.precision == "bf16" and not torch.cpu._is_avx512_bf16_supported():
        logger.warning("this CPU has no bfloat16: PyTorch imitates it, many times slower than --precision fp32")
    if name == "torch" or device.type != "cpu":
        return plain
    if not installed():
        logger.info("engine: torch %s (openvino is not installed)", plain.precision)
        return plain
    a_window_s = _seconds(plain, window, device=device)
    if windows is not None and windows * a_window_s < WORTH_A_TRIAL_S:
        logger.info("engine: torch %s (%d windows of %.2f s: no trial)", plain.precision, windows, a_window_s)
        return plain
    try:
        other = _checked(network, window=window, precision=precision, exported=exported)
    except VolsegError as error:
        logger.info("engine: torch %s (%s)", plain.precision, error)
        return plain
    other_s = _seconds(other, window, device=device)
    told = [f"torch {plain.precision} {a_window_s:.2f} s", f"openvino {other.precision} {other_s:.2f} s"]
    best: Engine = other if other_s < a_window_s else plain
    logger.info("engine: %s %s (a window: %s)", best.name, best.precision, ", ".join(told))
    return best


def _checked(
    network: nn.Module, *, window: Sequence[int], precision: str, exported: Path | None = None
) -> OpenVinoEngine:
    """OpenVINO, once its logits on a random window are those of the network."""
    engine = OpenVinoEngine(network, window=window, precision=precision, exported=exported)
    apart, scale = difference(engine, network, window=window)
    if apart <= _TOLERANCE[engine.precision] * scale:
        return engine
    if exported is not None:
        logger.warning("%s is not of this network (logits differ by %.3g): converted anew", exported, apart)
        return _checked(network, window=window, precision=precision)
    raise VolsegError(
        f"OpenVINO's logits differ from PyTorch's by {apart:.3g} where the largest is {scale:.3g}; use --engine torch"
    )


def _seconds(engine: Engine, window: Sequence[int], *, device: torch.device) -> float:
    """The shorter of two passes over one window, after one to warm up."""
    drawn = torch.zeros(1, *window, device=device)
    times = []
    with torch.inference_mode():
        for _ in range(3):
            start = time.perf_counter()
            engine(drawn)
            times.append(time.perf_counter() - start)
    return min(times[1:])
