"""Weights that were trained elsewhere: from a folder or the Hugging Face hub, into a network for slices."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from volseg.errors import CheckpointError, UsageError
from volseg.networks.architecture import check_kind, published_weights, settings_of
from volseg.networks.stem import adapt_stem

logger = logging.getLogger(__name__)

_LFS = b"version https://git-lfs"
_LONGEST_HEADER = 100_000_000  # bytes, as safetensors itself limits it
# Settings in which published sizes differ.
_SIZES = ("model_type", "depths", "hidden_sizes", "embed_dim", "hidden_size", "num_hidden_layers")


@dataclass(frozen=True, eq=False)
class Weights:
    """The weights and settings of a trained network of `transformers`.

    Attributes:
        name: Name of the folder, or on the hub.
        settings: Settings of its config, see `volseg.networks.settings_of`.
        tensors: Tensors by the names of parameters and buffers.
    """

    name: str
    settings: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


def find_weights(
    weights: str | Path | None, *, base_model: str | None = None, sizes: Mapping[str, Any] | None = None
) -> Weights | None:
    """Find the weights of a trained 2D network; None to start from random weights.

    Args:
        weights: Folder that `save_pretrained` wrote; a name on the Hugging Face hub; None; or `auto`: those that the
                authors of `base_model` published; if they are unavailable, None, with one line in the log.
        base_model: Name in `volseg.networks.architecture`, or None for the network of the weights.
        sizes: Sizes with which the backbone of the weights must agree.

    Raises:
        CheckpointError: The named weights are unavailable, or are of another network.
    """
    if weights is None:
        return None
    if weights != "auto":
        return _load(str(weights), sizes or {})
    name = published_weights(base_model)
    if name is None:
        warn_of_scratch(f"none were published for {base_model}")
        return None
    try:
        return _load(name, sizes or {})
    except CheckpointError as error:
        warn_of_scratch(error.message)
        return None


@functools.cache  # logged once per process: the checks before a training build its network too
def warn_of_scratch(reason: str) -> None:
    """Warn, in one line, that a training that asked for pretrained weights starts without them."""
    logger.warning("TRAINING FROM SCRATCH, without pretrained weights: %s", reason)


def transfer(weights: Weights, network: nn.Module, *, channels: int, context: int) -> None:
    """Copy the weights of a network for colour images into a network for slices.

    The backbone takes all of them, its first convolution by the rule of `adapt_stem`. The heads take those that fit,
    and keep random weights elsewhere; their last layers, with one output per region, always do.

    Args:
        weights: Weights of a network with the same backbone.
        network: Network for `channels * (2 * context + 1)` channels and other regions; it is changed.
        channels: Number of image channels, see `adapt_stem`.
        context: Number of neighbouring slices on each side.

    Raises:
        CheckpointError: The backbones differ; nothing was changed.
    """
    inside = f"{_name_of(network, backbone_of(network))}."
    stem = f"{_name_of(network, first_convolution(network))}.weight"
    anew = tuple(f"{_name_of(network, layer)}." for layer in classifiers(network))
    taken: dict[str, Tensor] = {}
    own = network.state_dict()
    for name, value in own.items():
        found = None if name.startswith(anew) else weights.tensors.get(name)
        if found is not None and name == stem:
            found = adapt_stem(found, channels=channels, context=context)
        if found is not None and found.shape == value.shape:
            taken[name] = found
        elif name.startswith(inside):
            had = "absent there" if found is None else f"{list(found.shape)} there"
            raise CheckpointError(
                f"{weights.name} does not fit the backbone: {name} is {list(value.shape)} here and {had}; leave the "
                "sizes in its config as published, or start from scratch with --weights null"
            )
    network.load_state_dict(taken, strict=False)
    logger.info(
        "%d of %d tensors are those of %s, whose licence applies; the others start anew",
        *(len(taken), len(own), weights.name),
    )


def backbone_of(network: nn.Module) -> nn.Module:
    """The part of a network of `transformers` that was trained on images of all kinds; the rest is its head."""
    found = getattr(network, "backbone", None)
    return found if isinstance(found, nn.Module) else network.base_model  # type: ignore[return-value]


def first_convolution(network: nn.Module) -> nn.Conv2d:
    """The convolution that is applied to the image."""
    return next(layer for layer in network.modules() if isinstance(layer, nn.Conv2d))


def classifiers(network: nn.Module) -> list[nn.Conv2d]:
    """The last convolution of each head of a segmentation network of `transformers`, with one output per region."""
    found = []
    for name in ("decode_head", "head", "segmentation_head", "auxiliary_head"):
        head = getattr(network, name, None)
        if isinstance(head, nn.Module):
            last = getattr(head, "classifier", head)
            found.append([layer for layer in last.modules() if isinstance(layer, nn.Conv2d)][-1])
    return found


def _name_of(network: nn.Module, wanted: nn.Module) -> str:
    return next(str(name) for name, layer in network.named_modules() if layer is wanted)


def _load(weights: str, sizes: Mapping[str, Any]) -> Weights:
    from transformers import AutoConfig, AutoModelForSemanticSegmentation

    folder = Path(weights).expanduser()
    if folder.is_file():
        raise CheckpointError(
            f"{weights} must be the folder that save_pretrained wrote, got a file; name the folder that holds it and "
            "its config.json, or --weights null"
        )
    if not folder.is_dir() and (weights.startswith((".", "~", "/")) or weights.count("/") != 1):
        raise CheckpointError(
            f"there is no folder {weights} with weights; give one that save_pretrained wrote, a name on the hub such "
            f"as {published_weights('segformer-b0')}, or --weights null"
        )
    place = str(folder) if folder.is_dir() else weights
    try:
        with _quiet():
            # Without this, each file of an unreachable hub is requested six times.
            offline = not folder.is_dir() and not _answers(weights)
            config = AutoConfig.from_pretrained(place, local_files_only=offline)
            check_kind(config.model_type)
            _check_segments(weights, config.model_type)
            _check_sizes(weights, sizes, config.to_dict())
            network, report = AutoModelForSemanticSegmentation.from_pretrained(
                place, config=config, dtype=torch.float32, output_loading_info=True, local_files_only=offline
            )
    except (CheckpointError, UsageError):
        raise
    except Exception as error:  # a hub out of reach, a damaged file: errors of many kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        if "ignore_mismatched_sizes" in reason:  # whose report of the tensors is suppressed
            reason = "its tensors have other sizes than its config.json states"
        if damage := _damage(folder) if folder.is_dir() else None:
            raise CheckpointError(f"{weights} cannot be had: {damage}, or give --weights null") from error
        cure = (
            "give a folder that save_pretrained wrote"
            if folder.is_dir()
            else "check the name, of which there is no folder here, and the connection, or fetch them elsewhere with "
            f"`hf download {weights} --local-dir FOLDER` and give --weights FOLDER"
        )
        raise CheckpointError(f"{weights} cannot be had ({reason}); {cure}, or --weights null") from error
    learned = {name: value for name, value in network.state_dict().items() if name not in report["missing_keys"]}
    return Weights(weights, settings_of(network.config), learned)


def _answers(name: str) -> bool:
    """Whether the hub answers a request for a name, even if it has none."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        HfApi().model_info(name, timeout=10)
    except HfHubHTTPError:
        return True
    except Exception:  # noqa: BLE001 - no connection, no name service, offline by wish: errors of many kinds
        return False
    return True


