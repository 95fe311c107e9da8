"""The process that writes a record, and whether it still runs."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PROC = Path("/proc")


def this_process() -> dict[str, Any]:
    """What identifies this process: host, process id, boot of the host, namespace and start, as Linux knows them.

    >>> is_alive(this_process())
    True
    """
    return {
        "host": platform.node(),
        "pid": os.getpid(),
        "boot": _boot(),
        "namespace": _namespace(),
        "started": _started(os.getpid()),
    }


def is_alive(process: Mapping[str, Any]) -> bool | None:
    """Whether a process that `this_process` described still runs; None if this host cannot know.

    Args:
        process: Result of `this_process` in that process.

    >>> is_alive({**this_process(), "pid": 2**22 + 1, "started": 1})
    False
    >>> is_alive({**this_process(), "host": "elsewhere"}) is None
    True
    """
    if process.get("host") != platform.node():
        return None
    if process.get("boot") != _boot():
        return False
    if process.get("namespace") != _namespace():  # another container: its process ids are not ours
        return None
    pid = int(process["pid"])
    if _boot() is not None:
        return process.get("started") is not None and _started(pid) == process["started"]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _boot() -> str | None:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _namespace() -> str | None:
    try:
        return str((_PROC / "self/ns/pid").readlink())
    except OSError:
        return None


def _started(pid: int) -> int | None:
    """Ticks from boot to the start of a process; None if there is none, or it has ended."""
    try:
        words = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if words[0] in "ZX" else int(words[19])
