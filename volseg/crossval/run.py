"""All folds of all networks by workers: one journal, resumed, and a word for each fold that is finished."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from volseg.crossval.fold import FoldTraining, job_key, parts_of
from volseg.crossval.folder import CrossvalFolder
from volseg.crossval.settings import CrossvalSettings
from volseg.errors import UsageError
from volseg.jobs import (
    History,
    Job,
    Journal,
    Processes,
    RunResult,
    Serial,
    WorkerOptions,
    WorkerPool,
    run_jobs,
    siblings,
    write_run_report,
)

COMMAND = "crossval"

Told = Callable[[str, int, dict[str, Any]], None]
"""Is told the network, the fold and the facts of each fold that has been finished."""


def jobs_of(work: FoldTraining, worker_options: WorkerOptions) -> list[Job]:
    """The jobs of this call: all folds of all networks, or the share of a shard, dealt in turn."""
    jobs = [Job(job_key(network, fold), (), (work.folder.done(network, fold),)) for network, fold in work.settings.jobs]
    return jobs[worker_options.shard.number :: worker_options.shard.count]


def is_done(folder: CrossvalFolder, network: str, fold: int) -> bool:
    """Whether a fold is trained and predicted."""
    return folder.done(network, fold).is_file() and folder.network(network, fold).is_file()


def read_done(folder: CrossvalFolder, network: str, fold: int) -> dict[str, Any]:
    """The facts of a finished fold.

    Raises:
        UsageError: It is not finished, or its file is damaged.
    """
    path = folder.done(network, fold)
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}); run the same command again") from error
    return content


def check_inference(folder: CrossvalFolder, settings: CrossvalSettings) -> None:
    """Refuse settings of inference with which the finished folds were not predicted.

    Raises:
        UsageError: There is such a fold; the message names the options.
    """
    asked = dict(vars(settings.inference))
    for network, fold in settings.jobs:
        if not is_done(folder, network, fold):
            continue
        before = read_done(folder, network, fold).get("inference", asked)
        if changed := [name for name in asked if before.get(name) != asked[name]]:
            told = ", ".join(f"--{name.replace('_', '-')} {before.get(name)}" for name in changed)
            now = ", ".join(str(asked[name]) for name in changed)
            raise UsageError(
                f"fold {fold} of {network} was predicted with {told}, and {now} is asked for; give the same, or leave "
                "--gather out, which predicts anew and trains nothing"
            )


def run_folds(
    work: FoldTraining, *, worker_options: WorkerOptions, told: Told | None = None, isolated: bool = True
) -> RunResult:
    """Train and predict every fold that no earlier run has finished.

    Args:
        work: Work with the settings.
        worker_options: Options of the workers. A shard takes its share of the jobs, dealt in turn.
        told: Function that is called after each finished fold.
        isolated: Whether a single worker is a process of its own too, so that a crash or a lack of memory in a
            training ends that training alone.

    Returns:
        What was done, with the error of each fold that failed.

    Raises:
        UsageError: Another run is writing there.
        OSError: The disk is full; run again when there is space.
    """
    jobs = jobs_of(work, worker_options)
    started, result = time.time(), RunResult()
    path = worker_options.journal_path(work.folder.path, COMMAND)
    pool = _pool(worker_options, len(jobs), isolated=isolated)

    def report(error: str | None) -> None:
        write_run_report(
            *(work.folder.path, result),
            command=COMMAND,
            worker_options=worker_options,
            engine=pool.engine,
            cases=len(jobs),
            started=started,
            error=error,
            options={**work.settings.facts(), **vars(work.settings.inference)},
        )

    with Journal(path) as journal:
        history = History(siblings(path))
        said = {
            job.key
            for job in jobs
            if (entry := history.get(job.key)) and entry.work == work.digest and job.outputs[0].is_file()
        }

        def tell(_: int) -> None:
            for job in jobs:
                if told is not None and job.key not in said and job.outputs[0].is_file():
                    said.add(job.key)
                    told(*parts_of(job.key), read_done(work.folder, *parts_of(job.key)))

        try:
            run_jobs(work, jobs, pool=pool, journal=journal, history=history, result=result, progress=tell)
        except BaseException as stopped:
            with suppress(OSError):
                report(f"{type(stopped).__name__}: {stopped}".strip(": "))
            raise
        report(None)
    return result


def _pool(worker_options: WorkerOptions, jobs: int, *, isolated: bool) -> WorkerPool:
    if worker_options.ray is None and isolated:
        return Processes(min(worker_options.workers, max(1, jobs)))
    return Serial() if worker_options.ray is None else worker_options.pool(jobs=jobs)
