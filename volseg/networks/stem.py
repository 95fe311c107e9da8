"""The first convolution of a network for images, adapted to the channels of slices."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Weights with this many inputs were trained on red, green and blue.
_COLOURS = 3


def adapt_stem(weight: Tensor, *, channels: int, context: int = 0) -> Tensor:
    """Adapt a kernel for images to the slices of a volume.

    The rule, by the numbers of inputs:

    - If there are as many image channels as inputs: each channel keeps its own kernel, so colour images are seen as
      the published network sees them. With neighbouring slices a channel's kernel is shared out among its slices.
    - If there are as many channels and slices as inputs, and these are not three: the kernel was made for such a stack
      and is taken as it is. Three inputs are colours, and three slices of one channel are none.
    - For other numbers: the inputs are summed, and the sum is shared out among the image channels in equal parts. So if
      every channel shows the same image, the response is that of the published network to it in all its colours.

    The parts add up to 1, so responses keep their size. Neighbouring slices have parts of a binomial distribution, as
    1/4, 1/2, 1/4 for one on each side: an even mean would start with a blur along the patient.

    Args:
        weight: Kernel (features, inputs, height, width).
        channels: Number of image channels, at least 1.
        context: Number of neighbouring slices on each side.

    Returns:
        Kernel (features, channels * (2 * context + 1), height, width); slices vary fastest.

    >>> adapt_stem(torch.ones(1, 3, 1, 1), channels=1, context=1).flatten().tolist()
    [0.75, 1.5, 0.75]
    >>> adapt_stem(torch.ones(1, 3, 1, 1), channels=2).flatten().tolist()
    [1.5, 1.5]
    >>> adapt_stem(torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1), channels=3).flatten().tolist()
    [1.0, 2.0, 3.0]
    """
    inputs, slices = weight.shape[1], 2 * context + 1
    if inputs == channels and not context:
        return weight
    if inputs == channels * slices and inputs != _COLOURS:
        return weight
    summed = weight.sum(dim=1, keepdim=True) / channels
    own = weight if inputs == channels else summed.expand(-1, channels, -1, -1)
    binomial = [math.comb(2 * context, k) / 4**context for k in range(slices)]
    shares = torch.tensor(binomial, dtype=weight.dtype, device=weight.device)
    # (features, channels, 1, height, width) * (slices, 1, 1) -> (features, channels * slices, height, width)
    return (own[:, :, None] * shares.view(-1, 1, 1)).flatten(1, 2)
