"""Seconds of processor time per window of several ways to compute a network, in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 5
_WINDOWS = 8


def window_seconds(
    ways: Mapping[str, Callable[[NDArray[np.float32]], Any]], windows: Sequence[NDArray[np.float32]]
) -> dict[str, float]:
    """Seconds of processor time per window by way: the median of several rounds, each of all ways in turn.

    Args:
        ways: Functions of windows (n, C, X, Y, Z), by name.
        windows: Windows (1, C, X, Y, Z), of which the first few are taken.
    """
    taken = windows[:_WINDOWS]
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way(taken[0])
    for _ in range(_ROUNDS):
        for name, way in ways.items():
            start = time.process_time()
            for window in taken:
                way(window)
            seconds[name].append((time.process_time() - start) / len(taken))
    return {name: statistics.median(found) for name, found in seconds.items()}
