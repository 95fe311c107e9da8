"""Evaluation of a cohort by several workers: the rows of a case are in its line of the journal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import volseg
from volseg import keywords_of_before
from volseg.cohort import Cohort, Predictions, check_unseen
from volseg.evaluation import EvaluationSettings, RegionScores, score_case, tell_notes
from volseg.jobs.command import run_command
from volseg.jobs.job import Do, Facts, Job, WorkerSlot
from volseg.jobs.journal import History, siblings
from volseg.jobs.options import WorkerOptions
from volseg.labels import LabelMatch


@dataclass(frozen=True)
class Evaluating:
    """The work of scoring a case, in any process that sees the same files.

    Attributes:
        predictions: Folder of the predictions.
        cohort: Folder of the cohort.
        method: Settings of the evaluation.
        match: Match of the predictions' regions with the cohort's.
        digest: Digest of the version of volseg, of the method, of the label table and of the match.
    """

    predictions: Path
    cohort: Path
    method: EvaluationSettings
    match: LabelMatch
    digest: str

    @classmethod
    def of(cls, predictions: Path, cohort: Cohort, method: EvaluationSettings, match: LabelMatch) -> Evaluating:
        """The work of scoring predictions against a cohort."""
        # Another version may define a metric otherwise, or have further columns.
        facts: list[object] = [volseg.__version__, asdict(method), cohort.labels.digest]
        if not match.same:
            facts += [match.prediction.digest, list(match.pairs.items())]
        identity = json.dumps(facts, sort_keys=True)
        return cls(predictions, cohort.folder, method, match, hashlib.sha256(identity.encode()).hexdigest()[:16])

    def start(self, place: WorkerSlot) -> Do:  # noqa: ARG002 - all workers do the same
        """Open the cohort."""
        cohort = Cohort.open(self.cohort)
        known = frozenset(cohort.keys)

        def do(job: Job) -> Facts:
            notes: dict[str, tuple[str, ...]] = {}
            rows = score_case(
                *(job.key, self.predictions, cohort), known=known, method=self.method, match=self.match, notes=notes
            )
            told = {"notes": notes[job.key]} if notes else {}
            # NumPy's whole numbers become Python's.
            facts: Facts = json.loads(json.dumps({"rows": [asdict(row) for row in rows], **told}, default=int))
            return facts

        return do


@keywords_of_before(team="worker_options")
def evaluate_cases(
    predictions: Path,
    cohort: Cohort,
    output_dir: Path,
    *,
    worker_options: WorkerOptions,
    keys: Sequence[str] | None = None,
    method: EvaluationSettings,
    match: LabelMatch | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[RegionScores]:
    """Evaluate as `volseg.evaluation.evaluate` does, by several workers, resumed from a journal in `output_dir`.

    A run over one shard gives the rows of that shard. A run without shards, after those of all shards, gives all rows
    and does not score any case again.

    Raises:
        UsageError: There is no such folder, or no prediction in it.
        LabelError: The predictions have no region of the cohort.
    """
    there = Predictions.open(predictions)
    known = frozenset(cohort.keys)
    asked = there.some_keys() if keys is None else keys
    check_unseen(predictions, cohort, asked)
    mine = [key for key in asked if key in worker_options.shard]

    def inputs(key: str) -> tuple[Path, ...]:
        label = cohort.label_path(key) if key in known else None
        objects = cohort.instances_path(key) if label and method.instances else None
        image = cohort.image_paths(key)[0] if label else None  # whose header says where the label lies
        return (there.path(key), *(path for path in (label, image, objects) if path))

    work = Evaluating.of(predictions, cohort, method, there.match(cohort) if match is None else match)
    result = run_command(
        work,
        (Job(key, inputs(key)) for key in mine),
        command="evaluate",
        folder=output_dir,
        worker_options=worker_options,
        cases=len(mine),
        options=asdict(method),
        progress=progress,
    )
    history = History(siblings(worker_options.journal_path(output_dir, "evaluate")))
    rows: list[RegionScores] = []
    notes: dict[str, Sequence[str]] = {}
    for key in mine:
        entry = history.get(key)
        if key in result.failed or entry is None:
            patient = cohort.patient(key) if key in known else ""
            rows.append(RegionScores(key, patient, "", error=result.failed.get(key, "the journal has lost its line")))
        else:
            # Who a patient is may have been corrected since.
            rows += [RegionScores(**{**row, "patient": cohort.patient(key)}) for row in entry.facts["rows"]]
            notes[key] = entry.facts.get("notes", ())
    tell_notes(notes, cases=len(mine))
    return rows
