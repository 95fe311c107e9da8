"""The first convolution of a network for colour images, made to take the channels of slices."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def adapt_stem(weight: Tensor, *, channels: int, context: int = 0) -> Tensor:
    """The kernel for slices whose response to a grey image is that of the kernel for colours.

    The rule: the colours are summed, and the sum is shared out among the new channels with shares that add up to 1. So
    where every channel shows the same image, the response is that of the published network to this image in all its
    colours, and what it learned of edges and textures stays. Image channels have equal shares. Neighbouring slices have
    those of a binomial distribution, as 1/4, 1/2, 1/4 for one on each side: an even mean would start with a blur
    along the patient.

    Args:
        weight: (features, colours, height, width).
        channels: image channels, at least 1.
        context: neighbouring slices on each side.

    Returns:
        (features, channels * (2 * context + 1), height, width); slices vary fastest.

    >>> adapt_stem(torch.ones(1, 3, 1, 1), channels=1, context=1).flatten().tolist()
    [0.75, 1.5, 0.75]
    >>> adapt_stem(torch.ones(1, 3, 1, 1), channels=2).flatten().tolist()
    [1.5, 1.5]
    """
    slices = [math.comb(2 * context, k) / 4**context for k in range(2 * context + 1)]
    shares = torch.tensor(slices * channels, dtype=weight.dtype, device=weight.device) / channels
    return weight.sum(dim=1, keepdim=True) * shares.view(1, -1, 1, 1)
