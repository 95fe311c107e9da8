"""How fast the machine multiplies matrices, to see whether others used it."""

from __future__ import annotations

import subprocess
import sys

MATRIX_PRODUCT = """
import sys, time, torch
a, b = (torch.randn(2048, 2048, device=sys.argv[1]) for _ in range(2))
seconds = []
for _ in range(11):
    began = time.perf_counter()
    (a @ b).sum().item()
    seconds.append(time.perf_counter() - began)
print(2 * 2048**3 / min(seconds[1:]) / 1e9)
"""


def gigaflops(device: str) -> float:
    """Speed of the machine: the fastest of ten products of 2048 x 2048 matrices of float32, by a process of its own."""
    words = [sys.executable, "-c", MATRIX_PRODUCT, device]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
