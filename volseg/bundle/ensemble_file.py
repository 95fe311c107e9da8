"""An ensemble folder: checkpoints of several trainings, and `ensemble.json`, which says how they are used together."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from volseg.bundle.folder import find, is_bundle
from volseg.errors import BundleError, CheckpointError
from volseg.labels import Cleanup

ENSEMBLE = "ensemble.json"
ENSEMBLE_SCHEMA = "volseg.ensemble/1"


@dataclass(frozen=True)
class Ensemble:
    """The networks of an ensemble folder, as `volseg crossval` writes it.

    Attributes:
        folder: Folder that holds `ensemble.json` and the checkpoints.
        members: Bundle folder and checkpoint of each network; the first one sets the settings of inference.
        cleanup: Clean-up of label maps that was chosen for these networks; an empty one if none helped.
        facts: Content of `ensemble.json`.
    """

    folder: Path
    members: tuple[tuple[str, Path], ...]
    cleanup: Cleanup = field(default_factory=Cleanup)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def bundles(self) -> tuple[str, ...]:
        """The names of the bundles, each once."""
        return tuple(dict.fromkeys(Path(name).name for name, _ in self.members))


def is_ensemble(folder: str | Path) -> bool:
    """Whether a folder holds an `ensemble.json`.

    >>> is_ensemble("/nowhere")
    False
    """
    return (Path(folder) / ENSEMBLE).is_file()


def read_ensemble(folder: str | Path) -> Ensemble:
    """Read an ensemble folder.

    A bundle is looked for where it was at the training, then by its name as `volseg.bundle.find` does, so that the
    folder may be copied to another machine.

    Raises:
        CheckpointError: The folder has no `ensemble.json`, the file is damaged or of a newer volseg, or a checkpoint is
            absent or of another size.
        BundleError: A bundle is not found.
    """
    path = Path(folder) / ENSEMBLE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != ENSEMBLE_SCHEMA:
            raise CheckpointError(
                f"{path} must have the schema {ENSEMBLE_SCHEMA}, got {content['schema']}; update volseg"
            )
        members = tuple(_member(Path(folder), entry) for entry in content["members"])
        cleanup = Cleanup(**content.get("cleanup", {}))
    except FileNotFoundError:
        raise CheckpointError(f"{folder} has no {ENSEMBLE}; name the folder that `volseg crossval` wrote") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); write it again with `volseg crossval`") from error
    if not members:
        raise CheckpointError(f"{path} must list one network or more, got none; write it again with `volseg crossval`")
    return Ensemble(Path(folder), members, cleanup, content)


def named_ensemble(bundle: str, checkpoints: Sequence[Path]) -> Ensemble | None:
    """The ensemble that a user names, in the place of the bundle or as the only checkpoint; None if neither is one.

    Args:
        bundle: Name or folder of a bundle, or an ensemble folder.
        checkpoints: Checkpoints that were given with it.

    Raises:
        CheckpointError: The ensemble has checkpoints of its own and others are given, or it has no network of the
            bundle.
    """
    if is_ensemble(bundle) and not is_bundle(Path(bundle)):
        if checkpoints:
            raise CheckpointError(
                f"{bundle} is an ensemble with checkpoints of its own, and {checkpoints[0]} is given too; drop one"
            )
        return read_ensemble(bundle)
    if len(checkpoints) != 1 or not is_ensemble(checkpoints[0]):
        return None
    ensemble = read_ensemble(checkpoints[0])
    name = find(bundle).name
    if name not in ensemble.bundles:
        raise CheckpointError(
            f"{checkpoints[0]} must be an ensemble with a network of {name}, got {', '.join(ensemble.bundles)}; name "
            f"one of these, or {checkpoints[0]} itself in the place of the bundle"
        )
    return ensemble


def _member(folder: Path, entry: Mapping[str, Any]) -> tuple[str, Path]:
    checkpoint = folder / entry["checkpoint"]
    if not checkpoint.is_file():
        raise CheckpointError(f"{folder / ENSEMBLE} lists {checkpoint}, which is not there; copy the whole folder")
    size = checkpoint.stat().st_size
    if size != entry["bytes"]:
        raise CheckpointError(
            f"{checkpoint} must have the {entry['bytes']} bytes that {ENSEMBLE} states, got {size}; copy it again"
        )
    for name in (entry.get("bundle_folder"), entry["bundle"]):
        if name is not None:
            with contextlib.suppress(BundleError):
                return str(find(name)), checkpoint
    raise BundleError(
        f"the bundle {entry['bundle']} of {folder / ENSEMBLE} is neither at {entry.get('bundle_folder')} nor in "
        "bundles/ of the working directory nor one of volseg's own; run the command where it is"
    )
