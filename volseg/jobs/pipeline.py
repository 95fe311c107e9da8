"""A single worker in this process that reads the next case and writes the last one while it computes.

    reader thread    read 1   read 2      read 3      ...
    this thread               compute 1   compute 2   compute 3
    writer thread                         write 1     write 2     write 3

At any moment there is at most one case in each row, and a case that has been read waits only for its turn.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from volseg.jobs.job import Answer, Facts, Job, Stages, Work, WorkerSlot, attempt
from volseg.jobs.workers import Member, member


@dataclass
class _Case:
    """A current case: the result of the steps so far, or the error that ended them."""

    job: Job
    made: Any = None
    error: Exception | None = None
    seconds: float = 0.0

    def step(self, do: Callable[[Job, Any], Any]) -> _Case:
        """Do the next step, unless an earlier one failed."""
        began = time.perf_counter()
        try:
            self.made = do(self.job, self.made) if self.error is None else None
        except Exception as error:  # noqa: BLE001 - of any kind: one case must not stop the others
            self.made, self.error = None, error
        self.seconds += time.perf_counter() - began
        return self


class Pipeline:
    """One worker, in this process, with a thread that reads ahead and one that writes.

    Args:
        stages: Stages of the work, loaded already.
    """

    engine = "serial"

    def __init__(self, stages: Stages) -> None:
        self._stages = stages
        self._threads: tuple[ThreadPoolExecutor, ThreadPoolExecutor] | None = None
        self._reading: deque[Future[_Case]] = deque()
        self._writing: Future[Answer] | None = None

    def open(self, work: Work) -> None:  # noqa: ARG002 - it is loaded
        """Start the threads."""
        self._threads = ThreadPoolExecutor(1, "read"), ThreadPoolExecutor(1, "write")

    def alive(self) -> int:
        """The number of workers: 1."""
        return 1

    def idle(self) -> Sequence[str]:
        """The worker, once for the case that is computed next and once for the one that is read ahead."""
        return ["0"] * (2 - len(self._reading))

    def give(self, worker: str, job: Job) -> None:  # noqa: ARG002 - there is one
        """Start to read the files of the job."""
        if self._threads is not None:
            self._reading.append(self._threads[0].submit(_Case(job).step, lambda job, _: self._stages.read(job)))

    def take(self) -> list[Answer]:
        """Compute the next case; returns the answer of the case before it, which was written meanwhile."""
        written = self._writing
        self._writing = None
        if self._reading and self._threads is not None:
            case = self._reading.popleft().result().step(self._stages.compute)
            answers = [written.result()] if written else []
            self._writing = self._threads[1].submit(self._written, case)
            return answers
        return [written.result()] if written else []

    def members(self) -> list[Member]:
        """The worker."""
        return [member("0", WorkerSlot())]

    def close(self) -> None:
        """End the threads after their current step; cases that wait are dropped."""
        for thread in self._threads or ():
            thread.shutdown(wait=True, cancel_futures=True)
        self._threads, self._writing = None, None
        self._reading.clear()

    def _written(self, case: _Case) -> Answer:
        def write(job: Job) -> Facts:
            if case.error is not None:
                raise case.error
            return self._stages.write(job, case.made)

        answer = attempt(write, case.job, worker="0")
        return replace(answer, seconds=case.seconds + answer.seconds)
