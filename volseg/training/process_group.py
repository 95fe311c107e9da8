"""Several processes that train one network, one per GPU, started by `torchrun`."""

from __future__ import annotations

import importlib
import logging
import os
import weakref

import ignite.distributed as idist
import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from volseg.errors import UsageError
from volseg.training.rank_errors import tell_errors_once

_distributed: weakref.WeakSet[DistributedDataParallel] = weakref.WeakSet()

_COMMAND = "torchrun --standalone --nproc_per_node=2 -m monai.bundle run training --config_file ..."


def rank_device() -> str:
    """The device of this process: one GPU each, or the CPU if PyTorch finds none.

    Raises:
        UsageError: The process was not started by torchrun, or there are more processes than GPUs.
    """
    tell_errors_once()
    try:
        local, processes = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    except (KeyError, ValueError) as error:
        raise UsageError(f"multi_gpu_train.json is for several processes; start them with {_COMMAND}") from error
    if not torch.cuda.is_available():
        return "cpu"
    there = torch.cuda.device_count()
    if processes > there:
        raise UsageError(
            f"{processes} processes were started and PyTorch finds {there} GPUs; use --nproc_per_node={there}"
        )
    return f"cuda:{local}"


def rank() -> int:
    """The rank of this process among all that train together, from 0; the process of rank 0 writes and logs.

    >>> rank()
    0
    """
    word = os.environ.get("RANK", "0")
    return int(word) if word.isdigit() else 0


def join(device: str | torch.device) -> None:
    """Wait for the other processes and form their group: NCCL for GPUs, Gloo for CPUs. Only rank 0 logs."""
    if rank() > 0:
        logging.getLogger("volseg").setLevel(logging.WARNING)
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        # If this were imported later, as DistributedDataParallel does, its functions would keep the group as their
        # default.
        importlib.import_module("torch.distributed.nn.functional")
        dist.init_process_group("nccl" if kind == "cuda" else "gloo")
    tell_errors_once()  # again: PyTorch has put its own hook in the place of ours
    logging.getLogger("ignite").setLevel(logging.CRITICAL)  # it tells each error too, in each process


class SharedLoss:
    """Give every process the mean of their losses; a handler for MONAI's SupervisedTrainer.

    Place it first: handlers that show, record or check the loss then use that of the whole batch, and a loss that is
        not finite stops all processes; if only one stopped, the others would wait.
    """

    def attach(self, engine: Engine) -> None:
        """Attach the handler to a trainer, if there are several processes."""
        if idist.get_world_size() > 1:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._share)

    def _share(self, engine: Engine) -> None:
        output = engine.state.output
        output = output[0] if isinstance(output, list) else output
        loss = output["loss"]
        loss = loss.detach() if isinstance(loss, torch.Tensor) else float(loss)
        output["loss"] = idist.all_reduce(loss) / idist.get_world_size()


def leave() -> None:
    """Leave the group of processes; a network of `distributed` cannot be called any more.

    Gloo's threads end with the last reference to the group, and such a network holds some. A thread that still releases
    a tensor while Python shuts down aborts the process, "terminate called without an active exception", and torchrun
    then reports that the whole training failed (PyTorch 2.13, its issue 190489).
    """
    for network in list(_distributed):
        for name in ("reducer", "logger", "process_group"):
            network.__dict__.pop(name, None)
    _distributed.clear()
    if dist.is_initialized():
        dist.destroy_process_group()


def distributed(network: nn.Module, device: str | torch.device) -> DistributedDataParallel:
    """Wrap a network so that its gradients are averaged over the processes.

    The wrapper looks for parameters that a step does not use, since UNETR and networks with several outputs have some.
    """
    there = torch.device(device)
    shared = DistributedDataParallel(
        network.to(there), device_ids=[there] if there.type == "cuda" else None, find_unused_parameters=True
    )
    _distributed.add(shared)
    return shared
