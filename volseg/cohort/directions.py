"""Directions that no file states: where slices and images point to, and cohorts and checkpoints of another opinion."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volseg.errors import SourceError
from volseg.volume import check_axes

if TYPE_CHECKING:
    from volseg.cohort.folder import Cohort


SLICES = "uw_madison"
"""The kind of source whose slices ran the other way in cohorts of earlier versions."""
SLICE_AXES = "LPI"
"""Where columns, rows and slices of UW-Madison scans point to: left, back (posterior), feet (inferior)."""
SLICE_VERSION = 2
"""Version of that source since its slices run to the feet; cohorts that state none have version 1."""
PHANTOM_FILE = "phantom.json"
ASSUMED = "directions assumed"
"""How the warning begins of a case whose files state no directions."""

_EARLIER_AXES = "LPS"
_WORDS = {"L": "left", "R": "right", "P": "back", "A": "front", "I": "feet", "S": "head"}


def told_axes(axes: str, *, third: str = "slices") -> str:
    """Three axes in words.

    >>> told_axes("LPI")
    "columns to the patient's left, rows to the back, slices to the feet"
    """
    words = [f"to the patient's {_WORDS[a]}" if a in "LR" else f"to the {_WORDS[a]}" for a in check_axes(axes)]
    return ", ".join(f"{name} {word}" for name, word in zip(("columns", "rows", third), words, strict=True))


def axes_of_raw(raw: Path) -> str:
    """Where the slices of a raw folder in the UW-Madison layout point to: LPI, or what its `phantom.json` says.

    A phantom of an earlier version says nothing: its slices run to the head.

    Raises:
        SourceError: A `phantom.json` cannot be read.
    """
    try:
        content = json.loads((raw / PHANTOM_FILE).read_text(encoding="utf-8"))
        return check_axes(content.get("axes", _EARLIER_AXES))
    except FileNotFoundError:
        return SLICE_AXES
    except Exception as error:
        raise SourceError(
            f"{raw / PHANTOM_FILE} must be what `volseg phantom` writes, and cannot be read ({error}); write the "
            "phantom again, or say with --axes where columns, rows and slices point to"
        ) from error


def slice_direction(provenance: Mapping[str, Any]) -> str | None:
    """`to the head` or `to the feet` where the slices of a UW-Madison cohort do so by the reader's choice, else None.

    Args:
        provenance: Provenance of a cohort, see `volseg.cohort.Cohort.provenance`.
    """
    if provenance.get("source") != SLICES:
        return None
    axes = provenance.get("axes", ())
    if provenance.get("source_version", 1) < SLICE_VERSION:
        return "to the head" if _EARLIER_AXES in axes else None
    return "to the feet" if SLICE_AXES in axes else None


def cohort_note(cohort: Cohort) -> str | None:
    """What is to be known of a cohort whose slices run to the head since an earlier version converted it, else None."""
    if slice_direction(cohort.provenance) != "to the head":
        return None
    count = sum(row.orientation == _EARLIER_AXES for row in cohort.rows.values())
    where = f"in {count} of {len(cohort.rows)} cases of {cohort.folder} they run to the head"
    if cohort.provenance["phantom"]:
        return (
            f"slices must run to the feet, as in real scans, and {where}: it is a phantom that an earlier volseg "
            "wrote; its anatomy lies as it should in 3D Slicer, and networks trained on it stay good; for the order of "
            "real scans remove it and its raw data, and write and convert the phantom again"
        )
    return (
        f"slices of UW-Madison scans must run to the feet, and {where}, since an earlier volseg converted them: its "
        "volumes are mirror images that stand on their head in 3D Slicer; convert again with `volseg convert "
        f"uw_madison RAW {cohort.folder}` and train anew"
    )
