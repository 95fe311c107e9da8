"""The settings of a run by which another training goes on from its network: its sizes, and what it is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from volseg.bundle.folder import config
from volseg.bundle.recipe import Recipe, read_recipe
from volseg.files import read_json_object
from volseg.labels import fold_channel

# How the windows of a training are drawn and changed; a recipe does not say it, run.json does.
_WINDOWS = ("background_share", "affine_prob", "coarse_dropout")
PLANNED = ("spacing_mm", "roi_size", "normalisation", "flip_axes", "background_share")
"""Settings that a plan states, see `volseg.plan`."""


def run_settings(checkpoint: Path, bundle: Path, *, channel_names: Sequence[str]) -> dict[str, Any]:
    """The settings that a training from a network has to share with the one before, by id of train.json.

    The grid, the window, the normalisation with its constants, the mirrored axes and the prior are those of the
    checkpoint. The sizes of the network and the way its windows are drawn are those of the `run.json` beside it;
    without one, the sizes are those that the checkpoint states. How long and how fast is trained is no part of it.

    Args:
        checkpoint: Checkpoint of the earlier run.
        bundle: Folder of the bundle of the next training; of another one than the run's, no size is taken.
        channel_names: Image channels of the next training's cohort, in its order.

    Raises:
        VolsegError: The checkpoint cannot be read.
    """
    recipe = read_recipe(checkpoint)
    run = read_json_object(checkpoint.parent / "run.json") or {}
    found: dict[str, Any] = {"spacing_mm": list(map(float, recipe.spacing_mm)), "roi_size": list(recipe.roi_size)}
    schemes = _schemes(recipe, channel_names)
    if schemes:
        found["normalisation"] = schemes
    axes = recipe.facts.get("flip_axes")
    if isinstance(axes, list):
        found["flip_axes"] = axes
    settings: Mapping[str, Any] = run.get("settings") or {}
    values: Mapping[str, Any] = settings.get("values") or {}
    names = list(_WINDOWS)
    if recipe.takes_prior:
        found |= {"prior": True, "prior_alignment": recipe.prior_alignment}
        names.append("prior_dropout")
    own = _sizes(bundle)
    if run and Path(str(run.get("bundle"))).name == bundle.name:
        names += own
        given: Mapping[str, Any] = settings.get("given") or {}
        found |= {name: value for name, value in given.items() if name.partition("#")[0] in own and "#" in name}
    elif not run:
        stated = dict(recipe.network)
        if filters := stated.get("filters"):  # of the U-Net, whose setting is the channels of the finest stage
            stated["width"] = filters[0]
        found |= {name: value for name, value in stated.items() if name in own}
    return {**found, **{name: values[name] for name in names if values.get(name) is not None}}


def _schemes(recipe: Recipe, channel_names: Sequence[str]) -> list[Mapping[str, Any]]:
    """The normalisation of each channel of a cohort; empty where the recipe has none, or is of other channels."""
    names = recipe.image_channels
    if recipe.normalisation is None or len(names) != len(channel_names):
        return []
    alike = len(names) == 1 or [fold_channel(name) for name in names] == [fold_channel(name) for name in channel_names]
    return list(recipe.normalisation[: len(names)]) if alike else []


def _sizes(bundle: Path) -> list[str]:
    """The settings of a bundle's network alone: those between `weights` and what all bundles have in common."""
    names = list(read_json_object(config(bundle, "train.json")) or {})
    if not {"weights", "roi_divisor"} <= set(names):
        return []
    return names[names.index("weights") + 1 : names.index("roi_divisor")]
