"""A watch folder without a network: outputs are words; told to die, it dies."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from volseg.deploy.watch import Inbox, Ledger, Watcher
from volseg.deploy.watch.item import Item
from volseg.deploy.watch.watcher import Watched
from volseg.errors import VolsegError
from volseg.files import atomic
from volseg.jobs import Facts


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def segment(item: Item, folder: Path, name: str, *, seconds: float = 0.0) -> Facts:
    """The names of the files and a word of its own; fails where the key says so."""
    time.sleep(seconds / 2)
    if item.error is not None or "bad" in item.key:
        raise VolsegError(item.error or f"{item.files[0]} is no image")
    with atomic(folder / f"{name}.nii.gz") as partial:
        partial.write_text("\n".join([*(path.name for path in item.files), uuid.uuid4().hex]))
    time.sleep(seconds / 2)
    return {"uncertainty": {"organ": 0.5}}


def watch(
    inbox: Path,
    output: Path,
    *,
    settle_s: float = 0.0,
    retry: bool = False,
    load: Callable[[], Callable[[Item, Path, str], Facts]] = lambda: segment,
    **options: str,
) -> Watched:
    """One pass over all that is there."""
    ledger = Ledger(output, retry=retry)
    try:
        watcher = Watcher(Inbox(inbox, settle_s=settle_s), ledger, load, poll_s=0.01, **options)
        return watcher.run(once=True)
    finally:
        ledger.close()


if __name__ == "__main__":  # to be killed: IN OUT SECONDS
    from functools import partial

    slow = partial(segment, seconds=float(sys.argv[3]))
    watch(Path(sys.argv[1]), Path(sys.argv[2]), load=lambda: slow)
