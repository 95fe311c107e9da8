"""A command's run, from its journal to its report, for work whose results need no table of their own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from volseg.jobs.job import Job, Work, reason
from volseg.jobs.journal import History, Journal, siblings
from volseg.jobs.options import WorkerOptions
from volseg.jobs.report import write_run_report
from volseg.jobs.run import RunResult, run_jobs


def run_command(
    work: Work,
    jobs: Iterable[Job],
    *,
    command: str,
    folder: Path,
    worker_options: WorkerOptions,
    cases: int,
    believe: bool = True,
    options: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> RunResult:
    """Do the jobs by the workers, and write `run_report.json` into the folder.

    Args:
        work: Work on a case.
        jobs: Jobs of this run or shard.
        command: Name of the command, for the journal.
        folder: Folder of the outputs.
        worker_options: Options of the workers.
        cases: Number of jobs.
        believe: Whether earlier journals say what is done; False if the work itself knows.
        options: Options, for the report.
        progress: Function that is called with the number of finished cases and of all.

    Raises:
        UsageError: Another run is writing there.
        OSError: The outputs cannot be written; run again when they can.
    """
    started, result = time.time(), RunResult()
    path = worker_options.journal_path(folder, command)
    pool = worker_options.pool(jobs=cases)
    report = partial(
        write_run_report,
        *(folder, result),
        command=command,
        worker_options=worker_options,
        engine=pool.engine,
        cases=cases,
        started=started,
        options=options,
    )
    with Journal(path) as journal:
        history = History(siblings(path) if believe else ())

        def told(done: int) -> None:
            if progress:
                progress(done, cases)

        try:
            run_jobs(work, jobs, pool=pool, journal=journal, history=history, result=result, progress=told)
        except BaseException as stopped:
            with suppress(OSError):  # the disk may be full for this too
                report(error=reason(stopped))
            raise
        report()
    return result
