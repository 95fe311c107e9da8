"""Images and their masks found in a folder and paired by key, with everything that does not fit named."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

from volseg.errors import SourceError, UsageError, first_names
from volseg.files import files_below
from volseg.formats.image_file import DICOM_SUFFIXES, SUFFIXES
from volseg.formats.image_pattern import Pattern, safe_key

Missing = Literal["refuse", "unlabelled", "empty"]
MISSING: tuple[Missing, ...] = get_args(Missing)

# What images are called too: kin of TIFF, which are read, and what is refused with a reason. Others are none of ours.
_LIKE_IMAGES = (*SUFFIXES, ".btf", ".lsm", ".stk", ".svs", ".ndpi", ".scn", ".jp2", ".j2k", ".jxl", ".heic", ".avif")


# The last word of the name of a mask, or of its folder.
_MASK = re.compile(
    r"(?:^|[ _.-])(masks?|labels?|gt|ground[ _-]?truth|seg|segmentations?|annotations?|(\d(st|nd)[ _-])?manual\d?)$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Pair:
    """One image and its masks, as paths below the raw folder.

    Attributes:
        patient: Word of images that belong together.
        image: File of the image; empty if there is none.
        masks: Sorted files that match, per mask pattern.
        labelled: Whether masks are expected.
        problem: Reason why this is no case; None if it is one.
    """

    patient: str
    image: str
    masks: tuple[tuple[str, ...], ...]
    labelled: bool
    problem: str | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """All of them."""
        return (*([self.image] if self.image else []), *(mask for of_pattern in self.masks for mask in of_pattern))


@dataclass(frozen=True)
class Pairs:
    """What a folder holds: the pairs by key, and files that are of none.

    Attributes:
        by_key: Pairs by key.
        others: Image files that no pattern matches.
        unread: Files that match the pattern of images, and whose ending is not that of an image.
    """

    by_key: dict[str, Pair]
    others: tuple[str, ...]
    unread: tuple[str, ...]


def mask_pattern(path: str) -> str | None:
    """A pattern for a file that is called as masks are, or lies in a folder of masks; None for any other.

    >>> [mask_pattern(name) for name in ("masks/a.png", "a_mask.png", "train/GT/7.tif", "images/a.png")]
    ['masks/{key}.*', '{key}_mask.*', 'train/GT/{key}.*', None]
    """
    file = PurePosixPath(path)
    word = _MASK.search(file.stem)
    if word is not None and word.start() > 0:
        return str(file.parent / f"{{key}}{file.stem[word.start() :]}.*")
    return str(file.parent / "{key}.*") if any(map(_MASK.search, file.parent.parts)) else None


def pair_files(raw: Path, images: Pattern, masks: Sequence[Pattern], *, missing: Missing = "refuse") -> Pairs:
    """Pair the files of a folder by key, and by patient where the patterns name it.

    A file that matches a pattern of masks is no image. Hidden files are left out.

    Args:
        raw: Folder of the images and masks.
        images: Pattern of the images; needs `{key}`.
        masks: Patterns of the masks; each needs `{key}`, and `{patient}` where that of the images has it. None for
            images without labels.
        missing: Meaning of an image without a mask: an error, a case without label, or one in which nothing is marked.

    Raises:
        UsageError: The patterns cannot pair, or there is no such folder.
    """
    if not raw.is_dir():
        raise UsageError(f"{raw} is no folder; name the folder that holds images and masks")
    for pattern in (images, *masks):
        if not pattern.keyed:
            raise UsageError(
                f"the pattern {pattern.text!r} has no {{key}}, the word that pairs an image with its masks"
            )
        if pattern.grouped != images.grouped:
            raise UsageError(f"{{patient}} stands in some of the patterns, {pattern.text!r}; put it into all or none")
    if missing not in MISSING:
        raise UsageError(f"missing masks are {missing!r}, expected {', '.join(MISSING)}")
    pictures: dict[tuple[str, str], list[str]] = {}
    marked: list[tuple[int, str, list[tuple[str, str]]]] = []
    others, unread = [], []
    # Folders of DICOM hold slices of volumes mostly: a pattern that names the ending says that they hold images.
    endings = (*_LIKE_IMAGES, *(end for end in DICOM_SUFFIXES if images.text.lower().endswith(end)))
    for path in _paths(raw):
        of_path = [(number, path, found) for number, mask in enumerate(masks) if (found := mask.identify(path))]
        marked += of_path
        if of_path:
            continue
        if not path.lower().endswith(endings):
            unread += [path] if images.identify(path) else []
            continue
        if found := images.identify(path):
            pictures.setdefault(found[0], []).append(path)
        else:
            others.append(path)
    drawn: dict[tuple[str, str], list[list[str]]] = {}
    for number, path, found in marked:  # `{key}_*.png` may be read in two ways: an image of one of the keys decides
        who = next((one for one in found if one in pictures), found[0])
        drawn.setdefault(who, [[] for _ in masks])[number].append(path)
    pairs: dict[str, Pair] = {}
    by_stem = sorted((PurePosixPath(path).stem, path) for path in others)
    for who in sorted(pictures.keys() | drawn.keys()):
        pair = _pair(who, pictures.get(who, []), drawn.get(who, [[] for _ in masks]), masks, missing, images)
        if pair.problem and pair.image and others and not any(drawn.get(who, [])):
            pair = replace(pair, problem=pair.problem.replace(_CORRECT, _meant(pair.image, masks, by_stem)))
        key = safe_key(*who)
        if key in pairs:
            clash = f"two images have the key {key}: {first_names([*pairs[key].files[:1], *pair.files[:1]])}"
            pair = Pair(pair.patient, pair.image, pair.masks, pair.labelled, f"{clash}; rename one")
        pairs[key] = pair
    return Pairs(pairs, tuple(others), tuple(unread))


_CORRECT = "correct the pattern"


def _pair(
    who: tuple[str, str],
    found: Sequence[str],
    drawn: Sequence[Sequence[str]],
    masks: Sequence[Pattern],
    missing: Missing,
    images: Pattern,
) -> Pair:
    files = tuple(tuple(of_pattern) for of_pattern in drawn)
    absent = [pattern.text for pattern, of_pattern in zip(masks, drawn, strict=True) if not of_pattern]
    labelled = bool(masks) and not (missing == "unlabelled" and len(absent) == len(masks))
    problem = None
    if not found:
        marks = [mask for of_pattern in drawn for mask in of_pattern]
        problem = (
            f"{first_names(marks)} has no image that matches {images.text!r}; correct a pattern or take the file away"
        )
    elif len(found) > 1:
        mask = None if masks else next(filter(None, map(mask_pattern, found)), None)
        cure = f"name the masks with --masks {mask!r}" if mask else "put what tells them apart into {key} or {patient}"
        problem = f"{len(found)} images have this key: {first_names(found)}; {cure}"
    elif labelled and absent and missing != "empty":
        problem = (
            f"{found[0]} has no mask that matches {' and '.join(map(repr, absent))}; {_CORRECT}, or say with "
            "--missing what that means: unlabelled (no mask at all) or empty"
        )
    patient = who[0] or safe_key(*who)
    return Pair(patient, found[0] if found else "", files, labelled, problem)


def _meant(image: str, masks: Sequence[Pattern], others: Sequence[tuple[str, str]]) -> str:
    """The cure: the pattern of a file that none matches and that is called as the mask of an image might be.

    Args:
        image: The image.
        masks: Patterns of the masks.
        others: Name without its ending, and path, of each file that no pattern matches, sorted.
    """
    stem = PurePosixPath(image).stem
    place = bisect_left(others, (stem, ""))
    if len(masks) != 1 or place == len(others) or not others[place][0].startswith(stem):
        return _CORRECT
    name = PurePosixPath(others[place][1])
    return f"did you mean {str(name.parent / name.name.replace(stem, '{key}', 1))!r}? Correct it"


def _paths(raw: Path) -> list[str]:
    """The files below a folder, sorted, with `/` between names; nothing hidden.

    Raises:
        SourceError: A folder cannot be listed.
    """
    try:
        return sorted(path.relative_to(raw).as_posix() for path in files_below(raw, hidden=False))
    except OSError as error:
        raise SourceError(
            f"{error.filename} cannot be listed ({error.strerror}); give the right to read it, or move it away"
        ) from error
