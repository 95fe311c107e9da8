"""A lock on a folder, so that two processes do not write the same files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from volseg.errors import UsageError


@contextmanager
def locked(folder: Path, *, refusal: str | None = None) -> Iterator[Callable[[], bool]]:
    """Lock a folder for this process; gives a function that tells whether the folder was not removed meanwhile.

    On file systems without locks, and on Windows, nothing is locked.

    Args:
        folder: Folder, which is created if absent.
        refusal: Message of the error if another process holds the lock; None (the default) to wait for that process.

    Raises:
        UsageError: Another process holds the lock, and there is a `refusal`.

    >>> import tempfile
    >>> with locked(Path(tempfile.mkdtemp())) as intact:
    ...     intact()
    True
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            import fcntl  # not on Windows

            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if refusal else 0))
        except BlockingIOError as error:
            raise UsageError(str(refusal)) from error
        except (ImportError, OSError):
            pass
        yield lambda: os.fstat(file.fileno()).st_nlink > 0
