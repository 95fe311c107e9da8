"""How long a command takes before it does anything: `volseg --help` and others, beside Python alone and the peers.

    sh benchmarks/run.sh startup

The files are in memory after the first round, which is not counted. What may be imported is a test's affair
(tests/cli/test_startup.py); here is what it costs.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from harness import measurement
from harness.measurement import CPU, PEAK, WALL, Values

HERE = Path(sys.executable).parent


def ways() -> dict[str, Callable[[], Values]]:
    """The programs."""
    own: dict[str, list[str | Path]] = {
        "volseg --help": [HERE / "volseg", "--help"],
        "volseg train --help": [HERE / "volseg", "train", "--help"],
        "python -c pass": [sys.executable, "-c", "pass"],
        "python -c 'import volseg'": [sys.executable, "-c", "import volseg"],
        "python -c 'import volseg.cohort'": [sys.executable, "-c", "import volseg.cohort"],
        "python -c 'import volseg.metrics.surface'": [sys.executable, "-c", "import volseg.metrics.surface"],
        "python -c 'import volseg.inference'": [sys.executable, "-c", "import volseg.inference"],
        "python -c 'import torch'": [sys.executable, "-c", "import torch"],
        "python -c 'import monai'": [sys.executable, "-c", "import monai"],
        "python -m monai.bundle --help": [sys.executable, "-m", "monai.bundle", "--", "--help"],
    }

    def timed(words: list[str | Path]) -> Callable[[], Values]:
        return lambda: measurement.run(words)

    def nnunet() -> Values:
        return measurement.run([measurement.peer("nnunet").with_name("nnUNetv2_train"), "--help"])

    return {**{name: timed(words) for name, words in own.items()}, "nnUNetv2_train --help": nnunet}


def slowest_imports(count: int = 8) -> str:
    """The modules that cost `volseg --help` most by themselves, by `python -X importtime`."""
    words = [sys.executable, "-X", "importtime", "-c", "import volseg.cli"]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stderr.splitlines()[1:]
    own: dict[str, int] = {}
    for line in lines:
        alone, _, name = line.removeprefix("import time:").split("|")
        package = name.strip().split(".")[0]
        own[package] = own.get(package, 0) + int(alone)
    first = sorted(own.items(), key=lambda item: -item[1])[:count]
    return ", ".join(f"{name} {microseconds / 1000:.0f} ms" for name, microseconds in first)


def main() -> None:
    """Parse, measure, write."""
    parser = measurement.options("startup", __doc__)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    machine, all_ways = measurement.machine(), ways()
    if given.quick:
        all_ways = {name: all_ways[name] for name in ("volseg --help", "python -c pass")}
    for way in all_ways.values():  # once, so that files and byte code are there
        try:
            way()
        except measurement.LeftOut:
            continue
    found, left_out = measurement.paired(all_ways, rounds=1 if given.quick else given.rounds)
    table = measurement.table(
        "From the command to its end",
        [WALL, CPU, replace(PEAK, compared=False)],
        found,
        way="Program",
        reference="volseg --help",
        left_out=left_out,
    )
    notes = [f"Of `volseg --help`, by package: {slowest_imports()}."]
    versions = measurement.versions("volseg", "typer", "click", "rich", "numpy", "torch", "monai")
    if not left_out and not given.quick:
        versions |= measurement.versions("nnunetv2", python=measurement.peer("nnunet"))
    measurement.write(
        measurement.result("startup", [table], quick=given.quick, machine=machine, versions=versions, notes=notes)
    )


if __name__ == "__main__":
    main()
