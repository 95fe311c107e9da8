"""A crew: the workers of a run. Here its contract, and the crew of one worker in this process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from volseg.jobs.job import Answer, Do, Job, Place, Work, attempt


@dataclass(frozen=True, slots=True)
class Member:
    """What a run report tells of a worker."""

    name: str
    host: str
    process: int
    threads: int | None


class Crew(Protocol):
    """Workers, each of which does one job at a time. One that dies is replaced by one of another name."""

    engine: str

    def open(self, work: Work) -> None:
        """Start the workers; they load what the work needs.

        Raises:
            VolsegError: none can start.
        """
        ...

    def alive(self) -> int:
        """How many workers there are, or will be once they have started."""
        ...

    def idle(self) -> Sequence[str]:
        """The workers that wait for a job."""
        ...

    def give(self, worker: str, job: Job) -> None:
        """Hand a job to an idle worker."""
        ...

    def take(self) -> list[Answer]:
        """Wait until something happens; the answers that have come, or none where a worker has got ready or gone.

        Raises:
            VolsegError: no worker is left and none can start.
        """
        ...

    def members(self) -> list[Member]:
        """Every worker that was ever ready."""
        ...

    def close(self) -> None:
        """End the workers at once; their jobs in hand are lost."""
        ...


class Serial:
    """One worker, in this process.

    Args:
        do: does the jobs, where it is loaded already.
    """

    engine = "serial"

    def __init__(self, do: Do | None = None) -> None:
        self._do = do
        self._job: Job | None = None

    def open(self, work: Work) -> None:
        """Load, unless it is loaded."""
        self._do = self._do or work.start(Place())

    def alive(self) -> int:
        """One."""
        return 1

    def idle(self) -> Sequence[str]:
        """The one, if it has no job."""
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
        """The one."""
        return [member("0", Place())]

    def close(self) -> None:
        """Nothing to end."""


def member(name: str, place: Place) -> Member:
    """A worker of this name in this process."""
    import platform

    return Member(name, platform.node(), os.getpid(), place.threads)


def threads_of_each(workers: int, *, cores: int | None = None) -> int:
    """How many threads each worker may compute with, so that all together fill the cores; at least one.

    Args:
        workers: on this machine.
        cores: those that this process may use, where it is not given.

    >>> threads_of_each(3, cores=16), threads_of_each(4, cores=2)
    (5, 1)
    """
    if cores is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // workers)


def limit_threads(threads: int | None) -> None:
    """Tell the numerical libraries how many threads to use; it counts for those that are not loaded yet."""
    if threads is not None:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            given = os.environ.get(name, "")
            os.environ[name] = str(min(threads, int(given)) if given.isdigit() and int(given) else threads)
