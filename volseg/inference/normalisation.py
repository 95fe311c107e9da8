"""Whether a bundle normalises intensities as its network was trained, and whether networks normalise alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.transforms import Compose

from volseg.bundle import Recipe
from volseg.errors import CheckpointError
from volseg.inference.ensemble import image_order
from volseg.transforms import split_at_normalisation


def check_intensities(before: Compose, recipe: Recipe, *, checkpoint: Path) -> None:
    """Refuse a bundle whose preprocessing normalises otherwise than the network was trained with.

    Args:
        before: Preprocessing of the bundle; one without a normalisation that volseg knows is the user's own.
        recipe: Recipe in the checkpoint.
        checkpoint: File, for the message.

    Raises:
        CheckpointError: They differ.
    """
    first = next(iter(split_at_normalisation(before)[1].transforms if isinstance(before, Compose) else ()), None)
    if first is None:
        return
    entries = [one.to_json() for one in getattr(first, "normalisation", ())] or None
    if entries != recipe.normalisation:
        raise CheckpointError(
            f"{checkpoint} was trained with the normalisation {_told_schemes(recipe.normalisation)}, and the bundle's "
            f"preprocessing has {_told_schemes(entries)}; hand it the recipe's spacing as it is "
            "(spacing_mm=@recipe.spacing_mm), or normalisation=@recipe.normalisation"
        )


def _told_schemes(entries: Sequence[Mapping[str, Any]] | None) -> str:
    return "percentiles" if entries is None else ", ".join(str(entry["scheme"]) for entry in entries)


def normalise_alike(recipes: Sequence[Recipe]) -> bool:
    """Whether networks normalise each channel by the same scheme and constants."""
    first = recipes[0]
    for recipe in recipes[1:]:
        ours, theirs = first.normalisation, recipe.normalisation
        order = image_order(recipe.channel_names, among=first.channel_names)
        if ours is not None and order is not None:
            ours = [ours[place] for place in order]
        if ours != theirs:
            return False
    return True
