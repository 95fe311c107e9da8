"""Windows side by side on a CPU: each group of cores computes windows of its own, forward and backward."""

from __future__ import annotations

import contextlib
import copy
import functools
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.parallel import DistributedDataParallel

from volseg.inference.engines.batch_norm import (
    BatchNorms,
    PartedWaysError,
    RunningStatistics,
    ThreadGroup,
    can_meet,
    has_batch_norm,
)
from volseg.inference.engines.bf16_convolutions import check_covered, takes_care
from volseg.inference.engines.convolutions import Convolutions

logger = logging.getLogger(__name__)

# For prediction: each part has activations of its own in memory, and more than a few parts gain little.
_AT_ONCE = 4


class ParallelWindows:
    """Call the network on a batch; on a CPU of several cores, on parts of it side by side, each on cores of its own.

    By itself torch shares out every operation among the cores, which wait for each other after each one. With windows
    of their own they wait once per step. The values are those of the whole batch but for rounding, and they do not
    depend on which part is ready first: the gradients of the parts are added up in their order. Each part has modules
    of its own with the weights of the network, since some keep values between their layers (MONAI's DynUNet its heads).
    For batch normalisation in training the parts exchange their statistics, and normalise by those of the whole batch.

    The batch is not split if the order of its parts would matter (random numbers such as dropout in training), on a
    GPU, if it is one window, if torch has one thread, or if the network is distributed, cannot be copied, or gives more
    than one tensor.

    Args:
        lanes: Largest number of parts; None for one per thread of torch.

    >>> ParallelWindows()(torch.ones(2, 1, 4, 4, 4), nn.Conv3d(1, 3, 1)).shape
    torch.Size([2, 3, 4, 4, 4])
    """

    def __init__(self, lanes: int | None = None) -> None:
        self.lanes = lanes
        self._pool: ThreadPoolExecutor | None = None
        self._made_for: tuple[int, int, int] | None = None  # process, parts, cores
        self._alike: weakref.WeakKeyDictionary[nn.Module, list[nn.Module]] = weakref.WeakKeyDictionary()
        self._together: weakref.WeakKeyDictionary[nn.Module, dict[bool, bool]] = weakref.WeakKeyDictionary()

    def __call__(
        self,
        inputs: Tensor,
        network: Callable[..., Any],
        *args: Any,  # noqa: ANN401 - whatever the network takes
        **kwargs: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401 - whatever the network gives
        """Call the network on inputs (B, C, X, Y, Z)."""
        most = self._most()
        plain = inputs.device.type == "cpu" and not inputs.requires_grad and not args and not kwargs
        if not plain or not isinstance(network, nn.Module):
            return _call(network, inputs, *args, **kwargs) if takes_care() else network(inputs, *args, **kwargs)
        if most > 1 and not torch.is_grad_enabled() and network.training not in self._together.get(network, {}):
            return self._first(inputs, network)
        count = min(len(inputs), most)
        if count < 2 or self._stays_together(network, inputs):
            return _call(network, inputs)
        parts = inputs.chunk(count)
        networks = self._networks(network, inputs[:2], len(parts))
        if networks is None:
            return _call(network, inputs)
        group = _Group(networks)
        try:
            if not torch.is_grad_enabled():
                jobs = [(functools.partial(_call, one), part) for one, part in zip(networks, parts, strict=True)]
                return torch.cat(self._side_by_side(jobs, group, grad=False))
            parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
            return _Parts.apply(self, group, parts, *parameters)  # type: ignore[no-untyped-call]
        except PartedWaysError as reason:
            logger.info("the windows of a batch stay together: %s", reason)
            self._together[network][network.training] = True
            return _call(network, inputs)

    def windows_at_once(self, network: nn.Module) -> int:
        """Number of windows per call that is fastest on a CPU without gradients: 1 before the first call."""
        together = self._together.get(network, {}).get(network.training, True)
        return 1 if together else min(self._most(), _AT_ONCE)

    def _most(self) -> int:
        """Number of parts of a large batch."""
        threads = torch.get_num_threads()
        return min(self.lanes or threads, threads)

    def _first(self, inputs: Tensor, network: nn.Module) -> Any:  # noqa: ANN401 - whatever the network gives
        """The first pass without gradients, which shows how later ones may be split and costs nothing beside itself."""
        state = torch.get_rng_state()
        output = _call(network, inputs)
        together = _indivisible(network) or not isinstance(output, Tensor) or not _drew_none(state)
        self._together.setdefault(network, {})[network.training] = together
        if not together:
            self._networks(network, None, self.windows_at_once(network))
        return output

    def _stays_together(self, network: nn.Module, inputs: Tensor) -> bool:
        """Whether the batch must not be split."""
        known = self._together.setdefault(network, {})  # in training, in prediction
        if network.training not in known:
            known[network.training] = _indivisible(network) or not _is_plain(network, inputs[:2])
        return known[network.training]

    def _networks(self, network: nn.Module, inputs: Tensor | None, count: int) -> list[nn.Module] | None:
        """The network and its copies, which share its weights, buffers and modes; None if it cannot be copied."""
        alike = self._alike.setdefault(network, [])
        if len(alike) < count - 1:
            if inputs is not None:  # else it was called without gradients just now
                _look(network, inputs)  # what modules keep then has no graph, which could not be copied
            shared = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
            try:
                alike += [copy.deepcopy(network, dict(shared)) for _ in range(count - 1 - len(alike))]
            except (TypeError, RuntimeError) as error:  # a module keeps a lock, an open file, a tensor with a graph
                logger.info("the windows of a batch stay together: the network cannot be copied (%s)", error)
                self._together[network] = {True: True, False: True}
                return None
            for like in alike:
                for module, original in zip(like.modules(), network.modules(), strict=True):
                    # The very same dictionaries, so that a weight that is replaced later is replaced here too.
                    module.__dict__["_parameters"] = original.__dict__["_parameters"]
                    module.__dict__["_buffers"] = original.__dict__["_buffers"]
        for like in alike:
            for module, original in zip(like.modules(), network.modules(), strict=True):
                module.training = original.training
        return [network, *alike[: count - 1]]

    def _side_by_side(self, jobs: Sequence[tuple[Callable[..., Any], Any]], group: _Group, *, grad: bool) -> list[Any]:
        """Call each function on its argument, side by side, under the function modes of this thread."""
        enabled, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
        inference = torch.is_inference_mode_enabled()

        def run(seat: int) -> Any:  # noqa: ANN401
            function, argument = jobs[seat]
            with (
                torch.inference_mode(inference),
                torch.set_grad_enabled(grad),
                torch.autocast("cpu", dtype, enabled=enabled, cache_enabled=False),
                group.met(seat),
            ):
                return function(argument)

        with group.counted():
            futures = [self._threads(len(jobs)).submit(run, seat) for seat in range(len(jobs))]
            errors = [error for error in (future.exception() for future in futures) if error is not None]
            for error in errors:  # the one for which the others stopped waiting
                if not isinstance(error, threading.BrokenBarrierError):
                    raise error
            return [future.result() for future in futures]

    def _threads(self, count: int) -> ThreadPoolExecutor:
        """Threads that share out the cores, kept from step to step; they are made anew in a forked process."""
        total = torch.get_num_threads()
        wanted = (os.getpid(), count, total)
        if self._pool is None or self._made_for != wanted:
            self._pool, self._made_for = ThreadPoolExecutor(count, "volseg-lane"), wanted
            everyone = threading.Barrier(count)

            def prepare(_: int) -> None:
                torch.get_num_threads()  # without it the first operation of a thread sets the number of all again
                torch.set_num_threads(max(1, total // count))
                everyone.wait()

            list(self._pool.map(prepare, range(count)))
            torch.set_num_threads(total)  # for this thread and those to come
        return self._pool


class _Group:
    """The networks of the parts of one batch, which exchange its statistics where they normalise by them."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        self.networks = networks
        self._norms: list[BatchNorms] = []
        if networks[0].training and has_batch_norm(networks[0]):
            meeting = ThreadGroup(len(networks))
            self._norms = [BatchNorms(meeting, seat) for seat in range(len(networks))]

    @contextlib.contextmanager
    def met(self, seat: int) -> Iterator[None]:
        """A pass of the thread of this rank; if it fails, the others fail too instead of waiting for it."""
        if not self._norms:
            yield
            return
        try:
            with self._norms[seat] as norms:
                yield
                norms.end()
        except BaseException:
            self._norms[seat].meeting.abort()
            raise

    def counted(self) -> contextlib.AbstractContextManager[None]:
        """A pass of all threads, whose parts count as one batch."""
        return RunningStatistics(self.networks[0], self._norms[0]) if self._norms else contextlib.nullcontext()


def _call(network: Callable[..., Any], inputs: Tensor, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as above
    """Call the network; on a CPU, with its convolutions in their fast form."""
    with Convolutions():
        output = network(inputs, *args, **kwargs)
    if takes_care():
        check_covered(output)
    return output


def _indivisible(network: nn.Module) -> bool:
    """Whether a network of this kind must get whole batches: its windows influence each other, or it is distributed."""
    return (network.training and not can_meet(network)) or isinstance(network, DistributedDataParallel)


def _is_plain(network: nn.Module, inputs: Tensor) -> bool:
    """Whether a pass gives one tensor and draws no random numbers; the state of the generators is restored."""
    state = torch.get_rng_state()
    try:
        return isinstance(_look(network, inputs), Tensor) and _drew_none(state)
    finally:
        torch.set_rng_state(state)


def _drew_none(state: Tensor) -> bool:
    """Whether no random number was drawn since the state was taken."""
    return torch.equal(state, torch.get_rng_state())


def _look(network: nn.Module, inputs: Tensor) -> Any:  # noqa: ANN401 - whatever the network gives
    """Call the network without gradients and without a change of its running statistics."""
    before = [(buffer, buffer.clone()) for buffer in network.buffers()] if network.training else []
    try:
        with torch.no_grad():
            return network(inputs)
    finally:
        for buffer, value in before:
            buffer.copy_(value)


class _Parts(torch.autograd.Function):
    """The forward and backward passes of all parts, with one graph per part."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - carries what backward needs
        lanes: ParallelWindows,
        group: _Group,
        parts: Sequence[Tensor],
        *parameters: Tensor,
    ) -> Tensor:
        """Compute the outputs of all parts as one batch."""
        ctx.lanes, ctx.group, ctx.parameters = lanes, group, parameters
        jobs = [(functools.partial(_call, network), part) for network, part in zip(group.networks, parts, strict=True)]
        ctx.outputs = lanes._side_by_side(jobs, group, grad=True)
        return torch.cat([output.detach() for output in ctx.outputs])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - as above
        """Sum up the parts' gradients, in their order."""
        outputs, ctx.outputs = ctx.outputs, None
        pieces = torch.split(gradient, [len(output) for output in outputs])

        def back(pair: tuple[Tensor, Tensor]) -> tuple[Tensor | None, ...]:
            output, piece = pair
            found: tuple[Tensor | None, ...] = torch.autograd.grad(output, ctx.parameters, piece, allow_unused=True)
            return found

        jobs = [(back, pair) for pair in zip(outputs, pieces, strict=True)]
        gradients = ctx.lanes._side_by_side(jobs, ctx.group, grad=True)
        return (None, None, None, *[_sum(same) for same in zip(*gradients, strict=True)])


def _sum(gradients: Sequence[Tensor | None]) -> Tensor | None:
    """The sum in the given order; None if no part used the parameter."""
    used = [gradient for gradient in gradients if gradient is not None]
    if not used:
        return None
    total = used[0]
    for gradient in used[1:]:
        total = total + gradient
    return total
