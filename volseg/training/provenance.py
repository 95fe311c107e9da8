"""Where a number comes from: versions, commit and machine, for the record of a run."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch

import volseg
from volseg.memory import peak_resident_bytes

_PACKAGES = ("volseg", "torch", "monai", "pytorch-ignite", "numpy", "scipy", "nibabel", "transformers", "einops")


def versions() -> dict[str, str | None]:
    """Versions of Python, of CUDA as torch was built with it, and of the packages that a training uses.

    >>> versions()["volseg"] == volseg.__version__
    True
    """
    found: dict[str, str | None] = {"python": platform.python_version(), "cuda": torch.version.cuda}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    found["volseg"] = volseg.__version__
    return found


def commit(checkout: Path | None = None) -> dict[str, Any] | None:
    """The git commit of the checkout that volseg runs from, and whether files differ from it; None elsewhere.

    Args:
        checkout: another folder, for tests.
    """
    folder = checkout or Path(volseg.__file__).resolve().parents[1]
    if not (folder / ".git").exists():
        return None
    try:
        words = {
            name: subprocess.run(
                ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=20
            ).stdout.strip()
            for name, arguments in (
                ("commit", ("rev-parse", "HEAD")),
                ("changes", ("status", "--porcelain", "--untracked-files=no")),
            )
        }
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": words["commit"], "dirty": bool(words["changes"])}


def machine(device: torch.device) -> dict[str, Any]:
    """What the run computes on: names of host, processor and GPU, cores, and processes that train together."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": cores,
        "threads": torch.get_num_threads(),
        "device": str(device),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "processes": idist.get_world_size(),
    }


def peak_memory(device: torch.device) -> dict[str, int | None]:
    """The most memory that this process has held so far, in bytes: resident, and of PyTorch on a GPU."""
    cuda = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return {"resident_bytes": peak_resident_bytes(), "cuda_bytes": cuda}


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
