"""A lock on a folder, so that two processes do not write the same files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from volseg.errors import UsageError


@contextmanager
def locked(folder: Path, *, refusal: str | None = None) -> Iterator[Callable[[], bool]]:
    """Hold a folder for this process alone; gives a function that tells whether nobody has removed it meanwhile.

    File systems without locks, and Windows, are taken as they are.

    Args:
        folder: made where absent.
        refusal: what to say where another process holds it; None to wait for that one.

    Raises:
        UsageError: the refusal.

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
