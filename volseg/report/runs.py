"""Training runs side by side: accuracy, size, speed and memory as tables, and their validations as a figure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from volseg.evaluation import Comparison
from volseg.report.cells import NONE, grid, number, plain, rounded, write_files
from volseg.report.comparison import comparison_as_json, comparison_as_markdown
from volseg.report.comparison_figure import comparison_figure
from volseg.report.runs_figure import runs_figure
from volseg.report.training_run import TrainingRun, differing_settings

_CASES = "train#dataset#data"  # what `train --corrections` sets
_ACCURACY = (
    "Dice is that of the best validation of each run, on the grid of the network. It chose the checkpoint, so it is "
    "slightly optimistic, for all runs alike. The interval of the mean is a 95 % bootstrap over patients."
)
_COST = (
    "GFLOP: of one forward pass of one window, a multiplication and an addition counted as two. Windows per second: in "
    "training, the wait for data included. Seconds per case: in validation, by sliding window. Memory: the peak of the "
    "process, with the cached cases."
)


def write_runs(
    runs: Mapping[str, TrainingRun], comparison: Comparison | None, folder: str | Path, *, title: str
) -> list[Path]:
    """Write `runs.md`, `runs.json`, `runs.svg` and, for two runs or more, the paired comparison.

    Args:
        runs: Runs by name.
        comparison: Comparison of their cases; None for a single run.
        folder: Folder, which is created if absent; files of these names are replaced.
        title: Heading of the pages.

    Returns:
        The paths.
    """
    contents = {
        "runs.md": runs_as_markdown(runs, title=title),
        "runs.json": json.dumps(runs_as_json(runs, title=title), indent=1, allow_nan=False) + "\n",
        "runs.svg": runs_figure({name: run.curve for name, run in runs.items()}),
    }
    if comparison is not None:
        details = {name: str(run.folder) for name, run in runs.items()}
        content = comparison_as_json(comparison, title=title, details=details)
        contents |= {
            "comparison.json": json.dumps(content, indent=1, allow_nan=False) + "\n",
            "comparison.md": comparison_as_markdown(comparison, title=title, details=details),
            "comparison.svg": comparison_figure(comparison),
        }
    return write_files(folder, contents)


def runs_as_json(runs: Mapping[str, TrainingRun], *, title: str) -> dict[str, Any]:
    """The content of `runs.json`, schema `volseg.runs/1`: one entry per run with the values of the tables."""
    result: dict[str, Any] = rounded(
        {"schema": "volseg.runs/1", "title": title, "runs": {name: _facts(run) for name, run in runs.items()}}
    )
    return result


def runs_as_markdown(runs: Mapping[str, TrainingRun], *, title: str) -> str:
    """The page: common settings, accuracy, cost, and the figure."""
    first = next(iter(runs.values())).record
    lines = [f"# {plain(title)}", ""]
    cohort, machine = first["cohort"], first["machine"]
    lines += [
        f"- Cohort: {plain(cohort['folder'])}, fold {cohort['fold']}: {cohort['training_cases']} cases to train on, "
        f"{cohort['validation_cases']} to validate",
        f"- Machine: {plain(str(machine['gpu'] or machine['processor']))}, {machine['cores']} cores, "
        f"{machine['threads']} threads",
    ]
    lines += ["", "## Accuracy", "", *accuracy_table(runs), "", _ACCURACY]
    lines += ["", "## Cost", "", *cost_table(runs), "", _COST]
    lines += ["", "![Validations](runs.svg)"]
    if len(runs) > 1:
        lines += ["", "The paired differences between the runs are in comparison.md."]
    return "\n".join(lines) + "\n"


def accuracy_table(runs: Mapping[str, TrainingRun]) -> list[str]:
    """The lines of a Markdown table of accuracy, the most accurate run first."""
    regions = next(iter(runs.values())).regions
    settings = differing_settings(list(runs.values()))
    header = [
        "Run",
        *("cases" if name == _CASES else name for name in settings),
        "Mean Dice [95 % CI]",
        *regions,
        "Best epoch",
        "Epochs",
        "Training",
    ]
    lines = []
    for name, run in sorted(runs.items(), key=lambda item: -item[1].record["best"]["dice"]):
        facts = _facts(run)
        given = run.record["settings"]["given"]
        lines.append(
            [
                name,
                *(_shown(setting, given.get(setting, "default")) for setting in settings),
                _interval(facts),
                *(number(facts["regions"][region], ".3f") for region in regions),
                str(facts["best_epoch"]),
                str(facts["epochs"]),
                f"{facts['training_s'] / 60:.1f} min",
            ]
        )
    return grid(header, lines)


def _shown(setting: str, value: object) -> str:
    """A setting in a table.

    >>> _shown("seed", 1), _shown(_CASES, "$volseg.training.corrected_datalist(@cohort, fold=@fold, times=3)")
    ('1', 'corrected ones 3 times')
    """
    times = re.search(r"corrected_datalist\(.*times=(\d+)", str(value)) if setting == _CASES else None
    return f"corrected ones {times[1]} times" if times else str(value)


def cost_table(runs: Mapping[str, TrainingRun]) -> list[str]:
    """The lines of a Markdown table of size, speed and memory, in the order given."""
    header = ["Run", "Network", "Million parameters", "Window", "GFLOP", "Windows per second", "Waiting for data"]
    header += ["Seconds per case", "Memory (GiB)", "Initialisation"]
    lines = []
    for name, run in runs.items():
        facts = _facts(run)
        wait = facts["data_wait_share"]
        lines.append(
            [
                name,
                facts["network"],
                f"{facts['parameters'] / 1e6:.2f}",
                " x ".join(map(str, facts["roi_size"])),
                number(None if facts["flops"] is None else facts["flops"] / 1e9, ".1f"),
                number(facts["windows_per_s"], ".1f"),
                NONE if wait is None else f"{100 * wait:.1f} %",
                number(facts["validation_s_per_case"], ".2f"),
                number(None if facts["memory_bytes"] is None else facts["memory_bytes"] / 2**30, ".2f"),
                facts["initialisation"],
            ]
        )
    return grid(header, lines)


def _facts(run: TrainingRun) -> dict[str, Any]:
    """The values of a run that are shown."""
    record, interval = run.record, run.interval
    network, memory = record["network"], record["memory"]
    return {
        "status": record["status"],
        "dice": record["best"]["dice"],
        "low": None if math.isnan(interval.low) else interval.low,
        "high": None if math.isnan(interval.high) else interval.high,
        "regions": record["best"]["regions"],
        "best_epoch": record["best"]["epoch"],
        "epochs": record["history"][-1]["epoch"],
        "training_s": record["timing"]["seconds"],
        "network": network["name"],
        "parameters": network["parameters"],
        "roi_size": network["roi_size"],
        "flops": network["flops"],
        "initialisation": network["initialisation"],
        "windows_per_s": run.windows_per_s,
        "seconds_per_iteration": record["timing"]["seconds_per_iteration"],
        "data_wait_share": record["timing"]["data_wait_share"],
        "validation_s_per_case": run.validation_s_per_case,
        "memory_bytes": memory["cuda_bytes"] if memory["cuda_bytes"] is not None else memory["resident_bytes"],
        "given": record["settings"]["given"],
    }


def _interval(facts: Mapping[str, Any]) -> str:
    if facts["low"] is None:
        return f"{facts['dice']:.3f} [{NONE}]"
    return f"{facts['dice']:.3f} [{facts['low']:.3f}, {facts['high']:.3f}]"