def _check_segments(weights: str, model_type: str) -> None:
    """Refuse weights of a network for another task, whose config `transformers` knows."""
    from transformers.models.auto import modeling_auto as known

    semantic = known.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES
    if model_type not in semantic:
        raise CheckpointError(
            f"{weights} must be a network that segments, got {model_type}, which gives no logit per pixel; take one of "
            f"{', '.join(sorted(semantic))}, or --weights null"
        )


def _damage(folder: Path) -> str | None:
    """What is wrong with the first damaged file of weights in a folder, with its cure; None if all look whole."""
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")]):
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(len(_LFS))
        if not size:
            return f"{path.name} is empty; copy it again"
        if head == _LFS:
            return f"{path.name} is a pointer of Git LFS; get the file itself with `git lfs pull`"
        if path.suffix == ".safetensors" and _is_cut_off(path, size):
            return f"{path.name} is cut off after {size:,} bytes; copy it again"
    return None


def _is_cut_off(path: Path, size: int) -> bool:
    """Whether a file of safetensors ends before its tensors do: 8 bytes of a length, a header in JSON, the tensors."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > _LONGEST_HEADER:
            return False
        header = file.read(length)
    if len(header) < length:
        return True
    try:
        told = [one["data_offsets"][1] for name, one in json.loads(header).items() if name != "__metadata__"]
        return 8 + length + max(told, default=0) > size
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return False


def _check_sizes(weights: str, wanted: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Refuse weights of a network other than the one that was asked for."""
    for name in [size for size in _SIZES if size in wanted]:
        has = list(theirs[name]) if isinstance(theirs.get(name), tuple) else theirs.get(name)
        if has != wanted[name]:
            raise CheckpointError(
                f"{weights} has {name} {has} and this network has {wanted[name]}; with --base_model null the network "
                "is that of the weights, with --weights null it starts from scratch"
            )
    if "backbone_config" in wanted:
        _check_sizes(weights, wanted["backbone_config"], theirs.get("backbone_config") or {})


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the progress bars and reports of `transformers`, whose facts are checked here."""
    from transformers.utils import logging as transformers_logging

    theirs: Any = transformers_logging

    level, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(level)
        if bars:
            theirs.enable_progress_bar()
