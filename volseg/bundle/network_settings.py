"""The settings of its network that a bundle takes from a checkpoint, and which bundle a checkpoint is of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from volseg.bundle.folder import config
from volseg.bundle.recipe import Recipe
from volseg.errors import BundleError, CheckpointError

_TAKEN = re.compile(r"recipe\.network\[['\"](\w+)['\"]\]")


def taken_settings(bundle: Path) -> frozenset[str]:
    """The settings of the network that the `inference.json` of a bundle takes from the checkpoint.

    Raises:
        BundleError: it has none.
    """
    return frozenset(_TAKEN.findall(config(bundle, "inference.json").read_text(encoding="utf-8")))


def check_settings(bundle: Path, recipe: Recipe, *, checkpoint: Path) -> None:
    """Refuse a checkpoint of another network than that of the bundle, before the network is built.

    Args:
        bundle: folder of the bundle.
        recipe: what the checkpoint says of itself.
        checkpoint: the file, for the message.

    Raises:
        CheckpointError: settings that the bundle's network needs are absent; the message says whose network it is.
    """
    absent = sorted(taken_settings(bundle) - set(recipe.network))
    if absent:
        own = _bundle_of(recipe.network, beside=bundle)
        has = f"is of the bundle {own}" if own else f"has the settings {', '.join(recipe.network) or 'none'}"
        cure = f"name that one: {own}" if own else "name the bundle that it was trained with"
        raise CheckpointError(
            f"{checkpoint} does not fit the network of {bundle.name}, which needs {', '.join(absent)}: it {has}; {cure}"
        )


def _bundle_of(network: Mapping[str, object], *, beside: Path) -> str | None:
    """The bundle beside another one that takes just these settings, where there is one."""
    found = []
    for folder in sorted(beside.parent.iterdir()):
        try:
            if taken_settings(folder) == set(network):
                found.append(folder.name)
        except (BundleError, OSError):
            continue
    return found[0] if len(found) == 1 else None
