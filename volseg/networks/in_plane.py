"""Convolutions of one slice in two dimensions: the same results in a third of the time."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor, nn
from torch.nn import functional

Network = TypeVar("Network", bound=nn.Module)


def in_plane(network: Network) -> Network:
    """Make a network compute convolutions of width 1 along the last axis in 2D for a single slice; returns the network.

    On a CPU torch's 3D convolution of (X, Y, 1) takes three times as long as the 2D convolution of (X, Y): it works
    along the last axis, which has one voxel. Parameters, their names and the results for volumes stay as they are.

    Args:
        network: Network of any kind; layers that are no such convolutions are not changed.

    >>> import torch
    >>> network = nn.Conv3d(1, 2, (3, 3, 1), padding=(1, 1, 0))
    >>> image = torch.ones(1, 1, 8, 8, 1)
    >>> before = network(image)
    >>> torch.allclose(in_plane(network)(image), before, atol=1e-6)
    True
    """
    for module in network.modules():
        kind = _IN_PLANE.get(type(module))
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d) and kind and _is_flat(module):
            module.__class__ = kind  # type: ignore[assignment]  # one of the two classes below, of the same layout
    return network


def _is_flat(module: nn.Conv3d | nn.ConvTranspose3d) -> bool:
    """Whether a convolution uses neighbours, and only those within the slice; kernels of one voxel do not count."""
    along = (module.kernel_size[2], module.stride[2], module.padding[2])
    return along == (1, 1, 0) and module.kernel_size != (1, 1, 1) and module.padding_mode == "zeros"


class _Conv(nn.Conv3d):
    """A convolution that is computed in the plane for a single slice."""

    def forward(self, x: Tensor) -> Tensor:
        """Compute the convolution of (B, C, X, Y, Z) as `Conv3d` does."""
        if x.shape[-1] != 1:
            return super().forward(x)
        bias, stride, padding, dilation = self.bias, self.stride[:2], self.padding[:2], self.dilation[:2]
        return functional.conv2d(x[..., 0], self.weight[..., 0], bias, stride, padding, dilation, self.groups)[
            ..., None
        ]


class _TransposedConv(nn.ConvTranspose3d):
    """A transposed convolution that is computed in the plane for a single slice."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Compute the transposed convolution of (B, C, X, Y, Z) as `ConvTranspose3d` does."""
        if x.shape[-1] != 1 or output_size is not None:
            return super().forward(x, output_size)
        return functional.conv_transpose2d(
            x[..., 0],
            self.weight[..., 0],
            self.bias,
            stride=self.stride[:2],
            padding=[int(n) for n in self.padding[:2]],
            output_padding=self.output_padding[:2],
            groups=self.groups,
            dilation=self.dilation[:2],
        )[..., None]


_IN_PLANE: dict[type[nn.Module], type[nn.Module]] = {nn.Conv3d: _Conv, nn.ConvTranspose3d: _TransposedConv}
