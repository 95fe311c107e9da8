"""Folders behind a URL: a copy of one is kept here and read, and what is written here is sent there.

Everything else in volseg works on paths. `local` turns a URL into the path of its copy; `writing` gives a folder to
write into and sends what appears there. fsspec does the transfers; it is loaded when the first URL is met.
"""

from __future__ import annotations

from volseg.remote.address import check_apart, is_url
from volseg.remote.ledger import identity
from volseg.remote.lock import locked
from volseg.remote.messages import without_secrets
from volseg.remote.mirror import local, mirror
from volseg.remote.staging import Staging, writing

__all__ = [
    "Staging",
    "check_apart",
    "identity",
    "is_url",
    "local",
    "locked",
    "mirror",
    "without_secrets",
    "writing",
]
