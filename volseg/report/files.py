"""The files of a report: each whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from volseg.volume import atomic


def write_files(folder: str | Path, contents: Mapping[str, str]) -> list[Path]:
    """Write texts by name into a folder, made where it is absent; returns their paths in the same order.

    >>> import tempfile
    >>> [path.name for path in write_files(tempfile.mkdtemp(), {"a.csv": "1", "b.md": "2"})]
    ['a.csv', 'b.md']
    """
    paths = []
    for name, text in contents.items():
        path = Path(folder) / name
        with atomic(path) as partial:
            partial.write_bytes(text.encode())
        paths.append(path)
    return paths
