"""Batch normalisation of a batch that is split over several threads, with the statistics of the whole batch."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

_KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class PartedWaysError(RuntimeError):
    """The threads did not reach the same layers in the same order."""


class ThreadGroup:
    """Threads that run the same steps and exchange values in some of them.

    Args:
        count: Number of threads; each has a rank, 0 to count - 1.
    """

    def __init__(self, count: int) -> None:
        self._barrier = threading.Barrier(count)
        # Two buffers, used in turn: the thread that writes the next value may be one exchange ahead of those that read.
        self._words: tuple[list[Any], list[Any]] = ([None] * count, [None] * count)
        self._met = [0] * count

    def exchange(self, seat: int, place: object, word: Any) -> list[Any]:  # noqa: ANN401 - whatever is told
        """Gather the values of all threads at this step, in the order of their ranks.

        Raises:
            PartedWaysError: Another thread is at another step.
            threading.BrokenBarrierError: Another thread has failed.
        """
        words = self._words[self._met[seat] % 2]
        self._met[seat] += 1
        words[seat] = (place, word)
        self._barrier.wait()
        if any(other != place for other, _ in words):
            raise PartedWaysError("parts of a batch went different ways through the network")
        return [said for _, said in words]

    def abort(self) -> None:
        """Stop all threads that wait."""
        self._barrier.abort()


class BatchNorms(TorchFunctionMode):
    """A context, entered in each of the threads, in which batch normalisation in training is that of the whole batch.

    The statistics of the parts are combined after Chan, Golub and LeVeque (1983), in the order of the ranks, so that
    values and gradients are those of the whole batch but for rounding. The thread of rank 0 keeps the running
    statistics.

    Args:
        meeting: Exchange among the threads.
        seat: Rank of this thread.
    """

    def __init__(self, meeting: ThreadGroup, seat: int) -> None:
        super().__init__()
        self.meeting, self.seat = meeting, seat
        self._grad = False
        self.passes: Counter[int] = Counter()  # of each running mean, by its id

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the function gives
        """Replace batch normalisation by the one over all threads."""
        if func is functional.batch_norm:
            given = _Given(*args, **(kwargs or {}))
            if given.training:
                if self._computed_again(given):
                    raise PartedWaysError("a layer that normalises them is computed again for its gradients")
                self.passes[id(given.running_mean)] += 1
                return _Normalised.apply(given.input, given.weight, given.bias, given, self)  # type: ignore[no-untyped-call]
        return func(*args, **(kwargs or {}))

    def __enter__(self) -> BatchNorms:
        """Start a forward or backward pass."""
        self._grad = torch.is_grad_enabled()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def _computed_again(self, given: _Given) -> bool:
        """Whether the layer is in a `torch.utils.checkpoint` of either kind: PyTorch repeats it without this mode."""
        hooks = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
        tensors = (given.input, given.weight, given.bias)
        hidden = (
            self._grad and not torch.is_grad_enabled() and any(one is not None and one.requires_grad for one in tensors)
        )
        return hidden or (hooks is not None and hooks(False) is not None)

    def end(self) -> None:
        """Wait for the others at the end of the network, so that none waits for a thread that has finished."""
        self.meeting.exchange(self.seat, "end", None)


def has_batch_norm(network: nn.Module) -> bool:
    """Whether a layer of the network normalises by statistics of the batch."""
    return any(isinstance(module, _BatchNorm) for module in network.modules())


def can_meet(network: nn.Module) -> bool:
    """Whether `BatchNorms` knows the kind of every batch normalisation: PyTorch's own, with a momentum."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    return all(type(norm) in _KINDS and norm.momentum is not None for norm in norms)


