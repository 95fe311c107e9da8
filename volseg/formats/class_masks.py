"""Reader of folders with one mask file per class: TotalSegmentator's data, and others that are laid out alike."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from volseg.cohort import Case, patient_of
from volseg.errors import GeometryError, LabelError, SourceError, VolsegError, first_names
from volseg.formats.image_pattern import safe_key
from volseg.labels import LabelTable, RegionCanvas, fold_name, held_values, overlaps_that_occur, whole_numbers
from volseg.volume import Volume, aligned, image_suffix, read_image_file

logger = logging.getLogger(__name__)

_FOLDERS = ("segmentations", "masks", "labels", "seg")
_IMAGES = ("ct", "mr", "mri", "pet", "image", "imaging", "img", "volume", "scan")
_KEPT_OVERLAPS = 8
_MOST_CLASSES = 255


class ClassMasks:
    """Cases that are folders, each with an image and one mask per class.

        RAW/s0001/ct.nii.gz                     the image: one of the usual names, or `image`
        RAW/s0001/segmentations/liver.nii.gz    a mask per class; or beside the image: RAW/s0001/liver.nii.gz

    A voxel belongs to a class if its mask is not 0 there; a mask of several values is taken with a warning, one of
    fractions or below 0 is refused. A class whose file is absent from a case counts as empty, with a warning. Files of
    no case, and masks of a background, are left out with one. Masks that overlap are refused, with their number of
    voxels, unless overlaps are kept.

    Args:
        raw: Folder of the case folders.
        image: Name of the image without its ending, such as `ct`; found by itself if there is one of the usual names.
        classes: Classes to take, in the order of their values; all that any case has by default, sorted.
        keep_overlaps: Give each combination of at most 8 classes a value, as regions. Of more classes each combination
            that occurs gets one, for which all masks are read once more, beforehand.
        progress: Function that is called with (cases done, cases in all) while they are read.

    Raises:
        SourceError: No case, no class, or an image that is not found.
        LabelError: More classes than a label map holds.
    """

    kind = "class_masks"

    def __init__(
        self,
        raw: str | Path,
        *,
        image: str | None = None,
        classes: Sequence[str] = (),
        keep_overlaps: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.raw = Path(raw)
        if not self.raw.is_dir():
            raise SourceError(f"there is no folder {self.raw}; name the folder that holds a folder per case")
        self._image = image
        self._cases: dict[str, tuple[Path, dict[str, Path]]] = {}
        self._left = [path.name for path, _ in _images(self.raw)]
        for folder in sorted(path for path in self.raw.iterdir() if path.is_dir() and not path.name.startswith(".")):
            if found := self._files_of(folder):
                key = safe_key("", folder.name)
                if key in self._cases:
                    raise SourceError(f"two folders give this key, one of them {folder.name}; rename one", case=key)
                self._cases[key] = found
            elif any(_images(below) for name in _FOLDERS if (below := folder / name).is_dir()):
                self._left.append(f"{folder.name} (which has masks and no image)")
        if not self._cases:
            raise SourceError(
                f"{self.raw} holds no case; expected folders such as s0001/ct.nii.gz with "
                "s0001/segmentations/liver.nii.gz"
            )
        there = sorted({name for _, masks in self._cases.values() for name in masks})
        _refuse_alike(classes or there)
        nothing = [name for name in there if name.casefold() == "background" and name not in classes]
        there = [name for name in there if name not in nothing]
        if unknown := [name for name in classes if name not in there]:
            raise SourceError(f"no case has a mask of {', '.join(unknown)}; there are {', '.join(there[:8])}")
        names = list(dict.fromkeys(classes)) or there
        if not names:
            raise SourceError(
                f"{self.raw} holds images and no mask; expected files such as s0001/segmentations/liver.nii.gz"
            )
        if len(names) > _MOST_CLASSES:
            raise LabelError(
                f"there are {len(names)} classes, and a label map keeps at most {_MOST_CLASSES}; choose some"
            )
        told = [f"files that belong to no case were left out: {first_names(self._left)}"] if self._left else []
        told += [f"masks called {name} are left out: the background is what belongs to no class" for name in nothing]
        self.warnings = tuple(told)
        for warning in told:
            logger.warning("%s", warning)
        all_ways = keep_overlaps and len(names) <= _KEPT_OVERLAPS
        self.labels = LabelTable.overlapping(names) if all_ways else LabelTable.exclusive(names)
        if keep_overlaps and not all_ways:
            keys = [key for key, (_, masks) in self._cases.items() if set(masks) & set(names)]
            overlaps = overlaps_that_occur(keys, self._drawn_alone, progress=progress)
            self.labels = self.labels.with_overlaps(overlaps)
        self.keep_overlaps = keep_overlaps
        images = sorted({path.name.removesuffix(image_suffix(path.name) or "") for path, _ in self._cases.values()})
        self.channel_names: tuple[str, ...] = (images[0].upper() if len(images) == 1 else "image",)

    def keys(self) -> Sequence[str]:
        """The keys of all cases, sorted."""
        return sorted(self._cases)

    def labelled(self, key: str) -> bool:
        """Whether the case has a mask of any class."""
        return bool(self._cases[key][1])

    def digest(self, key: str) -> str:
        """Changes with the name, size or time of any file of the case, and with the classes."""
        image, masks = self._cases[key]
        facts: list[Any] = [self.kind, 1, self.labels.digest, self.keep_overlaps]
        for path in (image, *masks.values()):
            try:
                stat = path.stat()
            except FileNotFoundError:
                raise SourceError(f"{path} is not there; copy it, or remove the case", case=key) from None
            facts.append([path.name, stat.st_size, stat.st_mtime_ns])
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def load(self, key: str) -> Case:
        """Read one case; its masks must lie on the grid of the image."""
        image_path, masks = self._cases[key]
        channels = read_image_file(image_path)
        if len(channels) != 1:
            raise SourceError(f"{image_path.name} holds {len(channels)} volumes, expected one", case=key)
        image = channels[0]
        lost = [name for name in self.labels.names if name not in masks]
        warnings = [f"no mask of {first_names(lost)}: taken for empty"] if lost and masks else []
        label = self._label(key, image, masks, warnings) if masks else None
        patient, session = patient_of(key)
        return Case(key, patient, session, (image,), label, image_path.parent.name, tuple(warnings))

    def _drawn_alone(self, key: str) -> RegionCanvas:
        """The masks of a case on the grid of the first one, without the image."""
        masks = self._cases[key][1]
        first = next(masks[name] for name in self.labels.names if name in masks)
        return self._painted(key, read_image_file(first)[0], masks, [])

    def _painted(self, key: str, image: Volume, masks: dict[str, Path], warnings: list[str]) -> RegionCanvas:
        """One class after the other, so that memory does not grow with their number; adds to the warnings."""
        canvas = RegionCanvas(image.shape)
        for place, name in enumerate(self.labels.names):
            if name in masks:
                canvas.paint(self._mask(key, image, masks[name], warnings), place)
        return canvas

    def _label(self, key: str, image: Volume, masks: dict[str, Path], warnings: list[str]) -> Volume:
        canvas = self._painted(key, image, masks, warnings)
        if not self.keep_overlaps and (crowded := canvas.shared):
            raise LabelError(
                f"{crowded} voxels belong to several classes; keep them with --overlaps, or choose classes that "
                "exclude each other",
                case=key,
            )
        return Volume(canvas.label_map(self.labels), image.affine_ras)

    def _mask(self, key: str, image: Volume, path: Path, warnings: list[str]) -> np.ndarray[Any, np.dtype[np.bool_]]:
        try:
            stored = read_image_file(path)
            if len(stored) != 1:
                raise SourceError(f"it holds {len(stored)} volumes, expected one mask")
            moved, note = aligned(stored[0], image.grid)
            numbers = whole_numbers(moved.voxels, case=None)
            held = [value for value in held_values(numbers).tolist() if value]
            if held and held[0] < 0:
                raise LabelError(f"it holds {held[0]:g}, expected 0 and one value above it; mark the class with 1")
        except GeometryError as error:
            raise GeometryError(
                f"the mask {path.name} is not on the image's grid: {error.message}; resample it to that by the nearest "
                "voxel, or take the mask of this image",
                case=key,
            ) from error
        except VolsegError as error:
            raise type(error)(f"the mask {path.name}: {error.message}", case=key) from error
        told = (*stored[0].notes, note) if stored[0].notes != image.notes else (note,)
        warnings += [f"{path.name}: {one}" for one in told if one]
        if len(held) > 1:
            values = first_names([f"{value:g}" for value in held])
            warnings.append(
                f"{path.name} holds {values}, all taken for the class (a label map of several classes, or shares of "
                "voxels?)"
            )
        found: np.ndarray[Any, np.dtype[np.bool_]] = numbers != 0
        return found

    def _files_of(self, folder: Path) -> tuple[Path, dict[str, Path]] | None:
        """Image and masks of a case folder; None for a folder that holds no image file."""
        files = _by_name(folder)
        if not files:
            return None
        places = [folder / name for name in _FOLDERS if (folder / name).is_dir()]
        below = places[0] if places else None
        self._left += [f"{folder.name}/{other.name}/" for other in places[1:]]
        wanted = [self._image] if self._image else [name for name in files if name.casefold() in _IMAGES]
        if not self._image and below is not None and len(files) == 1:
            wanted = list(files)
        if len(wanted) != 1 or wanted[0] not in files:
            raise SourceError(
                f"{folder} must hold one image, got {', '.join(sorted(files)[:8])}; say which with --image",
                case=folder.name,
            )
        image = files.pop(wanted[0])
        if below is not None:
            self._left += [f"{folder.name}/{path.name}" for path in files.values()]
            files = _by_name(below)
        return image, dict(sorted(files.items()))


def _refuse_alike(names: Sequence[str]) -> None:
    """Refuse names that differ in spelling only: they are one class, and a case that has one lacks the other."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(fold_name(name), name)
        if other != name:
            raise SourceError(
                f"the masks {other} and {name} differ in spelling only; give the files of one class one name"
            )


def _by_name(folder: Path) -> dict[str, Path]:
    """The image files of a folder by their names without endings.

    Raises:
        SourceError: Two files have one name and other endings, so that it is not known which is meant.
    """
    found: dict[str, Path] = {}
    for path, suffix in _images(folder):
        other = found.setdefault(path.name.removesuffix(suffix), path)
        if other is not path:
            raise SourceError(f"{folder} holds {other.name} and {path.name} for one; keep the one that is meant")
    return found


def _images(folder: Path) -> list[tuple[Path, str]]:
    """The image files of a folder with their endings."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return [(path, suffix) for path in files if (suffix := image_suffix(path.name))]
