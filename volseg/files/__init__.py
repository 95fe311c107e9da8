"""Files that are written whole or not at all, locks between the processes that write them, and trees of files."""

from volseg.files.lock import LOCK, Lock, locked, take_lock
from volseg.files.tree import files_below
from volseg.files.writing import FULL, PARTIAL, SERIES, atomic, ignores_case, is_partial, link_or_copy, read_json_object

__all__ = [
    "FULL",
    "LOCK",
    "PARTIAL",
    "SERIES",
    "Lock",
    "atomic",
    "files_below",
    "ignores_case",
    "is_partial",
    "link_or_copy",
    "locked",
    "read_json_object",
    "take_lock",
]
