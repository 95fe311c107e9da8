"""A plan made: the rules of `volseg.plan` for each bundle, with steps measured on this machine."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from volseg import bundle as bundles
from volseg.cohort import Cohort
from volseg.errors import BundleError, VolsegError, root_error
from volseg.inference import available_bytes, check_device, usable_cores
from volseg.plan import (
    PLAN_VOXELS,
    BundlePlan,
    Candidate,
    Decision,
    Fingerprint,
    Plan,
    Planned,
    StepCost,
    fit_roi,
    plan_background_share,
    plan_batch,
    plan_bundle_choice,
    plan_flip_axes,
    plan_folds,
    plan_normalisation,
    plan_overlap,
    plan_roi_voxels,
    plan_schedule,
    plan_skip_empty,
    plan_spacing,
    plan_warnings,
    take_fingerprint,
    window_count,
)
from volseg.training.checks.preflight import check_slices
from volseg.training.step_trial import measure_step

logger = logging.getLogger("volseg.training")

_WASTE = 2.5  # voxels of a window over those of the image in it, above which a network pads more than it sees
_SMALL = 0.5  # voxels of the smaller trial window, as a fraction of the larger
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
    voxels: float = PLAN_VOXELS,
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
        voxels: Number of voxels to read for the fingerprint.
        measure: Whether two steps per bundle are measured.
        fingerprint: Fingerprint of the cohort; None (the default) to take it.
        progress: Function that is called with the number of cases read and of all to read.

    Raises:
        VolsegError: The cohort holds no case, or the device is not there.
    """
    chosen = check_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    facts = fingerprint or take_fingerprint(cohort, voxels=voxels, progress=progress)
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
        one = _plan_bundle(
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
        content = json.loads(bundles.config(folder, "metadata.json").read_text(encoding="utf-8"))
        return int(content["planning"]["rank"])
    except (KeyError, TypeError, ValueError, OSError, BundleError):
        return 100


def _plan_bundle(
    cohort: Cohort,
    facts: Fingerprint,
    folder: Path,
    shared: Sequence[Decision],
    *,
    device: torch.device,
    minutes: float,
    memory: float | None,
    fold: int,
    measure: bool,
) -> BundlePlan:
    """The plan of one bundle; what it refuses becomes its refusal."""
    given: dict[str, Any] = {"device": str(device), "dataset_dir": str(cohort.folder), "fold": fold}
    found: dict[str, Any] = {}

    def parser_of(**settings: Any) -> Any:  # noqa: ANN401 - MONAI's ConfigParser
        return _parser(folder, {**given, **found, **settings}, Planned(cohort, None, folder.name, fingerprint=facts))

    try:
        return _decided(
            cohort, facts, shared, parser_of, found, minutes=minutes, memory=memory, fold=fold, measure=measure
        )
    except VolsegError as error:
        return BundlePlan({}, refusal=error.message)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        return BundlePlan({}, refusal=root_error(error).message)


def _decided(
    cohort: Cohort,
    facts: Fingerprint,
    shared: Sequence[Decision],
    parser_of: Callable[..., Any],
    found: dict[str, Any],
    *,
    minutes: float,
    memory: float | None,
    fold: int,
    measure: bool,
) -> BundlePlan:
    value = parser_of().get_parsed_content
    check_slices(cohort, divisor=value("roi_divisor"))
    spacing_mm, usual = [float(mm) for mm in value("spacing_mm")], int(value("roi_voxels"))
    training, validation = _sides(cohort, facts, fold)
    batch, crops = plan_batch(facts, usual=value("batch_size"), crops=value("crops_per_case"), training_cases=training)
    found |= {"batch_size": batch.value, "crops_per_case": crops.value, "spacing_mm": spacing_mm}
    roi = value("roi_size")
    shape = facts.shape_on(spacing_mm)
    if (waste := math.prod(roi) / math.prod(min(a, b) for a, b in zip(roi, shape, strict=True))) > _WASTE:
        return BundlePlan(
            {},
            refusal=f"its smallest window, {_by(roi)}, is {waste:.1f} times as large as the part of an image of "
            f"{_by(shape)} in it",
        )
    cost = _measured(value, parser_of, cohort, spacing_mm, usual) if measure else None
    voxels = plan_roi_voxels(facts, usual=usual, spacing_mm=spacing_mm, cost=cost, minutes=minutes, memory_bytes=memory)
    found["roi_voxels"] = voxels.value
    final = parser_of().get_parsed_content
    roi = [int(n) for n in final("roi_size")]
    per_epoch = max(1, math.ceil(training / batch.value))
    windows = validation * window_count(shape, roi, overlap=0.25)
    schedule = plan_schedule(
        minutes=minutes,
        cost=cost,
        roi_voxels=math.prod(roi),
        steps_per_epoch=per_epoch,
        validation_windows=windows,
        usual_interval=value("val_interval"),
    )
    own = (voxels, _window(roi, shape, final), _network(final), batch, crops, *schedule)
    settings = {decision.name: decision.value for decision in (voxels, batch, crops, *schedule)}
    for decision in shared:
        if decision.name in ("flip_axes", "background_share", "normalisation"):
            settings[decision.name] = decision.value
    settings["spacing_mm"] = spacing_mm
    if not minutes:
        del settings["max_minutes"]
    return BundlePlan(settings, own, None if cost is None else _trial(cost, math.prod(roi), minutes))


def _measured(
    value: Callable[[str], Any],
    parser_of: Callable[..., Any],
    cohort: Cohort,
    spacing_mm: Sequence[float],
    usual: int,
) -> StepCost:
    """The cost of a step with the usual window and with one of about half its voxels."""
    large = [int(n) for n in value("roi_size")]
    slices = value("axis") if "axis" in parser_of().get() else None
    small = fit_roi(
        cohort.median_shape(spacing_mm),
        divisor=value("roi_divisor"),
        voxels=max(1, int(_SMALL * min(usual, math.prod(large)))),
        slices=slices,
        spacing_mm=spacing_mm,
    )
    return measure_step(parser_of, roi_sizes=(small, large))


def _sides(cohort: Cohort, facts: Fingerprint, fold: int) -> tuple[int, int]:
    """The number of training and of validation cases; four fifths and one fifth without a split."""
    if cohort.has_folds:
        sides = cohort.fold(fold)
        return max(1, len(sides.training)), max(1, len(sides.validation))
    return max(1, round(0.8 * facts.cases)), max(1, round(0.2 * facts.cases))


def _window(roi: Sequence[int], shape: Sequence[int], value: Callable[[str], Any]) -> Decision:
    divisor = value("roi_divisor")
    return Decision(
        "roi_size",
        list(roi),
        f"the median image is {_by(shape)} on this grid; the longest axis in mm shrinks until the window has at most "
        f"its voxels, in multiples of {_by(divisor) if isinstance(divisor, list) else divisor}",
        "roi_voxels, or another grid",
    )


def _network(value: Callable[[str], Any]) -> Decision:
    """The depth and kernels, where the network adapts them to window and spacing."""
    try:
        pyramid = value("pyramid")
    except (KeyError, RuntimeError, ValueError):
        network = {
            name: one for name, one in value("recipe").network.items() if isinstance(one, (int, float, str, bool))
        }
        return Decision(
            "network", network, "this network has a fixed depth; only its width follows the device", "another --device"
        )
    thin = [axis for axis in range(3) if all(kernel[axis] == 1 for kernel in pyramid.kernels[:1])]
    flat = (
        f"; its first kernels are 1 along {', '.join('XYZ'[axis] for axis in thin)}, where voxels are coarse"
        if thin
        else ""
    )
    return Decision(
        "network",
        {"strides": pyramid.strides, "kernels": pyramid.kernels},
        f"{len(pyramid.strides)} stages: axes are halved while 8 voxels are left and their spacing is below twice the "
        f"finest (nnU-Net's rule){flat}",
        "another window or spacing",
    )


def _trial(cost: StepCost, roi_voxels: int, minutes: float) -> Mapping[str, Any]:
    step_s = cost.seconds_of(roi_voxels)
    step_bytes = cost.bytes_of(roi_voxels)
    return {
        "voxels": list(cost.voxels),
        "windows": cost.windows,
        "seconds": [round(one, 5) for one in cost.seconds],
        "bytes": None if cost.step_bytes is None else list(cost.step_bytes),
        "forward_s": round(cost.forward_s, 5),
        "step_s": round(step_s, 5),
        "step_gib": None if step_bytes is None else round(step_bytes / 2**30, 3),
        "steps": round(60 * minutes / step_s) if minutes else None,
    }


def _parser(folder: Path, settings: Mapping[str, Any], planned: Planned) -> Any:  # noqa: ANN401 - MONAI's ConfigParser
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(str(bundles.config(folder, "train.json")))
    if "weights" in parser.get():  # published ones cost time and change no plan
        settings = {"weights": None, **settings}
    parser.update(pairs=bundles.path_values({"bundle_root": str(folder), **settings}, ids=list(parser.get())))
    parser["planned"] = planned
    return parser


def _by(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes))
