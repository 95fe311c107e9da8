"""Predictions ahead of the clients, one case after the other, so that `review` can compare them."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from volseg.deploy.serve.training import BusyError, told_of


class Ahead:
    """One run over cases in a thread of its own; a client's own prediction waits for one case at most.

    Args:
        predict: Function that predicts one case by its key.
    """

    def __init__(self, predict: Callable[[str], object]) -> None:
        self._predict = predict
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._task: dict[str, Any] | None = None

    @property
    def running(self) -> bool:
        """Whether it is at work."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, model: str, keys: Sequence[str]) -> dict[str, Any]:
        """Predict cases; returns the state in the words of MONAI Label.

        Raises:
            BusyError: It is at work already.
        """
        with self._lock:
            if self.running:
                raise BusyError("cases are being predicted already; stop that, or wait")
            task: dict[str, Any] = {"id": str(uuid.uuid4()), "category": "batch_infer", "model": model}
            task |= {"status": "RUNNING", "timestamp": int(time.time()), "details": [f"{len(keys)} cases to predict"]}
            self._task = task
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, args=(task, list(keys)), daemon=True)
            self._thread.start()
        return dict(task)

    def state(self) -> dict[str, Any] | None:
        """The state of the run, or of the last one; None if there was none."""
        return None if self._task is None else {**self._task, "details": list(self._task["details"])}

    def stop(self, *, wait_s: float = 60.0) -> dict[str, Any]:
        """Stop after the case that is at work."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(wait_s)
        return self.state() or {}

    def _run(self, task: dict[str, Any], keys: Sequence[str]) -> None:
        failed = []
        for done, key in enumerate(keys):
            if self._stop.is_set():
                task |= {"status": "REVOKED", "details": [f"{done} of {len(keys)} cases predicted"]}
                return
            try:
                self._predict(key)
            except Exception as error:  # noqa: BLE001 - of any kind: one case must not stop the others
                failed.append(f"{key}: {told_of(error)}")
            task["details"] = [f"{done + 1} of {len(keys)} cases done", *failed[-20:]]
        task |= {"status": "ERROR" if failed else "DONE", "end_ts": int(time.time())}
