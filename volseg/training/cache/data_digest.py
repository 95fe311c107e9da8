"""Digests of the data of a training, by which a resumed one reports what has changed since."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Digests = dict[str, dict[str, str]]
"""Digests by side of the fold and case key."""

_SOME = 3
_ENDS = 2**16  # bytes
_WHOLE = 2**26  # bytes; a larger file without checksum is told by its ends, size and time


def data_digests(sides: Mapping[str, object]) -> Digests:
    """Compute a digest of the files of each case of each side, from contents (see `file_digest`), not paths.

    Args:
        sides: Datalists by name, such as `training`: dictionaries of `key`, `image` (paths) and `label` (a path).
            An entry that is no list of such dictionaries has no digest, and neither has a case without files.

    >>> data_digests({"training": [{"key": "a", "image": ["/nowhere.nii.gz"]}], "validation": None})
    {'training': {}, 'validation': {}}
    """
    return {side: dict(_cases(items)) for side, items in sides.items()}


def data_change(before: Mapping[str, Mapping[str, str]], now: Mapping[str, Mapping[str, str]]) -> str:
    """Describe the differences between two `data_digests` in words; empty if there are none.

    >>> data_change({"training": {"a": "1:2", "b": "3:4"}}, {"training": {"a": "1:5", "c": "3:4"}})
    'training: the label of a changed; c was added; b is gone'
    """
    told = []
    for side in now:
        old, new = before.get(side, {}), now[side]
        images = [key for key in new if key in old and _image(old[key]) != _image(new[key])]
        labels = [key for key in new if key in old and _image(old[key]) == _image(new[key]) and old[key] != new[key]]
        added, gone = [key for key in new if key not in old], [key for key in old if key not in new]
        parts = [
            f"the image of {_names(images)} changed" if images else "",
            f"the label of {_names(labels)} changed" if labels else "",
            f"{_names(added)} {'was' if len(added) == 1 else 'were'} added" if added else "",
            f"{_names(gone)} {'is' if len(gone) == 1 else 'are'} gone" if gone else "",
        ]
        if any(parts):
            told.append(f"{side}: {'; '.join(part for part in parts if part)}")
    return ". ".join(told)


def _cases(items: object) -> Iterable[tuple[str, str]]:
    if not isinstance(items, Sequence) or isinstance(items, str):
        return
    for item in items:
        if not isinstance(item, Mapping) or "key" not in item:
            continue
        words = [_files(item.get("image")), _files(item.get("label"))]
        if any(words):
            yield str(item["key"]), ":".join(words)


def _files(value: Any) -> str:  # noqa: ANN401 - what a datalist holds
    paths = list(value) if isinstance(value, (list, tuple)) else [value]
    if not all(isinstance(path, (str, Path)) and Path(path).is_file() for path in paths):
        return ""
    return "+".join(file_digest(path) for path in paths)


def _image(word: str) -> str:
    return word.partition(":")[0]


def _names(keys: Sequence[str]) -> str:
    return ", ".join(keys[:_SOME]) + (f" and {len(keys) - _SOME} more" if len(keys) > _SOME else "")


def file_digest(path: str | Path) -> str:
    """Compute a hexadecimal word of 16 letters for a file's content, at the cost of two small reads.

    A gzip file ends with the CRC-32 and the length of what it holds, so that its first and last 64 KiB and its size
    determine header and voxels. A file of another kind is read whole up to 64 MiB; for a larger one its time of change
    counts too.

    Args:
        path: The file, such as a `.nii.gz`.

    Raises:
        OSError: It cannot be read.

    >>> import gzip, tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.gz"
    >>> one = [path.write_bytes(gzip.compress(bytes(10**6), mtime=0)), file_digest(path)][1]
    >>> other = [path.write_bytes(gzip.compress(bytes(10**6 - 1) + b"1", mtime=0)), file_digest(path)][1]
    >>> one == other, len(one)
    (False, 16)
    """
    path = Path(path)
    status = path.stat()
    found = hashlib.sha256(str(status.st_size).encode())
    with path.open("rb") as file:
        start = file.read(_ENDS)
        found.update(start)
        if status.st_size > _ENDS:
            if start[:2] == b"\x1f\x8b":
                file.seek(max(_ENDS, status.st_size - _ENDS))
            elif status.st_size > _WHOLE:
                found.update(str(status.st_mtime_ns).encode())
                file.seek(status.st_size - _ENDS)
            while part := file.read(2**20):
                found.update(part)
    return found.hexdigest()[:16]
