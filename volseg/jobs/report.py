"""The report of a run, `run_report.json`; its schema is `report.schema.json` beside this file."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
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
    """
    ended = result.done + result.before + len(result.failed)
    status = "finished" if error is None and ended == cases else "stopped"
    path = folder / f"{Path(FILE).stem}{worker_options.shard.suffix}.json"
    content = {
        "schema": "volseg.fleet/1",
        "command": command,
        "status": status,
        "error": error,
        "started": _time(started),
        "ended": _time(datetime.now(timezone.utc).timestamp()),
        "seconds": round(result.seconds, 3),
        "cases": {
            "all": cases,
            "done": result.done,
            "done_before": result.before,
            "failed": len(result.failed),
            "tried_twice": result.retried,
        },
        "throughput": {
            "cases_per_hour": round(3600 * result.done / result.seconds, 3) if result.done and result.seconds else None,
            "seconds_per_case": round(result.busy_seconds / result.done, 4) if result.done else None,
            "workers_busy": _share(result),
        },
        "shard": {"number": worker_options.shard.number, "count": worker_options.shard.count},
        "engine": engine,
        "workers": [{**asdict(one), "cases": result.by_worker[one.name]} for one in result.members],
        "worker_deaths": result.deaths,
        "devices": dict(result.devices),
        "checkpoint": dict(checkpoints[0]) if checkpoints else None,
        "ensemble": [dict(checkpoint) for checkpoint in checkpoints[1:]],
        "options": dict(options or {}),
        "versions": _versions(),
        "machine": {"host": platform.node(), "system": platform.platform(), "cores": os.cpu_count()},
        "failed": [{"key": key, "error": told} for key, told in sorted(result.failed.items())],
        "notes": [{"key": key, "note": told} for key, told in sorted(result.notes.items())],
    }
    with atomic(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path


def _share(result: RunResult) -> float | None:
    """Fraction of the time that the workers spent within cases; 1 if none of them ever waited."""
    workers = len(result.members) - result.deaths
    if not result.seconds or workers < 1:
        return None
    return round(min(1.0, result.busy_seconds / (result.seconds * workers)), 4)


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
