"""One loss for networks that return one output and for those that return several in training."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

from volseg.errors import BundleError


class DeepSupervision(nn.Module):
    """A loss over each output of a network, halved in weight from one to the next; of a single output, just the loss.

    The weights 1, 1/2, 1/4, ... are divided by their sum, as in Isensee et al. 2021, doi:10.1038/s41592-020-01008-z.
    (MONAI's DeepSupervisionLoss does not divide, so the loss grows with the number of outputs, and it knows no stacked
    tensor.)

    Args:
        loss: takes (logits, target).

    Args (of the call):
        outputs: logits (B, K, X, Y, Z); or a list or tuple of them, the full resolution first, others of any size; or
            (B, 1 + n, K, X, Y, Z), the stack of MONAI's DynUNet, all of full size.
        target: (B, R, X, Y, Z); taken at the nearest voxel where an output is smaller.

    >>> import torch
    >>> loss = DeepSupervision(nn.MSELoss())
    >>> target = torch.zeros(1, 1, 4, 4, 4)
    >>> float(loss(target + 2, target)), float(loss([target + 2, target[..., ::2] + 5], target))
    (4.0, 11.0)
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, outputs: Tensor | Sequence[Tensor], target: Tensor) -> Tensor:
        """The loss, a scalar."""
        if isinstance(outputs, Tensor):
            if outputs.ndim != target.ndim + 1:
                alone: Tensor = self.loss(outputs, target)
                return alone
            outputs = outputs.unbind(1)
        if not isinstance(outputs, (list, tuple)) or not outputs:
            raise BundleError(
                f"in training the network returned an empty or unknown {type(outputs).__name__}, expected logits or a "
                "list of them, the full resolution first"
            )
        weights = [0.5**level for level in range(len(outputs))]
        parts = [
            weight * self.loss(logits, nearest(target, logits.shape[2:]))
            for weight, logits in zip(weights, outputs, strict=True)
        ]
        total: Tensor = sum(parts[1:], start=parts[0])
        return total / sum(weights)


def nearest(target: Tensor, shape: Sequence[int]) -> Tensor:
    """A target at another size, each voxel that of the nearest centre.

    Args:
        target: (B, R, X, Y, Z), any type.
        shape: voxels along X, Y, Z.
    """
    if target.shape[2:] == tuple(shape):
        return target
    return F.interpolate(target.float(), size=tuple(shape), mode="nearest-exact").to(target.dtype)
