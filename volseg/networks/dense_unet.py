"""A U-Net of dense blocks, for slices and volumes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.networks.blocks import ADN, Convolution
from monai.networks.layers.factories import Conv, Pool
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from volseg.errors import BundleError

Layer = str | tuple[str, Mapping[str, Any]]  # a name of MONAI's layer factories, alone or with arguments


class DenseUNet(nn.Module):
    """A U-Net of dense blocks in encoder and decoder, joined by skip connections.

    This is the network of Jégou et al. 2017 (FC-DenseNet, "the one hundred layers tiramisu",
    doi:10.1109/CVPRW.2017.156): each layer of a block takes all maps before it and adds `growth_rate` new ones, and
    only the new maps of a block are upsampled to the next finer stage. Between stages the channels are compressed and
    averaged as in DenseNet (Huang et al. 2017, doi:10.1109/CVPR.2017.243). Strides and kernels may differ by axis, as
    `volseg.plan.fit_pyramid` gives them, so that distant slices, or a single one, are a volume too.

    Args:
        spatial_dims: Number of spatial axes, 2 or 3.
        in_channels, out_channels: Numbers of channels of images and logits.
        strides: One stride per stage along each axis, the full resolution first: all 1.
        kernels: Sizes of the convolutions of each stage, along each axis: odd numbers; 3 by default.
        growth_rate: Number of maps that each layer adds.
        block_layers: Number of layers of the blocks of each stage, or one number for all.
        init_features: Number of maps of the first convolution; three times the growth rate by default.
        compression: Fraction of the channels that goes to the next coarser stage, above 0 and at most 1.
        norm, act: Normalisation and activation before each convolution, as MONAI names them.
        dropout: Probability of dropout after each convolution of a block.
        deep_supervision: Number of coarser stages that give logits too, in training.
        use_checkpoint: Whether each layer is computed again in the backward pass. Memory then grows with the layers of
            a block and not with their square (Pleiss et al. 2017, arXiv:1707.06990); a step takes about a third longer.

    Args (of the call):
        x: Images (B, in_channels, X, Y, Z), without Z in 2D. Each axis is a multiple of the product of the strides
            along it.

    Returns (of the call):
        Logits (B, out_channels, X, Y, Z). With deep supervision, in training: a list of such logits, the full
        resolution first, each of the size of its stage.

    Raises:
        BundleError: The numbers make no network, or the image has a size that cannot be halved as often.

    >>> network = DenseUNet(3, 1, 4, strides=[[1, 1, 1], [2, 2, 1], [2, 2, 2]], growth_rate=8, block_layers=[2, 3, 4])
    >>> network(torch.zeros(1, 1, 16, 16, 2)).shape, sum(parameter.numel() for parameter in network.parameters())
    (torch.Size([1, 4, 16, 16, 2]), 158156)

    FC-DenseNet103 is published with 9.4 million parameters. Here it has fewer, since maps are upsampled with kernels of
    2 x 2 voxels instead of 3 x 3:

    >>> strides, layers = [[1, 1], *[[2, 2]] * 5], [4, 5, 7, 10, 12, 15]
    >>> network = DenseUNet(2, 3, 11, strides=strides, block_layers=layers, compression=1, norm="batch")
    >>> sum(parameter.numel() for parameter in network.parameters())
    8623035
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        strides: Sequence[Sequence[int]],
        kernels: Sequence[Sequence[int]] | None = None,
        growth_rate: int = 16,
        block_layers: int | Sequence[int] = 4,
        init_features: int | None = None,
        compression: float = 0.5,
        norm: Layer = ("instance", {"affine": True}),
        act: Layer = ("leakyrelu", {"negative_slope": 0.01, "inplace": True}),
        dropout: float = 0.0,
        deep_supervision: int = 0,
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        stages = len(strides)
        kernels = [[3] * spatial_dims] * stages if kernels is None else kernels
        layers = [block_layers] * stages if isinstance(block_layers, int) else list(block_layers)
        width = 3 * growth_rate if init_features is None else init_features
        _check(spatial_dims, strides, kernels, layers, (growth_rate, width), compression, deep_supervision)
        self.divisor = [math.prod(along) for along in zip(*strides, strict=True)]
        self.deep_supervision = deep_supervision
        conv, transposed = Conv[Conv.CONV, spatial_dims], Conv[Conv.CONVTRANS, spatial_dims]
        pool = Pool[Pool.AVG, spatial_dims]
        adn = {"act": act, "norm": norm, "norm_dim": spatial_dims}

        def block(channels: int, stage: int) -> DenseBlock:
            return DenseBlock(
                [
                    nn.Sequential(
                        ADN("NA", channels + number * growth_rate, **adn),
                        Convolution(
                            spatial_dims,
                            channels + number * growth_rate,
                            growth_rate,
                            kernel_size=kernels[stage],
                            bias=False,
                            conv_only=True,
                        ),
                        nn.Dropout(dropout),
                    )
                    for number in range(layers[stage])
                ],
                use_checkpoint=use_checkpoint,
            )

        self.stem = Convolution(spatial_dims, in_channels, width, kernel_size=kernels[0], bias=False, conv_only=True)
        self.downs, self.encoder = nn.ModuleList(), nn.ModuleList()
        skips: list[int] = []  # channels
        for stage, stride in enumerate(strides):
            if stage:
                less = max(1, int(width * compression))
                # DenseNet averages after its convolution; since that has kernels of one voxel, the result is the same.
                steps = (ADN("NA", width, **adn), pool(tuple(stride)), conv(width, less, kernel_size=1, bias=False))
                self.downs.append(nn.Sequential(*steps))
                width = less
            self.encoder.append(block(width, stage))
            width += layers[stage] * growth_rate
            skips.append(width)
        self.ups, self.decoder, self.heads = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for stage in reversed(range(stages - 1)):  # from coarse to fine
            new, stride = layers[stage + 1] * growth_rate, tuple(strides[stage + 1])
            self.ups.append(transposed(new, new, kernel_size=stride, stride=stride, bias=False))
            self.decoder.append(block(skips[stage] + new, stage))
            if stage <= deep_supervision:
                width = skips[stage] + new + layers[stage] * growth_rate
                self.heads.append(conv(width, out_channels, kernel_size=1))
        for module in self.modules():
            if isinstance(module, (conv, transposed)):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Compute the logits, see the class."""
        sizes = list(x.shape[2:])
        tracing = torch.jit.is_tracing()  # type: ignore[no-untyped-call,attr-defined]  # torch has no types for it
        if not tracing and any(n % step for n, step in zip(sizes, self.divisor, strict=True)):
            raise BundleError(
                f"the network cannot halve an image of {sizes} voxels: each axis must be a multiple of {self.divisor}"
            )
        x, new = self.encoder[0](self.stem(x))
        skips = [x]
        for down, block in zip(self.downs, self.encoder[1:], strict=True):
            x, new = block(down(x))
            skips.append(x)
        seen = []
        for up, block, skip in zip(self.ups, self.decoder, reversed(skips[:-1]), strict=True):
            x, new = block(torch.cat([skip, up(new)], dim=1))
            seen.append(x)
        if not self.training or not self.deep_supervision:
            logits: Tensor = self.heads[-1](x)
            return logits
        return [head(x) for head, x in zip(reversed(self.heads), reversed(seen), strict=False)]


class DenseBlock(nn.Module):
    """Layers each of which takes all maps before it.

    Args:
        layers: Layers; the n-th takes the channels of the input and those of the n layers before it.
        use_checkpoint: Whether each layer is computed again in the backward pass.

    Returns (of the call):
        All maps, (B, C + new, ...), and the new ones among them, (B, new, ...).
    """

    def __init__(self, layers: Sequence[nn.Module], *, use_checkpoint: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.use_checkpoint = use_checkpoint

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute all maps, and the new ones among them."""
        channels = x.shape[1]
        for layer in self.layers:
            again = self.use_checkpoint and self.training
            x = torch.cat([x, checkpoint(layer, x, use_reentrant=False) if again else layer(x)], dim=1)
        return x, x[:, channels:]


