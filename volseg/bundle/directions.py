"""Networks that were trained on slices of another direction than those to predict."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from volseg.cohort import slice_direction

if TYPE_CHECKING:
    from volseg.bundle.recipe import Recipe
    from volseg.cohort import Cohort

_REGIONS = ("large_bowel", "small_bowel", "stomach")

logger = logging.getLogger(__name__)


def checkpoint_note(checkpoint: str | Path, recipe: Recipe, cohort: Cohort | None = None) -> str | None:
    """The note on a network that was trained on slices of another direction than those to predict, else None.

    Args:
        checkpoint: File, for the message.
        recipe: Recipe in the checkpoint. One of an earlier version does not name the training data; if its regions are
            those of the UW-Madison data, it is taken for trained on them.
        cohort: Cohort to predict; None (the default) for other files.
    """
    given = None if cohort is None else slice_direction(cohort.provenance)
    stated = recipe.facts.get("source")
    if isinstance(stated, Mapping):
        learnt = None if stated.get("phantom") else slice_direction(stated)
        if learnt == "to the head" and given != "to the head":
            return (
                f"{checkpoint} must be of slices that run to the feet, and its training cohort was one of UW-Madison "
                "scans in which they ran to the head: it knows mirror images that stand on their head; convert the "
                "slices again and train anew"
            )
        if learnt == "to the feet" and given == "to the head" and cohort and not cohort.provenance["phantom"]:
            return (
                f"{checkpoint} was trained on slices that run to the feet, and those of {cohort.folder} run to the "
                "head; convert them again with this volseg and predict anew"
            )
        return None
    if "source" in recipe.facts or given == "to the head" or not _of_earlier(recipe):
        return None
    return (
        f"{checkpoint} must say which way the slices of its training cohort ran, and one of an earlier volseg does "
        f"not; it segments {', '.join(recipe.labels.names)}, and in UW-Madison scans slices ran to the head then, so "
        "it knows mirror images that stand on their head; unless it was trained on the phantom or on other data, "
        "convert the slices again and train anew"
    )


class Network(Protocol):
    """A network with its checkpoint, such as `volseg.inference.Predictor`."""

    @property
    def checkpoint(self) -> Path:
        """The file of the weights."""

    @property
    def recipe(self) -> Recipe:
        """The recipe in the checkpoint."""


def tell_networks(networks: Iterable[Network], cohort: Cohort | None = None) -> None:
    """Log the `checkpoint_note` of each network that has one, for the cohort that they predict, or for other files."""
    for network in networks:
        if note := checkpoint_note(network.checkpoint, network.recipe, cohort):
            logger.warning("%s", note)


def resume_problem(earlier: Mapping[str, Any], recipe: Recipe) -> str | None:
    """The reason why a training cannot be resumed with this cohort, if its slices run the other way; else None.

    Args:
        earlier: Settings in `last.pt`; those of earlier versions do not record the direction.
        recipe: Recipe of the current training.
    """
    now = recipe_direction(recipe)
    before = earlier["slices"] if "slices" in earlier else "to the head" if _of_earlier(recipe) else None
    if now is None or before is None or now == before:
        return None
    return (
        f"the slices of its cohort ran {before}, as in UW-Madison cohorts of another version of volseg, and those of "
        f"the cohort of now run {now}; train anew, without --resume"
    )


def recipe_direction(recipe: Recipe) -> str | None:
    """The `slice_direction` of the cohort that a recipe names."""
    stated = recipe.facts.get("source")
    return slice_direction(stated) if isinstance(stated, Mapping) else None


def _of_earlier(recipe: Recipe) -> bool:
    """Whether the regions are those of the UW-Madison data, with their overlaps."""
    return recipe.labels.names == _REGIONS and recipe.labels.overlap
