"""What a raw folder holds that becomes no case, and what is doubtful about the pairs that it lists."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from volseg.cohort import Fold, read_splits
from volseg.errors import CohortError
from volseg.formats.segmentation_file import SEGMENTATION_SUFFIX
from volseg.volume import image_suffix

logger = logging.getLogger(__name__)

_FOLDERS = ("imagesTr", "imagesTs", "labelsTr", "labelsTs")
_SHOWN = 3


def left_out_note(raw: Path, used: Iterable[Path], *, listed: bool) -> str | None:
    """A warning of image files in nnU-Net's and the decathlon's folders that belong to no case; None if there are none.

    Args:
        raw: Raw folder.
        used: Files of the cases.
        listed: Whether dataset.json lists the cases.
    """
    taken = {path.resolve() for path in used}
    left = [
        path.relative_to(raw).as_posix()
        for folder in _FOLDERS
        for path in sorted((raw / folder).rglob("[!.]*"))
        if _is_image(path.name) and path.is_file() and path.resolve() not in taken
    ]
    if not left:
        return None
    told = ", ".join(left[:_SHOWN]) + (", ..." if len(left) > _SHOWN else "")
    if listed:
        return f"files that dataset.json does not list were left out, {len(left)} in all: {told}"
    return (
        f"files that belong to no case were left out, {len(left)} in all: {told} (images are called KEY_0000.nii.gz "
        "and so on in imagesTr, their labels KEY.nii.gz in labelsTr)"
    )


def number_note(dataset: Mapping[str, Any], found: int) -> str | None:
    """A warning if dataset.json states more training cases than there are.

    Args:
        dataset: Content of the file.
        found: Number of training cases.
    """
    stated = dataset.get("numTraining")
    if isinstance(stated, str) and stated.strip().isdigit():
        stated = int(stated)
    if isinstance(stated, bool) or not isinstance(stated, int) or stated <= found:
        return None
    return f"dataset.json states {stated} training cases (numTraining), and {found} are there; copy the others"


def pair_notes(labels: Mapping[str, Path | None]) -> list[str]:
    """Warnings of label files that stand for several images, or are called as another image is.

    Args:
        labels: Label file by case key.
    """
    of_file: dict[Path, list[str]] = {}
    for key, path in labels.items():
        if path is not None:
            of_file.setdefault(path.resolve(), []).append(key)
    notes = [
        f"{path.name} is the label of {len(keys)} images: {', '.join(keys[:_SHOWN])}{', ...' * (len(keys) > _SHOWN)}"
        for path, keys in of_file.items()
        if len(keys) > 1
    ]
    crossed = [
        f"{key} has {path.name}"
        for path, (key, *others) in of_file.items()
        if not others and (stem := _stem(path.name)) != key and stem in labels
    ]
    if crossed:
        told = ", ".join(crossed[:_SHOWN]) + (", ..." if len(crossed) > _SHOWN else "")
        notes.append(f"the labels of {len(crossed)} cases are called as other images are: {told}; are they swapped?")
    return notes


def folds_beside(raw: Path, keys: Iterable[str]) -> tuple[Fold, ...]:
    """The folds of `splits.json` or `splits_final.json` in a raw folder, without keys of no case.

    A file that cannot be used is left aside, with a warning.

    Args:
        raw: Raw folder.
        keys: Keys of the labelled cases.
    """
    path = next((path for name in ("splits.json", "splits_final.json") if (path := raw / name).is_file()), None)
    if path is None:
        return ()
    try:
        folds = read_splits(path)
    except CohortError as error:
        logger.warning("other folds are drawn: %s", error.message)
        return ()
    known = set(keys)
    stated = {key for fold in folds for key in (*fold.training, *fold.validation)}
    if unknown := sorted(stated - known):
        logger.warning(
            "%s names %d keys that are of no labelled case, such as %s%s",
            *(path, len(unknown), unknown[0], "; other folds are drawn" if not stated & known else ""),
        )
    kept = (
        Fold(tuple(k for k in fold.training if k in known), tuple(k for k in fold.validation if k in known))
        for fold in folds
    )
    return tuple(fold for fold in kept if fold.training and fold.validation)


def tell(notes: Sequence[str | None]) -> tuple[str, ...]:
    """Log the notes that there are, and return them."""
    told = tuple(note for note in notes if note)
    for note in told:
        logger.warning("%s", note)
    return told


def _is_image(name: str) -> bool:
    return image_suffix(name) is not None or name.lower().endswith(SEGMENTATION_SUFFIX)


def _stem(name: str) -> str:
    return name.removesuffix(image_suffix(name) or "").removesuffix("_0000")
