"""Public data sets, fetched where they are published: whole, compared, safely unpacked, with a record of what came."""

from __future__ import annotations

from volseg.fetch.catalogue import PUBLISHED, Published, find
from volseg.fetch.fetching import fetch

__all__ = ["PUBLISHED", "Published", "fetch", "find"]
