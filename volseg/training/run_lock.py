"""The lock on the folder of a run: one training writes there at a time."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

from volseg.files import Lock, take_lock
from volseg.report import running_process


def lock_run(output_dir: str | Path) -> Lock:
    """Lock the folder of a run by its file `.volseg/lock`; this process may do so again.

    Args:
        output_dir: Folder of the run, which is created if absent.

    Raises:
        UsageError: Another training writes there, on this machine or on another that shares the folder.
        OSError: The folder cannot be written.
    """
    folder = Path(output_dir)
    refusal = f"{folder} is being written by {_who(folder)}; stop it, or name another --output_dir"
    return take_lock(folder / ".volseg" / "lock", refusal=refusal, again=True)


def _who(folder: Path) -> str:
    """The training that writes a folder, as far as its record tells."""
    if (pid := running_process(folder)) not in (None, os.getpid()):
        return f"a training that runs, process {pid} of this host"
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        if record["status"] == "running" and (host := record["process"]["host"]) != platform.node():
            return f"a training that runs on {host}, process {record['process']['pid']}"
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return "another training"
