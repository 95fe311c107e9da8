"""The protocol of an engine, which computes the logits of windows, and the comparison of two engines."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor


class Engine(Protocol):
    """A function from windows (B, C, X, Y, Z), float32, to logits (B, channels, X, Y, Z), float32, on the same device.

    Attributes:
        name: `torch`, `compiled` or `openvino`.
        precision: `fp32` or `bf16`: the one in use, not the one that was asked for.
        windows_at_once: Number of windows per call that is fastest on a CPU.
    """

    name: str
    precision: str

    @property
    def windows_at_once(self) -> int:
        """Number of windows per call that is fastest on a CPU."""
        ...

    def __call__(self, windows: Tensor) -> Tensor:
        """Compute the logits of windows."""
        ...


def difference(
    engine: Callable[[Tensor], Tensor], network: Callable[[Tensor], Tensor], *, window: Sequence[int], draws: int = 1
) -> tuple[float, float]:
    """Measure how far an engine's logits are from those of the eager network in fp32, on random windows.

    Args:
        engine: Engine that is measured.
        network: Network in evaluation mode, on the CPU, or another engine in fp32.
        window: Shape (C, X, Y, Z) of a window.
        draws: Number of windows of normal noise, from a fixed seed.

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


def seconds_of_first(engine: Engine, window: Sequence[int]) -> float:
    """Seconds of one pass of one window on the CPU, preparations of a first pass included."""
    drawn = torch.zeros(1, *window)
    start = time.perf_counter()
    with torch.inference_mode():
        engine(drawn)
    return time.perf_counter() - start


def seconds_a_window(engine: Engine, window: Sequence[int], *, device: torch.device) -> float:
    """Seconds per window: the shorter of two passes of as many windows as the engine takes at once, after a warm-up."""
    drawn = torch.zeros(1, *window, device=device)
    times = []
    with torch.inference_mode():
        engine(drawn)
        if device.type == "cpu" and engine.windows_at_once > 1:
            drawn = drawn.expand(engine.windows_at_once, *window).contiguous()
            engine(drawn)
        for _ in range(2):
            start = time.perf_counter()
            engine(drawn)
            times.append(time.perf_counter() - start)
    return min(times) / len(drawn)
