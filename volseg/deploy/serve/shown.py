"""Which predictions are before clients: an edit that comes home is counted against what its client was shown."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

_UNNAMED = "user-xyz"  # which MONAI Label's plug-in sends for everybody who has not put in a name


def client_of(parameters: Mapping[str, Any]) -> str:
    """The name of the client in the parameters of a request; empty if it gave none.

    >>> client_of({"client_id": "Ada"}), client_of({"client_id": "user-xyz"}), client_of({})
    ('Ada', '', '')
    """
    name = str(parameters.get("client_id") or "").strip()
    return "" if name == _UNNAMED else name


class Shown:
    """The cases of which clients were shown a prediction, and since when.

    Args:
        lease_s: Seconds for which a client is taken to edit what it was shown.
        clock: Function that gives the time in seconds.

    >>> shown = Shown(1800.0)
    >>> shown.add("case1", "Ada")
    >>> "case1" in shown, shown.to_another("case1", "Ada"), shown.to_another("case1", "Bo")
    (True, False, True)
    >>> shown.remove("case1", "Ada")
    >>> "case1" in shown
    False
    """

    def __init__(self, lease_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._lease_s = lease_s
        self._clock = clock
        self._lock = threading.Lock()
        self._since: dict[str, dict[str, float]] = {}

    def add(self, key: str, client: str = "") -> None:
        """Count the prediction of a case as shown, from now on.

        Args:
            key: Key of the case.
            client: Name of the client; empty if it gave none.
        """
        with self._lock:
            self._since.setdefault(key, {})[client] = self._clock()

    def remove(self, key: str, client: str = "") -> None:
        """Forget what a client was shown of a case, as its edit is home; and what nameless clients were shown."""
        with self._lock:
            for name in (client, ""):
                self._since.get(key, {}).pop(name, None)

    def __contains__(self, key: str) -> bool:
        return bool(self._clients(key))

    def to(self, key: str, client: str) -> bool:
        """Whether a client was shown the case since it last sent a label of it, or one without a name was."""
        return any(name in ("", client) for name in self._clients(key))

    def to_another(self, key: str, client: str) -> bool:
        """Whether a client of another name was shown the case; one without a name is not told from any other."""
        return any(name not in ("", client) for name in self._clients(key))

    def _clients(self, key: str) -> list[str]:
        with self._lock:
            return [name for name, at in self._since.get(key, {}).items() if self._clock() - at < self._lease_s]
