"""What tells one loss from another: its class, weights and exponents, and those of the losses that it is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def loss_facts(loss: Callable[..., Any]) -> dict[str, Any]:
    """The classes and the numbers of a loss by name, as JSON has them.

    Args:
        loss: Loss, a module of torch or a function.

    >>> facts = loss_facts(nn.CrossEntropyLoss(label_smoothing=0.1))
    >>> facts["class"], facts["label_smoothing"]
    ('CrossEntropyLoss', 0.1)
    """
    if not isinstance(loss, nn.Module):
        return {"class": type(loss).__name__, "name": getattr(loss, "__qualname__", "")}
    found: dict[str, Any] = {"class": type(loss).__name__}
    for name, value in {**vars(loss), **dict(loss.named_buffers(recurse=False))}.items():
        if name.startswith("_") or name == "training":
            continue
        if isinstance(value, Tensor):
            found[name] = torch.as_tensor(value).detach().cpu().tolist()
        elif value is None or isinstance(value, (bool, int, float, str)):
            found[name] = value
        elif callable(value) and not isinstance(value, nn.Module):
            found[name] = getattr(value, "__qualname__", type(value).__name__)
    for name, part in loss.named_children():
        inner, above = (
            loss_facts(part),
            "" if name == "loss" else f"{name}.",
        )  # what is wrapped needs no name of its own
        found |= {name: inner.pop("class"), **{f"{above}{key}": value for key, value in inner.items()}}
    return found
