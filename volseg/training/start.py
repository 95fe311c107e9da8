"""The weights that a training starts from: those of another training, of a package, or of nnU-Net."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from volseg import bundle as bundles
from volseg.bundle import weights_file
from volseg.errors import CheckpointError, VolsegError
from volseg.labels import LabelTable, fold_channel, image_channels, takes_prior
from volseg.training.nnunet_names import dynunet_tensors, is_nnunet, read_nnunet

logger = logging.getLogger("volseg.training")

# The layers that give a channel per region: MONAI's networks, volseg's, those of `transformers` and nnU-Net's.
_HEAD = re.compile(
    r"(^|\.)(heads?|out|output_block|deep_supervision_heads|super_head|classifier|decode_head|segmentation_head|"
    r"seg_layers|final|final_conv|conv_final)\."
)
_LEAST_KERNEL = 4  # dimensions of the kernel of a convolution in a plane
_WRAPPERS = ("module.", "network.", "_orig_mod.")
_COUNT = "n_averaged"


@dataclass(frozen=True)
class StartingWeights:
    """The tensors that a training starts from.

    Attributes:
        path: File that they were read from.
        tensors: Tensors by name.
        labels: Label table of the network, if the file states one.
        channel_names: Image channels of the network, if the file states them.
        widen: Whether a kernel may be smaller than that of the network, and gets zeros around it.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    labels: LabelTable | None = None
    channel_names: tuple[str, ...] | None = None
    widen: bool = False

    def of_shape(self, name: str, shape: torch.Size) -> Tensor | None:
        """A tensor by name, if it fits a shape."""
        found = self.tensors.get(name)
        if found is None or found.shape == shape:
            return found
        return _widened(found, shape) if self.widen and "transp_conv" not in name else None


def is_trained_network(weights: Any) -> bool:  # noqa: ANN401 - whatever a user gives
    """Whether a setting names the network of a training or a package, and not published weights.

    >>> is_trained_network("auto"), is_trained_network(None)
    (False, False)
    """
    if not isinstance(weights, (str, Path)) or weights in ("", "auto"):
        return False
    try:
        weights_file(weights)
    except VolsegError:
        return False
    return True


def start_from(
    network: nn.Module,
    weights: str | Path | None,
    *,
    labels: LabelTable,
    channel_names: Sequence[str],
    tell: bool = True,
) -> nn.Module:
    """Copy the weights of another network into a network by name and shape; returns the network.

    The layers that give a channel per region start anew if the regions are others. All that does not fit keeps its
    random weights. Image channels of the same names in another order take each the weights of its name. If this network
    takes a prior and the other one does not, the weights of the prior's channels are 0, so that the first prediction is
    that of the other one. The log tells what was taken, part by part.

    Args:
        network: Network, which is changed; its attribute `initialisation` then names the file.
        weights: Folder of a run, name or folder of a package, a checkpoint (`.pt`), nnU-Net's (`.pth`), or
            `.safetensors`; None or `auto` to leave the network as it is.
        labels: Label table of the training.
        channel_names: Input channels of the network, with those of a prior.
        tell: Whether the log tells what was taken.

    Raises:
        CheckpointError: There is no such file, it is damaged, or nothing in it fits.
    """
    if weights is None or not (is_trained_network(weights) or _asked_for(network, weights)):
        return network
    source = read_weights(weights)
    state = network.state_dict()
    own = _once(state)
    anew = set() if _same_regions(source, labels) else heads_of(own, labels.channels)
    source = _by_name(source, network, tuple(channel_names), tell=tell)
    source = _with_prior(source, own, tuple(channel_names))
    fitting = {name: source.of_shape(name, value.shape) for name, value in own.items() if name not in anew}
    taken = {name: value for name, value in fitting.items() if value is not None}
    if not any(value.numel() > 1 for value in taken.values()):
        folder = source.path.parent
        if hasattr(network, "initialisation") and (folder / "config.json").is_file():
            raise CheckpointError(
                f"{source.path} must be weights of a training, got a file of published ones; name their folder, "
                f"--weights {folder}"
            )
        raise CheckpointError(
            f"nothing in {source.path} fits this {type(network).__name__}: it holds {_example(source.tensors)}, and "
            f"this network has {_example(own)}; name weights of the same kind of network, or leave --weights out"
        )
    network.load_state_dict(taken, strict=False)
    network.initialisation = f"weights of {source.path}"  # type: ignore[assignment]  # no part of the network
    if tell:
        _tell(
            source,
            own,
            taken,
            anew,
            other_names=state.keys() - own.keys(),
            labels=labels,
            channel_names=tuple(channel_names),
        )
    return network


