"""Workers as actors on a Ray cluster: Ray starts them, sends jobs and reports deaths; files are on a shared disk."""

from __future__ import annotations

import importlib
import logging
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from volseg.errors import UsageError, VolsegError
from volseg.jobs.job import Answer, Job, Work, WorkerSlot, attempt, reason
from volseg.jobs.workers import Member, limit_threads, member

logger = logging.getLogger(__name__)

_LOADS = 3  # attempts to load per worker, one after the other


class _Hands:
    """The code of an actor; it runs in a process that Ray starts."""

    def __init__(self, work: Work, name: str, place: WorkerSlot) -> None:
        self._work, self._name, self._place = work, name, place

    def load(self) -> Member | str:
        """Load the work; an error is returned as text."""
        limit_threads(self._place.threads)
        try:
            self._do = self._work.start(self._place)
        except Exception as error:  # noqa: BLE001 - of any kind; the run reports it
            return reason(error)
        return member(self._name, self._place)

    def do(self, job: Job) -> Answer:
        """Do one job."""
        return attempt(self._do, job, worker=self._name)


@dataclass
class _Worker:
    name: str
    actor: Any
    loads: int = 1
    ready: bool = False
    job: Job | None = None


class RayPool:
    """Workers on an existing Ray cluster. If a worker or a node dies, the attempt of its current job is lost.

    Args:
        address: Address of the cluster, or `auto`.
        workers: Number of workers; 0 (the default) for one per GPU, or one per node if there is no GPU.
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
        self._place = WorkerSlot()
        self._connected = False

    def open(self, work: Work) -> None:
        """Connect to the cluster and request the workers.

        Raises:
            UsageError: Ray is not installed, or there is no such cluster.
        """
        try:
            self._ray = importlib.import_module("ray")  # it has no types that strict mode can use
        except ImportError as error:
            raise UsageError("--ray needs the package: pip install 'volseg[ray]', or use --workers") from error
        ray = self._ray
        if not ray.is_initialized():
            try:
                _knock(self._address)
                ray.init(address=self._address, logging_level=logging.WARNING)
            except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
                raise UsageError(_not_reached(self._address, error)) from error
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
        self._place = WorkerSlot(0, threads)  # Ray shows each actor its own GPU alone
        for number in range(count):
            self._start(str(number))

    def alive(self) -> int:
        """Number of workers that are ready: Ray may have no room for the others."""
        return sum(worker.ready for worker in self._workers.values())

    def idle(self) -> Sequence[str]:
        """The workers that wait for a job."""
        return [worker.name for worker in self._workers.values() if worker.ready and worker.job is None]

    def give(self, worker: str, job: Job) -> None:
        """Send a job to a worker."""
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
        """Every worker that was ever ready."""
        return list(self._members)

    def close(self) -> None:
        """End the actors, and the connection if this object has made it."""
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
        """The answer for a dead worker; another worker is requested, unless it has died too often while loading."""
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


def _not_reached(address: str, error: Exception) -> str:
    """The line for a cluster that is not there, or that does not let this process in.

    Ray says only that it failed to connect where a cluster asks for a token and `RAY_AUTH_MODE` does not name it.
    """
    asked = isinstance(error, OSError) and "Failed to connect to Ray" in str(error)
    if type(error).__name__ != "AuthenticationError" and not asked:
        return f"there is no Ray cluster at {address}; start one with `ray start --head`, or name its address"
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "token":
        cure = "RAY_AUTH_TOKEN or ~/.ray/auth_token must hold the token of the node where it was started"
    else:
        cure = "if it asks for a token, set RAY_AUTH_MODE=token; if not, see `ray status`"
    return f"the Ray cluster at {address} does not let this process in; {cure}"


def _knock(address: str) -> None:
    """Raise OSError if nothing listens at the address: Ray itself tries for minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdigit():
        with socket.create_connection((host.strip("[]"), int(port)), timeout=10):
            pass


def threads_that_fit(cores: Sequence[int], *, workers: int) -> int:
    """Largest number of threads per worker with which all of them fit on the nodes; at least one.

    >>> threads_that_fit([16, 16, 8], workers=3), threads_that_fit([3, 3], workers=3), threads_that_fit([2], workers=9)
    (8, 1, 1)
    """
    fitting = (n for n in range(max(cores, default=1), 0, -1) if sum(c // n for c in cores) >= workers)
    return next(fitting, 1)
