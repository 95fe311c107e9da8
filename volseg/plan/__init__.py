"""A plan for a cohort: its fingerprint, and one rule per decision, each with its reason and what would change it."""

from __future__ import annotations

from volseg.plan.advice import Candidate, plan_bundle_choice, plan_warnings
from volseg.plan.decision import Decision, shown
from volseg.plan.fingerprint import Fingerprint, Intensities, RegionFacts, SmallRegion
from volseg.plan.inference import plan_folds, plan_overlap, plan_skip_empty
from volseg.plan.intensities import plan_normalisation
from volseg.plan.mirrors import plan_flip_axes, sided_names
from volseg.plan.plan import SCHEMA, BundlePlan, Plan, is_plan, read_plan
from volseg.plan.pyramid import Pyramid, fit_divisor, fit_pyramid
from volseg.plan.schedule import plan_schedule, window_count
from volseg.plan.setting_values import Planned, planned
from volseg.plan.spacing import fit_spacing, plan_spacing
from volseg.plan.step import StepCost, plan_background_share, plan_batch, plan_roi_voxels, usual_background_share
from volseg.plan.taking import PLAN_VOXELS, QUICK_VOXELS, take_fingerprint
from volseg.plan.window import axis_divisors, check_roi, divisors_in_plane, fit_axis, fit_roi, grow_roi

__all__ = [
    "PLAN_VOXELS",
    "QUICK_VOXELS",
    "SCHEMA",
    "BundlePlan",
    "Candidate",
    "Decision",
    "Fingerprint",
    "Intensities",
    "Plan",
    "Planned",
    "Pyramid",
    "RegionFacts",
    "SmallRegion",
    "StepCost",
    "axis_divisors",
    "check_roi",
    "divisors_in_plane",
    "fit_axis",
    "fit_divisor",
    "fit_pyramid",
    "fit_roi",
    "fit_spacing",
    "grow_roi",
    "is_plan",
    "plan_background_share",
    "plan_batch",
    "plan_bundle_choice",
    "plan_flip_axes",
    "plan_folds",
    "plan_normalisation",
    "plan_overlap",
    "plan_roi_voxels",
    "plan_schedule",
    "plan_skip_empty",
    "plan_spacing",
    "plan_warnings",
    "planned",
    "read_plan",
    "shown",
    "sided_names",
    "take_fingerprint",
    "usual_background_share",
    "window_count",
]
