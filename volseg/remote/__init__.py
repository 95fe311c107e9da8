"""Folders behind a URL: a local copy is read, and what is written locally is uploaded.

Everything else in volseg works on paths. `local` turns a URL into the path of its copy; `writing` gives a folder to
write into and uploads the files that appear there. fsspec does the transfers; it is loaded at the first URL.
"""

from __future__ import annotations

from volseg.files import locked
from volseg.remote.address import Address, check_apart, is_url
from volseg.remote.ledger import identity
from volseg.remote.messages import without_secrets
from volseg.remote.mirror import local, mirror
from volseg.remote.staging import Staging, writing

__all__ = [
    "Address",
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
