"""The training task of the server: one at a time, others wait in a queue, and each can be stopped."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from volseg.errors import UsageError, VolsegError

_KEPT = 20  # finished tasks, and lines of a task's output
_LINES = 1000  # of the log
# `volseg` in a process that ends with the server, however that ends: its standard input is then closed.
_VOLSEG = (
    "import os, signal, sys, threading\n"
    "threading.Thread(target=lambda: (sys.stdin.read(), os.kill(os.getpid(), signal.SIGTERM)), daemon=True).start()\n"
    "from volseg.cli import main\n"
    "main(sys.argv[1:])\n"
)


def volseg_command(words: Sequence[str]) -> list[str]:
    """The process that runs `volseg WORDS`, and that is asked to end when its standard input is closed."""
    return [sys.executable, "-c", _VOLSEG, *words]


def told_of(error: Exception) -> str:
    """An error for clients: its message, and of one that nobody foresaw its kind too.

    >>> told_of(UsageError("one runs already")), told_of(KeyError("model"))
    ('one runs already', "KeyError: 'model'")
    """
    return str(error) if isinstance(error, (VolsegError, OSError, RuntimeError)) else f"{type(error).__name__}: {error}"


class BusyError(UsageError):
    """A training runs already, and the new one was not to wait."""


class Training:
    """Trainings as processes of their own, so that one that fails or is stopped leaves the server alone.

    Args:
        command: Function from the parameters of a request to the words of the process.
        done: Function that is called after a training that ended well; what it returns is told with its state.
        before: State of the last training of an earlier server.
        possible: Whether the command can train what is served, so that clients are offered it.
    """

    def __init__(
        self,
        command: Callable[[Mapping[str, Any]], Sequence[str]],
        *,
        done: Callable[[], str] | None = None,
        before: Mapping[str, Any] | None = None,
        possible: bool = True,
    ) -> None:
        self.possible = possible
        self._command = command
        self._done = done
        self.log: deque[str] = deque(maxlen=_LINES)
        self._lock = threading.Lock()
        self._tasks: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self._waiting: deque[tuple[dict[str, Any], Mapping[str, Any]]] = deque()
        self._process: subprocess.Popen[str] | None = None
        self._running: dict[str, Any] | None = None
        if before is not None:
            self._tasks.append(dict(before))

    def start(self, model: str, parameters: Mapping[str, Any], *, enqueue: bool = False) -> dict[str, Any]:
        """Start a training, or let it wait; returns its state in the words of MONAI Label.

        Raises:
            BusyError: One runs already.
            VolsegError: It cannot begin.
        """
        task: dict[str, Any] = {"id": str(uuid.uuid4()), "category": "train", "model": model, "status": "PENDING"}
        task |= {"timestamp": int(time.time()), "details": []}
        with self._lock:
            if self._running is not None and not enqueue:
                raise BusyError(f"a training of {self._running['model']} runs already; stop it, or wait with enqueue")
            if self._running is None:
                self._begin(task, self._command(parameters))
            else:
                self._waiting.append((task, dict(parameters)))
            self._tasks.append(task)
        return dict(task)

    def state(self) -> dict[str, Any] | None:
        """The state of the training that runs, else of the last one; None if there was none."""
        with self._lock:
            task = self._running or (self._tasks[-1] if self._tasks else None)
            return None if task is None else {**task, "details": list(task["details"])}

    @property
    def running(self) -> bool:
        """Whether one runs or waits."""
        return self._running is not None

    def stop(self) -> dict[str, Any]:
        """Stop the training that runs, and forget those that wait; returns the state of the former."""
        with self._lock:
            for task, _ in self._waiting:
                task["status"] = "REVOKED"
            self._waiting.clear()
            stopped, process = self._running, self._process
            if stopped is not None:
                stopped["status"] = "REVOKED"
                stopped["details"] = [*stopped["details"], "stopped"][-_KEPT:]  # the plug-in shows the last one
        if process is not None:
            process.terminate()  # `volseg train` keeps the checkpoint of the last validation
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
        return {} if stopped is None else {**stopped, "details": list(stopped["details"])}

    def _next(self) -> None:
        """Start the first that waits and can begin; the lock is held."""
        self._running = None
        while self._waiting and self._running is None:
            task, parameters = self._waiting.popleft()
            try:  # only now: what it goes on from is what the one before has left
                self._begin(task, self._command(parameters))
            except Exception as error:  # noqa: BLE001 - a full disk too must leave the others their turn
                task |= {"status": "ERROR", "details": [told_of(error)]}

    def _begin(self, task: dict[str, Any], words: Sequence[str]) -> None:
        self._running = task
        task |= {"status": "RUNNING", "start_ts": int(time.time())}
        threading.Thread(target=self._run, args=(task, words), daemon=True).start()

    def _run(self, task: dict[str, Any], words: Sequence[str]) -> None:
        try:
            with subprocess.Popen(
                list(words),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            ) as process:
                self._process = process
                if task["status"] == "REVOKED":
                    process.terminate()
                for line in process.stdout or ():
                    task["details"] = [*task["details"], line.rstrip()][-_KEPT:]
                    self.log.append(line.rstrip())
            code = process.returncode
            if code == 0 and self._done is not None and (told := self._done()):
                task["details"] = [*task["details"], told][-_KEPT:]
        except Exception as error:  # noqa: BLE001 - whatever it is, the next training must be able to begin
            task["details"] = [*task["details"], told_of(error)][-_KEPT:]
            code = 1
        with self._lock:
            if task["status"] != "REVOKED":
                task["status"] = "DONE" if code == 0 else "ERROR"
            task["end_ts"] = int(time.time())
            self._process = None
            self._next()
