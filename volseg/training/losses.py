"""The losses that fit a label table: sigmoid masks where regions overlap, softmax classes where they do not."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from monai.losses import DiceLoss, TverskyLoss
from torch import Tensor, nn

from volseg.errors import BundleError, LabelError
from volseg.labels import LabelTable
from volseg.transforms import IGNORED


def dice_ce(labels: LabelTable, *, region_weights: Mapping[str, float] | None = None) -> nn.Module:
    """Soft Dice loss plus cross entropy (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z); the default.

    Args:
        labels: Label table.
        region_weights: Weight of each region by its name, 1 if not named; without overlap also of `background`,
            which only the cross entropy knows.

    Raises:
        LabelError: A weight belongs to no region, or is below 0.
    """
    return RegionLoss(labels, overlap=_dice(labels), region_weights=region_weights)


def bce(labels: LabelTable, *, region_weights: Mapping[str, float] | None = None) -> nn.Module:
    """Cross entropy alone: binary if regions overlap, over a softmax if they do not. Arguments of `dice_ce`."""
    return RegionLoss(labels, region_weights=region_weights)


def dice_bce(
    labels: LabelTable,
    *,
    dice_weight: float = 0.5,
    bce_weight: float = 0.5,
    region_weights: Mapping[str, float] | None = None,
) -> nn.Module:
    """The two terms of `dice_ce`, each with its own weight."""
    return RegionLoss(
        labels,
        overlap=_dice(labels),
        overlap_weight=dice_weight,
        entropy_weight=bce_weight,
        region_weights=region_weights,
    )


def dice_focal(
    labels: LabelTable,
    *,
    gamma: float = 2.0,
    dice_weight: float = 1.0,
    focal_weight: float = 1.0,
    region_weights: Mapping[str, float] | None = None,
) -> nn.Module:
    """Soft Dice loss plus focal loss (Lin et al. 2017, doi:10.1109/ICCV.2017.324), which weighs easy voxels less.

    MONAI's DiceFocalLoss takes a sigmoid in its focal part even with `softmax=True`, and its FocalLoss with a softmax
    is divided by the number of classes. Here `gamma=0` is `dice_ce`.

    Args:
        labels: Label table.
        gamma: Exponent: the cross entropy of a voxel is multiplied by (1 - p)^gamma, p the probability of its true
            class.
        dice_weight: Weight of the Dice loss.
        focal_weight: Weight of the focal loss.
        region_weights: Weight of each region by its name, see `dice_ce`.
    """
    return RegionLoss(
        labels,
        overlap=_dice(labels),
        overlap_weight=dice_weight,
        entropy_weight=focal_weight,
        gamma=gamma,
        region_weights=region_weights,
    )


def tversky(
    labels: LabelTable,
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    bce_weight: float = 0.0,
    region_weights: Mapping[str, float] | None = None,
) -> nn.Module:
    """Tversky loss (Salehi et al. 2017, doi:10.1007/978-3-319-67389-9_44), which weighs misses and false alarms apart.

    Args:
        labels: Label table.
        alpha: Weight of false positives; 0.5 and 0.5 is the Dice loss.
        beta: Weight of false negatives; the kind of error with the larger weight is avoided more.
        bce_weight: Weight of an added cross entropy, see `bce`.
        region_weights: Weight of each region by its name, see `dice_ce`.
    """
    overlap = TverskyLoss(**_kind(labels), alpha=alpha, beta=beta, batch=True, reduction="none")
    return RegionLoss(labels, overlap=overlap, entropy_weight=bce_weight, region_weights=region_weights)


class RegionLoss(nn.Module):
    """An overlap loss, the weighted mean over regions, plus a cross entropy, the weighted mean over voxels.

    MONAI's DiceCELoss takes the cross entropy over a softmax even with `sigmoid=True` and several channels, which makes
    overlapping regions compete; here each region has its own binary cross entropy.

    Raises:
        BundleError: A weight or gamma is below 0, or all weights are 0.

    Args:
        labels: Label table.
        overlap: Function from (logits, target) to one loss per region, over the whole batch; None for the cross entropy
            alone.
        overlap_weight, entropy_weight: Weights of the two terms.
        gamma: Exponent of the focal loss; 0 for the plain cross entropy.
        region_weights: Weight of each region by its name.

    Args (of the call):
        logits: Logits (B, K, X, Y, Z), one channel for each of `labels.channel_names`; computed in float32 whatever the
            type.
        target: Masks (B, R, X, Y, Z), 0 or 1, if regions overlap; else class numbers (B, 1, X, Y, Z). Voxels with
            `volseg.transforms.IGNORED` do not count, if the table has the label `ignore`.
    """

    def __init__(
        self,
        labels: LabelTable,
        *,
        overlap: nn.Module | None = None,
        overlap_weight: float = 1.0,
        entropy_weight: float = 1.0,
        gamma: float = 0.0,
        region_weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        terms = [entropy_weight] if overlap is None else [overlap_weight, entropy_weight]
        if min(*terms, gamma, 0) < 0 or not any(terms):
            raise BundleError(
                f"the terms of the loss have the weights {terms}, and gamma is {gamma:g}; none may be below 0, and one "
                "weight must be above it"
            )
        self.labels = labels
        self.overlap = overlap
        self.overlap_weight = overlap_weight
        self.entropy_weight = entropy_weight
        self.gamma = gamma
        self.weights = _weights(labels, region_weights) if region_weights else None

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss, a scalar.

        Raises:
            BundleError: The shapes do not fit each other or the label table.
        """
        expected = (len(target), len(self.labels.names) if self.labels.overlap else 1, *logits.shape[2:])
        if logits.shape[:2] != (len(target), self.labels.channels) or target.shape != expected:
            raise BundleError(
                f"the network gave {tuple(logits.shape)} for a target of {tuple(target.shape)}; expected "
                f"{self.labels.channels} channels ({', '.join(self.labels.channel_names)}) and the same voxels"
            )
        logits, target = logits.float(), target.float()
        counted = None
        if self.labels.ignore is not None and (ignored := target[:, :1] == IGNORED).any():
            # Certain background in both adds nothing to the overlap, and no gradient reaches the network.
            background = logits.new_tensor(self.labels.background_logits).view(1, -1, *[1] * (logits.ndim - 2))
            logits, target = torch.where(ignored, background, logits), target.masked_fill(ignored, 0)
            counted = (~ignored).float()
        weights = None if self.weights is None else self.weights.to(logits.device)
        loss = logits.new_zeros(())
        if self.overlap is not None and self.overlap_weight:
            regions = self.overlap(logits, target).flatten()  # (R,)
            loss = loss + self.overlap_weight * _mean(regions, None if weights is None else weights[-len(regions) :])
        if self.entropy_weight:
            loss = loss + self.entropy_weight * self._entropy(logits, target, weights, counted)
        return loss

    def _entropy(self, logits: Tensor, target: Tensor, weights: Tensor | None, counted: Tensor | None = None) -> Tensor:
        if self.labels.overlap:
            entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
            if weights is not None:
                weights = weights.view(-1, *[1] * (logits.ndim - 2)).expand_as(entropy)  # of (B, R, X, Y, Z)
        else:
            classes = target[:, 0].long()
            entropy = F.cross_entropy(logits, classes, reduction="none")
            if weights is not None:
                weights = weights[classes]  # of (B, X, Y, Z)
        if self.gamma:
            # exp(-entropy) is p, the probability of the truth; if gamma is below 1, the slope of (1 - p)^gamma has no
            # bound.
            entropy = (-torch.expm1(-entropy)).clamp_min(1e-6) ** self.gamma * entropy
        if counted is not None:
            counted = (counted if self.labels.overlap else counted[:, 0]).expand_as(entropy)
            weights = counted if weights is None else weights * counted
        return _mean(entropy, weights)


