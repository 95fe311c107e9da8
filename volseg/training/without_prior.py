"""The network for cases without a prior, kept beside one that takes a prior and started from its weights.

A network that is shown a prior in some of its steps has fewer steps without one than a network that never sees any. So
the weights from which the training with a prior started stay in its checkpoint, and serve the cases that have no prior.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from volseg import bundle as bundles
from volseg.bundle import WITHOUT_PRIOR, Recipe, weights_file
from volseg.errors import CheckpointError
from volseg.labels import LabelTable, image_channels, takes_prior
from volseg.training.start import is_trained_network

logger = logging.getLogger("volseg.training")


class NetworkWithoutPrior:
    """What a checkpoint holds for cases without a prior; nothing if the training takes none or began otherwise.

    Args:
        weights: Setting `weights` of the training: a network without a prior, or with one and its own network without.
        network: Network that is trained.
        labels: Label table of the training.
        channel_names: Input channels of the network, with those of a prior.
    """

    def __init__(
        self, weights: str | Path | None, *, network: nn.Module, labels: LabelTable, channel_names: Sequence[str]
    ) -> None:
        self.content: dict[str, Any] = {}
        if not takes_prior(channel_names):
            return
        problem = "the training begins from no network without a prior"
        if weights is not None and is_trained_network(weights):
            self.content, problem = _kept(weights_file(weights), network, labels, image_channels(channel_names))
        if problem:
            logger.warning(
                "warning: cases without a prior, such as first days, will be predicted by the same weights, since %s; "
                "a network that begins with --weights of one without a prior keeps that for them, and loses nothing",
                problem,
            )

    def state_dict(self) -> dict[str, Any]:
        """Weights and recipe, or nothing."""
        return dict(self.content)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.content = dict(state)


def _kept(path: Path, network: nn.Module, labels: LabelTable, channels: tuple[str, ...]) -> tuple[dict[str, Any], str]:
    """The entry of the checkpoint; or the reason why there is none."""
    found: Any = bundles.read_checkpoint(path) if path.suffix != ".pth" else None
    if isinstance(found, Mapping) and WITHOUT_PRIOR in found:
        found = found[WITHOUT_PRIOR]
    if not isinstance(found, Mapping) or not {"model", "recipe"} <= set(found):
        return {}, f"{path} states no regions and channels"
    recipe = Recipe.from_state(found["recipe"])
    if recipe.takes_prior:
        return {}, f"{path} is itself a network with a prior that began otherwise"
    if list(recipe.labels.channel_names) != list(labels.channel_names) or tuple(recipe.channel_names) != channels:
        return {}, f"{path} has other regions or image channels"
    if set(found["model"]) != set(network.state_dict()):
        return {}, f"{path} is of another kind of network"
    return {"model": {name: tensor.clone() for name, tensor in found["model"].items()}, "recipe": found["recipe"]}, ""


def entry_of(checkpoint: str | Path) -> dict[str, Any]:
    """The network of a checkpoint as the entry of another one for cases without a prior.

    Args:
        checkpoint: Checkpoint of a network without a prior.

    Raises:
        CheckpointError: It is absent, damaged, or of a network with a prior.
    """
    content = bundles.read_checkpoint(checkpoint)
    if Recipe.from_state(content["recipe"]).takes_prior:
        raise CheckpointError(f"{checkpoint} takes a prior; name a network without one")
    return {"model": {name: tensor.clone() for name, tensor in content["model"].items()}, "recipe": content["recipe"]}
