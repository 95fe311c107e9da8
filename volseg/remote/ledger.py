"""The ledger of a copy: the version of each object here, one line of JSON per file; and the identity of copies."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock

from volseg.remote.listing import Item

FILE = "ledger.jsonl"
PARTS = "parts"


@dataclass(frozen=True, slots=True)
class Copy:
    """A local file and the object that it equals; `mtime_ns` is that of the file, so that an edit of it is noticed."""

    item: Item
    mtime_ns: int


class Ledger:
    """The content of the folder of a copy.

        CACHE/DIGEST/
          ledger.jsonl    this
          NAME/           the copy, see `copy_in`: the same paths as behind the URL
          parts/          what has come of files that are on their way

    A line is added once a file is complete, so a kill loses no downloaded file.

    Args:
        home: Folder CACHE/DIGEST.
        url: URL of the folder that is copied.
    """

    def __init__(self, home: Path, url: str) -> None:
        self.home = home
        self.url = url
        home.mkdir(parents=True, exist_ok=True)
        self._path = home / FILE
        self._lock = Lock()
        self._copies = _read(self._path)[1]
        lines = [json.dumps({"url": url}), *(_line(name, copy) for name, copy in self._copies.items())]
        from volseg.files import atomic

        with atomic(self._path) as partial:
            partial.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._copies))

    def get(self, name: str) -> Copy | None:
        """The record of a file; None if there is none."""
        return self._copies.get(name)

    def holds(self, name: str, file: Path) -> bool:
        """Whether the file is as it was when its line was written."""
        copy = self._copies.get(name)
        with suppress(OSError):
            status = file.stat()
            return copy is not None and (copy.item.size, copy.mtime_ns) == (status.st_size, status.st_mtime_ns)
        return False

    def add(self, name: str, item: Item, mtime_ns: int) -> None:
        """Record a file that was downloaded or uploaded."""
        self._write(name, Copy(item, mtime_ns))

    def remove(self, name: str) -> None:
        """Record that a file was removed on both sides."""
        self._write(name, None)

    def _write(self, name: str, copy: Copy | None) -> None:
        with self._lock:
            if copy is None:
                self._copies.pop(name, None)
            else:
                self._copies[name] = copy
            with self._path.open("a", encoding="utf-8") as file:
                file.write(_line(name, copy) + "\n")


def home_of(cache: Path, url: str, *, apart: str = "") -> Path:
    """The folder of a copy: the same for the same URL."""
    return cache / hashlib.sha256(f"{url}\n{apart}".encode()).hexdigest()[:16]


def copy_in(home: Path, name: str) -> Path:
    """The folder of the copy itself: it is called as the one behind the URL, unless the cache has something so called.

    >>> copy_in(Path("cache"), "cohort").name, copy_in(Path("cache"), "parts").name
    ('cohort', 'parts_')
    """
    return home / (f"{name}_" if name in (FILE, PARTS) else name)


def cache_folder() -> Path:
    """The folder of the copies: the environment's VOLSEG_CACHE, or data/cache/remote of the working directory."""
    return Path(os.environ.get("VOLSEG_CACHE") or "data/cache/remote").expanduser()


def identity(path: Path) -> str | None:
    """URL, size and version of a file that is a copy, the same on every machine; None for any other file.

    >>> identity(Path("data/cohort/imagesTr/case1_0000.nii.gz")) is None
    True
    """
    home = _home(path.parent)
    if home is None:
        return None
    ledger = home / FILE
    with suppress(OSError, ValueError):
        url, copies = _known(ledger, ledger.stat().st_mtime_ns)
        name = Path(*path.absolute().relative_to(home).parts[1:]).as_posix()
        status = path.stat()
        copy = copies.get(name)
        if copy is not None and (copy.item.size, copy.mtime_ns) == (status.st_size, status.st_mtime_ns):
            return f"{url}/{name}\n{copy.item.size}\n{copy.item.version}"
    return None


@lru_cache(maxsize=4096)
def _home(folder: Path) -> Path | None:
    return next((parent for parent in folder.absolute().parents if (parent / FILE).is_file()), None)


@lru_cache(maxsize=16)
def _known(ledger: Path, _: int) -> tuple[str, dict[str, Copy]]:
    return _read(ledger)


def _line(name: str, copy: Copy | None) -> str:
    if copy is None:
        return json.dumps({"file": name, "gone": True})
    return json.dumps({"file": name, "size": copy.item.size, "version": copy.item.version, "mtime_ns": copy.mtime_ns})


def _read(path: Path) -> tuple[str, dict[str, Copy]]:
    """Read the URL and the copies; a damaged line is ignored, and its file is downloaded again."""
    url = ""
    copies: dict[str, Copy] = {}
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        lines = []
    for line in lines:
        with suppress(ValueError, KeyError, TypeError):
            content = json.loads(line)
            if "url" in content:
                url = str(content["url"])
            elif content.get("gone"):
                copies.pop(content["file"], None)
            else:
                item = Item(int(content["size"]), str(content["version"]))
                copies[str(content["file"])] = Copy(item, int(content["mtime_ns"]))
    return url, copies
