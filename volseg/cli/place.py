"""Places that a user names: a path stays one, and of a URL a copy is made, with a bar of the MiB that come."""

from __future__ import annotations

from pathlib import Path

from volseg.cli.bar import bar

_MIB = 20


def fetched(place: str) -> Path:
    """The path of a place to read."""
    from volseg.remote import is_url, local

    if not is_url(place):
        return Path(place)
    with bar("fetch, MiB") as progress:
        return local(place, progress=lambda done, total: progress(done >> _MIB, total >> _MIB))
