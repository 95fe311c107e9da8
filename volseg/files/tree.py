"""The files below a folder, links to folders included: one rule for all readers of folder trees."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path


def files_below(
    folder: Path, *, hidden: bool = True, unlisted: Callable[[OSError], None] | None = None
) -> Iterator[Path]:
    """The files below a folder, sorted within each; links to folders are followed, and each folder is entered once.

    A folder is entered by its own path if that lies below `folder`, and else by the first link to it.

    Args:
        folder: Folder.
        hidden: Whether files and folders count whose names begin with a dot.
        unlisted: Function that is told of a folder whose content the system does not give; by default that is an error.

    Raises:
        OSError: A folder cannot be listed, and there is no `unlisted`.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "there").mkdir()
    >>> _ = (folder / "there" / "a").write_text("slice")
    >>> (folder / "here").symlink_to(folder / "there")
    >>> [path.relative_to(folder).as_posix() for path in files_below(folder)]
    ['there/a']
    """

    def refuse(error: OSError) -> None:
        raise error

    seen: set[tuple[int, int]] = set()
    starts = [Path(folder)]
    while starts:
        links: list[Path] = []
        for start in starts:
            for place, folders, names in os.walk(start, onerror=unlisted or refuse):
                state = Path(place).stat()
                if (state.st_dev, state.st_ino) in seen:  # by a link to a folder above or beside it
                    folders.clear()
                    continue
                seen.add((state.st_dev, state.st_ino))
                folders[:] = sorted(name for name in folders if hidden or not name.startswith("."))
                links += [path for name in folders if (path := Path(place, name)).is_symlink()]
                yield from (Path(place, name) for name in sorted(names) if hidden or not name.startswith("."))
        starts = links
