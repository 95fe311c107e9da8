"""The table of corrected labels, `corrections.csv`: what a person changed, by case and region, and what it cost."""

from __future__ import annotations

import csv
import functools
import hashlib
import time
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np

from volseg.cohort.spreadsheet import decimal, read_rows, restored_keys
from volseg.errors import CohortError, UsageError
from volseg.files import atomic
from volseg.volume import FILE_ENDING, Volume

CORRECTIONS = "corrections.csv"
"""The file in the cohort folder."""
_JUST_NOW_S = 3.0  # of a file changed since, some disks do not tell a further change by its time


@dataclass(frozen=True)
class Correction:
    """One line of `corrections.csv`: what a person changed of one region of one case.

    Attributes:
        round: Number of the adoption, from 1.
        key: Key of the case.
        region: Name of the region.
        ml: Volume of the region after the correction, in ml.
        changed_ml: Volume of the voxels that changed, in ml.
        added_path_mm: Added path length in mm, see `volseg.metrics.added_path_length_mm`.
        voxels: Number of the voxels that changed.
        slices: Number of slices in which a voxel changed.
        case_minutes: Minutes that the case took, where they are known; equal in all lines of a case.
        before: What the person began from: `prediction`, `label` or `nothing`.
        digest_before: Digest of the label map that the person began from; empty for nothing.
        digest_after: Digest of the label map that was adopted.
    """

    round: int
    key: str
    region: str
    ml: float
    changed_ml: float
    added_path_mm: float
    voxels: int
    slices: int
    case_minutes: float | None
    before: str
    digest_before: str
    digest_after: str


def label_digest(label: Volume) -> str:
    """Sixteen hexadecimal digits that differ between label maps of other voxels or shapes.

    >>> label_digest(Volume(np.zeros((2, 1, 1), np.uint8), np.eye(4)))
    '73723f6863d739a7'
    """
    voxels = np.ascontiguousarray(label.voxels.astype(np.uint8, copy=False))
    return hashlib.sha256(repr(voxels.shape).encode() + voxels.tobytes()).hexdigest()[:16]


def read_corrections(folder: Path) -> list[Correction]:
    """The corrections of a cohort folder in the order of the file; none where there is no file.

    Keys that a spreadsheet took for numbers are those of their cases again.

    Raises:
        CohortError: The file is something else.
    """
    path = Path(folder) / CORRECTIONS
    if not path.is_file():
        return []
    try:
        rows = [
            Correction(
                round=int(row["round"]),
                key=row["key"],
                region=row["region"],
                ml=decimal(row["ml"]),
                changed_ml=decimal(row["changed_ml"]),
                added_path_mm=decimal(row["added_path_mm"]),
                voxels=int(row["voxels"]),
                slices=int(row["slices"]),
                case_minutes=decimal(row["case_minutes"]) if row["case_minutes"] else None,
                before=row["before"],
                digest_before=row["digest_before"],
                digest_after=row["digest_after"],
            )
            for row in read_rows(path)
        ]
    except (KeyError, ValueError, TypeError, AttributeError, csv.Error) as error:
        raise CohortError(
            f"{path} is no table of corrections as `volseg adopt` writes it ({error}); move it away"
        ) from error
    keys = dict.fromkeys(row.key for row in rows)
    labels = path.with_name("labelsTr")
    if not all((labels / f"{key}{FILE_ENDING}").is_file() for key in keys):
        restored = restored_keys(keys, {file.name.removesuffix(FILE_ENDING) for file in labels.glob(f"*{FILE_ENDING}")})
        rows = [replace(row, key=restored[row.key]) if row.key in restored else row for row in rows]
    return rows


def write_corrections(folder: Path, rows: Iterable[Correction]) -> None:
    """Write `corrections.csv`, by round, case and the order of the regions; without a row the file goes."""
    path = Path(folder) / CORRECTIONS
    ordered = sorted(rows, key=lambda row: (row.round, row.key))
    if not ordered:
        path.unlink(missing_ok=True)
        return
    with atomic(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Correction)], lineterminator="\n")
        writer.writeheader()
        for row in ordered:
            cells = asdict(row)
            for name in ("ml", "changed_ml", "added_path_mm", "case_minutes"):
                cells[name] = "" if cells[name] is None else f"{cells[name]:.6g}"
            writer.writerow(cells)


def corrected_keys(folder: Path) -> tuple[str, ...]:
    """The keys of the cases that were corrected, sorted; a table that has not changed is not read again."""
    try:
        state = (Path(folder) / CORRECTIONS).stat()
    except FileNotFoundError:
        return ()
    read = _keys.__wrapped__ if time.time() - state.st_mtime < _JUST_NOW_S else _keys
    return read(Path(folder), (state.st_ino, state.st_mtime_ns, state.st_size))


@functools.lru_cache(maxsize=8)
def _keys(folder: Path, state: tuple[int, ...]) -> tuple[str, ...]:  # noqa: ARG001 - the file as it is
    return tuple(sorted({row.key for row in read_corrections(folder)}))


def corrected_cases(folder: Path, labelled: Collection[str]) -> list[str]:
    """The keys of the cases that were corrected and have a label, sorted.

    Args:
        folder: Folder of the cohort.
        labelled: Keys of its cases that have a label.

    Raises:
        UsageError: There are none.
    """
    found = [key for key in corrected_keys(folder) if key in labelled]
    if not found:
        raise UsageError(f"{folder} has no corrected case; take edits in with `volseg adopt`")
    return found
