"""Digests of the data of a training, by which a resumed one reports what has changed since."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from volseg.training.cache.file_content import file_digest

Digests = dict[str, dict[str, str]]
"""Digests by side of the fold and case key."""

_SOME = 3


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
