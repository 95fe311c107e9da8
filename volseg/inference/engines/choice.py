"""Which engine computes the logits: the one that was asked for, or the fastest in a short trial."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from volseg.errors import UsageError, VolsegError
from volseg.inference.engines.engine import Engine, difference, seconds_a_window, seconds_of_first
from volseg.inference.engines.openvino import OpenVinoEngine
from volseg.inference.engines.openvino_runtime import ENGINES, installed
from volseg.inference.engines.pytorch import CompiledEngine, TorchEngine

logger = logging.getLogger(__name__)

# OpenVINO needs some ten seconds to convert a network, so a trial is not worth it for less work than this.
WORTH_A_TRIAL_S = 30.0
# Compiling takes one to several minutes if nothing is cached from an earlier run.
WORTH_COMPILING_S = 1800.0
# Largest difference of logits that an engine may show, as a fraction of the largest logit: see `difference`.
_TOLERANCE = {"fp32": 1e-3, "bf16": 0.1}


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
    """The engine of the given name; `auto`, on a CPU, takes the one that is fastest in a short trial.

    OpenVINO takes part if it is installed. Compiling takes a minute or more, so it is tried only if the best of the
    others would need half an hour or more for the windows to come.

    Args:
        network: Network in evaluation mode, on `device`.
        name: `auto`, `torch`, `compiled` or `openvino`.
        window: Shape (C, X, Y, Z) of a window.
        device: Device of the network.
        precision: `auto`, `fp32` or `bf16`.
        windows: Number of windows to come, if known; a few are not worth a trial.
        exported: Network as `OpenVinoEngine.save` wrote it; it is not used if its logits differ.

    Raises:
        UsageError: There is no such engine, it does not run on this device, or it is not installed.
        VolsegError: The named engine cannot take the network, or computes something else.
    """
    if name not in ENGINES:
        raise UsageError(f"--engine must be one of {', '.join(ENGINES)}, got {name}")
    if name in ("compiled", "openvino"):
        if device.type != "cpu":
            raise UsageError(f"--device must be cpu with --engine {name}, got {device}; add --device cpu")
        if name == "compiled":
            return _compiled(network, window=window, precision=precision)
        return _converted(network, window=window, precision=precision, exported=exported)
    plain = _plain(network, window=window, device=device, precision=precision)
    if name == "torch" or device.type != "cpu":
        return plain
    rough = seconds_of_first(plain, window)  # at least what a window takes later
    if windows is not None and windows * rough < WORTH_A_TRIAL_S:
        logger.info("engine: torch %s (%d windows of %.2f s: no trial)", plain.precision, windows, rough)
        return plain
    seconds: dict[Engine, float] = {plain: seconds_a_window(plain, window, device=device)}
    if windows is not None and windows * seconds[plain] < WORTH_A_TRIAL_S:
        logger.info("engine: torch %s (%d windows of %.2f s: no trial)", plain.precision, windows, seconds[plain])
        return plain

    def try_out(make: Callable[[], Engine]) -> None:
        try:
            engine = make()
            seconds[engine] = seconds_a_window(engine, window, device=device)
        except VolsegError as error:
            logger.info("engine: %s", error)

    if installed():
        try_out(lambda: _converted(network, window=window, precision=precision, exported=exported))
    if windows is not None and windows * min(seconds.values()) >= WORTH_COMPILING_S:
        logger.info("engine: PyTorch compiles the network, which takes one to several minutes the first time")
        try_out(lambda: _compiled(network, window=window, precision=precision))
    best = min(seconds, key=lambda engine: seconds[engine])
    told = ", ".join(f"{engine.name} {engine.precision} {s:.2f} s" for engine, s in seconds.items())
    logger.info("engine: %s %s (a window: %s)", best.name, best.precision, told)
    return best


def _plain(network: nn.Module, *, window: Sequence[int], device: torch.device, precision: str) -> TorchEngine:
    """The engine of PyTorch; on a CPU `auto` means bfloat16 if that multiplies it and the logits stay close."""
    if device.type != "cpu" or precision != "auto":
        plain = TorchEngine(network, device=device, precision=precision)
        if device.type == "cpu" and plain.precision == "bf16" and not torch.cpu._is_avx512_bf16_supported():
            logger.warning("this CPU has no bfloat16: PyTorch imitates it, many times slower than --precision fp32")
        return plain
    exact = TorchEngine(network, device=device, precision="fp32")
    if not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return exact
    engine = TorchEngine(network, device=device, precision="bf16")
    apart, scale = difference(engine, exact, window=window)
    if apart <= _TOLERANCE["bf16"] * scale:
        return engine
    logger.info("PyTorch's logits in bf16 differ by %.3g where the largest is %.3g: fp32 is taken", apart, scale)
    return exact


def _compiled(network: nn.Module, *, window: Sequence[int], precision: str) -> CompiledEngine:
    """The compiled network, after a check that its logits on a random window are those of the network."""
    engine = CompiledEngine(network, window=window, precision=precision)
    apart, scale = difference(engine, network, window=window)
    if apart <= _TOLERANCE[engine.precision] * scale:
        return engine
    raise VolsegError(
        f"the compiled network's logits must be those of PyTorch, got {apart:.3g} apart where the largest is "
        f"{scale:.3g}; use --engine torch"
    )


def _converted(
    network: nn.Module, *, window: Sequence[int], precision: str, exported: Path | None = None
) -> OpenVinoEngine:
    """The OpenVINO engine, after a check that its logits on a random window are those of the network.

    With the precision `auto`, single precision is taken if the logits in bfloat16 differ by too much.
    """
    engine = OpenVinoEngine(network, window=window, precision=precision, exported=exported)
    apart, scale = difference(engine, network, window=window)
    if apart <= _TOLERANCE[engine.precision] * scale:
        return engine
    if precision == "auto" and engine.precision == "bf16":
        logger.info("OpenVINO's logits in bf16 differ by %.3g where the largest is %.3g: fp32 is taken", apart, scale)
        return _converted(network, window=window, precision="fp32", exported=exported)
    if exported is not None:
        logger.warning("%s is not of this network (logits differ by %.3g): converted anew", exported, apart)
        return _converted(network, window=window, precision=precision)
    raise VolsegError(
        f"OpenVINO's logits must be those of PyTorch, got {apart:.3g} apart where the largest is {scale:.3g}; use "
        "--engine torch"
    )
