"""The cohort folder: an nnU-Net v2 raw dataset on disk, opened and listed."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from volseg.cohort.adoption import finish_adoption
from volseg.cohort.case import Case
from volseg.cohort.folds import ALL, Fold, check_folds, read_splits
from volseg.cohort.headers import longest_image_mm, row_of_headers
from volseg.cohort.layouts import layout_note
from volseg.cohort.patients import patient_of
from volseg.cohort.table import CaseRow, is_phantom, read_table, rows_of_cases
from volseg.errors import CohortError, UsageError, VolsegError, first_names
from volseg.labels import LabelTable
from volseg.remote import local
from volseg.volume import FILE_ENDING, read_volume

INSTANCES = "instancesTr"


@dataclass(frozen=True, eq=False)
class Cohort:
    """An opened cohort folder. Nothing but text has been read; volumes stay on disk.

    Attributes:
        folder: Folder that holds dataset.json.
        labels: Label table.
        channel_names: One name per image channel, in file order.
        rows: One row per case by key, sorted by key.
        labelled: Keys that have a reference label (imagesTr and labelsTr); the others are in imagesTs.
        source: Kind of the source that volseg converted it from; empty if another program wrote the folder.
        source_version: Version of that source's reader; 1 for cohorts of earlier versions of volseg, which state none.
    """

    folder: Path
    labels: LabelTable
    channel_names: tuple[str, ...]
    rows: Mapping[str, CaseRow]
    labelled: frozenset[str]
    source: str = ""
    source_version: int = 1

    @classmethod
    def open(cls, folder: str | Path) -> Cohort:
        """Open a cohort that volseg or anyone else wrote in nnU-Net's raw layout; of a URL a copy is kept here.

        Where `cases.csv` is absent or lacks a case the headers are read. Keys tell the patients then, and where the
        patient's cell is empty: see `volseg.cohort.patient_of`.

        Raises:
            CohortError: There is no dataset.json or no case, or files do not match; the message names the first.
        """
        folder = local(folder)
        finish_adoption(folder)
        dataset = read_dataset_json(folder)
        if "channel_names" not in dataset and "modality" in dataset:
            raise CohortError(
                f"{folder} is laid out as the decathlon or version 1 of nnU-Net does; make a cohort of it with `volseg "
                f"convert decathlon {folder} COHORT`"
            )
        channel_names = _channel_names(dataset)
        ending = dataset.get("file_ending", FILE_ENDING)
        if ending != FILE_ENDING or isinstance(dataset.get("dataset"), Mapping):
            what = "lists its files" if ending == FILE_ENDING else f"has the file ending {ending!r}"
            raise CohortError(
                f"{folder} {what}, and a cohort has files {FILE_ENDING} in imagesTr and labelsTr; make one of it with "
                f"`volseg convert decathlon {folder} COHORT`"
            )
        images = {part: _keys_of_images(folder / part, len(channel_names)) for part in ("imagesTr", "imagesTs")}
        in_both_parts = images["imagesTr"] & images["imagesTs"]
        if in_both_parts:
            raise CohortError(
                f"{first_names(sorted(in_both_parts))} stands in imagesTr and in imagesTs; "
                "a case belongs to one of them"
            )
        labels = {path.name.removesuffix(FILE_ENDING) for path in _files(folder / "labelsTr")}
        labels_without_image = labels - images["imagesTr"]
        if labels_without_image:
            raise CohortError(
                f"{first_names(sorted(labels_without_image))} has a file in labelsTr and no image in imagesTr"
            )
        images_without_label = images["imagesTr"] - labels
        if images_without_label:
            raise CohortError(
                f"{first_names(sorted(images_without_label))} has an image in imagesTr and no label in "
                "labelsTr; move it to imagesTs"
            )
        keys = images["imagesTr"] | images["imagesTs"]
        if not keys:
            raise CohortError(f"{folder} holds no case; convert some with `volseg convert KIND RAW {folder}`")
        table = folder / "cases.csv"
        known = rows_of_cases(read_table(table), keys) if table.is_file() else {}
        rows = {}
        for key in sorted(keys):
            row = known.get(key)
            if row is None:
                part = "imagesTr" if key in labels else "imagesTs"
                row = row_of_headers(key, folder / part / f"{key}_0000{FILE_ENDING}")
            elif not row.patient:
                patient, session = patient_of(key)
                row = replace(row, patient=patient, session=row.session or session)
            rows[key] = row
        source, version = read_source(dataset)
        return cls(
            folder, LabelTable.from_dataset_json(dataset), channel_names, rows, frozenset(labels), source, version
        )

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of all cases, sorted."""
        return tuple(self.rows)

    @property
    def channels(self) -> int:
        """The number of image channels."""
        return len(self.channel_names)

    @property
    def flat(self) -> bool:
        """Whether every case is one slice."""
        return all(1 in row.shape for row in self.rows.values())

    @property
    def provenance(self) -> dict[str, Any]:
        """Source, version of its reader, directions of the axes and whether it is the phantom: for a checkpoint."""
        return {
            "source": self.source,
            "source_version": self.source_version,
            "axes": sorted({row.orientation for row in self.rows.values()}),
            "phantom": is_phantom(self.rows.values()),
        }

    @property
    def digest(self) -> str:
        """A hexadecimal word that differs where keys, patients, sizes, label table, channels or folds do.

        It does not look at voxels: two runs with the same word were asked the same question of equally shaped files.
        """
        columns = ("key", "patient", "session", "shape", "spacing_mm", "orientation")
        table = [[row.to_csv()[column] for column in columns] for row in self.rows.values()]
        folds = [[fold.training, fold.validation] for fold in self.folds()] if self._splits.is_file() else []
        content = [table, sorted(self.labelled), self.labels.digest, self.channel_names, folds]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    def patient(self, key: str) -> str:
        """The patient of a case."""
        return self._row(key).patient

    def image_paths(self, key: str) -> list[Path]:
        """One image file per channel."""
        self._row(key)
        part = self.folder / ("imagesTr" if key in self.labelled else "imagesTs")
        return [part / f"{key}_{channel:04d}{FILE_ENDING}" for channel in range(self.channels)]

    def label_path(self, key: str) -> Path | None:
        """The reference label map of a case, or None where it has none."""
        self._row(key)
        return self.folder / "labelsTr" / f"{key}{FILE_ENDING}" if key in self.labelled else None

    def instances_path(self, key: str) -> Path | None:
        """The map of objects of a case, numbered from 1; None where the cohort tells no objects apart."""
        self._row(key)
        path = self.folder / INSTANCES / f"{key}{FILE_ENDING}"
        return path if key in self.labelled and path.is_file() else None

    @property
    def has_instances(self) -> bool:
        """Whether objects are told apart: there is a folder of their maps, which nnU-Net does not look at."""
        return bool(_files(self.folder / INSTANCES))

    def folds(self) -> list[Fold]:
        """The folds of `splits.json`, checked: known labelled keys, and no patient on both sides.

        Raises:
            CohortError: There is no splits.json, or a split is wrong; the message says which.
        """
        path = self._splits
        if not path.is_file():
            raise CohortError(f"{self.folder} has no splits.json; {self._cure_of_no_split()}")
        folds = read_splits(path)
        check_folds(folds, path, labelled=self.labelled, patient_of=self.patient)
        return folds

    def _cure_of_no_split(self) -> str:
        """What to do without a split: draw one, or train without where there is one patient alone."""
        if not self.labelled:
            return "no case has a label, so that the cohort is fit for predictions alone"
        if len({self.patient(key) for key in self.labelled}) == 1:
            return "a split needs 2 patients with labels, and there is 1; `volseg train --fold all` does without"
        return f"write it with `volseg split {self.folder}`"

    @property
    def has_folds(self) -> bool:
        """Whether there is a split."""
        return self._splits.is_file()

    def fold(self, number: int | str) -> Fold:
        """One fold, counted from 0; `all` trains on every case of the folds and validates none.

        Without a split `all` takes the labelled cases that a split would take: none that is suspect or kept for a test.
        """
        if number == ALL:
            if self.has_folds:
                keys = {key for fold in self.folds() for key in (*fold.training, *fold.validation)}
            else:
                keys = {key for key in self.labelled if not (self.rows[key].suspect or self.rows[key].test)}
            return Fold(tuple(sorted(keys)), ())
        if not isinstance(number, int) or isinstance(number, bool):
            raise UsageError(f"a fold must be a whole number from 0, or {ALL}, got {number!r}")
        folds = self.folds()
        if not 0 <= number < len(folds):
            stated = "0" if len(folds) == 1 else f"0 to {len(folds) - 1}"
            raise UsageError(
                f"the fold must be {stated} or {ALL} in {self.folder}, got {number}; name one of these, or draw more "
                f"folds with `volseg split {self.folder} --folds N`"
            )
        return folds[number]

    def longest_image_mm(self, *, fold: int | str) -> list[float] | None:
        """The largest length in mm of a fold's training images along right-left, front-back and head-feet.

        None where there is no such fold, which a training tells when it takes its cases.
        """
        try:
            keys = self.fold(fold).training
        except VolsegError:
            return None
        return longest_image_mm(self.rows[key] for key in keys)

    def datalist(self, part: str, *, fold: int | str = 0) -> list[dict[str, Any]]:
        """MONAI's list of dictionaries: `key`, `image` (one path per channel) and, where there is one, `label`.

        The part `all` has `channel_names` too, by which inference finds the channels of its network.

        Args:
            part: Name of a part, see `part`.
            fold: Number of the fold, from 0, or `all`.
        """
        items = []
        for key in self.part(part, fold=fold):
            item: dict[str, Any] = {"key": key, "image": [str(path) for path in self.image_paths(key)]}
            label = self.label_path(key)
            if label is not None:
                item["label"] = str(label)
            if part == "all":
                item["channel_names"] = self.channel_names
            items.append(item)
        return items

    def cases(self) -> Iterator[Case]:
        """Read the labelled cases one after the other, as a source yields them."""
        for key in sorted(self.labelled):
            row = self.rows[key]
            channels = tuple(read_volume(path) for path in self.image_paths(key))
            label = read_volume(self.folder / "labelsTr" / f"{key}{FILE_ENDING}")
            yield Case(key, row.patient, row.session, channels, label, row.source, row.warnings)

    def part(self, name: str, *, fold: int | str = 0) -> tuple[str, ...]:
        """The keys of `training` or `validation` of a fold, `labelled` ones, those kept for a `test`, or `all`."""
        if name == "all":
            return self.keys
        if name == "labelled":
            return tuple(sorted(self.labelled))
        if name == "test":
            kept = tuple(key for key in sorted(self.labelled) if self.rows[key].test)
            if not kept:
                raise UsageError(f"no case of {self.folder} is kept for a test; `convert images --test` keeps some")
            return kept
        if name == "training":
            return self.fold(fold).training
        if name == "validation":
            return self.fold(fold).validation
        raise UsageError(
            f"the part must be all, labelled, training, validation or test, got {name!r}; name one of these"
        )

    def some_part(self, name: str, *, fold: int | str = 0) -> tuple[str, ...]:
        """As `part`, of which there must be a case.

        Raises:
            UsageError: There is none.
        """
        keys = self.part(name, fold=fold)
        if not keys:
            of_fold = f" of fold {fold}" if name in ("training", "validation") else ""
            raise UsageError(f"{self.folder} must have a {name} case{of_fold}, got none; name another --part or --fold")
        return keys

    def median_spacing_mm(self) -> list[float]:
        """Median spacing over the labelled cases (all cases where none is), to 0.01 mm, in the order of RAS axes.

        Below 0.1 mm, as of microscopes, it has three digits.
        """
        spacings = [row.along_ras(row.spacing_mm) for row in self._measured()]
        medians = [statistics.median(along) for along in zip(*spacings, strict=True)]
        return [round(mm, 2) if mm >= 0.1 else float(f"{mm:.3g}") for mm in medians]

    def median_shape(self, spacing_mm: Sequence[float]) -> list[int]:
        """Median number of voxels along the RAS axes once these cases are resampled; one slice stays one."""
        sizes = []
        for row in self._measured():
            along = zip(row.along_ras(row.shape), row.along_ras(row.spacing_mm), spacing_mm, strict=True)
            sizes.append([n if n == 1 else n * mm / to for n, mm, to in along])
        return [round(statistics.median(size)) for size in zip(*sizes, strict=True)]

    @property
    def _splits(self) -> Path:
        """The file of folds: ours, or that of nnU-Net's preprocessed folder if someone has put it here."""
        own, nnunet = self.folder / "splits.json", self.folder / "splits_final.json"
        return nnunet if nnunet.is_file() and not own.is_file() else own

    def _measured(self) -> list[CaseRow]:
        return [row for row in self.rows.values() if row.key in self.labelled] or list(self.rows.values())

    def _row(self, key: str) -> CaseRow:
        try:
            return self.rows[key]
        except KeyError:
            like = get_close_matches(key, self.rows, n=3) or sorted(self.rows)[:3]
            raise CohortError(
                f"there is no case {key!r} in {self.folder}; name one such as {', '.join(like)}"
            ) from None


