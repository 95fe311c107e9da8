"""Fetching a public data set: download, compare, unpack beside the target, look at what it holds, put it in place."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from volseg.datasets.archive import unpack
from volseg.datasets.catalogue import Published
from volseg.datasets.kaggle import download_competition
from volseg.datasets.transfer import Progress, Resuming
from volseg.errors import RemoteError, UsageError
from volseg.files import read_json_object
from volseg.remote import is_url, locked

# What came, in the folder of the data set; hidden, so that no reader takes it for data.
RECORD = ".fetched.json"


def fetch(
    published: Published,
    folder: Path,
    *,
    archive: Path | None = None,
    keep: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Fetch a data set or a network into a folder, whole or not at all.

    A call after a stop goes on, one after the end does nothing.

    Args:
        published: Data set, or network of a catalogue.
        folder: Folder that becomes the data set; absent or empty before.
        archive: Archive that was downloaded by hand; None fetches it.
        keep: Whether the archive stays beside the folder.
        progress: Function that is called as `Progress` says.

    Returns:
        What came, as in the folder's `.fetched.json`: name, url, file, bytes, sha256, how it was compared.

    Raises:
        UsageError: The folder holds something else.
        RemoteError: The data set could not be fetched, and the steps to do it by hand are told; or it is not what it
            should be.
    """
    if archive is None and published.url is not None and not is_url(published.url):
        archive = Path(published.url)  # beside a catalogue on this machine
    before, work = _record(folder), folder.parent / f".fetch-{published.name}"
    if before.get("name") == published.name and before.get("catalogue", "") == published.catalogue:
        if published.catalogue and f"sha256:{before['sha256']}" != published.checksum:
            raise UsageError(
                f"{folder} holds {published.name} as it was published before; move it away, or name another folder"
            )
        try:
            _check_content(published, folder)
        except RemoteError as error:
            raise RemoteError(f"{folder} was fetched before and has lost files; remove it and run again") from error
        if work.is_dir():  # of a run that was stopped at its very end
            with suppress(UsageError):  # another run, for another folder, is at work in it
                with locked(work, refusal="it is at work"):
                    pass
                shutil.rmtree(work, ignore_errors=True)
        return before
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not empty and was not fetched as {published.name}; name another folder")
    with locked(work, refusal=f"another `volseg fetch {published.name}` is at work in {work}; wait for it"):
        file = _by_hand(published, archive) if archive else _download(published, folder, work, progress)
        record = _put_in_place(published, file, folder, work, by_hand=archive is not None)
        if keep and archive is None:
            file.rename(folder.parent / published.file)
    shutil.rmtree(work, ignore_errors=True)  # not before the lock is released: Windows removes no file that is open
    return record


def _put_in_place(published: Published, file: Path, folder: Path, work: Path, *, by_hand: bool) -> dict[str, Any]:
    """Unpack an archive, look at what it holds, and make it the folder; the record of it."""
    unpacked = work / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    try:
        if published.packed:
            unpack(file, unpacked)
        else:
            unpacked.mkdir(parents=True)
            shutil.copyfile(file, unpacked / published.file)
        root = _root(published, unpacked)
        _check_content(published, root)
    except RemoteError:
        if not by_hand and published.checksum is None:
            file.unlink()  # nothing tells whether it came whole: the next run fetches it anew
        raise
    record = {
        "name": published.name,
        "url": published.url or published.page,
        "file": published.file,
        "bytes": file.stat().st_size,
        "sha256": _digest(file, "sha256"),
        "compared": f"{published.checksum} of {published.source}" if published.checksum else "by what it holds",
        "licence": published.licence,
        **({"catalogue": published.catalogue} if published.catalogue else {}),
        "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    (root / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        folder.rmdir()
    root.rename(folder)
    return record


def _root(published: Published, unpacked: Path) -> Path:
    """The folder that becomes the data set."""
    if published.root != "*":
        return unpacked / published.root
    inside = list(unpacked.iterdir())
    if len(inside) != 1 or not inside[0].is_dir():
        raise RemoteError(f"{published.file} must hold one folder, got {len(inside)} entries; see {published.page}")
    return inside[0]


def _download(published: Published, folder: Path, work: Path, progress: Progress | None) -> Path:
    try:
        if published.competition is not None:
            return download_competition(published.competition, work, file=published.file, progress=progress)
        return _retrieve(published, work, progress)
    except RemoteError as error:
        raise RemoteError(f"{error.message}\nBy hand:\n{published.steps(folder)}") from error


def _retrieve(published: Published, work: Path, progress: Progress | None) -> Path:
    try:
        import pooch
        import requests
    except ImportError as error:
        raise RemoteError(f"{error.name} is not installed; `pip install 'volseg[fetch]'` brings it") from error
    pooch.get_logger().setLevel(logging.WARNING)
    resuming = Resuming(work / f"{published.file}.part", progress=progress)
    try:
        return Path(
            pooch.retrieve(
                url=published.url,
                known_hash=published.checksum,
                fname=published.file,
                path=work,
                downloader=resuming,
            )
        )
    except requests.HTTPError as error:
        raise RemoteError(f"{published.url} answers {error.response.status_code} {error.response.reason}") from error
    except requests.RequestException as error:
        came = (work / f"{published.file}.part").is_file()
        kept = "the connection broke; run again to go on from there" if came else "it cannot be reached from here"
        raise RemoteError(f"{published.url}: {kept}") from error
    except ValueError as error:  # pooch's word for another checksum; it has removed the file
        raise RemoteError(
            f"{published.file} is not the one that {published.source} knows ({published.checksum}): it came damaged, "
            "or was published anew. Run again to fetch it once more"
        ) from error


def _by_hand(published: Published, archive: Path) -> Path:
    """The archive that the user names, compared."""
    if not archive.is_file():
        raise UsageError(f"there is no file {archive}; name the archive that was downloaded")
    if published.checksum is not None:
        kind, _, expected = published.checksum.partition(":")
        got = _digest(archive, kind)
        if got != expected:
            raise RemoteError(
                f"{archive} has the {kind} {got}, expected {expected} ({published.source}); it is cut short or another "
                "file: download it again"
            )
    return archive


def _check_content(published: Published, folder: Path) -> None:
    for pattern, least in published.holds.items():
        found = len(list(folder.glob(pattern)))
        if found < least:
            raise RemoteError(
                f"{published.name}: {found} files match {pattern}, expected at least {least}; it is incomplete "
                f"or laid out in another way, see {published.page}"
            )


def _record(folder: Path) -> dict[str, Any]:
    return read_json_object(folder / RECORD) or {}


def _digest(file: Path, kind: str) -> str:
    digest = hashlib.new(kind, usedforsecurity=False)
    with file.open("rb") as content:
        while chunk := content.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()
