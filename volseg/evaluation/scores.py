"""One row of an evaluation, and the definitions of its numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from volseg.cohort import RegionBounds
from volseg.errors import UsageError
from volseg.metrics import (
    ADDED_PATH_LENGTH_DEFINITION,
    CONTOURS_DEFINITION,
    CORRECTION_DEFINITION,
    DICE_DEFINITION,
    HAUSDORFF_DEFINITION,
    HD95_DEFINITION,
    HOLES_DEFINITION,
    JACCARD_DEFINITION,
    MARGIN_DEFINITION,
    MATCHED_DEFINITION,
    MEAN_SURFACE_DISTANCE_DEFINITION,
    MINUTES_PER_METRE,
    OBJECT_F1_DEFINITION,
    OBJECTS_DEFINITION,
    PRECISION_DEFINITION,
    READING_NOTES,
    READINGS,
    RECALL_DEFINITION,
    SLICES_TO_CORRECT_DEFINITION,
    SURFACE_DICE_DEFINITION,
    TIME_SAVED_DEFINITION,
    TOLERANCE_MM,
    TOLERANT_MINUTES_DEFINITION,
    TOLERANT_PATH_DEFINITION,
    UW_MADISON_DEFINITION,
    Outcome,
    Reading,
)


@dataclass(frozen=True)
class Metric:
    """The meaning of one number of a row; `METRICS` holds one for each.

    Attributes:
        name: Name of the attribute of `RegionScores`.
        title: Title of a column, without the unit.
        unit: Unit: `mm`, `ml`, `%`, ...; empty for a ratio or a count.
        higher_is_better: Whether higher values are better; None if neither higher nor lower is.
        digits: Number of decimals to show.
        definition: Definition in one paragraph: formula, source, and the value for empty masks.
    """

    name: str
    title: str
    unit: str
    higher_is_better: bool | None
    digits: int
    definition: str


@dataclass(frozen=True)
class RegionScores:
    """The metrics of one region of one case; or, with `error`, one case that could not be scored.

    Every number is None if it is undefined or was not asked for; `METRICS` says when, and holds the definitions.

    Attributes:
        key: Key of the case.
        patient: Patient; empty if the cohort does not know the case.
        region: Name of the region; empty in the row of a failed case.
        dice: Dice, 0 to 1, with 0 if the region is missed or invented; None if both masks are empty.
        hd95_mm: HD95 in mm; None unless both masks hold the region.
        reference_ml: Volume of the reference in ml.
        predicted_ml: Volume of the prediction in ml.
        outcome: Which of the two masks holds the region.
        margin_mm: Margin in mm that the prediction needs to contain the whole reference; None if nothing was predicted.
        error: Reason why the case has no numbers; then every other value is None.
        bounds: Bounds that a calibrated network gave; None without one.
        ignored: Whether nobody looked at some voxels of the reference, so that it is a part of the truth.
    """

    key: str
    patient: str
    region: str
    dice: float | None = None
    hd95_mm: float | None = None
    reference_ml: float | None = None
    predicted_ml: float | None = None
    outcome: Outcome | None = None
    surface_dice: float | None = None
    mean_surface_distance_mm: float | None = None
    hausdorff_mm: float | None = None
    jaccard: float | None = None
    precision: float | None = None
    recall: float | None = None
    uw_madison_score: float | None = None
    added_path_length_mm: float | None = None
    slices_to_correct: int | None = None
    correction_minutes: float | None = None
    tolerant_path_length_mm: float | None = None
    tolerant_minutes: float | None = None
    time_saved: float | None = None
    time_saved_from_empty: float | None = None
    reference_objects: int | None = None
    predicted_objects: int | None = None
    matched_objects: int | None = None
    object_f1: float | None = None
    reference_contours: int | None = None
    predicted_contours: int | None = None
    reference_holes: int | None = None
    predicted_holes: int | None = None
    margin_mm: float | None = None
    error: str | None = None
    bounds: RegionBounds | None = None
    ignored: bool = False

    @property
    def dice_at_least(self) -> float | None:
        """The lower bound of Dice that a calibrated network gave; None if it gave none."""
        return None if self.bounds is None else self.bounds.dice_at_least

    @property
    def volume_error_ml(self) -> float | None:
        """Predicted minus reference volume in ml; None if both are empty or the case failed.

        >>> RegionScores("a", "p", "colon", reference_ml=9.0, predicted_ml=8.0, outcome="both present").volume_error_ml
        -1.0
        """
        if self.reference_ml is None or self.predicted_ml is None or self.outcome == "both empty":
            return None
        return self.predicted_ml - self.reference_ml

    @property
    def volume_error_percent(self) -> float | None:
        """The volume error in percent of the reference volume; None if the reference is empty or the case failed.

        >>> row = RegionScores("a", "p", "colon", reference_ml=10.0, predicted_ml=8.0, outcome="both present")
        >>> row.volume_error_percent
        -20.0
        """
        error = self.volume_error_ml
        return 100 * error / self.reference_ml if error is not None and self.reference_ml else None


METRICS: tuple[Metric, ...] = (
    Metric("dice", "Dice", "", True, 3, DICE_DEFINITION),
    Metric("hd95_mm", "HD95", "mm", False, 2, HD95_DEFINITION),
    Metric("surface_dice", "Surface Dice", "", True, 3, SURFACE_DICE_DEFINITION),
    Metric("mean_surface_distance_mm", "Mean surface distance", "mm", False, 2, MEAN_SURFACE_DISTANCE_DEFINITION),
    Metric("hausdorff_mm", "Hausdorff distance", "mm", False, 2, HAUSDORFF_DEFINITION),
    Metric(
        "volume_error_ml",
        "Volume error",
        "ml",
        None,
        2,
        "Volume error = predicted minus reference volume in ml, voxels times the volume of one; above 0 is too large. "
        "Cases with both empty are left out.",
    ),
    Metric(
        "volume_error_percent",
        "Relative volume error",
        "%",
        None,
        1,
        "Relative volume error = volume error over reference volume, in percent. Defined only where the reference is "
        "present; missed gives -100 %.",
    ),
    Metric("reference_ml", "Reference volume", "ml", None, 2, "Reference volume = voxels times the volume of one."),
    Metric("predicted_ml", "Predicted volume", "ml", None, 2, "Predicted volume = voxels times the volume of one."),
    Metric("jaccard", "Jaccard", "", True, 3, JACCARD_DEFINITION),
    Metric("precision", "Precision", "", True, 3, PRECISION_DEFINITION),
    Metric("recall", "Recall", "", True, 3, RECALL_DEFINITION),
    Metric("uw_madison_score", "UW-Madison score", "", True, 3, UW_MADISON_DEFINITION),
    Metric("added_path_length_mm", "Added path length", "mm", False, 0, ADDED_PATH_LENGTH_DEFINITION),
    Metric("slices_to_correct", "Slices to correct", "", False, 1, SLICES_TO_CORRECT_DEFINITION),
    Metric("correction_minutes", "Time to correct", "min", False, 1, CORRECTION_DEFINITION),
    Metric("tolerant_path_length_mm", "Added path length with tolerance", "mm", False, 0, TOLERANT_PATH_DEFINITION),
    Metric("tolerant_minutes", "Time to correct with tolerance", "min", False, 1, TOLERANT_MINUTES_DEFINITION),
    Metric("time_saved", "Time saved", "points a slice", True, 2, TIME_SAVED_DEFINITION),
    Metric(
        "time_saved_from_empty",
        "Time saved, from empty slices",
        "points a slice",
        None,
        2,
        "The part of the time saved that comes from slices in which neither mask holds the region.",
    ),
    Metric("reference_objects", "Reference objects", "", None, 1, OBJECTS_DEFINITION),
    Metric("predicted_objects", "Predicted objects", "", None, 1, "Objects of the prediction, counted likewise."),
    Metric("matched_objects", "Matched objects", "", None, 1, MATCHED_DEFINITION),
    Metric("object_f1", "Object F1", "", True, 3, OBJECT_F1_DEFINITION),
    Metric("reference_contours", "Reference contours", "", None, 1, CONTOURS_DEFINITION),
    Metric("predicted_contours", "Predicted contours", "", None, 1, "Contours of the prediction, counted likewise."),
    Metric("reference_holes", "Reference holes", "", None, 1, HOLES_DEFINITION),
    Metric("predicted_holes", "Predicted holes", "", None, 1, "Holes of the prediction, counted likewise."),
    Metric(
        "margin_mm",
        "Margin needed",
        "mm",
        False,
        2,
        f"{MARGIN_DEFINITION} Undefined where the reference is there and nothing was predicted. It is computed if the "
        "predictions came with margins (`volseg calibrate`).",
    ),
    Metric(
        "dice_at_least",
        "Dice at least",
        "",
        None,
        3,
        "Dice at least = what a calibrated network promised of its prediction before the reference was known, with the "
        "probability that uncertainty.csv states (`volseg calibrate`). Empty where it was withheld.",
    ),
)
"""Every number of a row, in the order of a report: `getattr(row, metric.name)`."""


@dataclass(frozen=True)
class EvaluationSettings:
    """The settings of an evaluation, which are written into its report.

    Attributes:
        tolerance_mm: Tolerance in mm of surface Dice and of the slices to correct.
        reading: Definition of HD95, surface Dice and the mean surface distance that is followed.
        minutes_per_metre: Minutes per metre of contour drawn by hand.
        apl_tolerance_mm: Tolerance in mm of the added path length with tolerance; None for 3 mm, and for the side of a
            pixel where that is larger.
        objects: Whether objects and holes are counted, which takes longer.
        instances: Whether the objects of the reference are those of the cohort's maps; else they are connected parts.
        margins: Whether the margin that contains the reference is measured, which takes longer.

    Raises:
        UsageError: A number is out of range, or there is no such reading.
    """

    tolerance_mm: float = TOLERANCE_MM
    reading: Reading = "directed"
    minutes_per_metre: float = MINUTES_PER_METRE
    apl_tolerance_mm: float | None = None
    objects: bool = False
    instances: bool = False
    margins: bool = False

    def __post_init__(self) -> None:
        for name, value in (
            ("tolerance", self.tolerance_mm),
            ("minutes per metre", self.minutes_per_metre),
            ("tolerance of the added path length", self.apl_tolerance_mm or 0.0),
        ):
            if not (math.isfinite(value) and value >= 0):
                raise UsageError(f"the {name} must be a number of 0 or more, got {value}")
        if self.reading not in READINGS:
            raise UsageError(f"the reading of HD95 must be one of {', '.join(READINGS)}, got {self.reading!r}")

    @property
    def path_tolerance(self) -> str:
        """The tolerance of the added path length with tolerance, in words."""
        given = self.apl_tolerance_mm
        return "3 mm, or a pixel where that is larger" if given is None else f"{given:g} mm"

    @property
    def details(self) -> dict[str, str]:
        """Texts by name that the reader of a report must know.

        >>> EvaluationSettings(tolerance_mm=2).details["Tolerance"]
        '2 mm, of surface Dice and slices to correct'
        """
        objects = "parts of the reference" if not self.instances else "the cohort's maps of objects"
        return {
            "HD95 reading": READING_NOTES[self.reading],
            "Tolerance": f"{self.tolerance_mm:g} mm, of surface Dice and slices to correct",
            "Time to correct": f"{self.minutes_per_metre:g} minutes a metre of added path length (an assumption)",
            "Tolerance of the path": self.path_tolerance,
            **({"Objects": f"connected parts of the prediction, against {objects}"} if self.objects else {}),
        }


STANDARD = EvaluationSettings()
