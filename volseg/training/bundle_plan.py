"""The plan of one bundle: its own decisions on this machine, or why it cannot take the cohort."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from volseg import bundle as bundles
from volseg.cohort import Cohort
from volseg.errors import VolsegError, root_error
from volseg.plan import (
    BundlePlan,
    Decision,
    Fingerprint,
    Planned,
    StepCost,
    fit_roi,
    fit_spacing,
    plan_batch,
    plan_roi_voxels,
    plan_schedule,
    window_count,
)
from volseg.training.checks.preflight import check_slices
from volseg.training.step_trial import measure_step

_WASTE = 2.5  # voxels of a window over those of the image in it, above which a network pads more than it sees
_SMALL = 0.5  # voxels of the smaller trial window, as a fraction of the larger


def plan_bundle(
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
    """Plan one bundle; what it refuses becomes its refusal.

    Args:
        cohort: Cohort.
        facts: Its fingerprint.
        folder: Folder of the bundle.
        shared: Decisions that concern all bundles.
        device: Device.
        minutes: Minutes of the training; 0 to count epochs.
        memory: Bytes that a step may take; None if they are not known.
        fold: Index of the fold.
        measure: Whether two steps are measured.
    """
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
    if cohort.flat and voxels.value < usual:  # a smaller window shows as much of an image on a coarser grid
        found["spacing_mm"] = spacing_mm = fit_spacing(cohort, voxels=voxels.value)
        shape = facts.shape_on(spacing_mm)
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