def read_weights(weights: str | Path) -> StartingWeights:
    """Read the tensors of a run, a package, a checkpoint or nnU-Net's checkpoint, under the names of this volseg.

    Raises:
        CheckpointError: There is no such file, or it holds no tensors by name.
    """
    path = weights_file(weights)
    content: Any = read_nnunet(path) if path.suffix == ".pth" else bundles.read_checkpoint(path)
    if is_nnunet(content):
        return StartingWeights(path, dynunet_tensors(content["network_weights"], path=path), widen=True)
    labels = channels = None
    if isinstance(content, Mapping) and "recipe" in content:
        recipe = bundles.Recipe.from_state(content["recipe"])
        labels, channels = recipe.labels, tuple(recipe.channel_names)
    for name in ("model", "network", "state_dict", "model_state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
            break
    tensors = {str(name): value for name, value in dict(content).items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors by name; name the model.pt of a training")
    return StartingWeights(path, _unwrapped(tensors), labels, channels)


def _unwrapped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors without the names that wrappers put before theirs, in whatever order several of them did.

    torch's AveragedModel counts its steps beside the network, as `n_averaged`.

    >>> list(_unwrapped({"_orig_mod.module.conv.weight": torch.ones(1)}))
    ['conv.weight']
    """
    found = {name: value for name, value in tensors.items() if name != _COUNT} or dict(tensors)
    while wrapper := next((one for one in _WRAPPERS if all(name.startswith(one) for name in found)), None):
        found = {name.removeprefix(wrapper): value for name, value in found.items()}
    return found


def _widened(kernel: Tensor, shape: torch.Size) -> Tensor | None:
    """A kernel (out, in, ...) with zeros around it, which computes the same; None if it has no middle in the shape.

    >>> _widened(torch.ones(1, 1, 1, 3), torch.Size([1, 1, 3, 3]))[0, 0].sum(dim=1)
    tensor([0., 3., 0.])
    """
    more = [wide - narrow for wide, narrow in zip(shape[2:], kernel.shape[2:], strict=False)]
    if kernel.shape[:2] != shape[:2] or kernel.ndim != len(shape) or any(extra < 0 or extra % 2 for extra in more):
        return None
    return nn.functional.pad(kernel, [extra // 2 for extra in reversed(more) for _ in range(2)])


def _asked_for(network: nn.Module, weights: str | Path) -> bool:
    """Whether weights that are no file here are a mistake: a network that knows published ones has looked for them."""
    return weights != "auto" and not hasattr(network, "initialisation")


def _once(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state with each tensor under its first name: DynUNet has most of them under two."""
    found: dict[tuple[int, torch.Size], str] = {}
    for name, value in state.items():
        found.setdefault((value.data_ptr(), value.shape) if value.numel() else (id(value), value.shape), name)
    return {name: state[name] for name in found.values()}


def _same_regions(source: StartingWeights, labels: LabelTable) -> bool:
    return source.labels is not None and list(source.labels.channel_names) == list(labels.channel_names)


def _by_name(
    source: StartingWeights, network: nn.Module, channel_names: tuple[str, ...], *, tell: bool
) -> StartingWeights:
    """The weights with the image channels of a network in its order, where both have the same ones by name.

    A kernel of the first layer is (features, channels * slices, ...), and slices vary fastest.
    """
    if source.channel_names is None:
        return source
    alike = len(source.channel_names) == len(channel_names)
    wanted = channel_names if alike else image_channels(channel_names)
    theirs, ours = ([fold_channel(name) for name in names] for names in (source.channel_names, wanted))
    if sorted(theirs) != sorted(ours) or len(set(ours)) < len(ours):
        return source
    order = torch.tensor([theirs.index(name) for name in ours])
    if theirs == ours:
        return replace(source, channel_names=wanted)
    context = getattr(network, "context", 0)  # of a network that takes slices with their neighbours
    slices = 2 * context + 1 if isinstance(context, int) else 1
    turned = dict(source.tensors)
    for name, kernel in source.tensors.items():
        if kernel.ndim >= _LEAST_KERNEL and kernel.shape[1] == len(order) * slices:
            # (features, C * slices, ...) -> (features, C, slices, ...)
            by_channel = kernel.reshape(len(kernel), len(order), slices, *kernel.shape[2:])
            turned[name] = by_channel[:, order].flatten(1, 2)
    if tell:
        told = (source.path, ", ".join(source.channel_names), ", ".join(wanted))
        logger.info("the image channels of %s are %s and these are %s: each takes the weights of its name", *told)
    return replace(source, tensors=turned, channel_names=wanted)


def _with_prior(source: StartingWeights, own: Mapping[str, Tensor], channel_names: tuple[str, ...]) -> StartingWeights:
    """The weights of a network without a prior for one with it: zeros for the further channels, which come last.

    A kernel is (features, channels * slices, ...), and slices vary fastest, so that the new inputs are the last ones.
    """
    if not takes_prior(channel_names) or source.channel_names != image_channels(channel_names):
        return source
    before, now = len(source.channel_names), len(channel_names)
    wider = dict(source.tensors)
    for name, value in own.items():
        old = source.tensors.get(name)
        if old is None or old.ndim < _LEAST_KERNEL or old.ndim != value.ndim or old.shape == value.shape:
            continue
        others_fit = old.shape[0] == value.shape[0] and old.shape[2:] == value.shape[2:]
        if others_fit and old.shape[1] * now == value.shape[1] * before:
            more = old.new_zeros((old.shape[0], value.shape[1] - old.shape[1], *old.shape[2:]))
            wider[name] = torch.cat([old, more], dim=1)
    return replace(source, tensors=wider, channel_names=channel_names)


def heads_of(own: Mapping[str, Tensor], channels: int) -> set[str]:
    """The tensors of the layers that give a channel per region."""
    return {name for name, value in own.items() if _HEAD.search(name) and value.ndim and value.shape[0] == channels}


def _tell(
    source: StartingWeights,
    own: Mapping[str, Tensor],
    taken: Mapping[str, Tensor],
    anew: set[str],
    *,
    other_names: Collection[str],
    labels: LabelTable,
    channel_names: tuple[str, ...],
) -> None:
    """Log what was taken, part by part; `other_names` are further names of tensors in `own`."""
    share = sum(own[name].numel() for name in taken) / max(1, sum(value.numel() for value in own.values()))
    logger.info(
        "%d of %d tensors, %.1f %% of the weights, are those of %s", len(taken), len(own), 100 * share, source.path
    )
    parts: dict[str, list[str]] = {}
    for name in own:
        parts.setdefault(name.partition(".")[0], []).append(name)
    for part, names in parts.items():
        left = [name for name in names if name not in taken]
        why = [
            f"{sum(name in anew for name in left)} of the regions",
            f"{sum(name in source.tensors and name not in anew for name in left)} of another shape",
            f"{sum(name not in source.tensors and name not in anew for name in left)} not in it",
        ]
        told = ", ".join(word for word in why if not word.startswith("0 "))
        logger.info("  %-24s %d of %d%s", part, len(names) - len(left), len(names), f"; anew: {told}" if told else "")
    if anew and source.labels is not None:
        logger.info(
            "its regions are %s and these are %s, so the last layers start anew",
            *(", ".join(source.labels.names), ", ".join(labels.names)),
        )
    if source.channel_names is not None and source.channel_names != channel_names:
        logger.warning(
            "warning: its image channels are %s and these are %s; the first layer is taken only where it fits",
            *(", ".join(source.channel_names), ", ".join(channel_names)),
        )
    if unused := [name for name in source.tensors if name not in own and name not in other_names]:
        logger.info("%d of its tensors are of no use here, such as %s", len(unused), unused[0])


def _example(tensors: Mapping[str, Any]) -> str:
    name = next(iter(tensors))
    return f"{name} {tuple(torch.as_tensor(tensors[name]).shape)}"
