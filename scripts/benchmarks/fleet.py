"""What the fleet itself costs: many cases whose work is a file of a few bytes; time a case, journal, memory, resuming.

    python scripts/benchmarks/fleet.py [--cases 100000] [--workers 1] [--folder DIR]

Prints one JSON object. The work writes its file without fsync, so that the fleet is measured and not the disk.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from volseg.fleet.crew import Crew, Serial
from volseg.fleet.job import Do, Facts, Job, Place
from volseg.fleet.journal import History, Journal
from volseg.fleet.processes import Processes
from volseg.fleet.run import run_jobs


@dataclass(frozen=True)
class Nothing:
    """Work that takes no time; its facts are as long as a prediction's of three regions."""

    digest: str = "0123456789abcdef"

    def start(self, place: Place) -> Do:  # noqa: ARG002 - nothing to load
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


def measure(folder: Path, cases: int, workers: int) -> dict[str, object]:
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

    seconds = []
    path = folder / "journal.jsonl"
    for _ in range(2):
        began = time.perf_counter()
        with Journal(path) as journal:
            crew: Crew = Serial() if workers == 1 else Processes(workers)
            tally = run_jobs(Nothing(), jobs(), crew=crew, journal=journal, history=History([path]), progress=watch)
        seconds.append(time.perf_counter() - began)
    return {
        "cases": cases,
        "workers": workers,
        "overhead_ms_per_case": round(1000 * seconds[0] / cases, 4),
        "journal_bytes_per_case": round(path.stat().st_size / cases, 1),
        "resident_mb_at_each_tenth": memory,
        "resumed_s": round(seconds[1], 2),
        "resumed_done_before": tally.before,
        "resident_mb_after_resuming": round(resident_mb(), 1),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        json.dump(measure(Path(folder), given.cases, given.workers), sys.stdout, indent=1)
        sys.stdout.write("\n")


if __name__ == "__main__":
    main()
