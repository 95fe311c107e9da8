"""A cohort on many workers: one process, several, or a Ray cluster; with a journal from which killed runs resume.

    cases ──► Job ──► run_jobs ──► WorkerPool (Serial, Pipeline, Processes, RayPool) ──► Work.start(place)(job)
                        │  ▲                                                              │
                        ▼  │ History: what former runs finished                           ▼
                      Journal, one line per case                                the job's output files

A job is done when the journal says so, for the same work and the same input files, and its outputs are there with the
recorded sizes. Everything else is done again.
"""

from __future__ import annotations

from volseg import names_of_before
from volseg.jobs.converting import convert_cases
from volseg.jobs.evaluating import evaluate_cases
from volseg.jobs.job import Do, Facts, Job, Stamp, WorkerSlot, attempt, stamp
from volseg.jobs.journal import Entry, History, Journal, remove_unproven, siblings
from volseg.jobs.networks import Predicting, doing
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

__getattr__ = names_of_before(__name__)
