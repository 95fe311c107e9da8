"""Workers as processes on this machine: one per GPU, or several that share the cores."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING

from volseg.errors import UsageError, VolsegError
from volseg.jobs.job import Answer, Job, Work, WorkerSlot, attempt, reason
from volseg.jobs.workers import Member, limit_threads, member, threads_of_each

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

logger = logging.getLogger(__name__)


@dataclass
class _Worker:
    """One process with its current `job`; it is `ready` once it has loaded."""

    name: str
    place: WorkerSlot
    process: SpawnProcess
    connection: Connection
    ready: bool = False
    job: Job | None = None


class Processes:
    """Worker processes, spawned rather than forked, since CUDA and threads do not survive a fork.

    If one dies (killed, out of memory, a crash in a library), its current attempt is lost and the process is replaced.

    Args:
        count: Number of processes.

    Raises:
        UsageError: The number is below 1.
    """

    engine = "processes"

    def __init__(self, count: int) -> None:
        if count < 1:
            raise UsageError(f"the number of workers must be at least 1, got {count}; give another one")
        self._count = count
        self._work: Work | None = None
        self._workers: dict[str, _Worker] = {}
        self._members: list[Member] = []

    def open(self, work: Work) -> None:
        """Start the processes."""
        self._work = work
        threads = threads_of_each(self._count)
        for number in range(self._count):
            self._start(str(number), WorkerSlot(number, threads))

    def alive(self) -> int:
        """Number of processes that are ready or loading."""
        return len(self._workers)

    def idle(self) -> Sequence[str]:
        """The workers that wait for a job."""
        return [worker.name for worker in self._workers.values() if worker.ready and worker.job is None]

    def give(self, worker: str, job: Job) -> None:
        """Send a job; if the process has died, `take` will notice."""
        chosen = self._workers[worker]
        chosen.job = job
        try:
            chosen.connection.send(job)
        except OSError:
            logger.debug("worker %s is gone", worker)

    def take(self) -> list[Answer]:
        """Wait for an answer, a start or a death."""
        by_connection = {worker.connection: worker for worker in self._workers.values()}
        answers = []
        for connection in wait(list(by_connection)):
            worker = by_connection[connection]  # type: ignore[index]  # wait() is typed for sockets too
            try:
                told = worker.connection.recv()
            except (EOFError, OSError):
                answers += self._buried(worker)
                continue
            if isinstance(told, Answer):
                worker.job = None
                answers.append(told)
            elif isinstance(told, Member):
                worker.ready = True
                self._members.append(told)
            else:
                raise VolsegError(f"the workers cannot start: {told}")
        if not self._workers:
            raise VolsegError(
                "every worker died while it loaded, as happens for lack of memory; use fewer with --workers"
            )
        return answers

    def members(self) -> list[Member]:
        """Every process that was ready."""
        return list(self._members)

    def close(self) -> None:
        """Kill the processes: their files appear whole or not at all."""
        for worker in self._workers.values():
            worker.process.kill()
        for worker in self._workers.values():
            worker.process.join()
            worker.connection.close()
        self._workers.clear()

    def _start(self, name: str, place: WorkerSlot) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self._work, name, place), name=f"volseg-{name}")
        process.start()
        theirs.close()  # so that the end of the process is the end of the pipe
        self._workers[name] = _Worker(name, place, process, ours)

    def _buried(self, worker: _Worker) -> list[Answer]:
        """The answer for a dead worker; a new worker replaces it if it had become ready."""
        worker.process.join()
        worker.connection.close()
        del self._workers[worker.name]
        death = f"the worker died ({_cause(worker.process.exitcode)})"
        if not worker.ready:
            logger.error("worker %s: %s while it loaded; the others go on", worker.name, death)
            return []
        logger.warning("worker %s: %s; another one is started", worker.name, death)
        number, _, generation = worker.name.partition(".")
        self._start(f"{number}.{int(generation or 0) + 1}", worker.place)
        if worker.job is None:
            return []
        return [Answer(worker.job.key, worker.name, 0.0, error=death, died=True)]


def _serve(connection: Connection, work: Work, name: str, place: WorkerSlot) -> None:
    """Run a worker: load, then do jobs until the pipe ends."""
    threading.Thread(target=_follow_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    limit_threads(place.threads)
    try:
        do = work.start(place)
    except Exception as error:  # noqa: BLE001 - of any kind; the parent reports it
        connection.send(reason(error))
        return
    connection.send(member(name, place))
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        connection.send(attempt(do, job, worker=name))


def _follow_parent() -> None:
    """End with the parent, even within a job: nothing would receive the result, and a resumed run does it again."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _cause(exit_code: int | None) -> str:
    """The meaning of an exit code.

    >>> _cause(-9)
    'SIGKILL, as for lack of memory'
    >>> _cause(3)
    'exit code 3'
    """
    if exit_code is None or exit_code >= 0:
        return f"exit code {exit_code}"
    name = signal.Signals(-exit_code).name
    return f"{name}, as for lack of memory" if name == "SIGKILL" else name
