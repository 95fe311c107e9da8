"""The meaning of names of image files: the key, whether a number is a channel, and whether it is a segmentation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from volseg.files import SERIES
from volseg.labels import fold_channel
from volseg.volume import IMAGE_SUFFIXES

NIFTI = (".nii.gz", ".nii")
# Volumes of formats that are not read: such a case fails and says why, so that no patient is left out silently.
_UNREAD = (".nii.zst", ".nii.bz2", ".nii.xz", ".nii.zip", ".nii.7z", ".nrrd.zst", ".hdr", ".gipl", ".gipl.gz", ".mnc")
_SEGMENTATIONS = (".seg.nrrd", ".seg.nhdr")

_NUMBERED = re.compile(r"(?P<before>.+)_(?P<number>\d{4})")
# The last word of a name, with the number behind it: liver_seg, sub-01_dseg, segmentation-12, label0001, aparc+aseg.
_MASK = re.compile(
    r"(^|[_\-. +])(gt|seg|dseg|probseg|aseg|segmentations?|labels?|labelmap|masks?|ground[_\- ]?truth|truth)"
    r"([_\- ]?\d+)?$"
)

_FRAME = re.compile(r"(.+)_frame\d+")


def image_stem(name: str) -> str | None:
    """The name of an image file without its ending; None if it is no volume.

    >>> image_stem("case1.nii.gz"), image_stem("case1.NRRD"), image_stem("notes.txt"), image_stem(".hidden.nii")
    ('case1', 'case1', None, None)
    """
    lower = name.lower()
    if name.startswith("."):
        return None
    for ending in (*_SEGMENTATIONS, *_UNREAD, *IMAGE_SUFFIXES, SERIES):
        if lower.endswith(ending) and len(name) > len(ending):
            return name[: -len(ending)]
    return None


def is_segmentation(name: str) -> bool:
    """Whether a file has the name of a segmentation, a label map or a mask, and not of a scan.

    >>> [is_segmentation(f"patient1{word}.nii.gz") for word in ("_gt", "-seg", "_dseg", "_mask", "_T1w", "_frame01")]
    [True, True, True, True, False, False]
    >>> is_segmentation("segmentation-12.nii"), is_segmentation("volume-12.nii"), is_segmentation("ct.seg.nrrd")
    (True, False, True)
    """
    if name.lower().endswith(_SEGMENTATIONS):
        return True
    return _MASK.search((image_stem(name) or name).casefold()) is not None


def series_in_time(names: Sequence[str]) -> list[str]:
    """The files that are whole series in time beside their own frames, as ACDC's `patient001_4d` beside `_frame01`.

    >>> series_in_time(["patient001_4d.nii.gz", "patient001_frame01.nii.gz", "patient002_4d.nii.gz"])
    ['patient001_4d.nii.gz']
    """
    stems = {name: (image_stem(name) or name).casefold() for name in names}
    framed = {found[1] for stem in stems.values() if (found := _FRAME.fullmatch(stem))}
    return [name for name, stem in stems.items() if stem.endswith("_4d") and stem.removesuffix("_4d") in framed]


def lone_key(name: str) -> str:
    """The key of a file on its own: `_0000` at the end is the number of its channel, other numbers belong to the key.

    >>> lone_key("case1_0000.nii.gz"), lone_key("amos_0001.nii.gz"), lone_key("word_0002.nii")
    ('case1', 'amos_0001', 'word_0002')
    """
    stem = image_stem(name) or name
    found = _NUMBERED.fullmatch(stem)
    return found["before"] if found and found["number"] == "0000" else stem


def channel_number(name: str) -> tuple[str, int] | None:
    """The name before the four digits at its end, and their number; None if there are none.

    >>> channel_number("case1_0001.nii.gz"), channel_number("case1.nii.gz")
    (('case1', 1), None)
    """
    found = _NUMBERED.fullmatch(image_stem(name) or name)
    return (found["before"], int(found["number"])) if found else None


def group_files(files: Iterable[Path], *, channels: int | Sequence[str] = 1) -> list[tuple[str, list[Path]]]:
    """Group files into cases, each with its key and one file per channel, in the order of the channels.

    A number at the end of a name is that of a channel only if `_0000` is beside it, in the same folder; `amos_0001` and
    `amos_0002` are two cases. If channels are named, `KEY-t1c` and so on are one case, provided that there is a file
    for each of them. A case that lacks a channel is returned with the name of the absent file, and one with further
    channels is returned with all of its files, so that reading it reports what is wrong.

    Args:
        files: Image files.
        channels: Number of the network's channels, or their names in its order.

    Returns:
        Pairs (key, files), sorted by key; a key may come twice, see `volseg.inference.check_output`.
    """
    count = channels if isinstance(channels, int) else len(channels)
    numbered: dict[tuple[Path, str, str], dict[int, Path]] = {}
    left: list[Path] = []
    for file in sorted(files):
        if found := channel_number(file.name):
            ending = file.name[len(image_stem(file.name) or "") :]
            numbered.setdefault((file.parent, found[0], ending), {})[found[1]] = file
        else:
            left.append(file)
    cases: list[tuple[str, list[Path]]] = []
    for (folder, before, ending), found_files in numbered.items():
        if 0 not in found_files:
            left += found_files.values()
            continue
        expected = {number: folder / f"{before}_{number:04d}{ending}" for number in range(count)}
        cases.append((before, [file for _, file in sorted((expected | found_files).items())]))
    if not isinstance(channels, int) and count > 1:
        named, left = _by_channel_name(left, channels)
        cases += named
    cases += [(image_stem(file.name) or file.name, [file]) for file in left]
    return sorted(cases, key=lambda case: (case[0], case[1]))


def _by_channel_name(files: Sequence[Path], names: Sequence[str]) -> tuple[list[tuple[str, list[Path]]], list[Path]]:
    """The cases of files with names of channels, such as `KEY-t1c` and `KEY_T2w`; and the other files."""
    wanted = [fold_channel(name) for name in names]
    if len(set(wanted)) < len(wanted):
        return [], list(files)
    found: dict[tuple[Path, str], dict[str, Path]] = {}
    for file in files:
        parts = re.fullmatch(r"(.*?)[_\-.]([^_\-.]+)", image_stem(file.name) or file.name)
        if parts and fold_channel(parts[2]) in wanted:
            found.setdefault((file.parent, parts[1]), {}).setdefault(fold_channel(parts[2]), file)
    whole = {place: of_case for place, of_case in found.items() if len(of_case) == len(wanted)}
    taken = {file for of_case in whole.values() for file in of_case.values()}
    cases = [(before, [of_case[name] for name in wanted]) for (_, before), of_case in whole.items()]
    return cases, [file for file in files if file not in taken]


def some_names(names: Sequence[str]) -> str:
    """At most three names for a message, and the number of the others.

    >>> some_names(["a", "b", "c", "d"])
    'a, b, c and 1 more'
    """
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
