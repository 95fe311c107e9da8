"""The network of a run without what only a resumed training needs, and the bytes that a run takes on the disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from volseg import bundle as bundles
from volseg.bundle import WITHOUT_PRIOR, checkpoint_damage
from volseg.errors import CheckpointError, root_error
from volseg.training.checks import check_overrides
from volseg.training.handlers.checkpoints import save
from volseg.training.without_prior import entry_of

_STATES = 4  # last.pt holds weights, averaged weights and two moments, and exists twice while it is written


def write_network(checkpoint: str | Path, target: str | Path, *, without_prior: str | Path | None = None) -> Path:
    """Copy the network and its recipe out of a checkpoint such as `last.pt`, whole or not at all.

    Args:
        checkpoint: File of a training.
        target: File to write; `volseg predict` takes it.
        without_prior: Checkpoint of a network for cases without a prior, which the file then holds too; None for the
            one that the checkpoint has, if it has one.

    Raises:
        CheckpointError: The checkpoint is absent, damaged, or holds no network with a recipe.
        OSError: The disk is full.
    """
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
        kept = {"model": content["model"], "recipe": content["recipe"]}
        plain = content.get(WITHOUT_PRIOR) if without_prior is None else None
    except Exception as error:  # a damaged file raises errors of any kind
        raise CheckpointError(f"{checkpoint} holds no network: {checkpoint_damage(checkpoint, error)}") from error
    # Tensors of a mapped file are copied, so that the file may be removed.
    kept["model"] = {name: tensor.clone() for name, tensor in kept["model"].items()}
    if without_prior is not None:
        plain = entry_of(without_prior)
    elif plain:
        plain = {**plain, "model": {name: tensor.clone() for name, tensor in plain["model"].items()}}
    save({**kept, **({WITHOUT_PRIOR: plain} if plain else {})}, Path(target))
    return Path(target)


def run_bytes(bundle: str | Path, *, overrides: Mapping[str, Any], more: Sequence[str | Path] = ()) -> tuple[int, int]:
    """The bytes of a bundle's weights, and of the checkpoints that a run of it has on the disk at most.

    Args:
        bundle: Name or folder of the bundle.
        overrides: Values by id of train.json, with `dataset_dir`.
        more: Further config files.

    Raises:
        VolsegError: A setting is unknown, or the network cannot be built with them.
    """
    parser = _parser(bundle, overrides, more)
    try:
        network = parser.get_parsed_content("network_def")
        keep = parser.get_parsed_content("keep") if "keep" in parser.get() else 1
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise root_error(error) from error
    weights = sum(parameter.nbytes for parameter in network.parameters())
    return weights, weights * (2 * _STATES + keep + 1)


def mirrored_axes(
    bundle: str | Path, *, overrides: Mapping[str, Any], more: Sequence[str | Path] = ()
) -> tuple[int, ...] | None:
    """The axes along which a training of a bundle will mirror its windows, told before it begins.

    Args:
        bundle: Name or folder of the bundle.
        overrides: Values by id of train.json, with `dataset_dir`.
        more: Further config files.

    Returns:
        The axes; None where the bundle has no such setting.

    Raises:
        VolsegError: A setting is unknown, or a case of the cohort cannot be read.
    """
    parser = _parser(bundle, overrides, more)
    if "flip_axes" not in parser.get():
        return None
    try:
        return tuple(int(axis) for axis in parser.get_parsed_content("flip_axes"))
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise root_error(error) from error


def _parser(bundle: str | Path, overrides: Mapping[str, Any], more: Sequence[str | Path]) -> Any:  # noqa: ANN401 - MONAI's ConfigParser
    """The config of a bundle with a user's values."""
    from monai.bundle import ConfigParser

    folder = bundles.find(bundle)
    parser = ConfigParser()
    parser.read_config([str(bundles.config(folder, "train.json")), *map(str, more)])
    check_overrides(parser.get(), overrides)
    parser.update(bundles.path_values({"bundle_root": str(folder), **overrides}, ids=list(parser.get())))
    return parser
