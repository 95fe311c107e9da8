"""A training step of a network on one core, with torch's own 3D convolutions and with volseg's, and in bfloat16.

    sh benchmarks/run.sh convolutions

Networks as the bundles build them on a CPU for the hippocampus cohort, and that of zoo.py; windows are noise. A step is
the pass forward and the one backward to all weights, in processor time of one thread, a window; the ways alternate.
bfloat16 is left out where the CPU does not multiply it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from functools import partial

import torch
from harness import measurement
from harness.measurement import Measure, Values
from monai.networks.nets import UNETR, DynUNet, SwinUNETR, UNet
from torch import nn

from volseg.inference import Convolutions, runs_bf16
from volseg.networks import DenseUNet

STEP = Measure("step_ms", "A step, a window", "ms", 0)
FORWARD = Measure("forward_ms", "of it forward", "ms", 0, compared=False)
WINDOWS = (1, 2, 4)
STRIDES = [[1] * 3, *[[2] * 3] * 3]
OWN, HALF = ", torch's own", ", bfloat16"


def unet() -> nn.Module:
    """The bundle unet's."""
    kernels = [[3] * 3] * len(STRIDES)
    return DynUNet(3, 1, 3, kernels, STRIDES, STRIDES[1:], filters=[16, 32, 64, 128], deep_supervision=True)


LAYERS = [1, 2, 3, 4]
CHANNELS = (16, 32, 64, 128, 256)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "unet": (unet, (32, 48, 40)),
    "dense_unet": (
        partial(DenseUNet, 3, 1, 3, strides=STRIDES, growth_rate=8, block_layers=LAYERS, deep_supervision=1),
        (32, 48, 40),
    ),
    "unetr": (partial(UNETR, 1, 3, (32, 48, 32), 8, hidden_size=384, mlp_dim=1536, num_heads=6), (32, 48, 32)),
    "swinunetr": (partial(SwinUNETR, 1, 3, feature_size=12), (32, 64, 32)),
    "MONAI zoo": (partial(UNet, 3, 1, 3, CHANNELS, (2,) * 4, num_res_units=2, norm="batch"), (32, 48, 32)),
}


def step(network: nn.Module, inputs: torch.Tensor, *, own: bool = False, half: bool = False) -> Values:
    """One pass forward and backward."""
    parameters = list(network.parameters())
    began = time.process_time()
    with torch.autocast("cpu", torch.bfloat16, enabled=half), contextlib.nullcontext() if own else Convolutions():
        outputs = network(inputs)
    middle = time.process_time()
    outputs = outputs if isinstance(outputs, torch.Tensor) else torch.cat([one.flatten() for one in outputs])
    torch.autograd.grad(outputs.float().square().mean(), parameters, allow_unused=True)
    ended = time.process_time()
    return {
        "step_ms": 1000 * (ended - began) / len(inputs),
        "forward_ms": 1000 * (middle - began) / len(inputs),
    }


def main() -> None:
    """Parse, measure, write."""
    parser = measurement.options("convolutions", __doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--windows", nargs="+", type=int, default=WINDOWS)
    given = parser.parse_args()
    machine, rounds = measurement.machine(), 1 if given.quick else given.rounds
    torch.set_num_threads(1)
    found: dict[str, list[Values]] = {}
    reference: dict[str, str] = {}
    for name in given.networks[:1] if given.quick else given.networks:
        make, window = NETWORKS[name]
        torch.manual_seed(0)
        network = make().train()
        for count in given.windows:
            inputs = torch.randn(count, 1, *window)
            row = f"{name}, {count} window{'s' if count > 1 else ''}"
            ways = {row: partial(step, network, inputs), row + OWN: partial(step, network, inputs, own=True)}
            if runs_bf16(torch.device("cpu"), precision="auto", training=True):
                ways[row + HALF] = partial(step, network, inputs, half=True)
            for way in ways.values():
                way()  # the first one takes longer
            found |= measurement.paired(ways, rounds=rounds)[0]
            reference |= {other: row for other in ways if other != row}
    table = measurement.table("A training step on one core", [STEP, FORWARD], found, way="", reference=reference)
    notes = [f"torch sees a CPU with {torch.backends.cpu.get_cpu_capability()}."]
    versions = measurement.versions("volseg", "torch", "monai")
    measurement.write(
        measurement.result("convolutions", [table], quick=given.quick, machine=machine, versions=versions, notes=notes)
    )


if __name__ == "__main__":
    main()
