"""The workers of a run: their protocol, and the single worker in this process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from volseg.inference import usable_cores
from volseg.jobs.job import Answer, Do, Job, Work, WorkerSlot, attempt


@dataclass(frozen=True, slots=True)
class Member:
    """The facts about a worker in a run report."""

    name: str
    host: str
    process: int
    threads: int | None


class WorkerPool(Protocol):
    """Workers, each of which does one job at a time. A worker that dies is replaced by one with another name."""

    engine: str

    def open(self, work: Work) -> None:
        """Start the workers; they load what the work needs.

        Raises:
            VolsegError: No worker can start.
        """
        ...

    def alive(self) -> int:
        """Number of workers, including those that have not started yet."""
        ...

    def idle(self) -> Sequence[str]:
        """The workers that wait for a job."""
        ...

    def give(self, worker: str, job: Job) -> None:
        """Send a job to an idle worker."""
        ...

    def take(self) -> list[Answer]:
        """Wait for an event; returns the answers, or none if a worker became ready or died.

        Raises:
            VolsegError: No worker is left and none can start.
        """
        ...

    def members(self) -> list[Member]:
        """Every worker that was ever ready."""
        ...

    def close(self) -> None:
        """End the workers at once; their current jobs are lost."""
        ...


class Serial:
    """One worker, in this process.

    Args:
        do: Function that does the jobs, if it is loaded already.
    """

    engine = "serial"

    def __init__(self, do: Do | None = None) -> None:
        self._do = do
        self._job: Job | None = None

    def open(self, work: Work) -> None:
        """Load the work, unless it is loaded."""
        self._do = self._do or work.start(WorkerSlot())

    def alive(self) -> int:
        """The number of workers: 1."""
        return 1

    def idle(self) -> Sequence[str]:
        """The worker, if it has no job."""
        return ["0"] if self._job is None else []

    def give(self, worker: str, job: Job) -> None:  # noqa: ARG002 - there is one
        """Keep the job for `take`."""
        self._job = job

    def take(self) -> list[Answer]:
        """Do the job."""
        job, self._job = self._job, None
        if job is None or self._do is None:
            return []
        return [attempt(self._do, job, worker="0")]

    def members(self) -> list[Member]:
        """The worker."""
        return [member("0", WorkerSlot())]

    def close(self) -> None:
        """Do nothing: there is nothing to end."""


def member(name: str, place: WorkerSlot) -> Member:
    """The facts about a worker of this name in this process."""
    import platform

    return Member(name, platform.node(), os.getpid(), place.threads)


def threads_of_each(workers: int, *, cores: int | None = None) -> int:
    """Number of threads per worker with which all together use the cores; at least one.

    Args:
        workers: Number of workers on this machine.
        cores: Number of cores; by default those that this process may use.

    >>> threads_of_each(3, cores=16), threads_of_each(4, cores=2)
    (5, 1)
    """
    return max(1, (usable_cores() if cores is None else cores) // workers)


def limit_threads(threads: int | None) -> None:
    """Limit the threads of the numerical libraries; it also applies to those that are not loaded yet."""
    if threads is not None:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            given = os.environ.get(name, "")
            os.environ[name] = str(min(threads, int(given)) if given.isdigit() and int(given) else threads)
