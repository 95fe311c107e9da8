"""Reader of Medical Segmentation Decathlon folders, of lists in its form, and of nnU-Net's raw folders."""

from __future__ import annotations

import hashlib
import json
import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from volseg.cohort import (
    INSTANCES,
    TEST,
    Case,
    Fold,
    is_case_table,
    patient_of,
    raw_note,
    read_dataset_json,
    read_table_of,
)
from volseg.errors import SourceError, VolumeError, first_names
from volseg.formats.datalist import channels_of, labels_of, listed_cases
from volseg.formats.imported_predictions import read_named
from volseg.formats.left_out import folds_beside, left_out_note, number_note, pair_notes, tell
from volseg.formats.segmentation_file import SEGMENTATION_SUFFIX
from volseg.labels import LabelTable, whole_numbers
from volseg.volume import FILE_ENDING, IMAGE_SUFFIXES, Volume, read_image_file

logger = logging.getLogger(__name__)

_LARGEST = 255
_IMAGES = (".png", ".bmp", ".tif", ".tiff")  # of nnU-Net's data sets of images
_OTHER_TABLE = (
    "cases.csv in the raw folder is no table of volseg's and was left aside; --patient-pattern tells patients by their "
    "keys"
)


@dataclass(frozen=True)
class _Files:
    """Where one case lies: a 3D or 4D image, or one image per channel, and its label."""

    images: tuple[Path, ...]
    label: Path | None
    test: bool = False
    patient: str | None = None


