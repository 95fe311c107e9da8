"""The settings of its network that a bundle reads from a checkpoint, and the bundle that a checkpoint belongs to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from volseg.bundle.folder import config
from volseg.bundle.recipe import Recipe
from volseg.errors import BundleError, CheckpointError

_TAKEN = re.compile(r"recipe\.network\[['\"](\w+)['\"]\]")


def taken_settings(bundle: Path) -> frozenset[str]:
    """The settings of the network that the `inference.json` of a bundle reads from the checkpoint.

    Raises:
        BundleError: The bundle has no `inference.json`.
    """
    return frozenset(_TAKEN.findall(config(bundle, "inference.json").read_text(encoding="utf-8")))


def check_settings(bundle: Path, recipe: Recipe, *, checkpoint: Path) -> None:
    """Refuse a checkpoint of another network than that of the bundle, before the network is built.

    Args:
        bundle: Folder of the bundle.
        recipe: Recipe in the checkpoint.
        checkpoint: File, for the message.

    Raises:
        CheckpointError: Settings that the bundle's network needs are absent; the message says whose network it is.
    """
    absent = sorted(taken_settings(bundle) - set(recipe.network))
    if absent:
        own = _bundle_of(recipe.network, beside=bundle)
        has = f"is of the bundle {own}" if own else f"has the settings {', '.join(recipe.network) or 'none'}"
        cure = "name that one" if own else "name the bundle that it was trained with"
        raise CheckpointError(
            f"{checkpoint} does not fit the network of {bundle.name}, which needs {', '.join(absent)}: it {has}; {cure}"
        )


def _bundle_of(network: Mapping[str, object], *, beside: Path) -> str | None:
    """The bundle beside another one that reads exactly these settings, if there is one."""
    found = []
    for folder in sorted(beside.parent.iterdir()):
        try:
            if taken_settings(folder) == set(network):
                found.append(folder.name)
        except (BundleError, OSError):
            continue
    return found[0] if len(found) == 1 else None
