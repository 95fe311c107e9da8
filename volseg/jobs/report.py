"""The report of a run, `run_report.json`; its schema is `report.schema.json` beside this file."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import volseg
from volseg import keywords_of_before
from volseg.files import atomic
from volseg.jobs.options import WorkerOptions
from volseg.jobs.run import RunResult

FILE = "run_report.json"
_PACKAGES = ("torch", "monai", "numpy", "nibabel", "openvino", "ray", "pydicom")


@keywords_of_before(team="worker_options", tally="result")
def write_run_report(
    folder: Path,
    result: RunResult,
    *,
    command: str,
    worker_options: WorkerOptions,
    engine: str,
    cases: int,
    started: float,
    error: str | None = None,
    options: Mapping[str, Any] | None = None,
    checkpoints: Sequence[Mapping[str, Any]] = (),
    earlier: Sequence[RunResult] = (),
) -> Path:
    """Write the report of a run into its output folder: `run_report.json`, or one file per shard.

    Args:
        folder: Folder of the outputs.
        result: Result of the run.
        command: `predict`, `convert`, `evaluate` or `crossval`.
        worker_options: Options of the workers.
        engine: Kind of the workers: `serial`, `processes` or `ray`.
        cases: Number of cases of this run or shard.
        started: Start in seconds since 1970.
        error: Reason why the run stopped before its end.
        options: Options of the command.
        checkpoints: Name, bytes and sha256 of each network; the first one set the settings of inference.
        earlier: Results of the same command for other cases, by other networks, which count too.
    """
    results = [*earlier, result]
    done, before, retried, deaths = (
        sum(getattr(one, name) for one in results) for name in ("done", "before", "retried", "deaths")
    )
    seconds, busy_s = (math.fsum(getattr(one, name) for one in results) for name in ("seconds", "busy_seconds"))
    failed = {key: told for one in results for key, told in one.failed.items()}
    notes = {key: told for one in results for key, told in one.notes.items()}
    ended = sum(one.ended for one in results)
    status = "finished" if error is None and ended == cases else "stopped"
    path = folder / f"{Path(FILE).stem}{worker_options.shard.suffix}.json"
    content = {
        "schema": "volseg.fleet/1",
        "command": command,
        "status": status,
        "error": error,
        "started": _time(started),
        "ended": _time(datetime.now(timezone.utc).timestamp()),
        "seconds": round(seconds, 3),
        "cases": {
            "all": cases,
            "done": done,
            "done_before": before,
            "failed": len(failed),
            "tried_twice": retried,
        },
        "throughput": {
            "cases_per_hour": round(3600 * done / seconds, 3) if done and seconds else None,
            "seconds_per_case": round(busy_s / done, 4) if done else None,
            "workers_busy": _share(results),
        },
        "shard": {"number": worker_options.shard.number, "count": worker_options.shard.count},
        "engine": engine,
        "workers": [{**asdict(one), "cases": of.by_worker[one.name]} for of in results for one in of.members],
        "worker_deaths": deaths,
        "devices": dict(sum((one.devices for one in results), Counter())),
        "checkpoint": dict(checkpoints[0]) if checkpoints else None,
        "ensemble": [dict(checkpoint) for checkpoint in checkpoints[1:]],
        "options": dict(options or {}),
        "versions": _versions(),
        "machine": {"host": platform.node(), "system": platform.platform(), "cores": os.cpu_count()},
        "failed": [{"key": key, "error": told} for key, told in sorted(failed.items())],
        "notes": [{"key": key, "note": told} for key, told in sorted(notes.items())],
    }
    with atomic(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path


def _share(results: Sequence[RunResult]) -> float | None:
    """Fraction of the time that the workers spent within cases; 1 if none of them ever waited."""
    offered = math.fsum(one.offered_seconds for one in results)
    return round(min(1.0, math.fsum(one.busy_seconds for one in results) / offered), 4) if offered else None


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"volseg": volseg.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found
