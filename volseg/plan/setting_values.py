"""The settings that a bundle takes from a plan, or from the same rules where none is given."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from volseg.cohort import Cohort
from volseg.plan.decision import Decision
from volseg.plan.fingerprint import Fingerprint
from volseg.plan.intensities import plan_normalisation
from volseg.plan.mirrors import plan_flip_axes
from volseg.plan.plan import Plan, read_plan
from volseg.plan.spacing import fit_spacing, plan_spacing
from volseg.plan.step import plan_background_share
from volseg.plan.taking import QUICK_VOXELS, take_fingerprint
from volseg.plan.window import fit_roi


def planned(cohort: Cohort, plan_file: str | Path | None = None, *, bundle: str | Path) -> Planned:
    """The plan of a bundle's `train.json`; nothing is read before a value is asked for, but the plan itself.

    Args:
        cohort: Cohort to train on.
        plan_file: File `plan.json` of `volseg plan`; None for the rules, from headers and a quick look at some voxels.
        bundle: Name or folder of the bundle.

    Raises:
        BundleError: The file is absent, no plan, or not of such a cohort.
    """
    plan = None if plan_file is None else read_plan(plan_file).check(cohort)
    return Planned(cohort, plan, Path(bundle).name)


class Planned:
    """The values of settings, from a plan if there is one, else from its rules.

    Args:
        cohort: Cohort to train on.
        plan: Plan; None for the rules alone.
        bundle: Name of the bundle.
        fingerprint: Fingerprint, if it has been taken already.
    """

    def __init__(
        self, cohort: Cohort, plan: Plan | None, bundle: str, *, fingerprint: Fingerprint | None = None
    ) -> None:
        self.cohort = cohort
        self.plan = plan
        self.bundle = bundle
        self.settings = dict(plan.settings(bundle)) if plan is not None else {}
        self._given = fingerprint

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint that was given, or one that is taken quickly."""
        return _quick(str(self.cohort.folder), _stamp(self.cohort)) if self._given is None else self._given

    def value(self, name: str, usual: Any) -> Any:  # noqa: ANN401 - any setting
        """The plan's value of a setting, or the usual one of the bundle.

        Args:
            name: Name of the setting.
            usual: Value without a plan.
        """
        return self.settings.get(name, usual)

    def spacing_mm(self, *, voxels: int) -> list[float]:
        """The working spacing in mm along X, Y, Z; see `fit_spacing`.

        Args:
            voxels: Number of voxels of a training window.
        """
        if "spacing_mm" in self.settings:
            return [float(mm) for mm in self.settings["spacing_mm"]]
        if self.cohort.flat:
            return fit_spacing(self.cohort, voxels=voxels)
        return [float(mm) for mm in plan_spacing(self.fingerprint).value]

    def roi_size(
        self, spacing_mm: Sequence[float], *, divisor: int | Sequence[int], voxels: int, slices: int | None = None
    ) -> list[int]:
        """The window; see `fit_roi`.

        Args:
            spacing_mm: Working spacing in mm.
            divisor: Number of which each axis must be a multiple.
            voxels: Largest number of voxels.
            slices: Axis along which slices lie, for a network that takes them one by one.
        """
        shape = self.cohort.median_shape(spacing_mm)
        return fit_roi(shape, divisor=divisor, voxels=voxels, slices=slices, spacing_mm=spacing_mm)

    @property
    def flip_axes(self) -> list[int]:
        """Axes along which windows are mirrored."""
        return list(self.decided("flip_axes").value)

    @property
    def background_share(self) -> float:
        """Fraction of windows that are centred outside all regions."""
        return float(self.decided("background_share").value)

    def decided(self, name: str) -> Decision:
        """A decision that concerns the cohort, of the plan or by its rule.

        Args:
            name: `spacing_mm`, `flip_axes`, `background_share` or `normalisation`.
        """
        if self.plan is not None:
            for decision in self.plan.decisions:
                if decision.name == name:
                    return decision
        return _RULES[name](self.fingerprint)


_RULES = {
    "spacing_mm": plan_spacing,
    "flip_axes": plan_flip_axes,
    "background_share": plan_background_share,
    "normalisation": plan_normalisation,
}


def _stamp(cohort: Cohort) -> tuple[object, ...]:
    """What changes when the cohort's table, labels or images do."""
    stamp: list[object] = [cohort.digest]
    for key in cohort.keys:
        label = cohort.label_path(key)
        for path in ([label] if label is not None else []) + cohort.image_paths(key):
            try:
                found = path.stat()
            except OSError:
                continue
            stamp.append((path.name, found.st_size, found.st_mtime_ns))
    return tuple(stamp)


@lru_cache(maxsize=4)
def _quick(folder: str, stamp: tuple[object, ...]) -> Fingerprint:
    """The quick fingerprint of a cohort; a training and its checks take it once."""
    del stamp
    return take_fingerprint(Cohort.open(folder), voxels=QUICK_VOXELS)
