"""Members: the networks that a user names, each by its bundle and its checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from volseg.bundle.ensemble_file import is_ensemble, named_ensemble, read_ensemble
from volseg.errors import CheckpointError

Member = tuple[str, Path | None]
"""A bundle, by name or folder, and its checkpoint; None for the bundle's own."""


def members_of(bundle: str, checkpoints: Sequence[Path], also: Sequence[str] = ()) -> list[Member]:
    """The networks that a user names; the first sets the settings of inference.

    Args:
        bundle: Name or folder of the bundle, or an ensemble folder, see `volseg.bundle.read_ensemble`.
        checkpoints: Files, folders of runs, or one ensemble folder; none for the bundle's own.
        also: Further bundles, `BUNDLE` or `BUNDLE=CHECKPOINT`.

    Raises:
        CheckpointError: A file does not exist, or a folder has no checkpoints.
    """
    ensemble = named_ensemble(bundle, checkpoints)
    members: list[Member] = [] if ensemble is None else list(ensemble.members)
    for name, paths in (*([] if ensemble else [(bundle, checkpoints)]), *map(_parts, also)):
        _check_ensembles(paths)
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
            raise CheckpointError(
                f"{path} holds neither model.pt nor folders that do, such as fold0/model.pt; name the folder of a "
                "training or a cross-validation, or a model.pt"
            )
        found += inside
    return found


def _check_ensembles(paths: Iterable[Path]) -> None:
    """Refuse an ensemble of several bundles among other checkpoints: those would be read with one bundle."""
    for path in paths:
        if is_ensemble(path) and len(bundles := read_ensemble(path).bundles) > 1:
            raise CheckpointError(
                f"{path} is an ensemble of {', '.join(bundles)}; name it alone, in the place of the bundle"
            )


def _parts(word: str) -> tuple[str, list[Path]]:
    """The parts of `BUNDLE` or `BUNDLE=CHECKPOINT`."""
    name, _, path = word.partition("=")
    return name, [Path(path)] if path else []
