"""A label of a cohort replaced by a corrected one: at once or never, the old one kept, and undone on demand.

    .volseg/labels/KEY/ROUND.before.nii.gz     the label that was replaced; absent where the case had none
    .volseg/labels/KEY/ROUND.after.nii.gz      the new label until it is in its place
    .volseg/labels/KEY/ROUND.objects.nii.gz    its map of objects, where the cohort has such maps, until it is there
    .volseg/labels/KEY/ROUND.instances.nii.gz  the map of objects that was replaced; absent where the case had none
    .volseg/labels/KEY/ROUND.json              what is to be done
    .volseg/adopting.json                      key and round of the case that is being replaced; the point of no return

A kill before the last file is written changes nothing. After it, whoever opens the cohort next does the rest: each of
its steps can be done again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from volseg.cohort.corrections import Correction, label_digest, read_corrections, write_corrections
from volseg.cohort.objects import numbered_anew
from volseg.errors import CohortError, UsageError
from volseg.files import PARTIAL, atomic, link_or_copy, read_json_object
from volseg.labels import LabelTable
from volseg.volume import FILE_ENDING, Volume, aligned, read_volume, write_volume

_JOURNAL = ".volseg/adopting.json"
_INSTANCES = "instancesTr"


def labels_folder(folder: Path, key: str) -> Path:
    """Where the former labels of a case are kept."""
    return folder / ".volseg" / "labels" / key


def next_round(folder: Path) -> int:
    """The number of the next adoption."""
    return max((row.round for row in read_corrections(folder)), default=0) + 1


def replace_label(
    folder: Path, key: str, label: Volume, rows: Sequence[Correction], *, channels: int, ignore: int | None = None
) -> None:
    """Put a corrected label in the place of a case's label, whole or not at all; a case without one becomes labelled.

    Args:
        folder: Cohort folder.
        key: Key of the case.
        label: Label map (X, Y, Z) in the cohort's values, on the grid of the image.
        rows: Lines of `corrections.csv`, one per region.
        channels: Number of image channels.
        ignore: Value of the voxels that nobody looked at, if the label map holds it and the cohort declares none yet.
    """
    finish_adoption(folder)
    number = rows[0].round
    kept = labels_folder(folder, key)
    current = folder / "labelsTr" / f"{key}{FILE_ENDING}"
    write_volume(kept / f"{number}.after{FILE_ENDING}", label)
    if current.is_file():
        link_or_copy(current, kept / f"{number}.before{FILE_ENDING}")
    objects = _objects(folder, key, label, ignore)
    if objects is not None:
        write_volume(kept / f"{number}.objects{FILE_ENDING}", objects)
    facts = {
        "rows": [asdict(row) for row in rows],
        "objects": objects is not None,
        "had_objects": (folder / _INSTANCES / f"{key}{FILE_ENDING}").is_file(),
        "channels": channels,
        "labelled": current.is_file(),
        "ignore": ignore,
        "digest_after": label_digest(label),
        "labels": _labels_digest(folder),
    }
    _write(kept / f"{number}.json", facts)
    _write(folder / _JOURNAL, {"key": key, "round": number, "undo": False})
    finish_adoption(folder)


def undo_adoption(folder: Path, key: str, number: int) -> None:
    """Put the former label of a case back, and take its corrections out of the table.

    Args:
        folder: Cohort folder.
        key: Key of the case.
        number: Round of the adoption.

    Raises:
        CohortError: The label was changed since, what was kept is gone, or a fold names a case that had no label.
    """
    finish_adoption(folder)
    facts = read_json_object(labels_folder(folder, key) / f"{number}.json")
    if facts is None:
        raise CohortError(f"nothing is kept of round {number}; its label cannot be put back", case=key)
    current = folder / "labelsTr" / f"{key}{FILE_ENDING}"
    if not current.is_file() or label_digest(read_volume(current)) != facts["digest_after"]:
        raise CohortError("its label was changed after it was adopted; undo what was done later first", case=key)
    if facts["labelled"] and not (labels_folder(folder, key) / f"{number}.before{FILE_ENDING}").is_file():
        raise CohortError(f"the label before round {number} is no longer kept; it cannot be put back", case=key)
    if facts.get("labels", _labels_digest(folder)) != _labels_digest(folder):
        raise CohortError(
            "the label table has changed since, so that the values of its former label mean something else; put the "
            "former table back into dataset.json, then undo",
            case=key,
        )
    if not facts["labelled"] and _in_folds(folder, key):
        raise CohortError(
            "it had no label before, and the folds name it; write the folds anew without it, then undo", case=key
        )
    _write(folder / _JOURNAL, {"key": key, "round": number, "undo": True})
    finish_adoption(folder)


def finish_adoption(folder: Path) -> None:
    """Do the rest of an adoption that was cut off; nothing is done where none was.

    Raises:
        CohortError: What is to be done cannot be read.
    """
    path = folder / _JOURNAL
    if not path.is_file():
        return
    journal = read_json_object(path)
    facts = (
        None
        if journal is None
        else read_json_object(labels_folder(folder, journal["key"]) / f"{journal['round']}.json")
    )
    if journal is None or facts is None:
        if not path.is_file():  # another process has just done it
            return
        raise CohortError(f"{path} is damaged; look at .volseg/labels beside it, and remove it")
    (_undo if journal["undo"] else _apply)(folder, str(journal["key"]), int(journal["round"]), facts)
    path.unlink(missing_ok=True)


def _apply(folder: Path, key: str, number: int, facts: dict[str, Any]) -> None:
    kept = labels_folder(folder, key)
    _move_images(folder, key, facts["channels"], "imagesTs", "imagesTr")
    _move(kept / f"{number}.after{FILE_ENDING}", folder / "labelsTr" / f"{key}{FILE_ENDING}")
    new, there = kept / f"{number}.objects{FILE_ENDING}", folder / _INSTANCES / f"{key}{FILE_ENDING}"
    if new.is_file() or not facts.get("objects"):  # else it is done: what lies there is the new one
        _move(there, kept / f"{number}.instances{FILE_ENDING}")
        _move(new, there)
    others = [row for row in read_corrections(folder) if (row.round, row.key) != (number, key)]
    write_corrections(folder, [*others, *(Correction(**row) for row in facts["rows"])])
    _renew_dataset_json(folder, facts["ignore"])


def _undo(folder: Path, key: str, number: int, facts: dict[str, Any]) -> None:
    kept = labels_folder(folder, key)
    label = folder / "labelsTr" / f"{key}{FILE_ENDING}"
    if facts["labelled"]:
        link_or_copy(kept / f"{number}.before{FILE_ENDING}", label)
    else:
        _move(label, kept / f"{number}.undone{FILE_ENDING}")
        _move_images(folder, key, facts["channels"], "imagesTr", "imagesTs")
    _move(kept / f"{number}.instances{FILE_ENDING}", folder / _INSTANCES / f"{key}{FILE_ENDING}")
    if facts.get("objects") and not facts["had_objects"]:
        (folder / _INSTANCES / f"{key}{FILE_ENDING}").unlink(missing_ok=True)
    write_corrections(folder, [row for row in read_corrections(folder) if (row.round, row.key) != (number, key)])
    _renew_dataset_json(folder, None)


def _objects(folder: Path, key: str, label: Volume, ignore: int | None) -> Volume | None:
    """The map of objects of a corrected label; None where the cohort tells no objects apart."""
    if not any(not file.name.startswith(".") for file in (folder / _INSTANCES).glob(f"*{FILE_ENDING}")):
        return None
    former = folder / _INSTANCES / f"{key}{FILE_ENDING}"
    numbers = aligned(read_volume(former), label.grid)[0].voxels if former.is_file() else None
    labels = LabelTable.from_dataset_json(json.loads((folder / "dataset.json").read_text(encoding="utf-8-sig")))
    labels = labels if ignore is None else replace(labels, ignore=ignore)
    label_map = labels.check(label.voxels)
    unseen = labels.ignored(label_map)
    found = numbered_anew(label_map, numbers, spacing_mm=label.spacing_mm, unseen=unseen)
    small = int(found.max(initial=0)) <= np.iinfo(np.uint16).max
    return Volume(found.astype(np.uint16) if small else found, label.affine_ras)


def _move_images(folder: Path, key: str, channels: int, source: str, target: str) -> None:
    for channel in range(channels):
        name = f"{key}_{channel:04d}{FILE_ENDING}"
        _move(folder / source / name, folder / target / name)


def _move(source: Path, target: Path) -> None:
    """Move a file; nothing is done where it has been moved already."""
    if source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # another process has just done it
            source.replace(target)


def _renew_dataset_json(folder: Path, ignore: int | None) -> None:
    """Write the number of labelled cases, and the value of what nobody looked at where there is a new one."""
    path = folder / "dataset.json"
    dataset = json.loads(path.read_text(encoding="utf-8-sig"))
    before = json.dumps(dataset)
    dataset["numTraining"] = len(
        [file for file in (folder / "labelsTr").glob(f"*{FILE_ENDING}") if not file.name.startswith(PARTIAL)]
    )
    if ignore is not None:
        dataset["labels"][LabelTable.IGNORE] = ignore
    if json.dumps(dataset) != before:
        with atomic(path) as partial:
            partial.write_text(json.dumps(dataset, indent=1) + "\n")


def _labels_digest(folder: Path) -> str:
    """Digest of the cohort's label table; the value of what nobody looked at is no part of it."""
    return LabelTable.from_dataset_json(json.loads((folder / "dataset.json").read_text(encoding="utf-8-sig"))).digest


def _in_folds(folder: Path, key: str) -> bool:
    files = (folder / "splits.json", folder / "splits_final.json")
    return any(json.dumps(key) in file.read_text() for file in files if file.is_file())


def _write(path: Path, content: dict[str, Any]) -> None:
    with atomic(path) as partial:
        partial.write_text(json.dumps(content))


def rounds_of(folder: Path) -> dict[int, tuple[str, ...]]:
    """The keys of each round, sorted."""
    found: dict[int, set[str]] = {}
    for row in read_corrections(folder):
        found.setdefault(row.round, set()).add(row.key)
    return {number: tuple(sorted(keys)) for number, keys in sorted(found.items())}


def last_round(folder: Path) -> tuple[int, tuple[str, ...]]:
    """The number and the keys of the last adoption.

    Raises:
        UsageError: There is none.
    """
    found = rounds_of(folder)
    if not found:
        raise UsageError(f"{folder} has no corrections.csv; there is nothing to undo")
    number = max(found)
    return number, found[number]
