"""Signals that end a training: each becomes an exception, so that the record of the run can name it."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

_NAMES = ("SIGTERM", "SIGHUP", "SIGXCPU")  # of a queue, a closed terminal, a limit of time


class Stopped(SystemExit):
    """The exit of this process by a signal, with the exit code of shells for it: 128 plus its number.

    Attributes:
        reason: Text such as `stopped by SIGTERM`.

    >>> str(Stopped(signal.SIGTERM).reason), Stopped(signal.SIGTERM).code
    ('stopped by SIGTERM', 143)
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.reason = f"stopped by {signal.Signals(number).name}"


class Signals:
    """A context in which a signal that would end this process raises `Stopped` in its main thread.

    A second signal ends the process at once. Signals that other code handles or ignores, as under `nohup`, are left
    alone, and so are all signals outside the main thread.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._pid = os.getpid()

    def enter(self) -> None:
        """Install the handlers of the signals."""
        self._pid = os.getpid()
        if threading.current_thread() is not threading.main_thread():
            return
        for name in _NAMES:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                self._before[number] = signal.signal(number, self._stop)

    def leave(self) -> None:
        """Restore the previous handler of every signal."""
        while self._before:
            number, before = self._before.popitem()
            if signal.getsignal(number) == self._stop:
                signal.signal(number, before)

    def _stop(self, number: int, _: FrameType | None) -> None:
        own = os.getpid() == self._pid  # a process that was forked from this one just ends
        self.leave()
        if not own:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        raise Stopped(number)
