"""A 2D segmentation network of `transformers` as a network for volumes: slice by slice, with neighbours as channels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from volseg.errors import BundleError, CheckpointError, UsageError
from volseg.networks.architecture import divisor, make_config, merge, published_sizes, settings_of
from volseg.networks.names import keep_names
from volseg.networks.pretrained import backbone_of, find_weights, transfer, warn_of_scratch


class SlicewiseNetwork(nn.Module):
    """Segformer, UPerNet, DPT, BEiT and similar networks, applied to every slice of a volume.

    Each slice goes through the network with `context` neighbours on each side as further channels (2.5D); beyond the
    ends of the volume the last slice is repeated. The networks were made for colours scaled to mean 0 and deviation 1;
    images scaled to that mean and deviation are similar enough.

    A slice may have any size. It is extended by its own edge to the next size that the network divides, and the
    logits, which most networks give at a quarter of the size, are enlarged bilinearly and cropped to the slice. The
    position embeddings of DPT and BEiT are interpolated to the slice, as their authors do.

    Tensors have the same names in a checkpoint with each version of `transformers`, and the names of other versions are
    read too. The first convolution of weights follows the rule of `adapt_stem`: as many image channels as it has
    inputs, such as three colours, keep their own kernels.

    Args:
        base_model: Name: `segformer-b0` to `-b5`; `upernet-convnext-` or `upernet-swin-` with `tiny`, `small` or
            `base`;
            `dpt-base`, `dpt-large`, `beit-base`, `beit-large`; or None for the network of `weights` or `config`.
        in_channels, out_channels: Numbers of channels of the images and the logits.
        weights: None for random weights, as for a network whose own checkpoint is loaded next; a folder that
            `save_pretrained` wrote; a name on the Hugging Face hub; or `auto`: those that the authors of `base_model`
            published; if they are unavailable, random ones, with one line in the log. Licences are those of the
            authors:
            NVIDIA's for Segformer allow no commercial use.
        config: Differences from the published network, as its config in `transformers` names them: sizes, drop path,
            ... With other sizes no published weights fit.
        context: Number of neighbouring slices on each side, 0 for plain 2D.
        stride: Number of slices from one neighbour to the next.
        axis: Axis of the volume that slices are stacked along: 0, 1 or 2. The default suits volumes in RAS with thick
            slices along Z.
        upsample: Whole number by which a slice is enlarged before the network. The cost grows with its square; it lets
            a
            network that sees patches of 4 x 4 pixels find the edge of a small organ.
        slices_at_once: Number of slices per pass without gradients, which limits the memory. In training all slices
            of a batch go at once: batch norms must see them together.
        deep_supervision: Whether the auxiliary head of UPerNet, BEiT and DPT is kept and gives logits too, in training.
        use_checkpoint: Whether the backbone is computed again in the backward pass, which saves memory in training.

    Attributes:
        initialisation: `scratch`, or `pretrained: ` and the name of the weights.
        settings: Arguments that build this network again without weights, fit for JSON; a checkpoint's recipe
                must keep them.

    Args (of the call):
        volumes: Volumes (B, in_channels, X, Y, Z).

    Returns (of the call):
        Logits (B, out_channels, X, Y, Z). With deep supervision, in training: a list of two, the auxiliary logits last.

    Raises:
        UsageError: The arguments make no network.
        CheckpointError: The named weights are unavailable or do not fit.
        BundleError: The volumes are no batch of `in_channels`.

    >>> small = {"hidden_sizes": [8, 16, 16, 16], "num_attention_heads": [1, 2, 2, 2], "decoder_hidden_size": 16}
    >>> network = SlicewiseNetwork("segformer-b0", in_channels=1, out_channels=3, config=small, context=1)
    >>> network(torch.zeros(1, 1, 40, 33, 5)).shape, network.initialisation
    (torch.Size([1, 3, 40, 33, 5]), 'scratch')
    """

    def __init__(
        self,
        base_model: str | None,
        *,
        in_channels: int,
        out_channels: int,
        weights: str | Path | None = None,
        config: Mapping[str, Any] | None = None,
        context: int = 0,
        stride: int = 1,
        axis: int = 2,
        upsample: int = 1,
        slices_at_once: int = 16,
        deep_supervision: bool = False,
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        _check(1, in_channels=in_channels, out_channels=out_channels, stride=stride, upsample=upsample)
        _check(1, slices_at_once=slices_at_once)
        _check(0, context=context)
        if axis not in (0, 1, 2):
            raise UsageError(f"axis is {axis!r}, expected 0, 1 or 2: X, Y or Z")
        self.base_model, self.in_channels, self.out_channels = base_model, in_channels, out_channels
        self.context, self.stride, self.axis = context, stride, axis
        self.upsample, self.slices_at_once = upsample, slices_at_once
        self.deep_supervision = deep_supervision

        sizes = published_sizes(base_model)
        found = find_weights(weights, base_model=base_model, sizes=merge(sizes, config or {}))
        sizes = dict(found.settings) if found else sizes
        self.model = _build(
            merge(sizes, config or {}),
            in_channels=in_channels * (2 * context + 1),
            out_channels=out_channels,
            auxiliary=deep_supervision,
        )
        self.initialisation = "scratch"
        if found:
            try:
                transfer(found, self.model, channels=in_channels, context=context)
                self.initialisation = f"pretrained: {found.name}"
            except CheckpointError as error:
                if weights != "auto":
                    raise
                warn_of_scratch(error.message)
        self._divisor = _working_divisor(self.model, channels=in_channels * (2 * context + 1))
        for parameter in _idle(self.model, torch.zeros(1, in_channels * (2 * context + 1), *[self._divisor] * 2)):
            parameter.requires_grad_(False)
        if deep_supervision:
            self.model.auxiliary_head = _Auxiliary(self.model.auxiliary_head)
        if use_checkpoint:
            _checkpoint(self.backbone)
        keep_names(self)

    @property
    def backbone(self) -> nn.Module:
        """The part that takes pretrained weights; the rest is the head."""
        return backbone_of(self.model)

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments that build this network again without weights, fit for JSON."""
        names = ("base_model", "context", "stride", "axis", "upsample", "deep_supervision")
        return {"config": settings_of(self.model.config), **{name: getattr(self, name) for name in names}}

    def forward(self, volumes: Tensor) -> Tensor | list[Tensor]:
        """Compute the logits of a batch of volumes."""
        if hasattr(volumes, "as_tensor"):  # a MetaTensor
            volumes = volumes.as_tensor()  # every operation on a MetaTensor pays for its metadata
        if volumes.ndim != 5 or volumes.shape[1] != self.in_channels:
            raise BundleError(
                f"the network was given a batch of shape {list(volumes.shape)}, "
                f"expected [B, {self.in_channels}, X, Y, Z]"
            )
        slices = self._slices(volumes)
        number = slices.shape[0] if self.training else self.slices_at_once
        parts = [self._logits(part) for part in torch.split(slices, number)]
        outputs = [self._volumes(torch.cat(part), volumes.shape[0]) for part in zip(*parts, strict=True)]
        return outputs if len(outputs) > 1 else outputs[0]

    def _slices(self, volumes: Tensor) -> Tensor:
        """Reshape (B, C, X, Y, Z) to (B * Z, C * n, X, Y), for slices along Z and n of them as channels."""
        slices = volumes.movedim(2 + self.axis, 1)  # (B, Z, C, X, Y)
        if self.context:
            # z:            0         1         2
            # neighbours:  [0 0 1]   [0 1 2]   [1 2 2]   for one on each side, of three slices
            depth = slices.shape[1]
            steps = torch.arange(-self.context, self.context + 1, device=slices.device) * self.stride
            neighbours = (torch.arange(depth, device=slices.device)[:, None] + steps).clamp(0, depth - 1)
            slices = slices[:, neighbours].movedim(2, 3).flatten(2, 3)  # (B, Z, n, C, X, Y) -> (B, Z, C * n, X, Y)
        return slices.flatten(0, 1)

    def _volumes(self, logits: Tensor, batch: int) -> Tensor:
        """Reshape (B * Z, K, X, Y) to (B, K, X, Y, Z)."""
        return logits.reshape(batch, -1, *logits.shape[1:]).movedim(1, 2 + self.axis).contiguous()

    def _logits(self, slices: Tensor) -> tuple[Tensor, ...]:
        """Compute logits (N, K, H, W) of slices (N, C * n, H, W), and the auxiliary ones if they are wanted."""
        height, width = slices.shape[-2:]
        step = self._divisor // math.gcd(self._divisor, self.upsample)
        slices = functional.pad(slices, (0, -width % step, 0, -height % step), mode="replicate")
        size = slices.shape[-2:]
        if self.upsample > 1:
            slices = functional.interpolate(slices, scale_factor=self.upsample, mode="bilinear", align_corners=False)
        try:
            outputs = [_run(self.model, slices)]
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise BundleError(
                f"{self.base_model} cannot learn from a batch of one slice, which has no spread to normalise by; raise "
                "--batch_size or --crops_per_case"
            ) from error
        if self.deep_supervision and self.training:
            outputs.append(self.model.auxiliary_head.take())
        return tuple(
            functional.interpolate(output, size=size, mode="bilinear", align_corners=False)[..., :height, :width]
            for output in outputs
        )


