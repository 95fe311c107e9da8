"""Several processes that train one network, one a GPU, as `torchrun` starts them."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from volseg.errors import UsageError

_COMMAND = "torchrun --standalone --nproc_per_node=2 -m monai.bundle run training --config_file ..."


def rank_device() -> str:
    """The device of this process: one GPU each, or the CPU where PyTorch finds none.

    Raises:
        UsageError: not started by torchrun, or more processes than GPUs.
    """
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


def join(device: str | torch.device) -> None:
    """Wait for the other processes and form their group: NCCL between GPUs, Gloo between CPUs."""
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if kind == "cuda" else "gloo")


def leave() -> None:
    """Part from the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def distributed(network: nn.Module, device: str | torch.device) -> DistributedDataParallel:
    """A network whose gradients are averaged over the processes.

    Parameters that a step does not use are looked for, since UNETR and networks with several outputs have some.
    """
    there = torch.device(device)
    return DistributedDataParallel(
        network.to(there), device_ids=[there] if there.type == "cuda" else None, find_unused_parameters=True
    )
