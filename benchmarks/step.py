"""Processor time and memory of a training step: volseg in bfloat16 and single precision, MONAI's plain recipe.

    python benchmarks/step.py
    python benchmarks/step.py --rounds 3

One network (the bundle unet's without deep supervision), four windows of 32 x 48 x 40 that are noise: forward, loss,
backward, optimizer; no data are read or augmented. Each way is a process of its own with one thread; they run at the
same time, so that what else the machine does concerns all. The table has medians of the steps after the second, and
the most memory that the process held.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.measurement import tell

WAYS = {"monai": "MONAI plain recipe, fp32", "fp32": "volseg, fp32", "auto": "volseg, auto"}
STRIDES = [[1] * 3, *[[2] * 3] * 3]
WINDOW, WINDOWS, WARM = (32, 48, 40), 4, 2


def parts(way: str, network: Any) -> tuple[Callable[..., Any], Any, Any]:  # noqa: ANN401 - of torch
    """How the network is called, the loss and the optimizer."""
    import torch

    if way == "monai":
        from monai.losses import DiceCELoss

        return network, DiceCELoss(to_onehot_y=True, softmax=True), torch.optim.Adam(network.parameters(), 1e-3)
    from volseg.inference import MixedPrecision, ParallelWindows
    from volseg.labels import LabelTable
    from volseg.training import dice_ce, optimizer_groups

    inferer = MixedPrecision(ParallelWindows(), precision=way)
    optimizer = torch.optim.AdamW(optimizer_groups(network, lr=1e-3), lr=1e-3)
    return lambda windows: inferer(windows, network), dice_ce(LabelTable.exclusive(["a", "b"])), optimizer


def train(way: str, steps: int) -> None:
    """Print the milliseconds of each step, then the most memory held (MiB)."""
    if way != "monai":
        from volseg.cli.process import settle

        settle()  # as the command does, before PyTorch is loaded
    import torch
    from monai.networks.nets import DynUNet

    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = DynUNet(3, 1, 3, [[3] * 3] * 4, STRIDES, STRIDES[1:], filters=[16, 32, 64, 128]).train()
    windows, target = torch.randn(WINDOWS, 1, *WINDOW), torch.randint(0, 3, (WINDOWS, 1, *WINDOW))
    call, loss, optimizer = parts(way, network)
    spent = []
    for _ in range(steps + WARM):
        began = time.process_time()
        optimizer.zero_grad()
        loss(call(windows), target).backward()
        optimizer.step()
        spent.append(1000 * (time.process_time() - began))
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    tell(" ".join(f"{number:.1f}" for number in (*spent[WARM:], int(line.split()[1]) / 2**10)))


def main() -> None:
    """Parse, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        train(given.one, given.steps)
        return
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for _ in range(given.rounds):
        words = [sys.executable, __file__, "--steps", str(given.steps), "--one"]
        running = {way: subprocess.Popen([*words, way], stdout=subprocess.PIPE, text=True) for way in WAYS}
        for way, process in running.items():
            *spent, peak = map(float, process.communicate()[0].split()[-given.steps - 1 :])
            found[way].append((statistics.median(spent), peak))
    tell("| Way | A step (ms of processor time) | times volseg, auto | Peak memory (MiB) |\n| --- | --- | --- | --- |")
    for way, title in WAYS.items():
        ratios = [one / other for (one, _), (other, _) in zip(found[way], found["auto"], strict=True)]
        step, peak = (statistics.median(values) for values in zip(*found[way], strict=True))
        tell(f"| {title} | {step:.0f} | {statistics.median(ratios):.2f} | {peak:,.0f} |")


if __name__ == "__main__":
    main()
