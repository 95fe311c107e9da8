"""A plan made: the rules of `volseg.plan` for each bundle, with steps measured on this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from volseg import bundle as bundles
from volseg.cohort import Cohort
from volseg.errors import BundleError
from volseg.inference import available_bytes, check_device, usable_cores
from volseg.plan import (
    PLAN_VOXELS,
    Candidate,
    Decision,
    Fingerprint,
    Plan,
    plan_background_share,
    plan_bundle_choice,
    plan_flip_axes,
    plan_folds,
    plan_normalisation,
    plan_overlap,
    plan_skip_empty,
    plan_spacing,
    plan_warnings,
    take_fingerprint,
)
from volseg.training.bundle_plan import plan_bundle

logger = logging.getLogger("volseg.training")

_BUSY = 1.5  # processes per core, from which others slow a measurement down
_CPU_SHARE = 0.5  # of the free memory, for a step: preprocessed cases and the rest of the process need the other half


def make_plan(
    cohort: Cohort,
    folders: Sequence[Path],
    *,
    minutes: float = 0.0,
    memory_gib: float | None = None,
    device: str | None = None,
    fold: int = 0,
    voxels: float | None = None,
    measure: bool = True,
    fingerprint: Fingerprint | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Plan:
    """Plan a training on a cohort with each of some bundles.

    Args:
        cohort: Cohort.
        folders: Folders of the bundles.
        minutes: Minutes of the training; 0 to count epochs.
        memory_gib: Memory of the GPU, or for a step on a CPU, in GiB; by default that of the GPU, or half of what is
            free.
        device: Device; by default a GPU if there is one.
        fold: Index of the fold.
        voxels: Number of voxels to read for the fingerprint; None (the default) for 800 million.
        measure: Whether two steps per bundle are measured.
        fingerprint: Fingerprint of the cohort; None (the default) to take it.
        progress: Function that is called with the number of cases read and of all to read.

    Raises:
        VolsegError: The cohort holds no case, or the device is not there.
    """
    chosen = check_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    facts = fingerprint or take_fingerprint(cohort, voxels=PLAN_VOXELS if voxels is None else voxels, progress=progress)
    memory = memory_gib * 2**30 if memory_gib is not None else _memory(chosen)
    spacing = _spacing(cohort, facts)
    shared = (
        spacing,
        plan_normalisation(facts),
        plan_flip_axes(facts),
        plan_background_share(facts),
        plan_folds(facts),
        plan_overlap(facts),
        plan_skip_empty(facts),
    )
    made = {}
    candidates = []
    for folder in folders:
        one = plan_bundle(
            cohort, facts, folder, shared, device=chosen, minutes=minutes, memory=memory, fold=fold, measure=measure
        )
        made[folder.name] = one
        steps = one.trial["steps"] if one.trial is not None and minutes else None
        candidates.append(Candidate(folder.name, _rank(folder), steps, one.refusal))
    advice = plan_bundle_choice(candidates, device=chosen.type, minutes=minutes)
    return Plan(
        cohort={
            "folder": str(cohort.folder),
            "digest": cohort.digest,
            "labels": cohort.labels.digest,
            "channels": list(cohort.channel_names),
        },
        machine={
            "device": str(chosen),
            "name": torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else "CPU",
            "cores": usable_cores(),
            "memory_gib": None if memory is None else round(memory / 2**30, 2),
            "minutes": minutes,
            "busy": _busy() if measure else "",
        },
        fingerprint=facts.to_json(),
        decisions=(advice, *shared),
        bundles=made,
        advised=advice.value,
        warnings=tuple(plan_warnings(facts)),
    )


def _spacing(cohort: Cohort, facts: Fingerprint) -> Decision:
    """The decision on spacing; of images of one slice it depends on the window of each bundle."""
    if not facts.flat:
        return plan_spacing(facts)
    return Decision(
        "spacing_mm",
        [float(mm) for mm in cohort.median_spacing_mm()],
        "images of one slice: the median; coarser where a window shows little of one, and regions stay 16 pixels wide",
        "another roi_voxels",
    )


def _memory(device: torch.device) -> float | None:
    """Bytes that a step may take on a device."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    free = available_bytes()
    return None if free is None else _CPU_SHARE * free


def _busy() -> str:
    """A sentence if other programs use the cores; empty if they do not, or the system does not say."""
    try:
        load = os.getloadavg()[0]
    except (AttributeError, OSError):
        return ""
    cores = os.cpu_count() or 1
    if load <= _BUSY * cores:
        return ""
    return f"{load:.1f} processes shared {cores} cores while steps were measured: alone they are faster"


def _rank(folder: Path) -> int:
    """The place of a bundle by accuracy, as its metadata.json states; last if it states none."""
    try:
        content = bundles.read_config(folder, "metadata.json")
        return int(content["planning"]["rank"])
    except (KeyError, TypeError, ValueError, OSError, BundleError):
        return 100
