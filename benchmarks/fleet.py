"""What the fleet itself costs: many cases whose work is a file of a few bytes; time a case, journal, memory, resuming.

    sh benchmarks/run.sh fleet

The work writes its file without fsync, so that the fleet is measured and not the disk.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import measurement
from harness.measurement import Measure

from volseg.jobs import Do, Facts, History, Job, Journal, Processes, Serial, WorkerPool, WorkerSlot, run_jobs

MEASURES = [
    Measure("case_ms", "A case", "ms", 3),
    Measure("journal_bytes", "Journal a case", "bytes", 0),
    Measure("resumed_s", "Run again, all done", "s", 2),
    Measure("early_mib", "Memory after a tenth", "MiB", 0),
    Measure("late_mib", "at the end", "MiB", 0),
    Measure("resumed_mib", "after the second run", "MiB", 0),
]


@dataclass(frozen=True)
class Nothing:
    """Work that takes no time; its facts are as long as a prediction's of three regions."""

    digest: str = "0123456789abcdef"

    def start(self, place: WorkerSlot) -> Do:  # noqa: ARG002 - nothing to load
        """Nothing to load."""
        return _write


def _write(job: Job) -> Facts:
    job.outputs[0].write_bytes(b"label map")
    uncertainty = {"large_bowel": 0.912345678, "small_bowel": 0.812345678, "stomach": 0.712345678}
    return {"uncertainty": uncertainty, "engine": "torch fp32", "device": "cpu Some Processor @ 3.00GHz"}


def resident_mb() -> float:
    """Memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def measure(folder: Path, cases: int, workers: int) -> dict[str, float]:
    """One run, and one that finds everything done."""
    image = folder / "image"
    image.write_bytes(b"image")
    (folder / "out").mkdir()
    memory: list[float] = []

    def jobs() -> Iterator[Job]:
        for number in range(cases):
            yield Job(f"case{number:06d}", (image,), (folder / "out" / f"case{number:06d}.nii.gz",))

    def watch(done: int) -> None:
        if done % max(1, cases // 10) == 0:
            memory.append(round(resident_mb(), 1))

    seconds: list[float] = []
    ends: list[float] = []
    path = folder / "journal.jsonl"
    for _ in range(2):
        began = time.perf_counter()
        with Journal(path) as journal:
            pool: WorkerPool = Serial() if workers == 1 else Processes(workers)
            run_jobs(Nothing(), jobs(), pool=pool, journal=journal, history=History([path]), progress=watch)
        seconds.append(time.perf_counter() - began)
        ends.append(resident_mb())
    return {
        "case_ms": 1000 * seconds[0] / cases,
        "journal_bytes": path.stat().st_size / cases,
        "resumed_s": seconds[1],
        "early_mib": memory[0],
        "late_mib": ends[0],
        "resumed_mib": ends[1],
    }


def main() -> None:
    """Parse, measure, write."""
    parser = measurement.options("fleet", __doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1])
    given = parser.parse_args()
    cases, machine = 500 if given.quick else given.cases, measurement.machine()
    given.output.mkdir(parents=True, exist_ok=True)
    found = {}
    for workers in given.workers:
        with tempfile.TemporaryDirectory(dir=given.output) as folder:
            found[f"{workers} worker{'s' if workers > 1 else ''}"] = [measure(Path(folder), cases, workers)]
    table = measurement.table(f"{cases:,} cases", MEASURES, found, way="")
    versions = measurement.versions("volseg")
    measurement.write(measurement.result("fleet", [table], quick=given.quick, machine=machine, versions=versions))


if __name__ == "__main__":
    main()
