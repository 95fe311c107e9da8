"""Handlers of a training: record, checkpoints, resume, progress, validation, optimization, stopping, pictures."""

from __future__ import annotations

from volseg.training.handlers.checkpoints import Checkpoints
from volseg.training.handlers.optimization import Average, GradientClipping
from volseg.training.handlers.pictures import ValidationPictures
from volseg.training.handlers.progress import Progress, Stopwatch
from volseg.training.handlers.record import Record
from volseg.training.handlers.resume import Resume, check_resume
from volseg.training.handlers.sequence import Handlers, RaiseErrors
from volseg.training.handlers.stopping import Patience, TimeLimit, check_minutes
from volseg.training.handlers.tracking import TRACKERS, Tracking, check_tracker
from volseg.training.handlers.validation import Validation, VolumetricDice, nan_safe_greater

__all__ = [
    "TRACKERS",
    "Average",
    "Checkpoints",
    "GradientClipping",
    "Handlers",
    "Patience",
    "Progress",
    "RaiseErrors",
    "Record",
    "Resume",
    "Stopwatch",
    "TimeLimit",
    "Tracking",
    "Validation",
    "ValidationPictures",
    "VolumetricDice",
    "check_minutes",
    "check_resume",
    "check_tracker",
    "nan_safe_greater",
]
