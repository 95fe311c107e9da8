"""Visits: one folder per visitor, below a temporary folder that only this user can read; all are deleted at the end."""

from __future__ import annotations

import atexit
import secrets
import shutil
import tempfile
import threading
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

_T = TypeVar("_T")


@dataclass(eq=False)
class Visit(Generic[_T]):
    """The files and result of one visitor.

    Attributes:
        token: 128 random bits; with it, the visit's results can be fetched.
        folder: Folder of the visit.
        name: Visitor's name of the upload, which is in `upload`; empty without one.
        result: Result of the last segmentation.
        left: Event that is set when the visitor leaves, so that work for nobody can end.
    """

    token: str
    folder: Path
    name: str = ""
    result: _T | None = None
    left: threading.Event = field(default_factory=threading.Event)

    @property
    def upload(self) -> Path:
        """The path of the uploaded file."""
        return self.folder / "upload"

    @property
    def work(self) -> Path:
        """The folder of the last segmentation."""
        return self.folder / "work"


class Visits(Generic[_T]):
    """All visits of one run of the demo. Threads may share it.

    Args:
        parent: Parent of the temporary folder; the system's own by default.
        most: Largest number of visits; beyond it, the one that was unused longest is deleted.

    >>> visits = Visits[str]()
    >>> visit = visits.of("visitor")
    >>> visit is visits.of("visitor"), visit.folder.is_dir(), oct(visits.root.stat().st_mode & 0o777)
    (True, True, '0o700')
    >>> visits.leave("visitor")
    >>> visit.folder.exists(), visits.find(visit.token) is None
    (False, True)
    >>> visits.close()
    >>> visits.root.exists()
    False
    """

    def __init__(self, *, parent: Path | None = None, most: int = 20) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="volseg-demo-", dir=parent))  # its mode is 0700
        self.uploads = self.root / "uploads"
        self.uploads.mkdir(mode=0o700)
        self._most = most
        self._lock = threading.RLock()
        self._visits: dict[str, Visit[_T]] = {}
        self._gone: deque[str] = deque(maxlen=1000)  # a page that was closed does not come back under its word
        atexit.register(self.close)

    def of(self, visitor: str) -> Visit[_T]:
        """The visit of a visitor, which starts at the first call."""
        with self._lock:
            visit = self._visits.pop(visitor, None)
            if visit is None:
                token = secrets.token_urlsafe(16)
                visit = Visit(token, self.root / "visits" / token)
                visit.folder.mkdir(parents=True, mode=0o700)
            self._visits[visitor] = visit  # the last used one is the last
            while len(self._visits) > self._most:
                self._make_room(next(iter(self._visits)))
            return visit

    def has_left(self, visitor: str) -> bool:
        """Whether a visitor has closed the page."""
        with self._lock:
            return visitor in self._gone

    def keep(self, visitor: str, path: Path, *, name: str) -> None:
        """Move an uploaded file into the visit, in place of an earlier one.

        Args:
            visitor: Visitor who sent it.
            path: Path at which the server put it, below `uploads`.
            name: Visitor's name of the file.

        Raises:
            FileNotFoundError: The file does not exist, is not below `uploads`, or is no plain file.
        """
        if path.is_symlink() or not path.is_file() or not path.resolve().is_relative_to(self.uploads.resolve()):
            raise FileNotFoundError(f"{name} is not among the uploads")
        visit = self.of(visitor)
        path.replace(visit.upload)
        visit.name = name

    def forget(self, visitor: str) -> None:
        """Delete a visitor's upload."""
        visit = self.of(visitor)
        visit.upload.unlink(missing_ok=True)
        visit.name = ""

    def find(self, token: str) -> Visit[_T] | None:
        """The visit of a token."""
        with self._lock:
            return next((visit for visit in self._visits.values() if secrets.compare_digest(visit.token, token)), None)

    def leave(self, visitor: str) -> None:
        """End a visit and delete its folder."""
        with self._lock:
            visit = self._visits.pop(visitor, None)
            self._gone.append(visitor)
        if visit is not None:
            visit.left.set()
            visit.result = None
            shutil.rmtree(visit.folder, ignore_errors=True)

    def _make_room(self, visitor: str) -> None:
        """End the visit of a page that is still open, which may begin another."""
        self.leave(visitor)
        self._gone.remove(visitor)

    def settle(self, visit: Visit[_T]) -> None:
        """Delete the files written for a visit that ended meanwhile: writing creates its folder anew."""
        with self._lock:
            lasts = visit in self._visits.values()
        if not lasts:
            visit.result = None
            shutil.rmtree(visit.folder, ignore_errors=True)

    def close(self) -> None:
        """Delete everything; nothing happens the second time."""
        with self._lock:
            for visit in self._visits.values():
                visit.left.set()
            self._visits.clear()
        shutil.rmtree(self.root, ignore_errors=True)
        atexit.unregister(self.close)
