"""Work that needs no network: it copies a file, and fails, dies or waits where its key says so."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from volseg.errors import VolsegError
from volseg.files import atomic
from volseg.jobs import Do, Facts, History, Job, Journal, WorkerPool, WorkerSlot, run_jobs
from volseg.jobs.journal import siblings
from volseg.jobs.run import RunResult


@dataclass(frozen=True)
class Stub:
    """Each output is the input in capitals; `calls` gets a byte an attempt, under the case's key."""

    calls: Path
    digest: str = "stub"
    seconds: float = 0.0

    def start(self, place: WorkerSlot) -> Do:
        """Nothing to load, but it may fail."""
        if self.digest == "cannot start":
            raise VolsegError("there is no checkpoint")
        if self.digest == "dies at start":
            os.kill(os.getpid(), signal.SIGKILL)
        return self._do

    def _do(self, job: Job) -> Facts:
        with (self.calls / job.key).open("ab") as file:
            file.write(b"x")
        attempt = (self.calls / job.key).stat().st_size
        first = attempt == 1
        time.sleep(self.seconds)
        if "bad" in job.key or (("flaky" in job.key or "unlucky" in job.key) and first):
            raise VolsegError("the image is no image")
        if "full" in job.key:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(job.outputs[0]))
        deaths = ("mortal" in job.key and first) or ("unlucky" in job.key and attempt == 2)
        if "deadly" in job.key or deaths:
            job.outputs[0].with_name(f".partial-abcd1234-{job.outputs[0].name}").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
        text = job.inputs[0].read_text().upper()
        for path in job.outputs:
            with atomic(path) as partial:
                partial.write_text(text)
        return {"letters": len(text)}


def jobs_in(place: Path, keys: Iterable[str]) -> list[Job]:
    """Jobs with a small input each, written where absent."""
    (place / "in").mkdir(parents=True, exist_ok=True)
    (place / "calls").mkdir(exist_ok=True)
    jobs = []
    for key in keys:
        path = place / "in" / key
        if not path.exists():
            path.write_text(f"text of {key}")
        jobs.append(Job(key, (path,), (place / "out" / key,)))
    return jobs


def do_jobs(
    place: Path, jobs: Iterable[Job], pool: WorkerPool, *, digest: str = "stub", seconds: float = 0.0
) -> RunResult:
    """A run with the stub."""
    path = place / "out" / ".volseg" / "stub.jsonl"
    with Journal(path) as journal:
        work = Stub(place / "calls", digest, seconds)
        return run_jobs(work, jobs, pool=pool, journal=journal, history=History(siblings(path)))


if __name__ == "__main__":  # a run to be killed: PLACE CASES WORKERS SECONDS
    from volseg.jobs import Processes, Serial

    root, cases, workers = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    hands: WorkerPool = Processes(workers) if workers > 1 else Serial()
    do_jobs(root, jobs_in(root, (f"case{n:03d}" for n in range(cases))), hands, seconds=float(sys.argv[4]))
