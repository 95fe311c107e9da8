"""A trial of a window on a network without arithmetic: whether it fits, the shape of its logits, and its cost."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from volseg.errors import BundleError


class Trial(NamedTuple):
    """The result of a window of batch size 1 in training.

    Attributes:
        shape: Shape of the logits at full resolution, (1, channels, X, Y, Z).
        flops: Floating-point operations of one forward pass in convolutions and matrix products; a multiplication and
            an addition count as two.
    """

    shape: tuple[int, ...]
    flops: int


def try_window(network: nn.Module, *, channels: int, roi_size: Sequence[int]) -> Trial | None:
    """Send a window through a copy of the network on torch's meta device, which computes shapes alone.

    Args:
        network: Network; neither it nor the random generators are changed.
        channels: Number of channels of the input.
        roi_size: Window size in voxels along X, Y, Z.

    Returns:
        The result; None if the network reads values, which the meta device does not have.

    Raises:
        BundleError: The network refuses the window.

    >>> try_window(nn.Conv3d(1, 2, 3, padding=1), channels=1, roi_size=[4, 4, 4])
    Trial(shape=(1, 2, 4, 4, 4), flops=6912)
    """
    # Deep-copied with the tensors already replaced: no second set of weights is ever in memory.
    memo: dict[int, object] = {id(p): nn.Parameter(p.to("meta"), p.requires_grad) for p in network.parameters()}
    memo.update({id(buffer): buffer.to("meta") for buffer in network.buffers()})
    try:
        twin = copy.deepcopy(network, memo).to("meta").train()
        with torch.random.fork_rng(devices=[]), torch.no_grad(), FlopCounterMode(display=False) as counter:
            output = twin(torch.empty(1, channels, *roi_size, device="meta"))
    except Exception as error:  # a network may raise anything at a window that does not fit
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if "meta" in reason:
            return None
        raise BundleError(f"the network cannot take roi_size {list(roi_size)}: {reason}") from error
    return Trial(tuple(_finest(output).shape), int(counter.get_total_flops()))


def _finest(output: Tensor | Sequence[Tensor]) -> Tensor:
    """The logits at full resolution, if a network with deep supervision returns several, or stacks them."""
    if isinstance(output, Tensor):
        return output[:, 0] if output.ndim == 6 else output
    return output[0]
