"""A mirror: the local copy of a folder behind a URL, updated each time it is asked for."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from threading import Event, Lock
from typing import Any

from volseg.errors import RemoteError
from volseg.files import locked
from volseg.remote.address import Address, is_url
from volseg.remote.download import CHUNK, download
from volseg.remote.ledger import PARTS, Ledger, cache_folder, copy_in, home_of
from volseg.remote.listing import Listing, list_items
from volseg.remote.messages import told

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Function that is called with the bytes received so far and those of all."""

# Downloads at a time: small files wait for answers rather than for bytes.
_AT_ONCE = 8
# Number of listings: a folder that changes between all of them is being written to.
_ROUNDS = 4


def local(place: str | Path, *, progress: Progress | None = None) -> Path:
    """The local path of a place: the path itself, or that of the copy of a URL. Errors as in `mirror`.

    >>> local("data/cohort").as_posix()
    'data/cohort'
    """
    return mirror(str(place), progress=progress) if is_url(place) else Path(place)


def mirror(url: str, *, cache: Path | None = None, progress: Progress | None = None, chunk: int = CHUNK) -> Path:
    """Copy a folder, or a single file, and return the path of the copy.

    Files of an earlier copy stay if they have not changed; changed ones are downloaded again; files that no longer
    exist behind the URL are removed here. An interrupted download is continued. Two processes that ask for the same
    folder wait for each other.

    Args:
        url: URL such as s3://bucket/cohort.
        cache: Folder of the copies; `cache_folder()` by default.
        progress: Function for the progress, see `Progress`.
        chunk: Number of bytes per read.

    Raises:
        UsageError: The URL holds a credential.
        RemoteError: It cannot be read, nothing is there, it is being written to, or the disk here is too small.
    """
    address = Address.parse(url)
    file_system, path = address.open()
    home = home_of(cache or cache_folder(), address.url)
    with locked(home):
        listing = list_items(file_system, path, url=address.url)
        if not listing:
            raise RemoteError(f"{address.url}: there is nothing of this name; check bucket and folder")
        # If the URL is that of a single file, the listing has one item without a name of its own.
        with told(address.url):
            alone = list(listing) == [address.name] and path.endswith(f"/{address.name}") and file_system.isfile(path)
        root, base = (path.rpartition("/")[0], address.parent) if alone else (path, address.url)
        ledger = Ledger(home, base)
        folder = copy_in(home, "file" if alone else address.name)
        for _ in range(_ROUNDS):
            came = pull(file_system, root, listing, folder, ledger=ledger, progress=progress, chunk=chunk)
            if not came:
                logger.info("%s: the copy is %s", address.url, folder)
                return folder / address.name if alone else folder
            listing = list_items(file_system, path, url=address.url)  # with changes since the first listing
    raise RemoteError(f"{address.url}: it is being written to; read it when that has ended")


def pull(
    file_system: Any,  # noqa: ANN401 - fsspec has no types
    path: str,
    listing: Listing,
    folder: Path,
    *,
    ledger: Ledger,
    progress: Progress | None = None,
    chunk: int = CHUNK,
) -> list[str]:
    """Make a local folder equal to a listing; returns the names of the downloaded files.

    Args:
        file_system: File system of fsspec.
        path: Path of the folder in it.
        listing: Listing of the folder.
        folder: Folder of the copy; files that are not in the listing are removed from it.
        ledger: Ledger of the copy.
        progress: Function for the progress, see `Progress`.
        chunk: Number of bytes per read.

    Raises:
        RemoteError: A transfer stopped, or the disk here is too small.
    """
    folder.mkdir(parents=True, exist_ok=True)
    todo = {
        name: item
        for name, item in listing.items()
        if (known := ledger.get(name)) is None or known.item != item or not ledger.holds(name, folder / name)
    }
    for file in [path for path in folder.rglob("*") if path.is_file() or path.is_symlink()]:
        name = file.relative_to(folder).as_posix()
        if name not in listing:
            file.unlink()
    for empty in sorted((path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink()), reverse=True):
        with suppress(OSError):  # it holds something; a store has no empty folders
            empty.rmdir()
    for name in ledger:
        if name not in listing:
            ledger.remove(name)
    parts = {name: ledger.home / PARTS / _part(name, item.version) for name, item in todo.items()}
    wanted = set(parts.values())
    for old in (ledger.home / PARTS).glob("*"):
        if old not in wanted:
            old.unlink()
    total = sum(item.size for item in todo.values())
    there = sum(part.stat().st_size for part in parts.values() if part.is_file())
    free = shutil.disk_usage(ledger.home).free
    if free < total - there:
        raise RemoteError(
            f"{ledger.url}: {(total - there) / 2**30:.1f} GiB are to come and {free / 2**30:.1f} GiB are free in "
            f"{ledger.home.parent}; make room, or set VOLSEG_CACHE to a folder on a larger disk"
        )
    if todo:
        words = "%s: %d of %d files to fetch into %s, %.1f MiB"
        logger.info(words, ledger.url, len(todo), len(listing), folder, total / 2**20)
    came, compare, stopped, lock = [0], [True], Event(), Lock()

    def moved(count: int) -> None:
        if stopped.is_set():
            raise RemoteError(f"{ledger.url}: another transfer has failed")
        with lock:
            came[0] += count
            if progress:
                progress(came[0], total)

    def fetch(name: str) -> None:
        file, item = folder / name, todo[name]
        may_compare = download(
            file_system,
            f"{path}/{name}",
            file,
            item=item,
            part=parts[name],
            url=f"{ledger.url}/{name}",
            moved=moved,
            compare=compare[0],
            chunk=chunk,
        )
        compare[0] = compare[0] and may_compare
        ledger.add(name, item, file.stat().st_mtime_ns)

    with ThreadPoolExecutor(_AT_ONCE, "fetch") as pool:
        fetching = [pool.submit(fetch, name) for name in todo]
        try:
            for one in as_completed(fetching):
                one.result()
        except BaseException:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return list(todo)


def _part(name: str, version: str) -> str:
    return hashlib.sha256(f"{name}\n{version}".encode()).hexdigest()[:32]
