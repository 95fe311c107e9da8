"""Which file of a folder is the edit of which case: by the list beside it, by its name, or by the series it states."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from volseg.cohort import Cohort
from volseg.deploy.corrections.todo import Todo, file_digest, read_todo
from volseg.dicom import Record, fitting_records, is_dicom, read_record
from volseg.errors import UsageError, VolsegError
from volseg.files import is_partial
from volseg.formats import SEGMENTATION_SUFFIX
from volseg.volume import image_suffix, provenance_of, read_grid

_CHANNEL = re.compile(r"_\d{4}")
_MONAI_LABEL = ("datastore_v2.json", "datastore.json")


@dataclass(frozen=True)
class Edit:
    """One file that is to be adopted.

    Attributes:
        key: Key of the case.
        path: The file.
        names: Name by value, as MONAI Label keeps them beside its label maps; empty elsewhere.
        minutes: Minutes that the case took, where they are known.
    """

    key: str
    path: Path
    names: Mapping[int, str] = field(default_factory=dict)
    minutes: float | None = None


@dataclass
class Edits:
    """What was found in a folder.

    Attributes:
        found: The edit of each case.
        unchanged: Cases of the list whose segmentation is as `volseg review` wrote it.
        failed: Reason by the name of each file that is the edit of no case.
        todo: The list, if the folder has one.
    """

    found: dict[str, Edit] = field(default_factory=dict)
    unchanged: dict[str, Edit] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    todo: Todo | None = None


@dataclass(frozen=True)
class _Cases:
    """The cases that files may be of, and the DICOM series of each, which are read once and only if asked for."""

    cohort: Cohort
    secret: str

    @cached_property
    def records(self) -> dict[str, Record]:
        found = {}
        for key in self.cohort.keys:
            with suppress(VolsegError):  # an image that cannot be read is told where its case is adopted
                record = read_record(provenance_of(read_grid(self.cohort.image_paths(key)[0])[1]))
                if record is not None:
                    found[key] = record
        return found


def find_edits(place: Path, cohort: Cohort, *, case: str | None = None, secret: str = "") -> Edits:
    """Find the edits of a folder.

    Args:
        place: Folder that `volseg review` wrote, any other folder with one file per case, or one file.
        cohort: Cohort of the cases.
        case: Key of the case, if `place` is one file.
        secret: Secret of the records of DICOM series, as at the conversion.

    Raises:
        UsageError: There is no such place, or nothing in it.
    """
    if not place.exists():
        raise UsageError(f"there is no {place}; name the folder with the edited segmentations, or one of them")
    edits, cases = Edits(), _Cases(cohort, secret)
    if place.is_file():
        key = case or _key_of(place, cases)
        if key is None or key not in cohort.rows:
            raise UsageError(f"{place.name} names no case of the cohort; say which it is with --case KEY")
        edits.found[key] = Edit(key, place, _names_beside(place).get(key, {}))
        return edits
    if case is not None:
        raise UsageError("--case goes with one file; name the file instead of its folder")
    edits.todo = read_todo(place)
    if edits.todo is not None:
        _of_todo(edits, edits.todo, cases)
        return edits
    root = _monai_label(place) or place
    several: dict[str, list[Path]] = {}
    for path in _files(root):
        key = _key_of(path, cases)
        if key is None:
            edits.failed[path.name] = "its name is that of no case of the cohort; name it after the key of its case"
        else:
            several.setdefault(key, []).append(path)
    for key, paths in sorted(several.items()):
        one = _one(paths)
        if one is None:
            told = ", ".join(sorted(path.name for path in paths))
            edits.failed[key] = f"there are several edits of it ({told}); leave one"
        else:
            edits.found[key] = Edit(key, one, _names_beside(one).get(key, {}))
    if not edits.found and not edits.failed:
        raise UsageError(f"{place} holds no segmentation; save them as KEY{SEGMENTATION_SUFFIX}")
    return edits


def _of_todo(edits: Edits, todo: Todo, cases: _Cases) -> None:
    """The edits of a list: in the folder of their case, or elsewhere below the list under the name of the case."""
    places = {todo.place(row.key): row.key for row in todo.rows}
    strays: dict[str, list[Path]] = {}
    for file in _files(todo.folder):
        if any(one in places for one in file.parents):
            continue
        key = _key_of(file, cases)
        if key is not None and key in places.values():
            strays.setdefault(key, []).append(file)
        else:
            edits.failed[file.name] = (
                f"it is the edit of {key}, which is not in the list; name the file alone to adopt it"
                if key is not None
                else "its name is that of no case of the list; name it after the key of its case"
            )
    for row in todo.rows:
        own = todo.place(row.key) / f"{row.key}{SEGMENTATION_SUFFIX}"
        files = [path for path in _files(todo.place(row.key)) if not _is_image(path, row.key)]
        foreign = {file: _key_of(file, cases) for file in files if _stem(file) != row.key}
        if other := next((key for key in foreign.values() if key not in (None, row.key)), None):
            stray = next(file for file, key in foreign.items() if key == other)
            edits.failed[row.key] = f"{stray.name} in its folder is named after {other}; move it to where it belongs"
            continue
        files += strays.get(row.key, [])
        changed = [path for path in files if path != own or file_digest(path) != row.segmentation_digest]
        path = _one(changed)
        if path is not None:
            edits.found[row.key] = Edit(row.key, path, {}, row.minutes)
        elif changed:
            told = ", ".join(sorted(one.name for one in changed))
            edits.failed[row.key] = f"there are several edits of it ({told}); leave one"
        elif own.is_file():
            edits.unchanged[row.key] = Edit(row.key, own, {}, row.minutes)


def _one(paths: list[Path]) -> Path | None:
    """The only edit; a segmentation goes before a label map of the same name."""
    if len(paths) == 1:
        return paths[0]
    segmentations = [path for path in paths if path.name.endswith(SEGMENTATION_SUFFIX)]
    alike = len({_stem(path) for path in paths}) == 1
    return segmentations[0] if len(segmentations) == 1 and alike else None


def _files(root: Path) -> Iterator[Path]:
    """The files below a folder that may be segmentations; hidden ones, and those half written, do not count."""
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        if any(part.startswith(".") or is_partial(part) for part in parts) or not path.is_file():
            continue
        if image_suffix(path.name) or path.suffix.lower() == ".dcm" or (not path.suffix and is_dicom(path)):
            yield path


def _is_image(path: Path, key: str) -> bool:
    """Whether a file is that of an image channel of a case, `KEY_0000`."""
    stem = _stem(path)
    return stem.startswith(key) and bool(_CHANNEL.fullmatch(stem[len(key) :]))


def _stem(path: Path) -> str:
    """The name of a file without what says its format."""
    name = path.name
    for ending in (SEGMENTATION_SUFFIX, ".seg.dcm", ".rtstruct.dcm", image_suffix(name) or path.suffix):
        if ending and name.lower().endswith(ending.lower()):
            return name[: len(name) - len(ending)]
    return name


def _key_of(path: Path, cases: _Cases) -> str | None:
    """The case that a file is named after: its key, or its key and a separator and more; the longest key counts."""
    stem, cohort = _stem(path), cases.cohort
    if stem in cohort.rows:
        return stem
    begun = [
        key for key in cohort.keys if stem.startswith(key) and stem[len(key)] in " -_.(" and not _is_image(path, key)
    ]
    if begun:
        return max(begun, key=len)
    if not is_dicom(path):
        return None
    try:
        found = fitting_records(path, cases.records, secret=cases.secret)
    except VolsegError:
        return None
    return found[0] if len(found) == 1 else None


def _monai_label(place: Path) -> Path | None:
    """The folder of final labels, if a folder is that of the images of MONAI Label."""
    final = place / "labels" / "final"
    return final if final.is_dir() else None


def _names_beside(path: Path) -> dict[str, dict[int, str]]:
    """The names of label values that MONAI Label keeps for the labels of a folder `labels/final`, by case."""
    if path.parent.parent.name != "labels":
        return {}
    tag, root = path.parent.name, path.parent.parent.parent
    for name in _MONAI_LABEL:
        try:
            objects = json.loads((root / name).read_text())["objects"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        return {str(key): _label_info(one.get("labels", {}).get(tag, {})) for key, one in objects.items()}
    return {}


def _label_info(label: Mapping[str, Any]) -> dict[int, str]:
    """The names that 3D Slicer sent with a label map: `{"label_info": [{"name": "liver", "idx": 1}]}`."""
    info = label.get("info", {})
    rows = info.get("label_info") or info.get("params", {}).get("label_info") or []
    return {
        int(row["idx"]): str(row["name"]) for row in rows if isinstance(row, Mapping) and "idx" in row and "name" in row
    }
