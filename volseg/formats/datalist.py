"""The lists of a `dataset.json`: those of the decathlon, of MONAI's recipes, of nnU-Net versions 1 and 2, of KiTS."""

from __future__ import annotations

import logging
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from volseg.errors import SourceError
from volseg.volume import image_suffix

logger = logging.getLogger(__name__)

# Names that say nothing of the case: it is called after its folder then.
_OF_NO_CASE = {"image", "imaging", "img", "ct", "mr", "mri", "volume", "scan", "data"}
_BACKGROUND = {"background", "bg", "unlabelled", "unlabeled", "none", "clear label"}
_CHANNEL = re.compile(r"_\d{4}$")
_PATIENT = ("patient", "patient_id", "subject", "subject_id")
_FOLD = re.compile(r"(?:fold[ _-]?)?(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class ListedCase:
    """One case of a list.

    Attributes:
        key: Case key.
        images: One path per channel, or one file with all channels.
        label: Path of the label map; None if there is none.
        part: `training`, `validation` or `test`, the list that it stands in.
        fold: Fold that validates it, where the list says so.
        patient: Patient, where the list says so.
    """

    key: str
    images: tuple[Path, ...]
    label: Path | None
    part: str
    fold: int | None = None
    patient: str | None = None


def channels_of(dataset: Mapping[str, Any], where: Path) -> tuple[str, ...]:
    """The channel names of `channel_names` or `modality`, which may be an object by number, or a list.

    Raises:
        SourceError: Neither is there, or numbers are missing.
    """
    names = dataset.get("channel_names") or dataset.get("modality")
    if isinstance(names, str) and names:
        names = [names]
    if isinstance(names, list) and names:
        names = {str(number): name for number, name in enumerate(names)}
    if not isinstance(names, dict) or not names:
        raise SourceError(f'{where} names no channel; add "modality" or "channel_names"')
    if not all(str(key).isdigit() for key in names):
        raise SourceError(f'{where} names the channels {names}, expected {{"0": "MRI", ...}}')
    return tuple(str(names[key]) for key in sorted(names, key=int))


def labels_of(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """The content of `dataset.json` with `labels` as an object, if it is a list of names in the order of their values.

    A list that does not begin with the background is taken to begin with the value 1, with a warning.

    Raises:
        SourceError: A name that stands twice.
    """
    labels = dataset.get("labels")
    if not isinstance(labels, list) or not labels or not all(isinstance(name, str) for name in labels):
        return dict(dataset)
    if len(set(labels)) < len(labels):
        raise SourceError(f"dataset.json lists the labels {labels}, one of them twice; name each value")
    first = 0 if labels[0].casefold() in _BACKGROUND else 1
    if first == 0:
        labels = ["background", *labels[1:]]
    else:
        logger.warning("the labels are a list that begins with %s, which is taken for the value 1", labels[0])
    return {**dataset, "labels": {name: value for value, name in enumerate(labels, start=first)}}


def listed_cases(dataset: Mapping[str, Any], raw: Path, *, channels: int) -> list[ListedCase] | None:
    """The cases that a `dataset.json` lists, or None if it lists none and the folders hold them.

    Args:
        dataset: Content of the file.
        raw: Folder that relative paths are of.
        channels: Number of channels.

    Raises:
        SourceError: An entry that names no image, a training case without a label, or a case that is listed twice.
    """
    if isinstance(dataset.get("dataset"), Mapping):
        return _of_nnunet(dataset["dataset"], raw)
    if "training" in dataset and not isinstance(dataset["training"], list):
        raise SourceError(f"dataset.json must hold a list under 'training', got {type(dataset['training']).__name__}")
    if "training" not in dataset:
        return None
    cases: list[ListedCase] = []
    for part in ("training", "validation", "test"):
        entries = dataset.get(part) or []
        if not isinstance(entries, list):
            raise SourceError(f"dataset.json must hold a list under {part!r}, got {type(entries).__name__}")
        found = [_entry(item, part, raw, channels=channels) for item in entries]
        if part == "training":
            _tell_unlabelled(found)
        cases += found
    seen: dict[str, ListedCase] = {}
    for case in cases:
        if case.key in seen:
            raise SourceError(
                f"dataset.json lists the case twice ({case.images[0]} in {case.part}, {seen[case.key].images[0]} in "
                f"{seen[case.key].part}); keep one, or give files of two cases different names",
                case=case.key,
            )
        seen[case.key] = case
    return [_without_channel(case, seen) for case in cases]


def _tell_unlabelled(cases: Sequence[ListedCase]) -> None:
    """Say which training cases have no label; they are kept as cases without one.

    Raises:
        SourceError: None of them has a label.
    """
    bare = [str(case.images[0]) for case in cases if case.label is None]
    if bare and len(bare) == len(cases):
        raise SourceError(f"dataset.json lists {bare[0]} for training, expected an image and a label")
    if bare:
        more = f" and {len(bare) - 3} more" if len(bare) > 3 else ""
        logger.warning(
            "%d of %d training cases are listed without a label and are taken as cases without one: %s%s",
            *(len(bare), len(cases), ", ".join(bare[:3]), more),
        )


def _without_channel(case: ListedCase, others: Mapping[str, ListedCase]) -> ListedCase:
    """KEY for KEY_0000, unless such numbers are those of patients: KEY_0001 is another case then."""
    stem = case.key.removesuffix("_0000")
    numbered = any(_CHANNEL.sub("", key) == stem and key != case.key for key in others)
    return case if stem == case.key or numbered or stem in others else replace(case, key=stem)


def _entry(item: object, part: str, raw: Path, *, channels: int) -> ListedCase:
    image, label, fold = item, None, None
    if isinstance(item, Mapping):
        image, label, fold = item.get("image"), item.get("label"), item.get("fold")
    images = [image] if isinstance(image, str) else image
    if not isinstance(images, list) or not images or not all(isinstance(one, str) and one for one in images):
        wanted = "an image" if part == "test" else "an image and a label"
        raise SourceError(f"dataset.json lists {item!r} for {part}, expected {wanted}")
    if isinstance(label, list):
        if len(label) != 1:
            raise SourceError(
                f"dataset.json lists {len(label)} label files for {images[0]}, expected one label map; masks of one "
                "class "
                "each are converted with `volseg convert class_masks`"
            )
        label = label[0]
    if label is not None and not isinstance(label, str):
        raise SourceError(f"dataset.json lists {item!r} for {part}, expected an image and a label")
    if not label and isinstance(item, Mapping) and (other := _other_file(item)):
        raise SourceError(
            f"dataset.json lists {item!r} for {part}, with a file under {other!r} and none under 'label'; call it label"
        )
    images = [one if _is_file(raw, one) else one.strip() for one in images]  # a blank at the end is overlooked
    paths = tuple(_path(raw, one) for one in images)
    if len(paths) == 1 and not paths[0].is_file():
        # nnU-Net version 1 lists KEY.nii.gz for KEY_0000.nii.gz, KEY_0001.nii.gz, ...
        paths = _with_numbers(paths[0], channels) or paths
    mask = _path(raw, label if _is_file(raw, label) else label.strip()) if label else None
    return ListedCase(_key(images), paths, mask, part, _fold(fold, images[0]), _patient(item))


def _patient(item: object) -> str | None:
    """The patient that an entry names; None if it names none."""
    if not isinstance(item, Mapping):
        return None
    stated = next((item[name] for name in _PATIENT if item.get(name) not in (None, "")), None)
    return str(stated).strip() if isinstance(stated, str | int) and not isinstance(stated, bool) else None


def _other_file(item: Mapping[Any, Any]) -> str | None:
    """The name of an entry's further file, where the label stands under another name."""
    return next(
        (
            str(name)
            for name, value in item.items()
            if name != "image" and isinstance(value, str) and image_suffix(value)
        ),
        None,
    )


def _path(raw: Path, text: str) -> Path:
    r"""A path of a list below its folder; Windows separates names by `\`.

    Raises:
        SourceError: It names a drive of Windows, and no such file is here; or it is no name of a file.
    """
    path, there = raw / text, PureWindowsPath(text)
    if _is_file(raw, text) or not ("\\" in text or there.drive):
        return path
    if there.drive or there.root:
        raise SourceError(
            f"dataset.json lists {text}, a path of a computer with Windows; write it relative to {raw}, such as "
            f"{'/'.join(there.parts[-2:])}"
        )
    return raw / there.as_posix()


def _is_file(raw: Path, text: str) -> bool:
    """Whether a path of a list is a file.

    Raises:
        SourceError: It is no name that a file can have, such as one with a NUL character or of too many letters.
    """
    try:
        return stat.S_ISREG((raw / text).stat().st_mode)
    except (FileNotFoundError, NotADirectoryError, PermissionError):  # which is told where it is read
        return False
    except (OSError, ValueError) as error:  # too long; a character that no name has
        told = error.strerror if isinstance(error, OSError) else "a character that no name has"
        raise SourceError(
            f"dataset.json lists {text[:40]!r}, which is no name of a file ({told}); correct it"
        ) from error


def _fold(fold: object, image: str) -> int | None:
    """The number of a fold, also as text; None if none is stated."""
    if fold is None or fold == "" or fold != fold:  # NaN: an empty cell of a table
        return None
    if isinstance(fold, float) and fold.is_integer():
        fold = int(fold)
    if isinstance(fold, str) and (found := _FOLD.fullmatch(fold.strip())):
        fold = int(found[1])
    if not isinstance(fold, int) or isinstance(fold, bool) or fold < 0:
        raise SourceError(f"dataset.json gives {image} the fold {fold!r}, expected a whole number from 0")
    return fold


def _with_numbers(path: Path, channels: int) -> tuple[Path, ...]:
    suffix = image_suffix(path.name) or path.suffix
    stem = path.name.removesuffix(suffix)
    numbered = tuple(path.with_name(f"{stem}_{channel:04d}{suffix}") for channel in range(channels))
    return numbered if all(one.is_file() for one in numbered) else ()


def _key(images: Sequence[str]) -> str:
    """The name of the first image, or of its folder if that name says nothing; of channels what their names share."""
    path = PurePosixPath(images[0].replace("\\", "/"))
    stem = path.name.removesuffix(image_suffix(path.name) or path.suffix)
    if stem.casefold() in _OF_NO_CASE and path.parent.name:
        return path.parent.name
    if len(images) > 1:
        names = [PurePosixPath(one.replace("\\", "/")).name for one in images]
        stems = [name.removesuffix(image_suffix(name) or "") for name in names]
        shared = _shared_start(stems)
        return shared or path.parent.name or stem
    return stem


def _shared_start(stems: Sequence[str]) -> str:
    """What all begin with, up to the last separator: BraTS_001 of BraTS_001_t1 and BraTS_001_flair."""
    return re.sub(r"[^_-]*$", "", _prefix(stems)).rstrip("_-")


def _prefix(words: Sequence[str]) -> str:
    """The letters that all words begin with."""
    first, last = min(words), max(words)
    same = (a == b for a, b in zip(first, last, strict=False))
    return first[: next((n for n, alike in enumerate(same) if not alike), min(len(first), len(last)))]


def _of_nnunet(dataset: Mapping[str, Any], raw: Path) -> list[ListedCase]:
    """nnU-Net's `dataset` entry: only what stands there is of the data set."""
    cases = []
    for key, entry in dataset.items():
        images = entry.get("images") if isinstance(entry, Mapping) else None
        label = entry.get("label") if isinstance(entry, Mapping) else None
        if not isinstance(images, list) or not images or not all(isinstance(one, str) for one in images):
            raise SourceError(
                f'dataset.json lists {entry!r}, expected {{"images": [...], "label": ...}}', case=str(key)
            )
        paths = tuple(_path(raw, one) for one in images)
        mask = _path(raw, label) if isinstance(label, str) and label else None
        cases.append(ListedCase(str(key), paths, mask, "training"))
    return cases
