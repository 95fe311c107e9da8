"""A cohort on many workers: one process, several, or a Ray cluster; with a journal from which killed runs resume.

    cases ──► Job ──► run_jobs ──► WorkerPool (Serial, Pipeline, Processes, RayPool) ──► Work.start(place)(job)
                        │  ▲                                                              │
                        ▼  │ History: what former runs finished                           ▼
                      Journal, one line per case                                the job's output files

A job is done when the journal says so, for the same work and the same input files, and its outputs are there with the
recorded sizes. Everything else is done again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from volseg import names_of_before, opened_at_first_use

if TYPE_CHECKING:
    from volseg.jobs.converting import convert_cases
    from volseg.jobs.evaluating import evaluate_cases
    from volseg.jobs.job import Do, Facts, Job, Stamp, WorkerSlot, attempt, stamp
    from volseg.jobs.journal import Entry, History, Journal, remove_unproven, siblings
    from volseg.jobs.networks import Predicting, StatedPredictor, doing
    from volseg.jobs.options import WorkerOptions
    from volseg.jobs.predicting import predict_cases
    from volseg.jobs.processes import Processes
    from volseg.jobs.report import write_run_report
    from volseg.jobs.run import RunResult, run_jobs
    from volseg.jobs.workers import Serial, WorkerPool

__all__ = [
    "Do",
    "Entry",
    "Facts",
    "History",
    "Job",
    "Journal",
    "Predicting",
    "Processes",
    "RunResult",
    "Serial",
    "Stamp",
    "StatedPredictor",
    "WorkerOptions",
    "WorkerPool",
    "WorkerSlot",
    "attempt",
    "convert_cases",
    "doing",
    "evaluate_cases",
    "predict_cases",
    "remove_unproven",
    "run_jobs",
    "siblings",
    "stamp",
    "write_run_report",
]

# A command that scores cases need not load what predicts them.
_open = opened_at_first_use(
    {
        "volseg.jobs.converting": ("convert_cases",),
        "volseg.jobs.evaluating": ("evaluate_cases",),
        "volseg.jobs.job": (
            "Do",
            "Facts",
            "Job",
            "Stamp",
            "WorkerSlot",
            "attempt",
            "stamp",
        ),
        "volseg.jobs.journal": (
            "Entry",
            "History",
            "Journal",
            "remove_unproven",
            "siblings",
        ),
        "volseg.jobs.networks": (
            "Predicting",
            "StatedPredictor",
            "doing",
        ),
        "volseg.jobs.options": ("WorkerOptions",),
        "volseg.jobs.predicting": ("predict_cases",),
        "volseg.jobs.processes": ("Processes",),
        "volseg.jobs.report": ("write_run_report",),
        "volseg.jobs.run": (
            "RunResult",
            "run_jobs",
        ),
        "volseg.jobs.workers": (
            "Serial",
            "WorkerPool",
        ),
    }
)
_before = names_of_before(__name__)


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any name of the room
    return _open(name) if name in __all__ else _before(name)
