"""The list of the cases to look at, `todo.csv`, and what the folder beside it was made of, `todo.json`."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from volseg.cohort import decimal, read_rows
from volseg.errors import UsageError
from volseg.files import atomic
from volseg.volume import Volume

FILE = "todo.csv"
_FACTS = "todo.json"
_SCHEMA = "volseg todo 1"
_CASES = "cases"  # key, patient and the two digests by rank; absent in lists of earlier versions


@dataclass(frozen=True)
class TodoRow:
    """One line of `todo.csv`: a case to look at, and why.

    Attributes:
        rank: Place in the list, from 1.
        key: Key of the case.
        patient: Patient, whose other days are left out.
        chosen: `order` for a case that most can be learnt from per mm, `random` for one that was drawn.
        expected_mm: Added path length in mm that the correction is expected to take; None if nothing tells.
        unlikeness: How unlike the labelled cases it is; 1 is usual.
        region: Region for which it was chosen; of one that was drawn, that of most mm.
        nearest: Key of the case most like it that is labelled or in the list already; empty if there is none.
        likeness: Likeness to that case, from 0 to 1; None in a list of an earlier version.
        reason: Why it is in the list, in words.
        image_digest: Digest of the file of its first image.
        segmentation_digest: Digest of the segmentation that was written for it.
        minutes: Minutes that it took; whoever corrects it may put them in.
    """

    rank: int
    key: str
    patient: str
    chosen: str
    expected_mm: float | None
    unlikeness: float
    region: str
    reason: str
    image_digest: str
    segmentation_digest: str
    nearest: str = ""
    likeness: float | None = None
    minutes: float | None = None


@dataclass(frozen=True)
class Todo:
    """A folder of cases to look at.

    Attributes:
        folder: The folder.
        rows: Cases in the order of the list.
        labels: Digest of the label table that the cohort had.
        facts: What it was made of: predictions, cohort, budget, seed.
    """

    folder: Path
    rows: tuple[TodoRow, ...]
    labels: str
    facts: dict[str, Any] = field(default_factory=dict)

    def row(self, key: str) -> TodoRow | None:
        """The line of a case; None if it is not in the list."""
        return next((row for row in self.rows if row.key == key), None)

    def place(self, key: str) -> Path:
        """The folder of the files of a case."""
        return self.folder / key

    def prediction(self, key: str) -> Path:
        """The label map that a case's segmentation was written from, in the cohort's values."""
        return self.folder / ".volseg" / "predictions" / f"{key}.nii.gz"


def file_digest(path: Path) -> str:
    """Sixteen hexadecimal digits of the content of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def image_digest(image: Volume) -> str:
    """Sixteen hexadecimal digits of the voxels of an image, however its file is written.

    >>> image_digest(Volume(np.zeros((2, 1, 1), np.int16), np.eye(4)))
    '59b0643b7434900c'
    """
    voxels = np.ascontiguousarray(image.voxels)
    head = repr((voxels.shape, voxels.dtype.str)).encode()
    return hashlib.sha256(head + voxels.tobytes()).hexdigest()[:16]


def write_todo(folder: Path, rows: Sequence[TodoRow], *, labels: str, facts: dict[str, Any]) -> None:
    """Write `todo.csv` and `todo.json`; the latter keeps keys and digests, which a spreadsheet may take for numbers."""
    with atomic(folder / FILE) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [one.name for one in fields(TodoRow)], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            cells = asdict(row)
            for name in ("expected_mm", "unlikeness", "likeness", "minutes"):
                cells[name] = "" if cells[name] is None else f"{cells[name]:.4g}"
            writer.writerow(cells)
    with atomic(folder / _FACTS) as partial:
        cases = {str(row.rank): [row.key, row.patient, row.image_digest, row.segmentation_digest] for row in rows}
        content = {"schema": _SCHEMA, "labels": labels, **facts, _CASES: cases}
        partial.write_text(json.dumps(content, indent=1) + "\n")


def read_todo(folder: Path) -> Todo | None:
    """The list of a folder; None where it has none.

    Spreadsheets save commas as semicolons in some countries, and a byte order mark first: both are read. Keys and
    digests are those of `todo.json`, since a spreadsheet makes 1 of 001, and rounds a digest that is all digits.

    Raises:
        UsageError: It is something else.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        facts = json.loads((folder / _FACTS).read_text())
        rows = tuple(_row(line, facts.get(_CASES, {})) for line in read_rows(path))
        own = {name: value for name, value in facts.items() if name not in ("labels", "schema", _CASES)}
        return Todo(folder, rows, str(facts["labels"]), own)
    except (OSError, KeyError, ValueError, TypeError, AttributeError, csv.Error) as error:
        raise UsageError(f"{path} is no list as `volseg review` writes it ({error}); make it anew") from error


def _row(line: Mapping[str, str], cases: Mapping[str, Sequence[str]]) -> TodoRow:
    rank = int(line["rank"])
    words = [line[name] for name in ("key", "patient", "image_digest", "segmentation_digest")]
    key, patient, image_digest, segmentation_digest = cases.get(str(rank), words)
    return TodoRow(
        rank=rank,
        key=key,
        patient=patient,
        chosen=line["chosen"],
        expected_mm=_number(line["expected_mm"]),
        unlikeness=_number(line["unlikeness"]) or 1.0,
        region=line["region"],
        reason=line["reason"],
        image_digest=image_digest,
        segmentation_digest=segmentation_digest,
        nearest=line.get("nearest") or "",
        likeness=_number(line.get("likeness") or ""),
        minutes=_number(line["minutes"]),
    )


def _number(text: str) -> float | None:
    return decimal(text) if text and text.strip() else None
