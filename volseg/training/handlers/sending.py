"""What a tracker is told, sent in the order it came by a thread of its own: no training waits for a server."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

logger = logging.getLogger("volseg.training")

_Answer = TypeVar("_Answer")
START_LIMIT_S = 60.0
"""How long a training waits for its tracker before the first epoch; MLflow's client alone tries for minutes."""
_LATE_S = 20.0  # without an answer, after which the log says so
_AGAIN_S = 15.0  # between two attempts
_NOT_REFUSED = (408, 429)  # HTTP: too late, too many


def answer_within(call: Callable[[], _Answer], seconds: float) -> _Answer:
    """The answer of a call, if it comes in time; the call itself goes on in a thread that ends with the program.

    Raises:
        TimeoutError: There is no answer yet.
        Exception: What the call raises.

    >>> answer_within(lambda: 3, 10.0)
    3
    """
    answers: list[_Answer] = []
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            answers.append(call())
        except BaseException as error:  # noqa: BLE001 - raised below, where the answer is waited for
            errors.append(error)

    thread = threading.Thread(target=ask, name="tracker", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not answers:
        raise TimeoutError(f"it has not answered for {seconds:g} s")
    return answers[0]


class Sender:
    """Makes calls in the order they came, in a thread that ends with the program.

    A call that fails is made again until the server answers, and those after it wait. A call that the server refuses is
    left out. The log says once that the server is away, and once that it is back; what the client's own attempts say
    (seven lines of urllib3 a call, with MLflow) is left out of it.

    Args:
        name: Name of the tracker, for the log.
        again_s: Seconds between two attempts.
        late_s: Seconds without an answer after which the server counts as away.
    """

    def __init__(self, name: str, *, again_s: float = _AGAIN_S, late_s: float = _LATE_S) -> None:
        self.name = name
        self._again_s, self._late_s = again_s, late_s
        self._calls: deque[Callable[[], Any]] = deque()
        self._changed = threading.Condition()
        self._since: float | None = None  # when the call began that has not been answered
        self._away = self._refused = self._ending = self._given_up = False
        self._thread = threading.Thread(target=self._work, name=f"tell {name}", daemon=True)
        self._client_log = logging.getLogger("urllib3.connectionpool")
        self._client_log.addFilter(self._is_of_others)
        self._thread.start()

    def send(self, call: Callable[..., Any], /, *args: Any, **given: Any) -> None:  # noqa: ANN401 - of any call
        """Make a call later; returns at once."""
        with self._changed:
            self._calls.append(partial(call, *args, **given))
            late = self._since is not None and time.monotonic() - self._since > self._late_s
            self._changed.notify_all()
        if late:
            self._tell_away(f"no answer for {self._late_s:g} s")

    def close(self, *, within_s: float) -> int:
        """Wait until everything is sent, but no longer than so many seconds.

        Returns:
            Number of calls that were not made.
        """
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._thread.join(within_s)
        with self._changed:
            self._given_up = True
            left = len(self._calls)
            self._changed.notify_all()
        if left:
            logger.warning(
                "%s does not answer, and the training ends without it: it lacks the last numbers and the end of the "
                "run; run.json has all of them",
                self.name,
            )
        return left

    def _is_of_others(self, record: logging.LogRecord) -> bool:
        return record.thread != self._thread.ident

    def _work(self) -> None:
        try:
            self._send_all()
        finally:  # until then a call that hangs may still say something
            self._client_log.removeFilter(self._is_of_others)

    def _send_all(self) -> None:
        while (call := self._next()) is not None:
            try:
                call()
            except Exception as error:  # noqa: BLE001 - each tracker has errors of its own, which nothing else has
                if not _is_refusal(error):
                    self._tell_away(_first_line(error))
                    with self._changed:
                        self._since = None
                        self._changed.wait_for(lambda: self._ending, timeout=self._again_s)
                        pause = 1.0 if self._ending else 0.0  # the last attempts are nearer to each other
                        self._changed.wait_for(lambda: self._given_up, timeout=min(pause, self._again_s))
                    continue
                self._tell_refused(_first_line(error))
            with self._changed:
                self._calls.popleft()
                self._since = None
                back, self._away = self._away and not self._calls, self._away and bool(self._calls)
            if back:
                logger.info("%s answers again, and was told what it had missed", self.name)

    def _next(self) -> Callable[[], Any] | None:
        """The next call, waited for; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._calls or self._ending)
            if self._given_up or not self._calls:
                return None
            self._since = time.monotonic()
            return self._calls[0]

    def _tell_away(self, reason: str) -> None:
        with self._changed:
            told, self._away = self._away, True
            told = told or self._ending
        if not told:
            logger.warning(
                "%s does not answer (%s); the training goes on, and tells it what it missed once it answers. run.json "
                "has all numbers",
                self.name,
                reason,
            )

    def _tell_refused(self, reason: str) -> None:
        told, self._refused = self._refused, True
        if not told:
            logger.warning(
                "%s refuses what it is told (%s); the training goes on, and run.json has all numbers", self.name, reason
            )


def _is_refusal(error: Exception) -> bool:
    """Whether a server answered that it does not take a call, so that making it again is of no use."""
    status = getattr(error, "get_http_status_code", None)  # of MLflow's exceptions
    number = status() if callable(status) else None
    return isinstance(number, int) and 400 <= number < 500 and number not in _NOT_REFUSED


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