class _Auxiliary(nn.Module):
    """The auxiliary head of a network: unused in evaluation; in training it keeps its last output."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head
        self._said: list[Tensor] = []

    def forward(self, features: Any) -> Tensor:  # noqa: ANN401 - a tensor or several, as the network has it
        if not self.training:
            return torch.zeros(1, 1, 1, 1, device=features[0].device)
        said: Tensor = self.head(features)
        self._said = [said]
        return said

    def take(self) -> Tensor:
        return self._said.pop()


def _run(model: Any, slices: Tensor) -> Tensor:  # noqa: ANN401 - a network of transformers
    """Compute logits of slices, at the size that the network gives them."""
    config = model.config
    logits: Tensor
    if config.model_type == "dpt" and not config.is_hybrid:
        # Its own forward assumes square images; its neck does not, if it gets the size.
        tokens = model.dpt(pixel_values=slices, output_hidden_states=True).hidden_states[1:]
        grid = [n // config.patch_size for n in slices.shape[-2:]]
        fused = model.neck([tokens[layer] for layer in config.backbone_out_indices], *grid)
        if model.auxiliary_head is not None:
            model.auxiliary_head(fused[-1])
        logits = model.head(fused)
    elif config.model_type in {"beit", "data2vec-vision"}:
        # Their own forward assumes images of config.image_size (BEiT before transformers 5.9).
        backbone = backbone_of(model)
        states = backbone(pixel_values=slices, output_hidden_states=True).hidden_states
        grid = [n // config.patch_size for n in slices.shape[-2:]]
        # (N, 1 + H * W, C), the class token first, as (N, C, H, W)
        maps = [states[layer - 1][:, 1:].transpose(1, 2).unflatten(2, grid) for layer in config.out_indices]
        if hasattr(model, "fpn"):
            maps = list(model.fpn(tuple(maps)))
        else:
            maps = [
                step(part) for step, part in zip([model.fpn1, model.fpn2, model.fpn3, model.fpn4], maps, strict=True)
            ]
        if model.auxiliary_head is not None:
            model.auxiliary_head(maps)
        logits = model.decode_head(maps)
    else:
        logits = model(pixel_values=slices).logits
    return logits


def _build(settings: Mapping[str, Any], *, in_channels: int, out_channels: int, auxiliary: bool) -> Any:  # noqa: ANN401
    from transformers import AutoModelForSemanticSegmentation

    config = make_config(settings, in_channels=in_channels, out_channels=out_channels, auxiliary=auxiliary)
    builder: Any = AutoModelForSemanticSegmentation
    try:
        model = builder.from_config(config, dtype=torch.float32)
    except Exception as error:  # transformers has errors of many kinds
        reason = str(error).strip().splitlines()[0]
        raise UsageError(f"the config makes no {config.model_type} network: {reason}") from error
    if auxiliary and getattr(model, "auxiliary_head", None) is None:
        raise UsageError(f"{config.model_type} has no auxiliary head; leave deep_supervision off")
    if config.model_type == "segformer":
        _spread(backbone_of(model))
    _bias_stem(backbone_of(model))
    return model


@torch.no_grad()
def _bias_stem(backbone: nn.Module) -> None:
    """Initialise the biases of the first convolution as PyTorch does, if `transformers` makes them zero.

    Zero slices, as beyond the edge of an image, would be zero in every layer. There each LayerNorm multiplies the
    gradients by up to 1 / sqrt(eps), a thousand, until they overflow.
    """
    stem = next((layer for layer in backbone.modules() if isinstance(layer, nn.Conv2d)), None)
    if stem is not None and stem.bias is not None:
        bound = 1 / math.sqrt(math.prod(stem.weight.shape[1:]))
        stem.bias.uniform_(-bound, bound)


@torch.no_grad()
def _spread(backbone: nn.Module) -> None:
    """Initialise convolutions as Segformer's authors do: with a deviation of sqrt(2 / fan out) (arXiv:1502.01852).

    `transformers` takes 0.02 for all of them. The depthwise 3 x 3 convolutions between its linear layers, which encode
    positions, then pass on a sixteenth, and a network from scratch hardly learns.
    """
    for layer in backbone.modules():
        if isinstance(layer, nn.Conv2d):
            fan_out = math.prod(layer.kernel_size) * layer.out_channels // layer.groups
            layer.weight.normal_(0, math.sqrt(2 / fan_out))


def _working_divisor(model: Any, *, channels: int) -> int:  # noqa: ANN401
    """The number of which both sides of a slice must be multiples: that of the config, or twice or four times that.

    Some backbones split the grid of patches into windows, about which their configs say nothing that is common to all.

    Raises:
        UsageError: No size of slices works, or only one.
    """
    first = divisor(model.config)
    model.eval()
    reasons = []
    for step in (first, 2 * first, 4 * first):
        try:
            with torch.no_grad():
                _run(model, torch.zeros(1, channels, step, step))
                if step > first:  # an image_size that is fixed
                    _run(model, torch.zeros(1, channels, 2 * step, step))
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:
            reasons.append((str(error).strip() or type(error).__name__).splitlines()[0])
        else:
            model.train()
            return step
    raise UsageError(f"the config makes no network that runs on slices of any size: {reasons[0]}")


def _idle(model: Any, slices: Tensor) -> list[nn.Parameter]:  # noqa: ANN401
    """Parameters on which no output depends: `transformers` makes some, and distributed training waits for them."""
    try:
        with torch.enable_grad():
            logits = _run(model.eval(), slices)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(f"the config makes no network that runs: {reason}") from error
    model.train()
    auxiliary = getattr(model, "auxiliary_head", None)
    reached = set(auxiliary.parameters()) if auxiliary is not None else set()
    seen: set[Any] = {None}
    waiting: list[Any] = [logits.grad_fn]
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            reached.add(getattr(node, "variable", None))
            waiting += [following for following, _ in node.next_functions]
    return [parameter for parameter in model.parameters() if parameter not in reached]


def _checkpoint(backbone: Any) -> None:  # noqa: ANN401
    try:
        # The first is the name since transformers 5.20, the second the one before.
        enable = getattr(backbone, "activation_checkpointing_enable", None) or backbone.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    except (ValueError, AttributeError) as error:
        raise UsageError(f"{type(backbone).__name__} cannot save memory so; leave use_checkpoint off") from error


def _check(least: int, **numbers: int) -> None:
    for name, number in numbers.items():
        if not isinstance(number, int) or number < least:
            raise UsageError(f"{name} is {number!r}, expected a whole number of at least {least}")
