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
from volseg.files import atomic
from volseg.jobs.options import WorkerOptions
from volseg.jobs.run import RunResult

FILE = "run_report.json"
_PACKAGES = ("torch", "monai", "numpy", "nibabel", "openvino", "ray", "pydicom")


def write_run_report(
    folder: Path,
    tally: RunResult,
    *,
    command: str,
    team: WorkerOptions,
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
        tally: Result of the run.
        command: `predict`, `convert`, `evaluate` or `crossval`.
        team: Options of the workers.
        engine: Kind of the workers: `serial`, `processes` or `ray`.
        cases: Number of cases of this run or shard.
        started: Start in seconds since 1970.
        error: Reason why the run stopped before its end.
        options: Options of the command.
        checkpoints: Name, bytes and sha256 of each network; the first one set the settings of inference.
    """
    ended = tally.done + tally.before + len(tally.failed)
    status = "finished" if error is None and ended == cases else "stopped"
    path = folder / f"{Path(FILE).stem}{team.shard.suffix}.json"
    content = {
        "schema": "volseg.fleet/1",
        "command": command,
        "status": status,
        "error": error,
        "started": _time(started),
        "ended": _time(datetime.now(timezone.utc).timestamp()),
        "seconds": round(tally.seconds, 3),
        "cases": {
            "all": cases,
            "done": tally.done,
            "done_before": tally.before,
            "failed": len(tally.failed),
            "tried_twice": tally.retried,
        },
        "throughput": {
            "cases_per_hour": round(3600 * tally.done / tally.seconds, 3) if tally.done and tally.seconds else None,
            "seconds_per_case": round(tally.busy_seconds / tally.done, 4) if tally.done else None,
            "workers_busy": _share(tally),
        },
        "shard": {"number": team.shard.number, "count": team.shard.count},
        "engine": engine,
        "workers": [{**asdict(one), "cases": tally.by_worker[one.name]} for one in tally.members],
        "worker_deaths": tally.deaths,
        "devices": dict(tally.devices),
        "checkpoint": dict(checkpoints[0]) if checkpoints else None,
        "ensemble": [dict(checkpoint) for checkpoint in checkpoints[1:]],
        "options": dict(options or {}),
        "versions": _versions(),
        "machine": {"host": platform.node(), "system": platform.platform(), "cores": os.cpu_count()},
        "failed": [{"key": key, "error": told} for key, told in sorted(tally.failed.items())],
        "notes": [{"key": key, "note": told} for key, told in sorted(tally.notes.items())],
    }
    with atomic(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path


def _share(tally: RunResult) -> float | None:
    """Fraction of the time that the workers spent within cases; 1 if none of them ever waited."""
    workers = len(tally.members) - tally.deaths
    if not tally.seconds or workers < 1:
        return None
    return round(min(1.0, tally.busy_seconds / (tally.seconds * workers)), 4)


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