class Decathlon:
    """Cases of a folder with a `dataset.json`, as the decathlon or nnU-Net v2 lays it out.

    The decathlon lists its files in `training` and `test` and stores channels as a fourth axis; MONAI's lists have a
    `validation` too, or a `fold` per case. nnU-Net stores one file per channel, `KEY_0000.nii.gz`, and version 2 lists
    nothing, or its cases under `dataset`. Files end with `file_ending`: NIfTI, NRRD, MetaImage or MGH.
    Layout: Antonelli et al. 2022, doi:10.1038/s41467-022-30695-9; Isensee et al. 2021, doi:10.1038/s41592-020-01008-z.

    A `cases.csv` in the folder, as volseg's own cohorts have, keeps patients and warnings; else keys tell the patients,
    see `volseg.cohort.patient_of`. Label values above 255, as FreeSurfer's, become 1, 2, 3, ... in their order, and
    `original_values` says what they were.

    Args:
        raw: Folder that holds dataset.json.

    Raises:
        SourceError: There is no such folder, no dataset.json or no case, a case is listed twice, or dataset.json has no
            channels.
        CohortError: dataset.json is no JSON object.
        LabelError: The labels in dataset.json make no table.
    """

    kind = "decathlon"

    def __init__(self, raw: str | Path) -> None:
        self.raw = Path(raw)
        if not self.raw.is_dir():
            raise SourceError(f"there is no folder {self.raw}; name the one that holds dataset.json")
        if not (self.raw / "dataset.json").is_file():
            cure = "name the folder that holds one, or another KIND: `volseg convert --help` describes each"
            raise SourceError(
                f"{self.raw} has no dataset.json, the list of images and labels; {raw_note(self.raw) or cure}"
            )
        dataset = labels_of(read_dataset_json(self.raw))
        self.channel_names: tuple[str, ...] = channels_of(dataset, self.raw / "dataset.json")
        dataset, self.original_values = _small_values(dataset)
        self.labels = LabelTable.from_dataset_json(dataset)
        self._ending = str(dataset.get("file_ending") or "")
        if self._ending and self._ending not in IMAGE_SUFFIXES:
            raise SourceError(
                f"{self.raw / 'dataset.json'} has the file_ending {self._ending!r}, expected one of "
                f"{', '.join(IMAGE_SUFFIXES)}{_as_images(self._ending, self.labels)}"
            )
        beside = isinstance(dataset.get("dataset"), Mapping)  # nnU-Net: what is not listed there is none of it
        listed = listed_cases(dataset, self.raw, channels=len(self.channel_names))
        self.folds: tuple[Fold, ...] = ()
        if listed is None:
            self._files = self._found(len(self.channel_names))
        else:
            self._files = {
                case.key: _Files(case.images, case.label, case.part == "test", case.patient) for case in listed
            }
            self.folds = _given_folds([(c.key, c.part, c.fold) for c in listed if c.label is not None])
        table = self.raw / "cases.csv"
        foreign = table.is_file() and not is_case_table(table)
        self._rows = {} if foreign else read_table_of(table, self._files)
        if not self._files:
            raise SourceError(f"{self.raw} holds no case; {_where_cases_stand(dataset, listed is not None)}")
        self.folds = self.folds or folds_beside(self.raw, [key for key in self._files if self._in_folds(key)])
        training = sum(not files.test for files in self._files.values())
        used = (path for files in self._files.values() for path in (*files.images, files.label) if path)
        self.warnings = tell(
            [
                None if beside else left_out_note(self.raw, used, listed=listed is not None),
                number_note(dataset, training),
                _OTHER_TABLE if foreign else None,
                *pair_notes({key: files.label for key, files in self._files.items()}),
            ]
        )

    def keys(self) -> Sequence[str]:
        """The keys of all cases, sorted."""
        return sorted(self._files)

    def labelled(self, key: str) -> bool:
        """Whether the case has a label map."""
        return self._files[key].label is not None

    def digest(self, key: str) -> str:
        """Changes with the name, size or time of any file of the case."""
        files = self._files[key]
        facts: list[Any] = [self.kind, 1, self.channel_names, self.labels.digest, self._known(key)]
        units, day = self._stated(key)
        if units or day is not None:  # cases without them keep the digest of earlier versions
            facts.append([units, day])
        if self.original_values:  # the table's digest has the new values, which are 1, 2, 3, ... of any
            facts.append(self.original_values)
        objects = self._objects_path(key)
        for path in (*files.images, *(path for path in (files.label, objects) if path)):
            try:
                stat = path.stat()
            except FileNotFoundError:
                raise SourceError(
                    f"{path} is not there; copy it, or take the case out of the folder", case=key
                ) from None
            facts.append([path.name, stat.st_size, stat.st_mtime_ns])
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def load(self, key: str) -> Case:
        """Read one case; the label must lie on the image's grid and hold declared values only."""
        files = self._files[key]
        channels = tuple(channel for path in files.images for channel in read_image_file(path))
        if len(channels) != len(self.channel_names):
            raise VolumeError(
                f"the image has {len(channels)} channels, dataset.json names {len(self.channel_names)}: "
                f"{', '.join(self.channel_names)}; correct one of the two (a file per channel, or the fourth axis)",
                case=key,
            )
        label: Volume | None = None
        notes: list[str] = []
        if files.label is not None and files.label.name.endswith(SEGMENTATION_SUFFIX):
            label, notes = read_named(files.label, self.labels, channels[0])
        elif files.label is not None:
            stored = read_image_file(files.label)
            if len(stored) != 1:
                raise VolumeError(
                    f"{files.label.name} has {len(stored)} channels, expected one label map; write one-hot masks as "
                    "the number of each class",
                    case=key,
                )
            label = self._checked(stored[0], key)
        patient, session, warnings = self._known(key)
        units, day = self._stated(key)
        source, told = files.images[0].name, (*warnings, *notes)
        return Case(key, patient, session, channels, label, source, told, self._objects(key), units, day)

    def _checked(self, label: Volume, key: str) -> Volume:
        voxels = label.voxels
        if self.original_values:
            voxels = _renumbered(whole_numbers(voxels, case=key), self.original_values, key)
        return Volume(self.labels.check(voxels, case=key), label.affine_ras)

    def _in_folds(self, key: str) -> bool:
        return self.labelled(key) and not self._files[key].test

    def _known(self, key: str) -> tuple[str, str, tuple[str, ...]]:
        """Patient, session and warnings, as a `cases.csv` in the folder states them; else as key and list tell.

        A labelled case of the test list stays out of all folds.
        """
        row = self._rows.get(key)
        if row:
            return row.patient, row.session, row.warnings
        files = self._files[key]
        patient, session = patient_of(key)
        return files.patient or patient, session, (TEST,) if files.test and files.label else ()

    def _objects_path(self, key: str) -> Path | None:
        """The map of the case's objects, where the folder is a cohort that has one."""
        path = self.raw / INSTANCES / f"{key}{FILE_ENDING}"
        return path if self._files[key].label is not None and path.is_file() else None

    def _objects(self, key: str) -> Volume | None:
        path = self._objects_path(key)
        if path is None:
            return None
        stored = read_image_file(path)
        if len(stored) != 1:
            raise VolumeError(
                f"{INSTANCES}/{path.name} has {len(stored)} channels, expected one map of objects; correct it", case=key
            )
        voxels = stored[0].voxels
        if voxels.dtype.kind == "f":
            voxels = whole_numbers(voxels, case=key).astype(np.int32)
        return Volume(voxels, stored[0].affine_ras)

    def _stated(self, key: str) -> tuple[str, float | None]:
        """Units and day, which a `cases.csv` in the folder alone states."""
        row = self._rows.get(key)
        return (row.units, row.day) if row else ("", None)

    def _found(self, channels: int) -> dict[str, _Files]:
        """The cases of nnU-Net's folders: `labelsTs` counts too, if it is there."""
        files: dict[str, _Files] = {}
        endings = (self._ending,) if self._ending not in ("", ".nii.gz", ".nii") else (".nii.gz", ".nii")
        for part in ("imagesTr", "imagesTs"):
            for suffix in endings:
                for first in sorted((self.raw / part).glob(f"[!.]*_0000{suffix}")):
                    key = first.name.removesuffix(f"_0000{suffix}")
                    if key in files:
                        raise SourceError(f"{self.raw} holds the case twice (again as {part}/{first.name})", case=key)
                    if first.with_name(f"{key}_{channels:04d}{suffix}").is_file():
                        raise SourceError(
                            f"there are more files than the {channels} channels of dataset.json", case=key
                        )
                    images = tuple(first.with_name(f"{key}_{channel:04d}{suffix}") for channel in range(channels))
                    labels = self.raw / part.replace("images", "labels")
                    ends = (suffix, SEGMENTATION_SUFFIX)
                    label = next(
                        (p for end in ends if (p := labels / f"{key}{end}").is_file()), labels / f"{key}{suffix}"
                    )
                    there = part == "imagesTr" or label.is_file()
                    files[key] = _Files(images, label if there else None, test=part == "imagesTs")
        return files