class RunningStatistics:
    """The running statistics of layers of which several threads see parts of the same batch.

    While this context is entered, each thread may count the batch; at its end it is counted as often as one of them
    passed. After an error everything is as it was before.

    Args:
        network: Network of one thread; the others share its buffers.
        norms: Batch normalisation of this thread.
    """

    def __init__(self, network: nn.Module, norms: BatchNorms) -> None:
        self._norms, self._passes = norms, norms.passes.copy()
        self._layers = [module for module in network.modules() if isinstance(module, _BatchNorm)]
        self._before = [(kept, kept.clone()) for layer in self._layers for kept in layer.buffers(recurse=False)]

    def __enter__(self) -> None:
        """Do nothing: the statistics were saved when the object was made."""

    def __exit__(self, error: object, *_: object) -> None:
        """Set the counts right, or restore everything after an error."""
        before = {id(kept): value for kept, value in self._before}
        for layer in self._layers:
            if layer.num_batches_tracked is not None:
                name = id(layer.running_mean)
                passes = self._norms.passes[name] - self._passes[name]
                layer.num_batches_tracked.copy_(before[id(layer.num_batches_tracked)] + passes)
        if error is not None:
            for kept, value in self._before:
                kept.copy_(value)


class _Given(NamedTuple):
    """The arguments of `torch.nn.functional.batch_norm`, under its names."""

    input: Tensor
    running_mean: Tensor | None
    running_var: Tensor | None
    weight: Tensor | None = None
    bias: Tensor | None = None
    training: bool = False
    momentum: float = 0.1
    eps: float = 1e-5


class _Normalised(torch.autograd.Function):
    """This thread's part, normalised by the mean and the variance of all parts."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - carries what backward needs
        inputs: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        given: _Given,
        norms: BatchNorms,
    ) -> Tensor:
        """Normalise this thread's part."""
        exact = inputs if inputs.dtype == torch.float64 else inputs.float()
        axes = [axis for axis in range(inputs.ndim) if axis != 1]
        variance, mean = torch.var_mean(exact, axes, correction=0)
        count = inputs.numel() // inputs.shape[1]
        place = ("forward", tuple(inputs.shape[1:]), sum(norms.passes.values()))
        parts = norms.meeting.exchange(norms.seat, place, (count, mean, variance))
        total = sum(count for count, _, _ in parts)
        mean = sum(mean * (count / total) for count, mean, _ in parts)
        variance = sum((of_part + (at - mean).square()) * (count / total) for count, at, of_part in parts)
        if norms.seat == 0 and given.running_mean is not None and given.running_var is not None:
            given.running_mean.lerp_(mean.to(given.running_mean.dtype), given.momentum)
            given.running_var.lerp_((variance * (total / (total - 1))).to(given.running_var.dtype), given.momentum)
        if weight is not None:
            mean, variance = mean.to(weight.dtype), variance.to(weight.dtype)
        ctx.save_for_backward(inputs, weight, mean, variance)
        ctx.eps, ctx.norms, ctx.total, ctx.place = given.eps, norms, total, ("backward", *place[1:])
        return functional.batch_norm(inputs, mean, variance, weight, bias, training=False, eps=given.eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - as above
        """Compute the gradients of inputs, and this part's share of the gradients of weight and bias."""
        inputs, weight, mean, variance = ctx.saved_tensors
        norms: BatchNorms = ctx.norms
        # The gradient as if mean and variance were constants ...
        first, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            *(gradient, inputs, weight, mean, variance, None, None, False, ctx.eps, [True, True, True])
        )
        # ... and its part through mean and variance, from the gradients of weight and bias of all parts.
        parts = norms.meeting.exchange(norms.seat, ctx.place, (of_weight, of_bias))
        scale = (variance + ctx.eps).rsqrt()
        share = scale / ctx.total if weight is None else scale * weight / ctx.total
        slope = -share * sum(one for one, _ in parts) * scale
        shift = -share * sum(one for _, one in parts) - slope * mean
        shape = [-1 if axis == 1 else 1 for axis in range(inputs.ndim)]
        first = torch.addcmul(first + shift.view(shape).to(first.dtype), inputs, slope.view(shape).to(first.dtype))
        of_both = (of_weight, of_bias) if weight is not None else (None, None)
        return (first, *of_both, None, None)
