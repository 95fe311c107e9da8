"""Reader of Medical Segmentation Decathlon folders and of nnU-Net v2 raw folders."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volseg.cohort import Case, read_dataset_json, read_table
from volseg.errors import SourceError, VolumeError
from volseg.labels import LabelTable
from volseg.volume import Volume, read_channels, read_volume

_SUFFIX = re.compile(r"\.nii(\.gz)?$")


@dataclass(frozen=True)
class _Files:
    """Where one case lies: a 3D or 4D image, or one image a channel, and its label."""

    images: tuple[Path, ...]
    label: Path | None


class Decathlon:
    """Cases of a folder with a `dataset.json`, as the decathlon or nnU-Net v2 lays it out.

    The decathlon lists its files in `training` and `test` and stores channels as a fourth axis; nnU-Net v2 stores one
    file a channel, `KEY_0000.nii.gz`, and lists nothing. The source is told by `modality` or `channel_names`.
    Layout: Antonelli et al. 2022, doi:10.1038/s41467-022-30695-9; Isensee et al. 2021, doi:10.1038/s41592-020-01008-z.

    A `cases.csv` in the folder, as volseg's own cohorts have, keeps patients and warnings.

    Args:
        raw: the folder that holds dataset.json.

    Raises:
        SourceError: no case, a case listed twice, or a dataset.json without channels.
        CohortError: no dataset.json.
        LabelError: labels in dataset.json that make no table.
    """

    kind = "decathlon"

    def __init__(self, raw: str | Path) -> None:
        self.raw = Path(raw)
        dataset = read_dataset_json(self.raw)
        names = dataset.get("channel_names") or dataset.get("modality")
        if not isinstance(names, dict) or not names:
            raise SourceError(f'{self.raw / "dataset.json"} names no channel; add "modality" or "channel_names"')
        if not all(key.isdigit() for key in names):
            raise SourceError(f'{self.raw / "dataset.json"} names the channels {names}, expected {{"0": "MRI", ...}}')
        self.channel_names: tuple[str, ...] = tuple(str(names[key]) for key in sorted(names, key=int))
        self.labels = LabelTable.from_dataset_json(dataset)
        listed = isinstance(dataset.get("training"), list)
        self._files = self._listed(dataset) if listed else self._found(len(self.channel_names))
        table = self.raw / "cases.csv"
        self._rows = {row.key: row for row in read_table(table)} if table.is_file() else {}
        if not self._files:
            raise SourceError(f"{self.raw} holds no case; the decathlon keeps them in imagesTr and labelsTr")

    def keys(self) -> Sequence[str]:
        """The keys of all cases, sorted."""
        return sorted(self._files)

    def labelled(self, key: str) -> bool:
        """Whether the case is one of the training set."""
        return self._files[key].label is not None

    def digest(self, key: str) -> str:
        """Changes with the name, size or time of any file of the case."""
        files = self._files[key]
        facts: list[Any] = [self.kind, 1, self.channel_names, self.labels.digest, self._known(key)]
        for path in (*files.images, *([files.label] if files.label else [])):
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
        channels = tuple(channel for path in files.images for channel in read_channels(path))
        if len(channels) != len(self.channel_names):
            raise VolumeError(
                f"the image has {len(channels)} channels, dataset.json names {len(self.channel_names)}: "
                f"{', '.join(self.channel_names)}",
                case=key,
            )
        label = None
        if files.label is not None:
            stored = read_volume(files.label)
            label = Volume(self.labels.check(stored.voxels, case=key), stored.affine_ras)
        patient, session, warnings = self._known(key)
        return Case(key, patient, session, channels, label, files.images[0].name, warnings)

    def _known(self, key: str) -> tuple[str, str, tuple[str, ...]]:
        """Patient, session and warnings, as a `cases.csv` in the folder states them; else each case is a patient."""
        row = self._rows.get(key)
        return (row.patient, row.session, row.warnings) if row else (key, "", ())

    def _listed(self, dataset: dict[str, Any]) -> dict[str, _Files]:
        files: dict[str, _Files] = {}
        for item in dataset["training"]:
            image, label = (item.get("image"), item.get("label")) if isinstance(item, dict) else (None, None)
            if not isinstance(image, str) or not isinstance(label, str):
                raise SourceError(f"dataset.json lists {item!r} for training, expected an image and a label")
            self._add(files, image, self.raw / label)
        for item in dataset.get("test", []):
            image = item.get("image") if isinstance(item, dict) else item
            if not isinstance(image, str):
                raise SourceError(f"dataset.json lists {item!r} for test, expected an image")
            self._add(files, image, None)
        return files

    def _add(self, files: dict[str, _Files], image: str, label: Path | None) -> None:
        key = _SUFFIX.sub("", Path(image).name)
        if key in files:
            raise SourceError(f"dataset.json lists the case twice ({image}); keep one", case=key)
        files[key] = _Files((self.raw / image,), label)

    def _found(self, channels: int) -> dict[str, _Files]:
        files: dict[str, _Files] = {}
        for part in ("imagesTr", "imagesTs"):
            for first in sorted((self.raw / part).glob("[!.]*_0000.nii*")):
                if not (found := _SUFFIX.search(first.name)):
                    continue
                suffix = found.group()
                key = first.name.removesuffix(f"_0000{suffix}")
                if key in files:
                    raise SourceError(f"{self.raw} holds the case twice (again as {part}/{first.name})", case=key)
                if first.with_name(f"{key}_{channels:04d}{suffix}").is_file():
                    raise SourceError(f"there are more files than the {channels} channels of dataset.json", case=key)
                images = tuple(first.with_name(f"{key}_{channel:04d}{suffix}") for channel in range(channels))
                label = self.raw / "labelsTr" / f"{key}{suffix}" if part == "imagesTr" else None
                files[key] = _Files(images, label)
        return files
