"""The run: jobs are sent to workers, answers are written to the journal, each failure is retried once elsewhere.

Errors of a case and deaths of its worker are counted separately: a case that failed once is not given up because the
node of its second attempt was lost, and a case that kills each of its workers is given up after two.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from volseg import keywords_of_before
from volseg.files import PARTIAL, is_partial
from volseg.jobs.job import Answer, Job, Work, input_digest
from volseg.jobs.journal import OUTDATED, Entry, History, Journal
from volseg.jobs.workers import Member, WorkerPool

logger = logging.getLogger(__name__)

ATTEMPTS = 2  # number of attempts that may fail, and of workers that may die
_AS_BEFORE = "failed again in the same way"  # whose error the log has


@dataclass
class RunResult:
    """The result of a run.

    Attributes:
        done: Number of cases finished by this run.
        before: Number of cases that earlier runs had finished.
        failed: Error of each failed case, by key.
        retried: Number of cases whose first attempt failed.
        deaths: Number of workers that died.
        seconds: Wall time in seconds.
        busy_seconds: Seconds of all workers together that were spent within cases.
        by_worker: Number of finished cases, by worker.
        members: Facts about the workers.
        devices: Number of cases of this and earlier runs by engine and device, if the work reports them.
        notes: Notes on cases of this or an earlier run, by key, if the work reports them.
    """

    done: int = 0
    before: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    retried: int = 0
    deaths: int = 0
    seconds: float = 0.0
    busy_seconds: float = 0.0
    by_worker: Counter[str] = field(default_factory=Counter)
    members: list[Member] = field(default_factory=list)
    devices: Counter[str] = field(default_factory=Counter)
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def ended(self) -> int:
        """Number of cases that are done, in this or an earlier run, or failed."""
        return self.done + self.before + len(self.failed)

    @property
    def offered_seconds(self) -> float:
        """Seconds of the run, times the workers that it had."""
        return self.seconds * max(0, len(self.members) - self.deaths)


@dataclass(frozen=True, slots=True)
class _Task:
    """A job with the `errors` and `deaths` of its attempts so far.

    `avoid` is the worker of the last attempt, and `told` its error, which the log has.
    """

    job: Job
    inputs: str
    errors: int = 0
    deaths: int = 0
    avoid: str | None = None
    told: str = ""

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return self.errors + self.deaths + 1


@keywords_of_before(crew="pool", tally="result")
def run_jobs(
    work: Work,
    jobs: Iterable[Job],
    *,
    pool: WorkerPool,
    journal: Journal,
    history: History,
    result: RunResult | None = None,
    progress: Callable[[int], None] | None = None,
) -> RunResult:
    """Do every job that no earlier run has finished.

    A case that fails is tried once more, on another worker if there is one, and is then recorded with its error; so is
    a case whose worker dies. After a kill at any moment, each case either has its line and its files, or is done again.

    Args:
        work: Work on a case.
        jobs: Jobs, each key once; they are taken one by one, so that a generator of a million costs no memory.
        pool: Workers; they are started at the first job that is to be done, and ended.
        journal: Journal, which gets one line per case.
        history: History of earlier runs.
        result: Result that is updated during the run; by default a new one, which is returned.
        progress: Function that is called with the number of finished cases.

    Raises:
        OSError: Outputs or the journal cannot be written; run again when there is space.
        VolsegError: No worker can start.
    """
    result = RunResult() if result is None else result
    began = time.monotonic()
    todo = _todo(work, jobs, journal, history, result)
    try:
        first = next(todo, None)
        if first is None:
            return result
        pool.open(work)
        for _ in _answers(work, pool, journal, result, todo=todo, first=first):
            if progress:
                progress(result.before + result.done + len(result.failed))
    finally:
        result.seconds += time.monotonic() - began
        result.members = pool.members()
        pool.close()
    return result


def _todo(work: Work, jobs: Iterable[Job], journal: Journal, history: History, result: RunResult) -> Iterator[_Task]:
    """The jobs that are not done yet. Their journal entries are marked outdated, then existing outputs are removed."""
    leftovers: dict[Path, dict[str, list[Path]]] = {}
    for job in jobs:
        inputs = input_digest(job.inputs, job.facts)
        entry = history.get(job.key)
        if entry is not None and entry.holds(job, work=work.digest, inputs=inputs):
            result.before += 1
            continue
        if entry is not None and entry.error is None:
            journal.add(Entry(job.key, work.digest, inputs, at=time.time(), error=OUTDATED), sync=True)
        for path in job.outputs:
            if path.parent not in leftovers:  # one listing per folder, which may hold a hundred thousand files
                leftovers[path.parent] = _partials(path.parent)
            for old in (path, *leftovers[path.parent].pop(path.name, ())):
                old.unlink(missing_ok=True)
        yield _Task(job, inputs)


def _answers(
    work: Work, pool: WorkerPool, journal: Journal, result: RunResult, *, todo: Iterator[_Task], first: _Task
) -> Iterator[Answer]:
    """Keep every worker busy; yields each answer that finishes a case."""
    again: deque[_Task] = deque()
    fresh: deque[_Task] = deque([first])
    at_work: dict[str, _Task] = {}
    while True:
        for worker in pool.idle():
            if not fresh:
                fresh.extend(task for task in [next(todo, None)] if task)
            task = _next(worker, again, fresh, alone=pool.alive() == 1)
            if task is not None:
                at_work[task.job.key] = task
                pool.give(worker, task.job)
        if not (at_work or again or fresh):
            return
        for answer in pool.take():
            task = at_work.pop(answer.key)
            result.busy_seconds += answer.seconds
            result.deaths += answer.died
            if answer.stop:
                raise OSError(answer.error)
            if answer.error is not None:
                _remove_outputs(task.job)
                errors, deaths = task.errors + (not answer.died), task.deaths + answer.died
                if max(errors, deaths) < ATTEMPTS:
                    logger.warning("%s: %s; it is tried once more", answer.key, answer.error)
                    result.retried += task.attempt == 1
                    again.append(_Task(task.job, task.inputs, errors, deaths, answer.worker, answer.error))
                    continue
                logger.error("%s: %s", answer.key, _AS_BEFORE if answer.error == task.told else answer.error)
                result.failed[answer.key] = answer.error
            journal.add(Entry.of(answer, work=work.digest, inputs=task.inputs, attempt=task.attempt))
            if answer.error is None:
                result.done += 1
                result.by_worker[answer.worker] += 1
            yield answer


def _next(worker: str, again: deque[_Task], fresh: deque[_Task], *, alone: bool) -> _Task | None:
    """The next task of a worker: a retry that failed elsewhere, else a new job; its own retry only if it is alone."""
    for task in again:
        if task.avoid != worker:
            again.remove(task)
            return task
    if fresh:
        return fresh.popleft()
    return again.popleft() if again and alone else None


def _remove_outputs(job: Job) -> None:
    """Remove the outputs of a failed job, and those that a dead worker left half-written."""
    for path in job.outputs:
        for old in (path, *_partials(path.parent).get(path.name, ())):
            old.unlink(missing_ok=True)


def _partials(folder: Path) -> dict[str, list[Path]]:
    """The half-written files of a folder by the name that they would have had, see `volseg.files.atomic`."""
    found: dict[str, list[Path]] = {}
    if folder.is_dir():
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_partial(entry.name):
                    _, _, name = entry.name.removeprefix(PARTIAL).partition("-")
                    found.setdefault(name, []).append(Path(entry.path))
    return found
