"""Locks between processes: one writer per folder or journal, on every system, and free again after a kill."""

from __future__ import annotations

import errno
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from volseg.errors import UsageError

if TYPE_CHECKING:
    from filelock import BaseFileLock

logger = logging.getLogger(__name__)

LOCK = ".lock"
"""Ending of the file beside a journal that is locked; it stays, empty, when the lock is released."""

# Of a file system that has no locks, or whose server of locks does not answer.
_WITHOUT_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}


@dataclass
class Lock:
    """A lock that this process holds; the system releases it when the process ends, however it ends.

    Attributes:
        path: File that is locked.
    """

    path: Path
    _lock: BaseFileLock | None
    _inode: int | None

    def is_intact(self) -> bool:
        """Whether the file is still the one that was locked: false once its folder has been removed."""
        try:
            return self._inode is None or self.path.stat().st_ino == self._inode
        except OSError:
            return False

    def release(self) -> None:
        """Release the lock; a second call does nothing."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()


def take_lock(path: Path, *, refusal: str | None = None, again: bool = False) -> Lock:
    """Lock a file for this process, which creates it with its folder if absent.

    The lock is one of the operating system (`flock`, `msvcrt.locking`), by filelock: a network folder has it where its
    server does. On a file system without locks nothing is locked, and a warning says so.

    Args:
        path: File to lock, which holds nothing else.
        refusal: Message of the error if another process holds the lock; None (the default) to wait for that process.
        again: Whether code of this process that holds the lock already takes it too; it is free after as many releases.

    Raises:
        UsageError: Another process holds the lock, and there is a `refusal`.
        OSError: The file cannot be made.

    >>> import tempfile
    >>> lock = take_lock(Path(tempfile.mkdtemp()) / "lock")
    >>> lock.is_intact()
    True
    >>> lock.release()
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.absolute(), thread_local=False, is_singleton=again)
    held: BaseFileLock | None = lock
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that it marks by existence instead, which is told below
            lock.acquire(timeout=-1 if refusal is None else 0)
    except Timeout as error:
        raise UsageError(_with_cure(str(refusal), lock, path)) from error
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _WITHOUT_LOCKS:
            raise
        held = None
        logger.warning("%s is on a file system without locks: run nothing else on this folder", path.parent)
    try:
        inode = path.stat().st_ino
    except OSError:
        inode = None
    return Lock(path, held, inode)


@contextmanager
def locked(folder: Path, *, refusal: str | None = None) -> Iterator[Callable[[], bool]]:
    """Lock a folder for this process; gives a function that tells whether the folder was not removed meanwhile.

    Args:
        folder: Folder, which is created if absent; its file `lock` is locked.
        refusal: Message of the error if another process holds the lock; None (the default) to wait for that process.

    Raises:
        UsageError: Another process holds the lock, and there is a `refusal`.

    >>> import tempfile
    >>> with locked(Path(tempfile.mkdtemp())) as intact:
    ...     intact()
    True
    """
    lock = take_lock(folder / "lock", refusal=refusal)
    try:
        yield lock.is_intact
    finally:
        lock.release()


def _with_cure(refusal: str, lock: object, path: Path) -> str:
    """The refusal; a lock that only marks by existence may be of a process of another host that was killed."""
    if "Soft" not in type(lock).__name__:
        return refusal
    return f"{refusal}; if nothing runs there on any machine, remove {path}"
