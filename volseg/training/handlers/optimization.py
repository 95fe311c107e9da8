"""Gradients between the backward pass and the optimizer: averaged, clipped, and stopped if they are not finite."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from volseg.errors import BundleError, UsageError


class GradientClipping:
    """Clip gradients by their global norm, and stop if loss or gradients are not finite.

    This is a handler for MONAI's SupervisedTrainer. Its `accumulation_steps` accumulates gradients, but divides a last
    group of fewer batches by the full number; here the step of each group takes the mean over its own batches. Place
    the handler before that of the learning rate.

    Args:
        clip_norm: Largest Euclidean norm of all gradients together, to which longer ones are scaled down (Pascanu et
            al. 2013, arXiv:1211.5063). 0 (the default) leaves them as they are.

    Raises:
        UsageError: The norm is below 0.
        BundleError: In training, loss or gradients are not finite; the message names the keys of the batch, and nothing
            is saved after it.

    >>> GradientClipping(clip_norm=-1)
    Traceback (most recent call last):
    volseg.errors.UsageError: --clip_norm must be a number of at least 0, such as 1.0, got -1; 0 does not clip
    """

    def __init__(self, *, clip_norm: float = 0.0) -> None:
        if not isinstance(clip_norm, (int, float)) or not 0 <= clip_norm < math.inf:
            raise UsageError(
                f"--clip_norm must be a number of at least 0, such as 1.0, got {clip_norm!r}; 0 does not clip"
            )
        self.clip_norm = clip_norm
        self._norm: Tensor | None = None

    def attach(self, engine: Engine) -> None:
        """Attach the handler to a trainer."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self._backward)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._check)

    def _start(self, engine: Engine) -> None:
        if engine.accumulation_steps > 1:
            # The schedule steps at every batch, and torch warns if no step of the optimizer came before; a step without
            # gradients changes nothing.
            engine.optimizer.zero_grad(set_to_none=True)
            engine.optimizer.step()

    def _backward(self, engine: Engine) -> None:
        batches = batches_of_step(engine)
        self._norm = None
        if 0 < batches < engine.accumulation_steps:
            for parameter in engine.network.parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(engine.accumulation_steps / batches)
        if batches and self.clip_norm:
            if engine.scaler is not None:
                engine.scaler.unscale_(engine.optimizer)
            norm = torch.nn.utils.clip_grad_norm_(engine.network.parameters(), self.clip_norm)
            # With a scaler, infinite gradients are part of its search: it skips the step and lowers the scale.
            self._norm = norm if engine.scaler is None else None

    def _check(self, engine: Engine) -> None:
        # After the step, since the progress waits for the loss then anyway: an earlier check would make a GPU wait once
        # more.
        output = engine.state.output
        loss = float((output[0] if isinstance(output, list) else output)["loss"])
        norm = 0.0 if self._norm is None else float(self._norm)
        if math.isfinite(loss) and math.isfinite(norm):
            return
        what = f"the loss is {loss:g}" if not math.isfinite(loss) else f"the norm of the gradients is {norm:g}"
        rate = max(group["lr"] for group in engine.optimizer.param_groups)
        raise BundleError(
            f"{what} at epoch {engine.state.epoch}, iteration {engine.state.iteration}, learning rate {rate:.3g}, "
            f"batch {', '.join(keys_of(engine.state.batch)) or 'without keys'}. The checkpoints saved before are kept. "
            "Lower --learning_rate, clip gradients (--clip_norm 1.0) or take --precision fp32; look at these cases if "
            "it happens again"
        )


def batches_of_step(engine: Engine) -> int:
    """Number of batches in the step that the optimizer of MONAI's trainer makes at this batch; 0 if it makes none.

    Gradients of `accumulation_steps` batches make a step, and so does the remainder at the end of an epoch.
    """
    group = int(engine.accumulation_steps)
    length = engine.state.epoch_length
    batch = engine.state.iteration if length is None else (engine.state.iteration - 1) % length + 1
    if batch % group == 0:
        return group
    return int(batch % group) if batch == length else 0


def keys_of(batch: object) -> list[str]:
    """The case keys of a batch (a dictionary of lists, or a list of dictionaries once MONAI has split it), each once.

    >>> keys_of({"key": ["case1", "case1", "case2"]}), keys_of([{"key": "case3"}]), keys_of(None)
    (['case1', 'case2'], ['case3'], [])
    """
    items: Iterable[Any] = batch if isinstance(batch, list) else [batch]
    found = [item["key"] for item in items if isinstance(item, Mapping) and "key" in item]
    return list(dict.fromkeys(str(key) for keys in found for key in (keys if isinstance(keys, list) else [keys])))


class Average:
    """Keep an exponential moving average of the weights; a handler for MONAI's SupervisedTrainer.

    At step t of the optimizer the average is multiplied by min(`decay`, (1 + t) / (10 + t)) and the weights by the
    rest, so that the average of a short run is not dominated by its beginning. Buffers, such as the statistics of a
    batch normalisation, are those of the network. (ignite's EMAHandler warms up linearly, and steps at every batch even
    if gradients are accumulated.)

    Args:
        network: Network that is trained, on its device.
        decay: Decay below 1, such as 0.999; 0 for no average.

    Attributes:
        network: Network to validate and to save: the average, or with a decay of 0 the trained network itself.

    Raises:
        UsageError: The decay is out of range.

    >>> net = nn.Linear(1, 1)
    >>> Average(net, decay=0).network is net, Average(net, decay=0.999).network is net
    (True, False)
    """

    def __init__(self, network: nn.Module, *, decay: float) -> None:
        if not isinstance(decay, (int, float)) or not 0 <= decay < 1:
            raise UsageError(f"--ema_decay must be a number below 1, such as 0.999, got {decay!r}; 0 takes no average")
        self.decay = decay
        self._trained = network.module if isinstance(network, DistributedDataParallel) else network
        self._average = AveragedModel(self._trained) if decay else None
        self.network: nn.Module = self._average.module if self._average else network

    def attach(self, engine: Engine) -> None:
        """Attach the handler to a trainer."""
        if self._average is not None:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._update)

    def _update(self, engine: Engine) -> None:
        if self._average is not None and batches_of_step(engine):
            steps = int(self._average.n_averaged)
            decay = min(self.decay, (1 + steps) / (10 + steps))
            self._average.multi_avg_fn = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]  # torch's
            self._average.update_parameters(self._trained)

    def state_dict(self) -> dict[str, Any]:
        """The average and its number of steps; empty with a decay of 0."""
        return self._average.state_dict() if self._average else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""
        if self._average is not None:
            self._average.load_state_dict(state)
