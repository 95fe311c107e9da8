"""A staging folder: files that are written there are uploaded to a URL once they are complete."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from volseg.errors import RemoteError
from volseg.files import LOCK, PARTIAL, is_partial, locked
from volseg.remote.address import Address, is_url
from volseg.remote.ledger import Ledger, cache_folder, copy_in, home_of
from volseg.remote.listing import Item, list_items
from volseg.remote.messages import told
from volseg.remote.mirror import Progress, pull

logger = logging.getLogger(__name__)

# Journals and records say which files exist, so they are uploaded after these.
_RECORDS = ".volseg"
# The name that `volseg.files.atomic` gives a file while it is written.
_AT_ONCE = 4
# Seconds between two checks of the folder, and how many times as long as the last upload.
_EVERY_S, _TIMES = 5.0, 20
# Schemes whose objects appear only when they are complete; elsewhere a file is uploaded under another name and renamed.
_WHOLE = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory"}


class Staging:
    """A folder to write into.

    Attributes:
        folder: Folder to write into; that of a URL exists.
        fetched: Names of files that were downloaded at the start; no earlier run on this machine has checked them.
    """

    def __init__(self, folder: Path, fetched: Sequence[str] = ()) -> None:
        self.folder = folder
        self.fetched = tuple(fetched)

    def watched(self, progress: Callable[[int, int], None] | None = None) -> Callable[[int, int], None]:
        """Wrap a function for the progress so that a failed transfer stops the work at the next step.

        Raises:
            RemoteError: Raised by the returned function: a file could not be uploaded.
        """

        def told_of(done: int, total: int) -> None:
            self.check()
            if progress:
                progress(done, total)

        return told_of

    def check(self) -> None:
        """Raise the error of a failed transfer; a local folder has none."""


class _Outgoing(Staging):
    """The staging folder of a URL."""

    def __init__(
        self,
        folder: Path,
        fetched: Sequence[str],
        *,
        file_system: Any,  # noqa: ANN401 - fsspec has no types
        path: str,
        address: Address,
        ledger: Ledger,
        intact: Callable[[], bool],
    ) -> None:
        super().__init__(folder, fetched)
        self._intact = intact
        self._file_system = file_system
        self._path = path
        self._address = address
        self._ledger = ledger
        self._error: BaseException | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="send", daemon=True)

    def check(self) -> None:
        if self._error is not None:
            raise self._error

    def start(self) -> None:
        """Start to upload."""
        self._thread.start()

    def end(self) -> None:
        """Upload the rest.

        Raises:
            RemoteError: A file could not be uploaded.
        """
        self._ended.set()
        self._thread.join()
        self.check()
        self._send()
        self._remove()

    def _send(self) -> None:
        """Upload new and changed files, then the records that list them."""
        self._check_intact()
        records = list(self._records())
        here = {
            file.relative_to(self.folder).as_posix(): file
            for file in sorted(self.folder.rglob("*"))
            if file.is_file() and not is_partial(file.name)
        }
        with ThreadPoolExecutor(_AT_ONCE, "send") as pool:
            files = [name for name in here if not name.startswith(f"{_RECORDS}/")]
            for _ in pool.map(lambda name: self._send_file(name, here[name]), files):
                pass
        for name, mtime_ns, content in records:
            self._send_record(name, mtime_ns, content)

    def _remove(self) -> None:
        """Remove files behind the URL that the work has removed: at the end, since a deleted folder looks the same."""
        gone = [name for name in self._ledger if not (self.folder / name).exists()]
        self._check_intact()
        for name in gone:
            with told(f"{self._address.url}/{name}"):
                if self._file_system.exists(f"{self._path}/{name}"):
                    self._file_system.rm_file(f"{self._path}/{name}")
            self._ledger.remove(name)

    def _check_intact(self) -> None:
        if not self._intact() or not self.folder.is_dir():
            raise RemoteError(
                f"{self.folder} was removed while the run wrote to it; what was sent to {self._address.url} is there: "
                "run again"
            )

    def _records(self) -> Iterator[tuple[str, int, bytes]]:
        """Name, time and complete lines of each record as it is now; the files that it lists exist already."""
        for file in sorted((self.folder / _RECORDS).rglob("*")):
            name = file.relative_to(self.folder).as_posix()
            if file.is_file() and not _is_of_this_machine(file.name) and not self._ledger.holds(name, file):
                mtime_ns = file.stat().st_mtime_ns  # before the content: lines added in between are uploaded next time
                content = file.read_bytes()
                if file.suffix == ".jsonl":
                    content = content[: content.rfind(b"\n") + 1]
                yield name, mtime_ns, content

    def _send_file(self, name: str, file: Path) -> None:
        try:
            status = file.stat()
        except FileNotFoundError:  # replaced or removed just now: the next look sees what it has become
            return
        if self._ledger.holds(name, file):
            return
        target = f"{self._path}/{name}"
        url = f"{self._address.url}/{name}"
        try:
            with told(url):
                item = self._put(target, lambda place: self._file_system.put_file(str(file), place))
        except RemoteError:
            if not file.exists():
                return
            raise
        try:
            now = file.stat()
        except FileNotFoundError:
            return
        if (now.st_size, now.st_mtime_ns) != (status.st_size, status.st_mtime_ns):
            return  # written anew meanwhile
        if item.size != status.st_size:
            raise RemoteError(f"{url}: {status.st_size} bytes were sent and {item.size} are there; run again")
        self._ledger.add(name, item, status.st_mtime_ns)

    def _send_record(self, name: str, mtime_ns: int, content: bytes) -> None:
        with told(f"{self._address.url}/{name}"):
            item = self._put(f"{self._path}/{name}", lambda place: self._file_system.pipe_file(place, content))
        self._ledger.add(name, item, mtime_ns)

    def _put(self, target: str, put: Callable[[str], object]) -> Item:
        """Upload an object so that it appears complete; returns its item."""
        folder, _, name = target.rpartition("/")
        if self._address.scheme in _WHOLE:
            put(target)
        else:
            self._file_system.makedirs(folder, exist_ok=True)
            put(f"{folder}/{PARTIAL}{name}")
            self._file_system.mv(f"{folder}/{PARTIAL}{name}", target)
        return Item.of(self._file_system.info(target))

    def _watch(self) -> None:
        """Upload repeatedly until the end or an error, for at most a twentieth of the time."""
        pause = _EVERY_S
        while not self._ended.wait(pause):
            began = time.monotonic()
            try:
                self._send()
            except Exception as error:  # noqa: BLE001 - of any kind: it is raised in the main thread
                self._error = error
                return
            pause = max(_EVERY_S, _TIMES * (time.monotonic() - began))


def _is_of_this_machine(name: str) -> bool:
    """Whether a file stays here: it is not whole yet, or it is the lock of a journal."""
    return is_partial(name) or name.endswith(LOCK)


@contextmanager
def writing(place: str | Path, *, apart: str = "", progress: Progress | None = None) -> Iterator[Staging]:
    """Give a folder to write into: the path itself, or the staging folder of a URL.

    The staging folder begins as a copy of the folder behind the URL, so that interrupted work is resumed on any
    machine. Each file is uploaded once it is complete, and appears whole or not at all; journals follow the files that
    they list. At the end, and after an error of the work too, the rest is uploaded.

    Args:
        place: Path or URL.
        apart: Word that separates two runs with one URL on one machine.
        progress: Function for the progress of the copying at the start, see `Progress`.

    Raises:
        UsageError: The URL holds a credential, or another run on this machine writes there.
        RemoteError: It cannot be read or written.

    >>> with writing("data/predictions") as staging:
    ...     staging.folder.as_posix()
    'data/predictions'
    """
    if not is_url(place):
        yield Staging(Path(place))
        return
    address = Address.parse(str(place))
    file_system, path = address.open()
    home = home_of(cache_folder(), address.url, apart=f"writing {apart}")
    refusal = f"another run on this machine writes to {address.url}; wait for it, or give this one another VOLSEG_CACHE"
    with locked(home, refusal=refusal) as intact:
        ledger = Ledger(home, address.url)
        folder = copy_in(home, address.name)
        listing = list_items(file_system, path, url=address.url)
        fetched = pull(file_system, path, listing, folder, ledger=ledger, progress=progress)
        staging = _Outgoing(
            folder, fetched, file_system=file_system, path=path, address=address, ledger=ledger, intact=intact
        )
        staging.start()
        try:
            yield staging
        except BaseException as first:
            try:
                staging.end()
            except Exception as error:  # noqa: BLE001 - the first error is reported
                if error is not first:
                    logger.warning("%s", error)
            raise
        staging.end()