def _check(
    spatial_dims: int,
    strides: Sequence[Sequence[int]],
    kernels: Sequence[Sequence[int]],
    layers: Sequence[int],
    maps: Sequence[int],
    compression: float,
    deep_supervision: int,
) -> None:
    """Raise an error if the numbers make no network."""
    stages = len(strides)
    if spatial_dims not in (2, 3):
        raise BundleError(f"spatial_dims is {spatial_dims}, expected 2 or 3")
    if stages < 2 or len(kernels) != stages or len(layers) != stages:
        raise BundleError(
            f"{stages} strides, {len(kernels)} kernels and {len(layers)} block_layers: expected one of each per stage, "
            "and two stages at least"
        )
    if any(len(along) != spatial_dims or min(along) < 1 for along in (*strides, *kernels)):
        raise BundleError(
            f"strides {strides} and kernels {kernels}: expected {spatial_dims} numbers above 0 for each stage"
        )
    if max(strides[0]) > 1:
        raise BundleError(f"the first stride is {list(strides[0])}: expected 1 along each axis, the full resolution")
    if any(size % 2 == 0 for kernel in kernels for size in kernel):
        raise BundleError(f"kernels are {kernels}: expected odd numbers")
    if min(*layers, *maps) < 1 or not 0 < compression <= 1:
        raise BundleError(
            f"block_layers {layers}, growth_rate and init_features {maps}, compression {compression}: expected whole "
            "numbers above 0, and a compression of at most 1"
        )
    if not 0 <= deep_supervision < stages - 1:
        raise BundleError(
            f"deep_supervision is {deep_supervision}: expected at most {stages - 2}, the stages that are enlarged"
        )
