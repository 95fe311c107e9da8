"""The run: jobs to the workers, answers to the journal, each failure retried once on another worker.

Errors of a case and deaths of its worker count apart: a case that failed once is not lost because the node of its
second attempt went away, and one that kills every worker it gets is given up after two.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from volseg.jobs.job import Answer, Job, Work, input_digest
from volseg.jobs.journal import Entry, History, Journal
from volseg.jobs.workers import Crew, Member

logger = logging.getLogger(__name__)

ATTEMPTS = 2  # that may fail, or whose worker may die
PARTIAL = ".partial-"


@dataclass
class Tally:
    """What a run did.

    Attributes:
        done: cases finished by this run.
        before: cases that former runs had finished.
        failed: the error of each failed case.
        retried: cases whose first attempt failed.
        deaths: workers that died.
        seconds: wall time.
        busy_seconds: of all workers together, within cases.
        by_worker: cases finished, by worker.
        members: the workers.
        devices: cases of this and former runs by what computed them, where the work tells.
        notes: what must be known of a case of this or a former run, where the work tells.
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


@dataclass(frozen=True, slots=True)
class _Task:
    """A job with what is known of it; `errors` and `deaths` of former attempts, `avoid` the worker of the last."""

    job: Job
    inputs: str
    errors: int = 0
    deaths: int = 0
    avoid: str | None = None

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return self.errors + self.deaths + 1


def run_jobs(
    work: Work,
    jobs: Iterable[Job],
    *,
    crew: Crew,
    journal: Journal,
    history: History,
    tally: Tally | None = None,
    progress: Callable[[int], None] | None = None,
) -> Tally:
    """Do every job that no former run has done.

    A case that fails is tried once more, on another worker where there is one, and then is a line with its error; so
    is one whose worker dies.
    A kill at any moment leaves each case either with its line and its files, or to be done again.

    Args:
        work: what is done to a case.
        jobs: each key once; taken one by one, so that a generator of a million costs no memory.
        crew: who does it; opened at the first job that is to be done, and closed.
        journal: gets a line a case.
        history: of former runs.
        tally: counted in while the run goes; what is returned otherwise.
        progress: called with the number of cases done.

    Raises:
        OSError: outputs or the journal cannot be written; run again when there is space.
        VolsegError: no worker can start.
    """
    tally = Tally() if tally is None else tally
    began = time.monotonic()
    todo = _todo(work, jobs, journal, history, tally)
    try:
        first = next(todo, None)
        if first is None:
            return tally
        crew.open(work)
        for _ in _answers(work, crew, journal, tally, todo=todo, first=first):
            if progress:
                progress(tally.before + tally.done + len(tally.failed))
    finally:
        tally.seconds += time.monotonic() - began
        tally.members = crew.members()
        crew.close()
    return tally


def _todo(work: Work, jobs: Iterable[Job], journal: Journal, history: History, tally: Tally) -> Iterator[_Task]:
    """The jobs that are not done yet. What stands where their outputs go is removed, and first no longer believed."""
    leftovers: dict[Path, dict[str, list[Path]]] = {}
    for job in jobs:
        inputs = input_digest(job.inputs)
        entry = history.get(job.key)
        if entry is not None and entry.holds(job, work=work.digest, inputs=inputs):
            tally.before += 1
            continue
        if entry is not None and entry.error is None:
            journal.add(Entry(job.key, work.digest, inputs, at=time.time(), error="outdated"), sync=True)
        for path in job.outputs:
            if path.parent not in leftovers:  # one look a folder: there may be a hundred thousand files in it
                leftovers[path.parent] = _partials(path.parent)
            for old in (path, *leftovers[path.parent].pop(path.name, ())):
                old.unlink(missing_ok=True)
        yield _Task(job, inputs)


def _answers(
    work: Work, crew: Crew, journal: Journal, tally: Tally, *, todo: Iterator[_Task], first: _Task
) -> Iterator[Answer]:
    """Keep every worker busy; each answer that ends a case."""
    again: deque[_Task] = deque()
    fresh: deque[_Task] = deque([first])
    at_work: dict[str, _Task] = {}
    while True:
        for worker in crew.idle():
            if not fresh:
                fresh.extend(task for task in [next(todo, None)] if task)
            task = _next(worker, again, fresh, alone=crew.alive() == 1)
            if task is not None:
                at_work[task.job.key] = task
                crew.give(worker, task.job)
        if not (at_work or again or fresh):
            return
        for answer in crew.take():
            task = at_work.pop(answer.key)
            tally.busy_seconds += answer.seconds
            tally.deaths += answer.died
            if answer.stop:
                raise OSError(answer.error)
            if answer.error is not None:
                _remove_outputs(task.job)
                errors, deaths = task.errors + (not answer.died), task.deaths + answer.died
                if max(errors, deaths) < ATTEMPTS:
                    logger.warning("%s: %s; it is tried once more", answer.key, answer.error)
                    tally.retried += task.attempt == 1
                    again.append(_Task(task.job, task.inputs, errors, deaths, answer.worker))
                    continue
                logger.error("%s: %s", answer.key, answer.error)
                tally.failed[answer.key] = answer.error
            journal.add(Entry.of(answer, work=work.digest, inputs=task.inputs, attempt=task.attempt))
            if answer.error is None:
                tally.done += 1
                tally.by_worker[answer.worker] += 1
            yield answer


def _next(worker: str, again: deque[_Task], fresh: deque[_Task], *, alone: bool) -> _Task | None:
    """What a worker does next: a retry that failed elsewhere, else a new job; its own retry only where it is alone."""
    for task in again:
        if task.avoid != worker:
            again.remove(task)
            return task
    if fresh:
        return fresh.popleft()
    return again.popleft() if again and alone else None


def _remove_outputs(job: Job) -> None:
    """Remove the outputs of a failed job and what a dead worker left half written of them."""
    for path in job.outputs:
        for old in (path, *_partials(path.parent).get(path.name, ())):
            old.unlink(missing_ok=True)


def _partials(folder: Path) -> dict[str, list[Path]]:
    """The half-written files of a folder by the name that they would have had, see `volseg.files.atomic`."""
    found: dict[str, list[Path]] = {}
    if folder.is_dir():
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(PARTIAL):
                    _, _, name = entry.name.removeprefix(PARTIAL).partition("-")
                    found.setdefault(name, []).append(Path(entry.path))
    return found
