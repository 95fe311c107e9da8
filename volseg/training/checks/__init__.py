"""Checks before a training starts: settings, cohort, window, memory."""

from __future__ import annotations

from volseg.training.checks.capacity import choose_cache, loader_workers
from volseg.training.checks.cases import check_cases
from volseg.training.checks.overrides import check_overrides
from volseg.training.checks.preflight import preflight

__all__ = [
    "check_cases",
    "check_overrides",
    "choose_cache",
    "loader_workers",
    "preflight",
]
