"""A training run, read from the record run.json in its folder, for comparison with others."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volseg.cohort import ALL
from volseg.errors import UsageError
from volseg.evaluation import RegionScores
from volseg.metrics import Interval, mean_interval
from volseg.report.process import is_alive

SCHEMA = "volseg.run/1"


@dataclass(frozen=True)
class TrainingRun:
    """One training run.

    Attributes:
        folder: Folder of the run.
        record: Content of run.json, see `report/run.schema.json`.
    """

    folder: Path
    record: Mapping[str, Any]

    @property
    def regions(self) -> list[str]:
        """Names of the regions, in the order of the label table."""
        return list(self.record["cohort"]["regions"])

    @property
    def rows(self) -> list[RegionScores]:
        """The Dice of each case and region in its best validation, on the grid of the network."""
        return [
            RegionScores(key=case["key"], patient=case["patient"], region=region, dice=case["dice"][region])
            for case in self.record["best"]["cases"]
            for region in self.regions
        ]

    @property
    def interval(self) -> Interval:
        """The mean over regions of the mean Dice, with its 95 % bootstrap interval by patient.

        A region that no reference has is undefined and none of them, as in the record itself.
        """
        cases = self.record["best"]["cases"]
        known = [name for name in self.regions if any(case["dice"][name] is not None for case in cases)]
        dice = [[_value(case["dice"][name]) for name in known] for case in cases]
        return mean_interval(dice, [case["patient"] for case in cases])

    @property
    def windows_per_s(self) -> float | None:
        """Windows per second in training, of all processes together, the wait for data included."""
        values, seconds = self.record["settings"]["values"], self.record["timing"]["seconds_per_iteration"]
        windows = values.get("batch_size", 0) * values.get("crops_per_case", 0)
        return windows * self.record["machine"]["processes"] / seconds if windows and seconds else None

    @property
    def validation_s_per_case(self) -> float | None:
        """Seconds per case in validation: sliding window, score and, now and then, a checkpoint."""
        trained_s = sum(session["trained_s"] for session in self.record["sessions"])
        validations = sum(row["dice"] is not None for row in self.record["history"])
        cases = validations * self.record["cohort"]["validation_cases"]
        return (self.record["timing"]["seconds"] - trained_s) / cases if cases else None

    @property
    def curve(self) -> list[tuple[float, float]]:
        """Minutes since the start and mean Dice of each validation."""
        history = self.record["history"]
        return [(row["elapsed_s"] / 60, row["dice"]) for row in history if row["dice"] is not None]


def _value(dice: float | None) -> float:
    return math.nan if dice is None else dice


def is_run(folder: str | Path) -> bool:
    """Whether a folder is that of a training run.

    >>> is_run("/nowhere")
    False
    """
    return (Path(folder) / "run.json").is_file()


def read_run(folder: str | Path) -> TrainingRun:
    """Read the record of a run.

    Raises:
        UsageError: There is no run.json, or it cannot be read, or it has no validation with known cases.
    """
    path = Path(folder) / "run.json"
    if not path.is_file():
        raise UsageError(f"{folder} holds no run.json; name a folder that `volseg train` wrote (its --output_dir)")
    try:
        record = json.loads(path.read_text())
        schema, best = record["schema"], record["best"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} cannot be read ({error}); train again") from error
    if schema != SCHEMA:
        raise UsageError(f"{path} has the schema {schema!r}, this volseg reads {SCHEMA}")
    record["status"] = status_of(record)
    if not best and any(row.get("dice") == 0 for row in record.get("history", [])):
        raise UsageError(f"{path} has no validation with a Dice above 0, so there is nothing to compare; train on")
    if not best and record.get("cohort", {}).get("fold") == ALL:
        raise UsageError(f"{path} is of a training on every case, which validated none: there is no Dice to compare")
    if not best or not best.get("cases"):
        raise UsageError(f"{path} has no validation whose cases are known; train on with --resume, or train again")
    return TrainingRun(Path(folder), record)


def status_of(record: Mapping[str, Any]) -> str:
    """The status of a record; `killed` if the record says running and its process is gone.

    A process that is killed (SIGKILL, a power cut) writes nothing more. On another host this cannot be known.

    Args:
        record: The content of run.json.

    >>> status_of({"status": "finished"}), status_of({"status": "running"})
    ('finished', 'running')
    """
    process = record.get("process")
    if record["status"] == "running" and process and is_alive(process) is False:
        return "killed"
    return str(record["status"])


def running_process(folder: str | Path) -> int | None:
    """The id of the process of this host that trains in a folder at this moment; None if none is known.

    >>> running_process("/nowhere") is None
    True
    """
    try:
        record = json.loads((Path(folder) / "run.json").read_text())
        process = record["process"] if record["status"] == "running" else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return int(process["pid"]) if process and is_alive(process) else None


def has_best(folder: str | Path) -> bool:
    """Whether some validation of a run had a score above 0; if not, its model.pt is that of the last validation.

    If the record is absent or cannot be read, the result is True.

    >>> has_best("/nowhere")
    True
    """
    try:
        record = json.loads((Path(folder) / "run.json").read_text())
        return record["best"] is not None or not record["history"]
    except (OSError, ValueError, KeyError, TypeError):
        return True


def check_alike(runs: Mapping[str, TrainingRun]) -> None:
    """Refuse runs that were validated on other cases, whose scores cannot be compared.

    Args:
        runs: Runs by name.

    Raises:
        UsageError: Cohorts, folds or regions differ; the message tells which.
    """
    (first_name, first), *others = runs.items()
    for name, other in others:
        for what in ("digest", "fold", "regions"):
            one, two = first.record["cohort"][what], other.record["cohort"][what]
            if one != two:
                word = "cohort digest" if what == "digest" else what
                raise UsageError(
                    f"{first_name} has the {word} {one} and {name} has {two}: they were validated on other cases; "
                    "train both on the same cohort and fold"
                )


def differing_settings(runs: Sequence[TrainingRun]) -> list[str]:
    """The settings that were given and differ between runs, apart from paths.

    Returns:
        Their names, in the order of their first occurrence.
    """
    given = [run.record["settings"]["given"] for run in runs]
    names = dict.fromkeys(name for one in given for name in one)
    return [
        name
        for name in names
        if not name.endswith("_dir") and len({json.dumps(one.get(name), default=str) for one in given}) > 1
    ]
