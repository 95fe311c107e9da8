"""Prediction of a cohort by several workers: one `KEY.nii.gz` per case, one `uncertainty.csv`, and a report."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from volseg import keywords_of_before
from volseg.cohort import FILE_ENDING, RegionBounds, write_uncertainty
from volseg.errors import UsageError
from volseg.files import SERIES
from volseg.inference import check_apart
from volseg.jobs.job import Job, reason, stamp
from volseg.jobs.journal import OUTDATED, History, Journal, siblings
from volseg.jobs.networks import Predicting, doing, sample_of, source_of
from volseg.jobs.options import WorkerOptions
from volseg.jobs.report import write_run_report
from volseg.jobs.run import RunResult, run_jobs

if TYPE_CHECKING:
    from volseg.inference import AnyPredictor

logger = logging.getLogger(__name__)

EDITED = "edited"
"""The folder, inside that of the predictions, of label maps that somebody has changed or drawn in their place."""

Cases = Sequence[tuple[str, Sequence[Path]]]
"""Pairs of a key and one file per channel, for each case."""


@keywords_of_before(team="worker_options")
def predict_cases(
    work: Predicting,
    cases: Cases,
    output_dir: Path,
    *,
    worker_options: WorkerOptions,
    choose: Callable[[str], AnyPredictor] | None = None,
    progress: Callable[[int, int], None] | None = None,
    earlier: Sequence[tuple[Predicting, RunResult]] = (),
    started: float | None = None,
) -> RunResult:
    """Predict the cases that no earlier run has finished; write `uncertainty.csv` and `run_report.json` at the end.

    Args:
        work: Networks and options that make the predictor.
        cases: All cases; those of other shards are left out.
        output_dir: Folder of the predictions.
        worker_options: Options of the workers.
        choose: Function that gives the predictor with an engine of that name. It is called once, in this process, so
            that all workers use the engine that it chooses; None lets each worker choose.
        progress: Function that is called with the number of finished cases and of all.
        earlier: Works that the same command has done on other cases, and their results, which the report counts too.
        started: Start of the command in seconds since 1970; now by default.

    Raises:
        UsageError: Another run is writing there; DICOM files are listed that other machines cannot see; two cases would
            be written to one file; or a case would replace that of another file of its name.
        OSError: The outputs cannot be written; run again when they can.
    """
    mine = [(key, images) for key, images in cases if key in worker_options.shard]
    if worker_options.ray is not None and any(path.suffix == SERIES for _, images in mine for path in images):
        raise UsageError(
            "a folder of DICOM files is read on this machine alone; run `volseg convert dicom` first, or drop --ray"
        )
    check_apart(output_dir, cases)
    started = time.time() if started is None else started
    result = RunResult()
    path = worker_options.journal_path(output_dir, "predict")
    with Journal(path) as journal:
        history = History(siblings(path))
        _check_sources(output_dir, mine, history)
        _keep_edits(output_dir, mine, history, work.digest)
        _forget(output_dir, mine, history, work.digest)
        work = replace(work, engine=_engine_before(history, work.digest) or work.engine)
        predictor = choose(work.engine) if choose and (worker_options.alone or work.engine == "auto") else None
        if predictor is not None:
            work = replace(work, engine=predictor.engine.name)
        pool = worker_options.pool(
            jobs=len(mine), do=doing(predictor, sources=True) if predictor and worker_options.alone else None
        )
        del predictor  # the workers load their own
        conclude = partial(
            _conclude,
            *(output_dir, path, work, result, worker_options, pool.engine, len(mine)),
            started=started,
            earlier=earlier,
        )
        try:
            run_jobs(
                work,
                (
                    Job(key, work.inputs(key, images), work.outputs(output_dir, key), work.facts(key))
                    for key, images in mine
                ),
                pool=pool,
                journal=journal,
                history=history,
                result=result,
                progress=progress and (lambda done: progress(done, len(mine))),
            )
        except BaseException as stopped:
            with suppress(OSError):  # the disk may be full for this too
                conclude(error=reason(stopped))
            raise
        conclude(error=None)
    return result


def _conclude(
    output_dir: Path,
    path: Path,
    work: Predicting,
    result: RunResult,
    worker_options: WorkerOptions,
    engine: str,
    cases: int,
    *,
    started: float,
    error: str | None,
    earlier: Sequence[tuple[Predicting, RunResult]],
) -> None:
    """Write the tables of all finished cases, and the report of this run."""
    result.devices, result.notes = _collect(output_dir, path, work.digest)
    weights = [one for done in (*(before for before, _ in earlier), work) for one in done.weights]
    write_run_report(
        output_dir,
        result,
        command="predict",
        worker_options=worker_options,
        engine=engine,
        cases=cases + sum(one.ended for _, one in earlier),
        started=started,
        error=error,
        options=work.options,
        checkpoints=[dict(facts) for facts in dict.fromkeys(tuple(one.items()) for one in weights)],
        earlier=[one for _, one in earlier],
    )


def _check_sources(output_dir: Path, cases: Cases, history: History) -> None:
    """Refuse a case whose existing output was made from another file of the same name.

    The name of a folder, and the sizes and the middle of its files, identify it even if it was moved.
    """
    for key, images in cases:
        entry = history.get(key)
        before = entry.facts.get("source") if entry is not None and entry.error is None else None
        if not before or not images[0].is_file() or not (output_dir / f"{key}{FILE_ENDING}").is_file():
            continue
        now = source_of(key, images)
        if not now or now["path"] == before["path"]:
            continue
        other = any(now[one] != before[one] for one in ("folder", "bytes"))
        if other or before.get("sample", "") not in ("", sample_of(images[0])):
            raise UsageError(
                f"{output_dir} holds {key}{FILE_ENDING} of another file of the same name, which that of {images[0]} "
                "would replace; name another folder with -o, or remove it first"
            )


def _keep_edits(output_dir: Path, cases: Cases, history: History, digest: str) -> None:
    """Move label maps that are not those that were predicted to `edited/`, before the cases are predicted anew.

    The file of a case that failed was drawn by somebody: whatever was there before the failure has been removed.
    """
    for key, _ in cases:
        entry, path = history.get(key), output_dir / f"{key}{FILE_ENDING}"
        if entry is None or entry.error == OUTDATED or not path.is_file():
            continue
        size, written = path.stat().st_size, entry.outputs[0] if entry.outputs else None
        same = written is not None and size == written.size
        if not size or (same and (entry.work == digest or stamp(path) == written)):
            continue
        kept = output_dir / EDITED / path.name
        number = 2
        while kept.exists():
            kept = kept.with_name(f"{key} ({number}){FILE_ENDING}")
            number += 1
        kept.parent.mkdir(exist_ok=True)
        path.replace(kept)
        told = "%s: its label map is not the one that was predicted; it is kept as %s, and the case is predicted anew"
        logger.warning(told, key, kept)


def _forget(output_dir: Path, cases: Cases, history: History, digest: str) -> None:
    """Remove the rows of an earlier network from `uncertainty.csv`: they must not stay if this run is stopped."""
    current = {entry.key for entry in history if entry.work == digest and entry.error is None}
    write_uncertainty(output_dir, {}, forget=[key for key, _ in cases if key not in current])


def _engine_before(history: History, digest: str) -> str | None:
    """The engine of the earlier runs of this work, so that all cases of a cohort use the same one."""
    for entry in history:
        if entry.work == digest and entry.error is None:
            return str(entry.facts["engine"]).split()[0]
    return None


def _collect(output_dir: Path, path: Path, digest: str) -> tuple[Counter[str], dict[str, str]]:
    """Write `uncertainty.csv` from the journals of all shards; returns cases by engine and device, and their notes.

    Two shards may end at the same moment: each reads the journals again after writing, so that the last sees
    everything.
    """
    while True:
        seen = _sizes(path)
        devices: Counter[str] = Counter()
        rows, notes, bounds = {}, {}, {}
        gone = []  # whose input has changed, and has failed now
        for entry in History(siblings(path)):
            if entry.error is not None:
                gone.append(entry.key)
            elif entry.work == digest:
                rows[entry.key] = entry.facts["uncertainty"]
                promised = entry.facts.get("bounds") or {}
                bounds[entry.key] = {name: RegionBounds(**one) for name, one in promised.items()}
                devices[f"{entry.facts['engine']}, {entry.facts['device']}"] += 1
                if entry.facts.get("note"):
                    notes[entry.key] = str(entry.facts["note"])
        write_uncertainty(output_dir, rows, bounds=bounds, forget=gone)
        if _sizes(path) == seen:
            return devices, notes


def _sizes(path: Path) -> dict[Path, int]:
    return {sibling: sibling.stat().st_size for sibling in siblings(path) if sibling.is_file()}
