"""The networks that a server is given: those of a bundle, a run, an ensemble folder, or the zip of a package."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

from volseg.bundle import Member, find, find_checkpoints, is_bundle, is_ensemble, read_ensemble
from volseg.errors import BundleError, UsageError
from volseg.labels import Cleanup


@dataclass(frozen=True)
class GivenNetworks:
    """What a server predicts with.

    Attributes:
        name: Name of the model, for people and in requests.
        bundle: Folder of the bundle of the first network.
        members: Bundle and checkpoint of each network; no checkpoint means that of the bundle.
        cleanup: Clean-up that was chosen for an ensemble.
    """

    name: str
    bundle: Path
    members: tuple[Member, ...]
    cleanup: Cleanup = field(default_factory=Cleanup)


def given_networks(bundle: str | None, checkpoint: Path | None, *, unpacked: Path) -> GivenNetworks:
    """Find the networks that a user names.

    Args:
        bundle: Name or folder of a bundle, zip of a package, folder of a run, or ensemble folder; None if `checkpoint`
            tells which bundle it is of.
        checkpoint: Checkpoint file, folder of a run, ensemble folder, or zip of a package; None for the bundle's own.
        unpacked: Folder in which packages are unpacked, each once.

    Raises:
        UsageError: Neither is given, both are, or a run does not say its bundle.
        BundleError: There is no such bundle, or a zip holds none.
        CheckpointError: There is no such checkpoint.
    """
    if bundle is not None and not is_bundle(Path(bundle)):
        alone = Path(bundle)
        if _is_zip(alone) or is_ensemble(alone) or (alone / "run.json").is_file():
            if checkpoint is not None:
                raise UsageError(f"{bundle} has networks of its own, and {checkpoint} is given too; leave one out")
            bundle, checkpoint = None, alone
    if checkpoint is None:
        if bundle is None:
            raise UsageError("name a bundle, or a run, an ensemble folder or the zip of a package with --checkpoint")
        return _of_bundle(find(bundle))
    if _is_zip(checkpoint):
        if bundle is not None:
            raise UsageError(f"{checkpoint} is a bundle itself, and {bundle} is given too; leave one out")
        return _of_bundle(_unpacked(checkpoint, unpacked))
    if is_ensemble(checkpoint):
        ensemble = read_ensemble(checkpoint)
        name = "ensemble" if len(ensemble.bundles) > 1 else ensemble.bundles[0]
        if bundle is not None and find(bundle).name not in ensemble.bundles:
            raise UsageError(f"{checkpoint} is an ensemble of {', '.join(ensemble.bundles)}; leave {bundle} out")
        return GivenNetworks(name, find(ensemble.members[0][0]), ensemble.members, ensemble.cleanup)
    files = find_checkpoints([checkpoint])
    folder = find(_bundle_of(files[0]) if bundle is None else bundle)
    return GivenNetworks(folder.name, folder, tuple((str(folder), file) for file in files))


def _of_bundle(folder: Path) -> GivenNetworks:
    return GivenNetworks(folder.name, folder, ((str(folder), None),))


def _bundle_of(checkpoint: Path) -> str:
    """The bundle that a run was trained with, as its `run.json` states it."""
    try:
        facts = json.loads((checkpoint.parent / "run.json").read_text(encoding="utf-8"))
        return str(facts["bundle"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(
            f"{checkpoint} has no run.json beside it that says which bundle it is of; name the bundle too"
        ) from None


def _is_zip(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() == ".zip"


def _unpacked(archive: Path, place: Path) -> Path:
    """The bundle in the zip of a package; it is unpacked whole or not at all, and once."""
    digest = hashlib.sha256()
    with archive.open("rb") as file:
        while block := file.read(2**20):  # Python 3.10 has no hashlib.file_digest
            digest.update(block)
    folder = place / digest.hexdigest()[:16]
    if not folder.is_dir():
        place.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".partial-", dir=place))
        try:
            with zipfile.ZipFile(archive) as content:
                content.extractall(made)
            made.rename(folder)
        except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
            raise BundleError(f"{archive} cannot be unpacked ({error}); copy or pack it again") from error
        finally:
            shutil.rmtree(made, ignore_errors=True)
    found = [path for path in sorted(folder.iterdir()) if is_bundle(path)]
    if len(found) != 1:
        raise BundleError(f"{archive} must hold one bundle, got {len(found)}; name a zip of `volseg pack`")
    return found[0]
