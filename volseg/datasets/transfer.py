"""A transfer over HTTP that goes on where it stopped, as pooch's downloader."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from volseg.datasets.space import check_space
from volseg.errors import RemoteError

Progress = Callable[[int, int], None]
"""Called with the bytes that have come and those of all."""

_TIMEOUT_S = (15, 60)  # to connect, and between two packets
_CHUNK = 2**16  # what a broken connection can cost
_RANGE_NOT_SATISFIABLE = 416


class Resuming:
    """Downloads a URL into a file of its own, and hands it over when it is whole.

    What came before a stop is kept if the server's ETag, or the time of its last change, is still the same.

    Args:
        part: File for what has come; a file beside it holds what the server said of it.
        progress: Function that is called as `Progress` says.
    """

    def __init__(self, part: Path, *, progress: Progress | None = None) -> None:
        self._part = part
        self._note = part.with_name(f"{part.name}.json")
        self._progress = progress

    def __call__(self, url: str, output_file: str, pooch: object, *, check_only: bool = False) -> None:  # noqa: ARG002
        """Write the content of a URL to a file.

        Raises:
            RemoteError: The connection ended early, or the disk is too small.
            requests.RequestException: what the network or the server says.
        """
        if not self._read(url):
            self._forget()  # what had come is of no use to this server
            if not self._read(url):
                raise RemoteError(f"{url} answers that it has no such bytes; try again later")
        self._part.replace(output_file)
        self._forget()

    def _read(self, url: str) -> bool:
        """Whether the part is whole; False where it must be begun anew."""
        import requests

        have, known = self._before(url)
        if known.get("size") is not None and have == known["size"]:
            return True
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": known["version"]}
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S) as answer:
            if answer.status_code == _RANGE_NOT_SATISFIABLE:
                return False
            answer.raise_for_status()
            if not (answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")):
                have = 0
            rest = answer.headers.get("Content-Length")
            size = have + int(rest) if rest and rest.isdigit() else None
            if size is not None:
                check_space(self._part.parent, size - have, what=url)
            version = answer.headers.get("ETag", "")
            if not version or version.startswith("W/"):
                version = answer.headers.get("Last-Modified", "")
            self._note.write_text(json.dumps({"url": url, "version": version, "size": size}), encoding="utf-8")
            with self._part.open("ab" if have else "wb") as file:
                for content in answer.iter_content(_CHUNK):
                    file.write(content)
                    have += len(content)
                    if self._progress:
                        self._progress(have, size or have)
        if size is not None and have != size:
            raise RemoteError(f"{url} ended after {have} of {size} bytes; run again to go on from there")
        return True

    def _before(self, url: str) -> tuple[int, dict[str, Any]]:
        """What has come of this URL, and what was told of it; nothing where the server named no version."""
        with suppress(OSError, ValueError):
            known = json.loads(self._note.read_text(encoding="utf-8"))
            if known["url"] == url and known["version"]:
                return self._part.stat().st_size, known
        return 0, {}

    def _forget(self) -> None:
        for path in (self._part, self._note):
            path.unlink(missing_ok=True)
