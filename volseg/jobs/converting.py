"""Conversion of a cohort by several workers; the cohort's own records say what is done."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from pathlib import Path

from volseg import keywords_of_before
from volseg.cohort import CaseRow, Conversion, Fold, Outcomes, Source, convert_case, write_cohort
from volseg.errors import VolsegError
from volseg.jobs.command import run_command
from volseg.jobs.job import Do, Facts, Job, WorkerSlot
from volseg.jobs.journal import History
from volseg.jobs.options import WorkerOptions


@dataclass(frozen=True)
class Converting:
    """The work of converting a case, in any process that sees the same files.

    Attributes:
        source: Source of the cases.
        folder: Folder of the cohort.
    """

    source: Source
    folder: Path
    digest: str = "convert"

    def start(self, place: WorkerSlot) -> Do:  # noqa: ARG002 - all workers do the same
        """Return the function that converts; the source is open already."""

        def do(job: Job) -> Facts:
            row, fresh = convert_case(self.source, job.key, self.folder)
            return {"row": row.to_csv(), "fresh": fresh}

        return do


@keywords_of_before(team="worker_options")
def convert_cases(
    source: Source,
    folder: Path,
    *,
    worker_options: WorkerOptions,
    folds: int,
    seed: int,
    validation: Container[str] = (),
    given: Sequence[Fold] = (),
    redraw: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Conversion:
    """Convert as `volseg.cohort.write_cohort` does, by several workers.

    The tables and folds contain all cases that any shard has finished, so those of the last shard are complete.
    """

    def outcomes(keys: Sequence[str]) -> Outcomes:
        result = run_command(
            Converting(source, folder),
            (Job(key, ()) for key in keys),
            command="convert",
            folder=folder,
            worker_options=worker_options,
            cases=len(keys),
            believe=False,
            progress=progress,
        )
        history = History([worker_options.journal_path(folder, "convert")])
        for key in keys:
            entry = history.get(key)
            if key in result.failed or entry is None or entry.error is not None:
                yield key, VolsegError(result.failed.get(key, "the journal has lost its line"))
            else:
                yield key, (CaseRow.from_csv(entry.facts["row"]), bool(entry.facts["fresh"]))

    only = worker_options.shard if worker_options.shard.count > 1 else None
    return write_cohort(
        source,
        folder,
        folds=folds,
        seed=seed,
        only=only,
        validation=validation,
        given=given,
        redraw=redraw,
        outcomes=outcomes,
        alone=only is None,
    )