def _as_images(ending: str, labels: LabelTable) -> str:
    """The cure for a data set of nnU-Net whose files are images: the command that reads it; else empty."""
    if ending.lower() not in _IMAGES:
        return ""
    named = [f"{region.name}={value}" for region in labels.regions for value in region.values]
    classes = " ".join(f"--classes {shlex.quote(one)}" for one in (["NAME=VALUE"] if labels.overlap else named))
    return (
        f"; images are read by: volseg convert images RAW COHORT --images 'imagesTr/{{key}}_0000{ending}' --masks "
        f"'labelsTr/{{key}}{ending}' {classes}"
    )


def _where_cases_stand(dataset: Mapping[str, Any], listed: bool) -> str:
    """The cure for a folder without any case."""
    if listed:
        return "its dataset.json lists none; name image and label of each case under 'training'"
    lists = [str(name) for name, value in dataset.items() if isinstance(value, list) and value]
    if any(isinstance(value, Mapping) and "image" in value for name in lists for value in dataset[name]):
        return f"its dataset.json has lists under {first_names(lists)}; the cases are looked for under 'training'"
    return "the decathlon keeps them in imagesTr and labelsTr"


def _given_folds(cases: Sequence[tuple[str, str, int | None]]) -> tuple[Fold, ...]:
    """The folds that a list states: one per `fold` number, or one whose validation is the list of that name."""
    keys = sorted(key for key, part, _ in cases if part != "test")
    numbers = {key: fold for key, part, fold in cases if fold is not None and part != "test"}
    beside = [key for key, part, fold in cases if part == "validation" and fold is None]
    if numbers and beside:
        raise SourceError(
            "dataset.json gives fold numbers and a validation list without them; it must be one or the other",
            case=beside[0],
        )
    if numbers:
        held_out = [
            {key for key, fold in numbers.items() if fold == number} for number in sorted(set(numbers.values()))
        ]
    else:
        held_out = [{key for key, part, _ in cases if part == "validation"}]
    folds = [Fold(tuple(k for k in keys if k not in out), tuple(k for k in keys if k in out)) for out in held_out]
    if any(fold.validation and not fold.training for fold in folds):
        logger.warning("dataset.json has a fold with no case to train on; other folds are drawn")
    return tuple(fold for fold in folds if fold.training and fold.validation)


def _small_values(dataset: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, int]]:
    """The content with label values of at most 255, and the value of each name before, if they were renumbered.

    Raises:
        SourceError: More than 255 values.
    """
    labels = dataset.get("labels")
    if not isinstance(labels, Mapping) or not labels:
        return dict(dataset), {}
    turned = all(isinstance(key, str) and key.isdigit() for key in labels)
    values = {str(name): int(key) for key, name in labels.items()} if turned else dict(labels)
    if not all(isinstance(value, int) and not isinstance(value, bool) for value in values.values()):
        return dict(dataset), {}
    if max(values.values()) <= _LARGEST:
        return dict(dataset), {}
    named = dict(sorted(((name, value) for name, value in values.items() if value), key=lambda item: item[1]))
    if len(named) > _LARGEST:
        raise SourceError(f"dataset.json declares {len(named)} label values, and a label map keeps at most {_LARGEST}")
    return {**dataset, "labels": {"background": 0, **{name: n for n, name in enumerate(named, start=1)}}}, named


def _renumbered(voxels: np.ndarray[Any, Any], values: Mapping[str, int], key: str) -> np.ndarray[Any, Any]:
    """Each value as its place among the declared ones, from 1."""
    known = np.array([0, *values.values()])
    held = np.unique(voxels)
    unknown = held[~np.isin(held, known)]
    if unknown.size:
        raise SourceError(
            f"the label map holds {unknown[0]:g}, dataset.json declares {len(known) - 1} values from {known[1]} to "
            f"{known[-1]}; add it to `labels`, or correct the label file",
            case=key,
        )
    if voxels.dtype == np.uint8:  # one byte per voxel, where `searchsorted` takes eight
        table = np.searchsorted(known, np.arange(256)).astype(np.uint8)
        found: np.ndarray[Any, Any] = table[voxels]
        return found
    places: np.ndarray[Any, Any] = np.searchsorted(known, voxels).astype(np.uint8)
    return places