def _mean(values: Tensor, weights: Tensor | None) -> Tensor:
    if weights is None:
        return values.mean()
    return (values * weights).sum() / weights.sum().clamp_min(1e-6)  # all voxels of a batch may weigh 0


def _kind(labels: LabelTable) -> dict[str, bool]:
    """The arguments of MONAI's overlap losses; the background is no region."""
    if labels.overlap:
        return {"sigmoid": True}
    return {"softmax": True, "to_onehot_y": True, "include_background": False}


def _dice(labels: LabelTable) -> nn.Module:
    loss: nn.Module = DiceLoss(**_kind(labels), batch=True, reduction="none")
    return loss


def _weights(labels: LabelTable, by_name: object) -> Tensor:
    """The weight of each channel (K,)."""
    if not isinstance(by_name, Mapping):
        example = {labels.names[0]: 2}
        raise LabelError(f"region_weights must be weights by name such as {example}, got {by_name!r}")
    for name, weight in by_name.items():
        if name not in labels.channel_names:
            near = difflib.get_close_matches(name, labels.channel_names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the names are {', '.join(labels.channel_names)}"
            raise LabelError(f"region_weights names {name!r}, which is no region; {hint}")
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight < float("inf"):
            raise LabelError(f"region_weights gives {name} the weight {weight!r}, expected a number of at least 0")
    weights = torch.tensor([float(by_name.get(name, 1)) for name in labels.channel_names])
    if not weights[-len(labels.names) :].any():
        raise LabelError("region_weights gives every region the weight 0; nothing would be learnt")
    return weights


class DeepSupervision(nn.Module):
    """A loss over each output of a network, its weight halved from one to the next.

    For a single output it is just the loss. The weights 1, 1/2, 1/4, ... are divided by their sum, as in Isensee et al.
    2021, doi:10.1038/s41592-020-01008-z. (MONAI's DeepSupervisionLoss does not divide, so the loss grows with the
    number of outputs, and it knows no stacked tensor.)

    Args:
        loss: Loss of (logits, target).

    Args (of the call):
        outputs: Logits (B, K, X, Y, Z); or a list or tuple of them, the full resolution first, others of any size; or
            (B, 1 + n, K, X, Y, Z), the stack of MONAI's DynUNet, all of full size.
        target: Target (B, R, X, Y, Z); its nearest voxels are taken for a smaller output.

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
    """Resample a target to another size; each voxel gets the value of the nearest centre.

    Args:
        target: Target (B, R, X, Y, Z) of any type.
        shape: Number of voxels along X, Y, Z.
    """
    if target.shape[2:] == tuple(shape):
        return target
    return F.interpolate(target.float(), size=tuple(shape), mode="nearest-exact").to(target.dtype)
