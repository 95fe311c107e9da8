"""The loss that fits a label table."""

from __future__ import annotations

import torch
from monai.losses import DiceCELoss, DiceLoss
from torch import Tensor, nn

from volseg.labels import LabelTable


def dice_ce(labels: LabelTable) -> nn.Module:
    """Dice plus cross entropy: softmax over exclusive regions, sigmoid and binary cross entropy where they overlap.

    MONAI's DiceCELoss takes the cross entropy over a softmax even with `sigmoid=True` and several channels, which makes
    regions compete; `DiceBinaryCrossEntropy` does not.
    """
    if labels.overlap:
        return DiceBinaryCrossEntropy()
    loss: nn.Module = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, batch=True)
    return loss


class DiceBinaryCrossEntropy(nn.Module):
    """Mean over regions of the soft Dice loss, plus the mean binary cross entropy, of sigmoid outputs.

    Args (of the call):
        logits: (B, R, X, Y, Z).
        target: (B, R, X, Y, Z), 0 or 1.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dice = DiceLoss(sigmoid=True, batch=True)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss, a scalar."""
        target = target.to(logits.dtype)
        cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, target)
        loss: Tensor = self.dice(logits, target) + cross_entropy
        return loss
