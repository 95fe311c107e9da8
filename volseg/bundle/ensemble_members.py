"""Members: the networks that a user names, each by its bundle and its checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from volseg.errors import CheckpointError

Member = tuple[str, Path | None]
"""A bundle, by name or folder, and its checkpoint; None for the bundle's own."""


def members_of(bundle: str, checkpoints: Sequence[Path], also: Sequence[str] = ()) -> list[Member]:
    """The networks that a user names; the first sets the settings of inference.

    Args:
        bundle: Name or folder of the bundle.
        checkpoints: Files, or folders of runs; none for the bundle's own.
        also: Further bundles, `BUNDLE` or `BUNDLE=CHECKPOINT`.

    Raises:
        CheckpointError: A file does not exist, or a folder has no checkpoints.
    """
    members: list[Member] = []
    for name, paths in ((bundle, checkpoints), *map(_parts, also)):
        found = find_checkpoints(paths)
        for path in found:
            if not path.is_file():
                raise CheckpointError(f"there is no checkpoint {path}; name the model.pt of a training")
        members += [(name, path) for path in found] if found else [(name, None)]
    return members


def find_checkpoints(paths: Iterable[Path]) -> list[Path]:
    """The checkpoint files that a user means: a folder stands for the `model.pt` of itself, or of each folder in it.

    Raises:
        CheckpointError: A folder holds no checkpoint.

    >>> find_checkpoints([Path("runs/model.pt")])
    [PosixPath('runs/model.pt')]
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        own = path / "model.pt"
        inside = [own] if own.is_file() else sorted(path.glob("*/model.pt"))
        if not inside:
            raise CheckpointError(f"{path} holds neither model.pt nor folders that do, such as fold0/model.pt")
        found += inside
    return found


def _parts(word: str) -> tuple[str, list[Path]]:
    """The parts of `BUNDLE` or `BUNDLE=CHECKPOINT`."""
    name, _, path = word.partition("=")
    return name, [Path(path)] if path else []
