"""A training step on all cores: windows side by side or torch's own way; on CPUs with AMX in bfloat16 too.

    sh benchmarks/run.sh lanes

The networks of convolutions.py and the bundle segformer on noise: the pass forward and the one backward to all weights.
The ways alternate, some steps each, as in a training, where one follows another; the first two do not count, since
memory is being taken and caches are filled anew. They do so in processes that differ in what is settled before torch is
loaded: volseg's commands let idle cores sleep and keep one arena of glibc's for all threads; by themselves idle cores
spin, and a thread has an arena of its own.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import statistics
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from harness import measurement
from harness.measurement import Measure, Values

if TYPE_CHECKING:
    import torch

STEP = Measure("step_ms", "A step", "ms", 0)
WINDOWS = (2, 4)
SETTLING = 2  # steps at the start of a round that do not count
STEPS = 3  # of which it is the median
SETTLED = {"OMP_WAIT_POLICY": "passive", "MALLOC_ARENA_MAX": "1"}


def networks() -> dict[str, tuple[Callable[[], torch.nn.Module], tuple[int, int, int]]]:
    """The networks and their windows."""
    from convolutions import NETWORKS

    from volseg.networks import SlicewiseNetwork

    config = {"decoder_hidden_size": 64, "drop_path_rate": 0.0, "classifier_dropout_prob": 0.0}
    ours = partial(
        SlicewiseNetwork, "segformer-b0", in_channels=1, out_channels=2, config=config, context=1, upsample=2
    )
    return {**NETWORKS, "segformer": (ours, (32, 48, 36))}


class Way(NamedTuple):
    """How a step is computed, and which of SETTLED is."""

    lanes: bool
    bf16: bool
    settled: tuple[str, ...]


WAYS = {
    "side by side": Way(lanes=True, bf16=False, settled=tuple(SETTLED)),
    "side by side, an arena a thread": Way(lanes=True, bf16=False, settled=("OMP_WAIT_POLICY",)),
    "torch's own way": Way(lanes=False, bf16=False, settled=()),
    "side by side, bf16": Way(lanes=True, bf16=True, settled=tuple(SETTLED)),
    "torch's own way, bf16": Way(lanes=False, bf16=True, settled=()),
}


class Process:
    """A process that measures one step after another, with some of SETTLED in its environment."""

    def __init__(self, settled: Iterable[str]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        before = dict(os.environ)
        for name in SETTLED:
            os.environ.pop(name, None)
        os.environ.update({name: SETTLED[name] for name in settled})
        try:
            context.Process(target=serve, args=(theirs,), daemon=True).start()
        finally:
            os.environ.clear()
            os.environ.update(before)
        theirs.close()

    def step_ms(self, name: str, count: int, way: Way) -> Values:
        """The time of a step, the median of a few."""
        self.pipe.send((name, count, way))
        return {"step_ms": self.pipe.recv()}


def serve(pipe: multiprocessing.connection.Connection) -> None:
    """What the process does."""
    import torch

    from volseg.inference import ParallelWindows

    known = networks()
    made: dict[str, tuple[torch.nn.Module, ParallelWindows]] = {}

    def step(name: str, count: int, way: Way) -> float:
        make, window = known[name]
        if name not in made:
            torch.manual_seed(0)
            made.clear()
            made[name] = make().train(), ParallelWindows()
        network, lanes = made[name]
        inputs = torch.randn(count, 1, *window)
        began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=way.bf16):
            outputs = lanes(inputs, network) if way.lanes else network(inputs)
        outputs = outputs if isinstance(outputs, torch.Tensor) else torch.cat([one.flatten() for one in outputs])
        torch.autograd.grad(outputs.float().square().mean(), list(network.parameters()), allow_unused=True)
        return 1000 * (time.perf_counter() - began)

    while True:
        try:
            asked = pipe.recv()
        except EOFError:
            return
        for _ in range(SETTLING):
            step(*asked)
        pipe.send(statistics.median(step(*asked) for _ in range(STEPS)))


def main() -> None:
    """Parse, measure, write."""
    parser = measurement.options("lanes", __doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--networks", nargs="+")
    given = parser.parse_args()
    import torch

    known = networks()
    amx = torch.cpu._is_amx_tile_supported()  # elsewhere gradients may be wrong in bfloat16
    possible = {title: way for title, way in WAYS.items() if amx or not way.bf16}
    machine, rounds = measurement.machine(), 1 if given.quick else given.rounds
    names = given.networks or list(known)
    if unknown := [name for name in names if name not in known]:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(known)}")
    processes = {settled: Process(settled) for settled in {way.settled for way in possible.values()}}
    tables = []
    for count in WINDOWS[:1] if given.quick else WINDOWS:
        found: dict[str, list[Values]] = {}
        reference: dict[str, str] = {}
        for name in names[:1] if given.quick else names:
            ways = {
                f"{name}, {title}": partial(processes[way.settled].step_ms, name, count, way)
                for title, way in possible.items()
            }
            found |= measurement.paired(ways, rounds=rounds)[0]
            reference |= dict.fromkeys(ways, next(iter(ways)))
        title = f"A training step of {count} windows on all cores"
        tables.append(measurement.table(title, [STEP], found, way="", reference=reference))
    notes = [f"torch sees a CPU with {torch.backends.cpu.get_cpu_capability()}, {'with' if amx else 'without'} AMX."]
    versions = measurement.versions("volseg", "torch", "monai")
    measurement.write(
        measurement.result("lanes", tables, quick=given.quick, machine=machine, versions=versions, notes=notes)
    )


if __name__ == "__main__":
    main()
