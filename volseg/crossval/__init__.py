"""Cross-validation: every fold of several bundles trained, each case predicted out of fold, the best chosen.

settings ──► begin ──► run_folds ──► FoldTraining, a job per network and fold ──► FOLDER/NETWORK/fold_K
                                                      │
                       conclude ◄─────────────────────┘   scores, choice, clean-up, report, ensemble folder
"""

from __future__ import annotations

from volseg.crossval.choice import Choice, Standing, choose
from volseg.crossval.cleanup import RegionCleanup, choose_cleanup
from volseg.crossval.cost import Forecast, duration, forecast, time_left
from volseg.crossval.days import run_days
from volseg.crossval.days_settings import MODES, DayCase, DaysSettings, day_cases, default_modes
from volseg.crossval.days_table import conclude_days
from volseg.crossval.fold import FoldTraining, job_key, parts_of
from volseg.crossval.folder import CrossvalFolder
from volseg.crossval.folds import check_folds, fold_notes, regions_of_cases
from volseg.crossval.result import CrossvalResult, conclude, short_result
from volseg.crossval.run import check_inference, is_done, jobs_of, run_folds
from volseg.crossval.scores import Candidate
from volseg.crossval.settings import CrossvalSettings, Inference, begin, data_of

__all__ = [
    "MODES",
    "Candidate",
    "Choice",
    "CrossvalFolder",
    "CrossvalResult",
    "CrossvalSettings",
    "DayCase",
    "DaysSettings",
    "FoldTraining",
    "Forecast",
    "Inference",
    "RegionCleanup",
    "Standing",
    "begin",
    "check_folds",
    "check_inference",
    "choose",
    "choose_cleanup",
    "conclude",
    "conclude_days",
    "data_of",
    "day_cases",
    "default_modes",
    "duration",
    "fold_notes",
    "forecast",
    "is_done",
    "job_key",
    "jobs_of",
    "parts_of",
    "regions_of_cases",
    "run_days",
    "run_folds",
    "short_result",
    "time_left",
]
