"""Files that are written whole or not at all, and locks between the processes that write them."""

from volseg.files.lock import LOCK, Lock, locked, take_lock
from volseg.files.writing import FULL, PARTIAL, SERIES, atomic, ignores_case, is_partial, link_or_copy, read_json_object

__all__ = [
    "FULL",
    "LOCK",
    "PARTIAL",
    "SERIES",
    "Lock",
    "atomic",
    "ignores_case",
    "is_partial",
    "link_or_copy",
    "locked",
    "read_json_object",
    "take_lock",
]