def read_dataset_json(folder: Path) -> dict[str, Any]:
    """The content of a folder's `dataset.json`.

    Raises:
        CohortError: The folder or the file is absent, or it is no JSON object.
    """
    path = folder / "dataset.json"
    if folder.is_file():
        raise CohortError(f"{folder} is a file; name the folder of a cohort")
    if not folder.is_dir():
        raise CohortError(f"there is no folder {folder}; write a cohort with `volseg convert KIND RAW {folder}`")
    try:
        dataset = json.loads(path.read_text(encoding="utf-8-sig"))  # Windows marks a text as UTF-8
    except FileNotFoundError:
        note = layout_note(folder) or f"make one with `volseg convert KIND {folder} COHORT`, or name another folder"
        raise CohortError(f"{folder} has no dataset.json, so it is no cohort (nnU-Net raw folder); {note}") from None
    except ValueError as error:
        raise CohortError(f"{path} is not JSON ({error})") from error
    if not isinstance(dataset, dict):
        raise CohortError(f"{path} holds no JSON object")
    return dataset


def read_source(dataset: Mapping[str, Any]) -> tuple[str, int]:
    """Kind and version of the source that a `dataset.json` states; an empty kind where volseg did not write it.

    >>> read_source({"volseg": {"source": "uw_madison"}}), read_source({})
    (('uw_madison', 1), ('', 1))
    """
    stated = dataset.get("volseg")
    if not isinstance(stated, Mapping):
        return "", 1
    version = stated.get("source_version", 1)
    return str(stated.get("source", "")), version if isinstance(version, int) else 1


def _channel_names(dataset: Mapping[str, Any]) -> tuple[str, ...]:
    names = dataset.get("channel_names")
    if not isinstance(names, Mapping) or sorted(names) != sorted(map(str, range(len(names)))) or not names:
        raise CohortError('dataset.json needs "channel_names" such as {"0": "MR"}')
    return tuple(str(names[str(i)]) for i in range(len(names)))


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if path.name.endswith(FILE_ENDING) and not path.name.startswith(".")]


def _keys_of_images(folder: Path, channels: int) -> set[str]:
    found: dict[str, set[str]] = {}
    for path in _files(folder):
        key, _, channel = path.name.removesuffix(FILE_ENDING).rpartition("_")
        found.setdefault(key, set()).add(channel)
    expected = {f"{channel:04d}" for channel in range(channels)}
    for key, got in sorted(found.items()):
        if not key or got != expected:
            raise CohortError(
                f"{folder.name} holds the channels {sorted(got)} of case {key!r}, expected {sorted(expected)}: "
                f"name each file KEY_0000{FILE_ENDING}"
            )
    return set(found)
