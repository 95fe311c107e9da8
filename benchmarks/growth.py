"""What `volseg convert`, `predict` and `evaluate` cost by the number of cases and by their size: time and memory.

    sh benchmarks/run.sh growth

Cubes of noise with three balls, as slices in the layout of UW-Madison; each command is a program of its own with one
worker. The network of `predict` has a few hundred weights, so that the program around it is measured. What a further
case or voxel costs is the difference to the line above over the difference in number: where the growth is linear, it
stays the same from line to line.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import measurement
from harness.measurement import CPU, PEAK, WALL, Measure, Values

HERE = Path(__file__).parent
SIDE = 16  # of the cubes, where their number grows
CASES = 4  # where their size grows
WINDOW = {True: 16, False: 64}  # voxels a side of the network's window: by number, by size
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
COMMANDS = ("convert", "predict", "evaluate")


def material(call: str, *words: str | Path) -> None:
    """Call a function of `material` in a process of its own: this one stays small."""
    code = "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); from harness import material as m; "
    code += f"m.{call}"
    measurement.run([sys.executable, "-c", code, HERE, *words])


def point(folder: Path, *, cases: int, side: int, window: int) -> dict[str, Values]:
    """The three commands on so many cubes of that size."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    material(f"write_small_scans(Path(sys.argv[2]), scans={cases}, side={side})", folder / "raw")
    bundle = folder.parent / f"bundle{window}"
    if not bundle.is_dir():
        material(f"write_tiny_bundle(Path(sys.argv[2]), side={window})", bundle)
    volseg, cohort, labels = Path(sys.executable).with_name("volseg"), folder / "cohort", folder / "predictions"
    network = ["--checkpoint", bundle / "model.pt", "--device", "cpu", "--engine", "torch", "--precision", "fp32"]
    words: dict[str, list[str | Path]] = {
        "convert": [volseg, "convert", "uw_madison", folder / "raw", cohort, "--workers", "1"],
        "predict": [volseg, "predict", bundle, cohort, "-o", labels, *network],
        "evaluate": [volseg, "evaluate", labels, cohort, "-o", folder / "report", "--no-html", "--workers", "1"],
    }
    found = {name: measurement.run(line, env=ONE_THREAD) for name, line in words.items()}
    shutil.rmtree(folder)
    return found


def series(
    folder: Path, sizes: Sequence[int], *, by_cases: bool, rounds: int
) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Command to line of its table to rounds; a line is so many cases, or cubes of that side."""
    found: dict[str, dict[str, list[dict[str, float]]]] = {name: {} for name in COMMANDS}
    for _ in range(rounds):
        before: dict[str, tuple[int, float]] = {}
        for size in sizes:
            cases, side = (size, SIDE) if by_cases else (CASES, size)
            got = point(folder / "point", cases=cases, side=side, window=WINDOW[by_cases])
            amount, unit = (cases, 1e3) if by_cases else (cases * side**3, 1e9)  # ms per case, ns per voxel
            for name, values in got.items():
                row = dict(values)
                if name in before:
                    fewer, seconds = before[name]
                    row["further"] = (values["cpu_s"] - seconds) / (amount - fewer) * unit
                before[name] = amount, values["cpu_s"]
                title = f"{cases:,} cases" if by_cases else f"{side} x {side} x {side}"
                found[name].setdefault(title, []).append(row)
                measurement.tell(f"{name}, {title}: {', '.join(f'{key} {value:.4g}' for key, value in row.items())}")
    return found


def tables(found: dict[str, dict[str, list[dict[str, float]]]], *, by_cases: bool) -> list[Any]:
    """One a command."""
    further = (
        Measure("further", "CPU of a further case", "ms", 1, compared=False)
        if by_cases
        else Measure("further", "CPU of a further voxel", "ns", 0, compared=False)
    )
    which = f"by number of cases ({SIDE} x {SIDE} x {SIDE})" if by_cases else f"by size ({CASES} cases)"
    return [
        measurement.table(f"volseg {name}, {which}", [WALL, CPU, further, PEAK], rows, way="")
        for name, rows in found.items()
    ]


def main() -> None:
    """Parse, measure, write."""
    parser = measurement.options("growth", __doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--cases", type=int, nargs="+", default=[10, 100, 1000, 10000])
    parser.add_argument("--sides", type=int, nargs="+", default=[32, 64, 96, 128, 192, 256])
    given = parser.parse_args()
    counts, sides = ([2, 10], [16, 32]) if given.quick else (given.cases, given.sides)
    machine, folder = measurement.machine(), given.output.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    rounds = 1 if given.quick else given.rounds
    made = tables(series(folder, counts, by_cases=True, rounds=rounds), by_cases=True)
    made += tables(series(folder, sides, by_cases=False, rounds=rounds), by_cases=False)
    shutil.rmtree(folder, ignore_errors=True)
    versions = measurement.versions("volseg", "numpy", "torch", "monai", "nibabel")
    notes = ["One worker and one thread. `evaluate` without `report.html`, which holds pictures of every case."]
    measurement.write(
        measurement.result("growth", made, quick=given.quick, machine=machine, versions=versions, notes=notes)
    )


if __name__ == "__main__":
    main()
