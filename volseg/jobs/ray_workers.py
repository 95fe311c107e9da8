"""A crew of actors on a Ray cluster: Ray places them, moves jobs and tells of deaths; files are on a shared disk."""

from __future__ import annotations

import importlib
import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from volseg.errors import UsageError, VolsegError
from volseg.jobs.job import Answer, Job, Place, Work, attempt, reason
from volseg.jobs.workers import Member, limit_threads, member

logger = logging.getLogger(__name__)

_LOADS = 3  # attempts to load of one worker, one after the other


class _Hands:
    """What an actor does; it lives in a process that Ray starts."""

    def __init__(self, work: Work, name: str, place: Place) -> None:
        self._work, self._name, self._place = work, name, place

    def load(self) -> Member | str:
        """Get ready; an error is told in words."""
        limit_threads(self._place.threads)
        try:
            self._do = self._work.start(self._place)
        except Exception as error:  # noqa: BLE001 - of any kind; the run tells it
            return reason(error)
        return member(self._name, self._place)

    def do(self, job: Job) -> Answer:
        """One job."""
        return attempt(self._do, job, worker=self._name)


@dataclass
class _Worker:
    name: str
    actor: Any
    loads: int = 1
    ready: bool = False
    job: Job | None = None


class RayCrew:
    """Workers on an existing Ray cluster. A worker or a node that dies costs the attempts that were in hand.

    Args:
        address: of the cluster, or `auto`.
        workers: how many; 0 for one a GPU, or one a node where there is no GPU.
    """

    engine = "ray"

    def __init__(self, address: str, *, workers: int = 0) -> None:
        self._address = address
        self._count = workers
        self._work: Work | None = None
        self._workers: dict[str, _Worker] = {}
        self._awaited: dict[Any, _Worker] = {}
        self._members: list[Member] = []
        self._options: dict[str, Any] = {}
        self._place = Place()
        self._connected = False

    def open(self, work: Work) -> None:
        """Connect, and ask for the workers.

        Raises:
            UsageError: Ray is not installed, or there is no such cluster.
        """
        try:
            self._ray = importlib.import_module("ray")  # without types of its own that strict mode can use
        except ImportError as error:
            raise UsageError("--ray needs the package: pip install 'volseg[ray]', or use --workers") from error
        ray = self._ray
        if not ray.is_initialized():
            try:
                _knock(self._address)
                ray.init(address=self._address, logging_level=logging.WARNING)
            except (OSError, ValueError, RuntimeError) as error:
                raise UsageError(
                    f"there is no Ray cluster at {self._address}; start one with `ray start --head`, "
                    "or name its address"
                ) from error
            self._connected = True
        self._work = work
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = int(sum(node.get("GPU", 0) for node in nodes))
        count = self._count or gpus or len(nodes)
        if gpus:
            threads = min(max(1, int(node["CPU"] // node["GPU"])) for node in nodes if node.get("GPU"))
        else:
            threads = threads_that_fit([int(node.get("CPU", 0)) for node in nodes], workers=count)
        self._options = {"num_cpus": threads, "num_gpus": 1 if gpus else 0, "max_restarts": 0}
        self._place = Place(0, threads)  # Ray shows each actor its own GPU alone
        for number in range(count):
            self._start(str(number))

    def alive(self) -> int:
        """Those that are ready: Ray may have no room for the others."""
        return sum(worker.ready for worker in self._workers.values())

    def idle(self) -> Sequence[str]:
        """Those that wait for a job."""
        return [worker.name for worker in self._workers.values() if worker.ready and worker.job is None]

    def give(self, worker: str, job: Job) -> None:
        """Send the job."""
        chosen = self._workers[worker]
        chosen.job = job
        self._awaited[chosen.actor.do.remote(job)] = chosen

    def take(self) -> list[Answer]:
        """Wait for an answer, a start or a death."""
        if not self._awaited:
            raise VolsegError("every worker died while it loaded; the log of Ray says why")
        finished, _ = self._ray.wait(list(self._awaited), num_returns=1)
        answers = []
        for reference in finished:
            worker = self._awaited.pop(reference)
            try:
                told = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                answers += self._buried(worker, error)
                continue
            if isinstance(told, Answer):
                worker.job = None
                answers.append(told)
            elif isinstance(told, Member):
                worker.ready = True
                self._members.append(told)
            else:
                raise VolsegError(f"the workers cannot start: {told}")
        return answers

    def members(self) -> list[Member]:
        """Every actor that was ready."""
        return list(self._members)

    def close(self) -> None:
        """End the actors, and the connection if this crew has made it."""
        for worker in self._workers.values():
            self._ray.kill(worker.actor)
        self._workers.clear()
        self._awaited.clear()
        if self._connected:
            self._ray.shutdown()
            self._connected = False

    def _start(self, name: str, *, loads: int = 1) -> None:
        actor = self._ray.remote(_Hands).options(**self._options).remote(self._work, name, self._place)
        worker = self._workers[name] = _Worker(name, actor, loads)
        self._awaited[actor.load.remote()] = worker

    def _buried(self, worker: _Worker, error: Exception) -> list[Answer]:
        """The answer that a dead worker owed; another one is asked for, until it has died too often while loading."""
        del self._workers[worker.name]
        logger.warning("worker %s died (%s)", worker.name, type(error).__name__)
        if worker.ready or worker.loads < _LOADS:
            number, _, generation = worker.name.partition(".")
            following = f"{number}.{int(generation or 0) + 1}"
            self._start(following, loads=1 if worker.ready else worker.loads + 1)
        if worker.job is None:
            return []
        death = f"the worker died ({type(error).__name__})"
        return [Answer(worker.job.key, worker.name, 0.0, error=death, died=True)]


def _knock(address: str) -> None:
    """Raise OSError where nobody listens: Ray itself tries for minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdigit():
        with socket.create_connection((host.strip("[]"), int(port)), timeout=10):
            pass


def threads_that_fit(cores: Sequence[int], *, workers: int) -> int:
    """The most threads that each worker can have so that all of them find room on the nodes; at least one.

    >>> threads_that_fit([16, 16, 8], workers=3), threads_that_fit([3, 3], workers=3), threads_that_fit([2], workers=9)
    (8, 1, 1)
    """
    fitting = (n for n in range(max(cores, default=1), 0, -1) if sum(c // n for c in cores) >= workers)
    return next(fitting, 1)
