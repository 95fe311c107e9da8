"""The out-of-fold predictions of a candidate, put together from its folds, and their scores."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from volseg.cohort import FILE_ENDING, PROBABILITIES, Cohort, Predictions, read_uncertainty, write_uncertainty
from volseg.crossval.folder import CrossvalFolder
from volseg.evaluation import EvaluationSettings, RegionScores
from volseg.files import atomic, link_or_copy
from volseg.jobs import WorkerOptions, evaluate_cases

_MANY = 40  # cases from which on further processes for the metrics pay
_COLUMNS = ("dice", "hd95_mm", "surface_dice", "reference_ml", "predicted_ml", "outcome")


@dataclass(frozen=True)
class Candidate:
    """A network, or several whose probabilities are averaged, that may become the ensemble.

    Attributes:
        networks: Names of the bundles.

    >>> Candidate(("a", "b")).name
    'a+b'
    """

    networks: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of the candidate and of its folder."""
        return "+".join(self.networks)


def held_out(cohort: Cohort, folds: Sequence[int]) -> dict[str, int]:
    """The fold that holds out each case, by key, sorted."""
    found = {key: number for number in folds for key in cohort.fold(number).validation}
    return dict(sorted(found.items()))


def gather(folder: CrossvalFolder, network: str, folds: Mapping[str, int]) -> Path:
    """Put the predictions of a network's folds into one folder, as further names of the same files where possible.

    Args:
        folder: Folder of the cross-validation.
        network: Name of the network.
        folds: Fold of each case by key.

    Returns:
        The folder of the out-of-fold predictions, with `dataset.json` and `uncertainty.csv`.
    """
    target = folder.oof(network)
    target.mkdir(parents=True, exist_ok=True)
    uncertainty = {}
    for number in sorted(set(folds.values())):
        place = folder.validation(network, number)
        keys = [key for key, fold in folds.items() if fold == number]
        told = read_uncertainty(place)
        uncertainty.update({key: told[key] for key in keys if key in told})
        for key in keys:
            _same(place / f"{key}{FILE_ENDING}", target / f"{key}{FILE_ENDING}")
            _same(Predictions(place).probabilities_path(key), Predictions(target).probabilities_path(key))
        _same(place / "dataset.json", target / "dataset.json")
    for stale in set(Predictions(target).keys()) - set(folds):
        (target / f"{stale}{FILE_ENDING}").unlink()
        (target / PROBABILITIES / f"{stale}{FILE_ENDING}").unlink(missing_ok=True)
    write_uncertainty(target, uncertainty, forget=read_uncertainty(target))
    return target


def score(
    predictions: Path,
    cohort: Cohort,
    report: Path,
    keys: Sequence[str],
    *,
    method: EvaluationSettings,
    workers: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[RegionScores]:
    """Score predictions; what a journal knows of the same files is not computed again."""
    worker_options = WorkerOptions(workers if len(keys) >= _MANY else 1, journal=report / ".volseg" / "evaluate.jsonl")
    return evaluate_cases(
        predictions, cohort, report, worker_options=worker_options, keys=list(keys), method=method, progress=progress
    )


def write_table(
    path: Path,
    rows: Mapping[str, Sequence[RegionScores]],
    *,
    folds: Mapping[str, int],
    uncertainty: Mapping[str, Mapping[str, Mapping[str, float | None]]],
) -> None:
    """Write the out-of-fold table: one row per candidate, case and region.

    Args:
        path: File of the table.
        rows: Scores by the name of the candidate.
        folds: Fold of each case by key.
        uncertainty: Expected Dice by candidate, key and region.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["candidate", "key", "patient", "fold", "region", *_COLUMNS, "expected_dice", "error"])
    for name, of_candidate in rows.items():
        for row in of_candidate:
            expected = uncertainty.get(name, {}).get(row.key, {}).get(row.region)
            numbers = [_cell(getattr(row, column)) for column in _COLUMNS]
            writer.writerow(
                [name, row.key, row.patient, folds[row.key], row.region, *numbers, _cell(expected), row.error or ""]
            )
    with atomic(path) as partial:
        partial.write_bytes(text.getvalue().encode())


def _cell(value: float | str | None) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:.6g}"


def _same(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`: a hard link, or a copy of the same time; gone if there is no source."""
    if not source.is_file():
        target.unlink(missing_ok=True)
        return
    if target.is_file():
        one, other = source.stat(), target.stat()
        if (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns):
            return
    link_or_copy(source, target)
