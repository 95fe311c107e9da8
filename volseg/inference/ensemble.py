"""The mean of the probabilities of several networks, and of mirror images, for one image."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volseg.bundle import Recipe
from volseg.cohort import AXIS_NAMES
from volseg.errors import CheckpointError, UsageError
from volseg.labels import LabelTable, fold_channel, fold_name

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

LogitsFunction = Callable[["Tensor"], "Tensor"]
Look = LogitsFunction  # its name in version 0.1
"""Logits (channels, X, Y, Z) of an image (1, C, X, Y, Z)."""


def mean_logits(
    image: Tensor, functions: Sequence[LogitsFunction], labels: LabelTable, *, flips: Sequence[int] = ()
) -> Tensor:
    """Compute logits whose probabilities are the mean of those of all networks, on the CPU.

    Every network is applied to the image and to all its mirror images; each result is mirrored back.

    Args:
        image: Image (1, C, X, Y, Z).
        functions: Networks with their windows, each a function from image to logits.
        labels: Label table, which says whether probabilities come from a sigmoid or a softmax.
        flips: Axes to mirror, 0 to 2 for X to Z; n axes make 2^n images.

    Returns:
        Logits (channels, X, Y, Z): those of the network itself if there is but one and no mirror image. They are
        infinite if a probability is 0 or 1.

    >>> import torch
    >>> table = LabelTable.overlapping(["a", "b"])
    >>> functions = [lambda image, p=p: torch.full((2, 2, 2, 2), p).logit() for p in (0.2, 0.6)]
    >>> mean_logits(torch.zeros(1, 1, 2, 2, 2), functions, table).sigmoid()[:, 0, 0, 0]
    tensor([0.4000, 0.4000])
    """
    mirrors = [axes for n in range(len(flips) + 1) for axes in itertools.combinations(flips, n)]
    if len(functions) * len(mirrors) == 1:
        return functions[0](image).cpu()
    sigmoid = labels.activation == "sigmoid"
    total: Tensor | None = None
    for axes in mirrors:
        seen = image.flip([axis + 2 for axis in axes]) if axes else image
        for logits_of in functions:
            logits = logits_of(seen).cpu()
            probabilities = logits.sigmoid() if sigmoid else logits.softmax(dim=0)
            probabilities = probabilities.flip([axis + 1 for axis in axes]) if axes else probabilities
            total = probabilities if total is None else total.add_(probabilities)
    if total is None:
        raise UsageError("there must be at least one network to predict the image, got none")
    mean = total.div_(len(functions) * len(mirrors))
    return mean.logit_() if sigmoid else mean.log_()


def check_members(recipes: Sequence[tuple[Path, Recipe]]) -> None:
    """Refuse networks whose regions or channels differ in more than their order.

    Args:
        recipes: Pairs of a checkpoint and its recipe; all are compared with the first.

    Raises:
        CheckpointError: Networks differ; the message says in what.
    """
    (first, one), *others = recipes
    for path, other in others:
        if one.takes_prior and other.takes_prior and one.prior_alignment != other.prior_alignment:
            raise CheckpointError(
                f"the prior_alignment of an ensemble's networks must be the same, got {one.prior_alignment} of {first} "
                f"and {other.prior_alignment} of {path}; train them with the same"
            )
        for what, ours, theirs, alike in (
            ("regions", _regions(one), _regions(other), region_order(other.labels, like=one.labels)),
            (
                "channels",
                list(one.channel_names),
                list(other.channel_names),
                image_order(other.channel_names, among=one.channel_names),
            ),
        ):
            if alike is None:
                raise CheckpointError(
                    f"the {what} of an ensemble's networks must be the same, got {ours} of {first} and {theirs} of "
                    f"{path}; train them on the same cohort"
                )


def region_order(labels: LabelTable, *, like: LabelTable) -> list[int] | None:
    """The index of each output channel of one network among those of another; None if the regions are not the same.

    Args:
        labels: Label table of the network whose channels are put in order.
        like: Label table of the other network.

    >>> region_order(LabelTable.of({"B": 1, "a": 2}), like=LabelTable.of({"a": 1, "b": 2}))
    [0, 2, 1]
    """
    ours, theirs = [fold_name(name) for name in like.names], [fold_name(name) for name in labels.names]
    if labels.activation != like.activation or sorted(ours) != sorted(theirs) or len(set(ours)) < len(ours):
        return list(range(labels.channels)) if labels.digest == like.digest else None
    places = [theirs.index(name) for name in ours]
    return places if like.overlap else [0, *(place + 1 for place in places)]


def image_order(wanted: Sequence[str], *, among: Sequence[str]) -> list[int] | None:
    """The index of each image channel of one network among those of another; None if they are not the same.

    >>> image_order(["T2w", "T1"], among=["T1", "T2"])
    [1, 0]
    """
    ours, theirs = [fold_channel(name) for name in among], [fold_channel(name) for name in wanted]
    if ours == theirs:
        return list(range(len(ours)))
    if sorted(ours) != sorted(theirs) or len(set(ours)) < len(ours):
        return None
    return [ours.index(name) for name in theirs]


def in_order(given: Sequence[Any], recipe: Recipe, *, like: Recipe) -> list[Any]:
    """One image per channel in the order of a network; those given are in the order of another network."""
    order = image_order(recipe.channel_names, among=like.channel_names)
    return list(given) if order is None or len(given) != len(order) else [given[place] for place in order]


def _regions(recipe: Recipe) -> object:
    return recipe.labels.to_dataset_json()["labels"]


def flip_axes(asked: str, recipes: Sequence[Recipe], *, tell: bool = True) -> tuple[int, ...]:
    """The axes to mirror: none, those along which every network was trained with mirror images, or those named.

    Args:
        asked: `none`, `trained`, or axes such as `0` and `0,1`: 0 right-left, 1 front-back, 2 head-feet.
        recipes: Recipes of the networks.
        tell: Whether a warning names the axes along which a network was not trained so.

    Raises:
        UsageError: The text names no axes, or it is `trained` and a network records none.

    >>> flip_axes("2,0", [])
    (0, 2)
    """
    if asked == "none":
        return ()
    trained = [set(recipe.facts.get("flip_axes", ())) for recipe in recipes]
    shared = set.intersection(*trained) if trained else set()
    if asked == "trained":
        if not shared:
            raise UsageError(
                "--flips trained must have a network that was trained with mirror images, got one that records none; "
                "name the axes along which the body may be mirrored, such as --flips 0"
            )
        return tuple(sorted(int(axis) for axis in shared))
    words = [word.strip() for word in asked.split(",")]
    if not set(words) <= {"0", "1", "2"}:
        raise UsageError(f"--flips must be none, trained, or axes such as 0 or 0,1, got {asked}")
    axes = tuple(sorted({int(word) for word in words}))
    if tell and trained and (untrained := [axis for axis in axes if axis not in shared]):
        told = " and ".join(f"{axis} ({AXIS_NAMES[axis]})" for axis in untrained)
        logger.warning("the network was not trained with mirror images along axis %s: look at the result", told)
    return axes
