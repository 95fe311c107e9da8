"""The cohort folder, an nnU-Net v2 raw dataset: cases, folds, table, conversion, checks, predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from volseg import names_of_before, opened_at_first_use

if TYPE_CHECKING:
    from volseg.cohort.adapted import ADAPTED, Adaptation, adaptations_of, check_unseen
    from volseg.cohort.adapted_folders import adapted_networks, adapted_path, network_for
    from volseg.cohort.adoption import finish_adoption, last_round, next_round, replace_label, rounds_of, undo_adoption
    from volseg.cohort.alignments import Alignments, PairAlignment, check_prior_alignment
    from volseg.cohort.bounds import BOUND_COLUMNS, Bounds, RegionBounds, bounds_as_text, order_of_bounds
    from volseg.cohort.bounds_of_export import exported_bounds
    from volseg.cohort.case import Case, Source, check_key
    from volseg.cohort.conversion import Conversion, Outcomes, convert_case, write_cohort
    from volseg.cohort.corrections import (
        CORRECTIONS,
        Correction,
        corrected_cases,
        corrected_keys,
        label_digest,
        read_corrections,
        write_corrections,
    )
    from volseg.cohort.directions import (
        ASSUMED,
        PHANTOM_FILE,
        SLICE_AXES,
        SLICE_VERSION,
        axes_of_raw,
        cohort_note,
        slice_direction,
        told_axes,
    )
    from volseg.cohort.folder import INSTANCES, Cohort, read_dataset_json
    from volseg.cohort.folds import ALL, Fold, read_splits, split_by_patient, tested_patients_note, write_splits
    from volseg.cohort.inspection import inspect_cohort
    from volseg.cohort.intensities import ChannelRange, intensity_notes, range_of
    from volseg.cohort.layouts import raw_note
    from volseg.cohort.margins import Prepare, margin_name, preparing, with_descriptions, with_margins
    from volseg.cohort.memory import CHECK_BYTES, EVALUATE_BYTES, Threads, affordable_threads
    from volseg.cohort.patients import PatientsByPattern, patient_of, patients_note
    from volseg.cohort.patients_of_keys import with_patients, write_patients
    from volseg.cohort.predictions import (
        PROBABILITIES,
        Prediction,
        Predictions,
        check_labels,
        predicted_keys,
        read_labels,
        write_labels,
        write_prediction,
    )
    from volseg.cohort.reading import check_values_as, read_label_map, read_translated, read_volume_as
    from volseg.cohort.sessions import (
        Session,
        check_order,
        day_of_session,
        earlier_sessions,
        is_ordered,
        other_sessions,
        session_date,
        session_order,
        sessions_of,
    )
    from volseg.cohort.sizes import size_warnings
    from volseg.cohort.spreadsheet import decimal, read_rows, restored_keys
    from volseg.cohort.table import AXIS_NAMES, TEST, CaseRow, is_case_table, read_table, read_table_of
    from volseg.cohort.uncertainty import (
        Uncertainty,
        mean_expected_dice,
        read_bounds,
        read_uncertainty,
        write_uncertainty,
    )
    from volseg.volume import FILE_ENDING

__all__ = [
    "ADAPTED",
    "ALL",
    "ASSUMED",
    "AXIS_NAMES",
    "BOUND_COLUMNS",
    "CHECK_BYTES",
    "CORRECTIONS",
    "EVALUATE_BYTES",
    "FILE_ENDING",
    "INSTANCES",
    "PHANTOM_FILE",
    "PROBABILITIES",
    "SLICE_AXES",
    "SLICE_VERSION",
    "TEST",
    "Adaptation",
    "Alignments",
    "Bounds",
    "Case",
    "CaseRow",
    "ChannelRange",
    "Cohort",
    "Conversion",
    "Correction",
    "Fold",
    "Outcomes",
    "PairAlignment",
    "PatientsByPattern",
    "Prediction",
    "Predictions",
    "Prepare",
    "RegionBounds",
    "Session",
    "Source",
    "Threads",
    "Uncertainty",
    "adaptations_of",
    "adapted_networks",
    "adapted_path",
    "affordable_threads",
    "axes_of_raw",
    "bounds_as_text",
    "check_key",
    "check_labels",
    "check_order",
    "check_prior_alignment",
    "check_unseen",
    "check_values_as",
    "cohort_note",
    "convert_case",
    "corrected_cases",
    "corrected_keys",
    "day_of_session",
    "decimal",
    "earlier_sessions",
    "exported_bounds",
    "finish_adoption",
    "inspect_cohort",
    "intensity_notes",
    "is_case_table",
    "is_ordered",
    "label_digest",
    "last_round",
    "margin_name",
    "mean_expected_dice",
    "network_for",
    "next_round",
    "order_of_bounds",
    "other_sessions",
    "patient_of",
    "patients_note",
    "predicted_keys",
    "preparing",
    "range_of",
    "raw_note",
    "read_bounds",
    "read_corrections",
    "read_dataset_json",
    "read_label_map",
    "read_labels",
    "read_rows",
    "read_splits",
    "read_table",
    "read_table_of",
    "read_translated",
    "read_uncertainty",
    "read_volume_as",
    "replace_label",
    "restored_keys",
    "rounds_of",
    "session_date",
    "session_order",
    "sessions_of",
    "size_warnings",
    "slice_direction",
    "split_by_patient",
    "tested_patients_note",
    "told_axes",
    "undo_adoption",
    "with_descriptions",
    "with_margins",
    "with_patients",
    "write_cohort",
    "write_corrections",
    "write_labels",
    "write_patients",
    "write_prediction",
    "write_splits",
    "write_uncertainty",
]

# A command that converts need not load what reports, corrects and compares.
_open = opened_at_first_use(
    {
        "volseg.cohort.adapted": (
            "ADAPTED",
            "Adaptation",
            "adaptations_of",
            "check_unseen",
        ),
        "volseg.cohort.adapted_folders": (
            "adapted_networks",
            "adapted_path",
            "network_for",
        ),
        "volseg.cohort.adoption": (
            "finish_adoption",
            "last_round",
            "next_round",
            "replace_label",
            "rounds_of",
            "undo_adoption",
        ),
        "volseg.cohort.alignments": ("Alignments", "PairAlignment", "check_prior_alignment"),
        "volseg.cohort.bounds": (
            "BOUND_COLUMNS",
            "Bounds",
            "RegionBounds",
            "bounds_as_text",
            "order_of_bounds",
        ),
        "volseg.cohort.bounds_of_export": ("exported_bounds",),
        "volseg.cohort.case": (
            "Case",
            "Source",
            "check_key",
        ),
        "volseg.cohort.conversion": (
            "Conversion",
            "Outcomes",
            "convert_case",
            "write_cohort",
        ),
        "volseg.cohort.corrections": (
            "CORRECTIONS",
            "Correction",
            "corrected_cases",
            "corrected_keys",
            "label_digest",
            "read_corrections",
            "write_corrections",
        ),
        "volseg.cohort.directions": (
            "ASSUMED",
            "PHANTOM_FILE",
            "SLICE_AXES",
            "SLICE_VERSION",
            "axes_of_raw",
            "cohort_note",
            "slice_direction",
            "told_axes",
        ),
        "volseg.cohort.folder": (
            "INSTANCES",
            "Cohort",
            "read_dataset_json",
        ),
        "volseg.cohort.folds": (
            "ALL",
            "Fold",
            "read_splits",
            "split_by_patient",
            "tested_patients_note",
            "write_splits",
        ),
        "volseg.cohort.inspection": ("inspect_cohort",),
        "volseg.cohort.intensities": (
            "ChannelRange",
            "intensity_notes",
            "range_of",
        ),
        "volseg.cohort.layouts": ("raw_note",),
        "volseg.cohort.margins": (
            "Prepare",
            "margin_name",
            "preparing",
            "with_descriptions",
            "with_margins",
        ),
        "volseg.cohort.memory": (
            "CHECK_BYTES",
            "EVALUATE_BYTES",
            "Threads",
            "affordable_threads",
        ),
        "volseg.cohort.patients": (
            "PatientsByPattern",
            "patient_of",
            "patients_note",
        ),
        "volseg.cohort.patients_of_keys": ("with_patients", "write_patients"),
        "volseg.cohort.predictions": (
            "PROBABILITIES",
            "Prediction",
            "Predictions",
            "check_labels",
            "predicted_keys",
            "read_labels",
            "write_labels",
            "write_prediction",
        ),
        "volseg.cohort.reading": (
            "check_values_as",
            "read_label_map",
            "read_translated",
            "read_volume_as",
        ),
        "volseg.cohort.sizes": ("size_warnings",),
        "volseg.cohort.sessions": (
            "Session",
            "check_order",
            "day_of_session",
            "earlier_sessions",
            "is_ordered",
            "other_sessions",
            "session_date",
            "session_order",
            "sessions_of",
        ),
        "volseg.cohort.spreadsheet": (
            "decimal",
            "read_rows",
            "restored_keys",
        ),
        "volseg.cohort.table": (
            "AXIS_NAMES",
            "TEST",
            "CaseRow",
            "is_case_table",
            "read_table",
            "read_table_of",
        ),
        "volseg.cohort.uncertainty": (
            "Uncertainty",
            "mean_expected_dice",
            "read_bounds",
            "read_uncertainty",
            "write_uncertainty",
        ),
        "volseg.volume": ("FILE_ENDING",),
    }
)
_before = names_of_before(__name__)


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any name of the room
    return _open(name) if name in __all__ else _before(name)
