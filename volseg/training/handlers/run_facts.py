"""The facts of a run that are known before its first epoch: settings, versions, commit, machine, cohort and network."""

from __future__ import annotations

import importlib.metadata
import platform
import shlex
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import nn

import volseg
from volseg.bundle import Recipe
from volseg.cohort import ALL, Cohort
from volseg.errors import BundleError
from volseg.inference import machine
from volseg.report import SCHEMA, this_process
from volseg.training.settings import Settings
from volseg.training.window_trial import try_window

_PACKAGES = ("volseg", "torch", "monai", "pytorch-ignite", "numpy", "scipy", "nibabel", "transformers", "einops")


def versions() -> dict[str, str | None]:
    """Versions of Python, of the CUDA that torch was built with, and of the packages that a training uses.

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
    """The git commit of the checkout that volseg runs from, and whether files differ from it; None without a checkout.

    Args:
        checkout: Folder of another checkout, for tests.
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


def now_utc() -> str:
    """The time of now, in ISO 8601 with seconds."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def run_facts(
    output_dir: Path,
    *,
    network: nn.Module,
    cohort: Cohort,
    recipe: Recipe,
    settings: Settings | None,
    device: torch.device,
    max_epochs: int | None,
    first_epoch: int,
    cases: tuple[int, int] = (0, 0),
) -> dict[str, Any]:
    """The content of `run.json` before the first epoch, see `volseg/report/run.schema.json`.

    Args:
        output_dir: Folder of the run.
        network: Network of the run, maybe wrapped for several processes.
        cohort: Cohort of the training.
        recipe: Recipe with the window and the fold.
        settings: Settings of the run; None without a bundle.
        device: Device of the training.
        max_epochs: Epoch that ends the training.
        first_epoch: First epoch of this session, from 1.
        cases: Number of cases to train on and to validate. Those to validate are the fold's if the run is of a cohort;
            those to train on may be more, after corrections, and are the fold's if they are not known.
    """
    values = settings.values() if settings is not None else {}
    stated = recipe.facts.get("fold", 0)
    fold_number = stated if stated == ALL else int(stated)
    if cohort.digest:
        fold = cohort.fold(fold_number)
        cases = (cases[0] or len(fold.training), len(fold.validation))
    now = now_utc()
    return {
        "schema": SCHEMA,
        "status": "running",
        "error": None,
        "started": now,
        "updated": now,
        "folder": str(output_dir.resolve()),
        "process": this_process(),
        "bundle": Path(str(values.get("bundle_root", ""))).name or None,
        "command": shlex.join(sys.argv),
        "max_epochs": max_epochs,
        "settings": {"given": settings.given() if settings is not None else {}, "values": values},
        "versions": versions(),
        "git": commit(),
        "machine": machine(device),
        "cohort": {
            "folder": str(cohort.folder.resolve() if cohort.digest else cohort.folder),
            "digest": cohort.digest,
            "fold": fold_number,
            "training_cases": cases[0],
            "validation_cases": cases[1],
            "regions": list(cohort.labels.names),
        },
        "network": _network_facts(network, recipe),
        "history": [],
        "sessions": [{"started": now, "first_epoch": first_epoch}],
    }


def _network_facts(network: nn.Module, recipe: Recipe) -> dict[str, Any]:
    network = getattr(network, "module", network)  # as several processes wrap it
    parameters = list(network.parameters())
    try:
        trial = try_window(network, channels=len(recipe.channel_names), roi_size=recipe.roi_size)
    except BundleError:
        trial = None  # the preflight's matter, which a run of monai.bundle passes by
    return {
        "name": type(network).__name__,
        "parameters": sum(one.numel() for one in parameters),
        "trainable": sum(one.numel() for one in parameters if one.requires_grad),
        "roi_size": [int(n) for n in recipe.roi_size],
        "flops": trial.flops if trial is not None else None,
        "initialisation": str(getattr(network, "initialisation", "scratch")),
    }
