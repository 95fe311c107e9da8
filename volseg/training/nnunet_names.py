"""Checkpoints of nnU-Net v2: read without running code, and the names of its U-Net as MONAI's DynUNet has them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from volseg.errors import CheckpointError

_ENCODER = re.compile(r"encoder\.stages\.(\d+)\.(?:0\.)?convs\.(\d+)\.(conv|norm)\.(weight|bias)")
_DECODER = re.compile(r"decoder\.stages\.(\d+)\.convs\.(\d+)\.(conv|norm)\.(weight|bias)")
_UP = re.compile(r"decoder\.transpconvs\.(\d+)\.(weight|bias)")
_SEGMENTATION = re.compile(r"decoder\.seg_layers\.(\d+)\.(weight|bias)")


def read_nnunet(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    """Read a `.pth` of nnU-Net, which holds numbers of NumPy beside the tensors, without running code.

    Raises:
        CheckpointError: The file is damaged, or holds more than tensors, numbers and texts.
    """
    number_types = {type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int64, np.bool_)}
    allowed = [np.dtype, np._core.multiarray.scalar, *number_types]  # type: ignore[attr-defined]
    try:
        with torch.serialization.safe_globals(allowed):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a damaged file raises errors of any kind
        reason = f"{type(error).__name__}: {error}".strip().splitlines()[0][:120]
        raise CheckpointError(f"{path} is damaged or no safe checkpoint ({reason})") from error


def is_nnunet(content: object) -> bool:
    """Whether a checkpoint is of nnU-Net v2.

    >>> is_nnunet({"network_weights": {}}), is_nnunet({"model": {}})
    (True, False)
    """
    return isinstance(content, Mapping) and isinstance(content.get("network_weights"), Mapping)


def dynunet_tensors(weights: Mapping[str, Tensor], *, path: Path) -> dict[str, Tensor]:
    """The tensors of nnU-Net's PlainConvUNet under the names of DynUNet.

    Both have two convolutions per stage and the same order of channels where skip connections join. nnU-Net counts the
    stages of the decoder from the coarsest, as DynUNet does. Its convolutions before a normalisation have biases, which
    the normalisation takes away again: they are left out. Those of the transposed convolutions count, and DynUNet has
    them with `trans_bias=True`.

    Args:
        weights: `network_weights` of the checkpoint.
        path: File, for the message.

    Raises:
        CheckpointError: The network has another architecture, such as the residual encoder.
    """
    weights = {name.removeprefix("module.").removeprefix("_orig_mod."): value for name, value in weights.items()}
    stages = {int(found[1]) for name in weights if (found := _ENCODER.fullmatch(name))}
    per_stage = {int(found[2]) for name in weights if (found := _ENCODER.fullmatch(name))}
    if not stages or per_stage != {0, 1} or not any(_SEGMENTATION.fullmatch(name) for name in weights):
        raise CheckpointError(
            f"{path} must be a plain U-Net of nnU-Net v2 with two convolutions per stage; a residual encoder, or "
            "version 1, has no counterpart here"
        )
    last = max(stages)
    heads = sorted(int(found[1]) for name in weights if (found := _SEGMENTATION.fullmatch(name)))
    named = {_name(name, last=last, finest_head=heads[-1]): value for name, value in weights.items()}
    return {name: value for name, value in named.items() if name is not None}


def _name(name: str, *, last: int, finest_head: int) -> str | None:
    """The name in DynUNet; None of what it does not have."""
    if part := _ENCODER.fullmatch(name):
        stage = int(part[1])
        block = "input_block" if stage == 0 else "bottleneck" if stage == last else f"downsamples.{stage - 1}"
        return _layer(block, part)
    if part := _DECODER.fullmatch(name):
        return _layer(f"upsamples.{part[1]}.conv_block", part)
    if part := _UP.fullmatch(name):
        return f"upsamples.{part[1]}.transp_conv.conv.{part[2]}"
    if part := _SEGMENTATION.fullmatch(name):
        number = finest_head - int(part[1])
        head = "output_block" if number == 0 else f"deep_supervision_heads.{number - 1}"
        return f"{head}.conv.conv.{part[2]}"
    return None


def _layer(block: str, part: re.Match[str]) -> str | None:
    number, kind, parameter = int(part[2]) + 1, part[3], part[4]
    if kind == "norm":
        return f"{block}.norm{number}.{parameter}"
    return f"{block}.conv{number}.conv.weight" if parameter == "weight" else None
