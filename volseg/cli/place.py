"""What a user names to be read: a path stays one, and a URL is copied, with a progress bar in MiB."""

from __future__ import annotations

from pathlib import Path

from volseg.cli.bar import bar

_MIB = 20


def fetched(place: str) -> Path:
    """The local path of what is to be read: the path itself, or that of a copy of the URL."""
    from volseg.remote import is_url, local

    if not is_url(place):
        return Path(place)
    with bar("fetch, MiB") as progress:
        return local(place, progress=lambda done, total: progress(done >> _MIB, total >> _MIB))
