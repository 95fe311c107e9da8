"""A watched folder: each series dropped into it is segmented once, when it is complete."""

from __future__ import annotations

from volseg.deploy.watch.inbox import Inbox
from volseg.deploy.watch.item import fingerprints
from volseg.deploy.watch.ledger import Ledger
from volseg.deploy.watch.segmenting import Segmenting, load_segmenting
from volseg.deploy.watch.watcher import Watcher, check_folders

__all__ = [
    "Inbox",
    "Ledger",
    "Segmenting",
    "Watcher",
    "check_folders",
    "fingerprints",
    "load_segmenting",
]
