"""The inbox: the files in a folder, the groups they belong to, and which groups are complete."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from volseg.dicom import is_apple_double, is_dicom, name_shape, series_of
from volseg.errors import SourceError, UsageError
from volseg.inference import NIFTI as NIFTI
from volseg.inference import channel_number, image_stem, lone_key

logger = logging.getLogger(__name__)

# Names that programs give to an unfinished file.
_BEGINNINGS = (".", "~")
_ENDINGS = (".tmp", ".temp", ".part", ".partial", ".filepart", ".download", ".crdownload", "~")

_ARCHIVES = (".zip", ".7z", ".rar", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
_UNPACK = "an archive in the inbox is not opened; put the files there that it holds"

_ASIDE = "aside"  # complete, and no image
_IMAGE = "image"  # what belongs to it depends on the files beside it
_OTHER = "other"  # no DICOM and no image; only its name may say that it was one
_PACKED = "packed"  # an archive
_ANY = ""  # owner of a file that may belong to any series of its folder
_UNKNOWN = ""  # not yet complete, damaged, or no medical image


@dataclass(frozen=True, slots=True)
class _File:
    """A file at the last look: size, time of change, time since it is unchanged, and its group."""

    size: int
    changed_ns: int
    since: float
    group: str
    partial: bool


@dataclass(frozen=True)
class Delivery:
    """Files that belong together and are at rest: a DICOM series, the channels of a NIfTI case, a damaged file.

    Attributes:
        group: Name of the group within this run, which tells nothing of a patient.
        kind: `dicom`, `nifti` or `damaged`.
        files: Files, sorted.
        signature: Text that changes with the path, size or time of change of any of them.
        beside: Files of their folders that may be slices of this one: damaged, alone of their series and of its patient
            or study, unfinished copies of it, of its UID and another patient or study, or called as its files are
            without being DICOM.
    """

    group: str
    kind: str
    files: tuple[Path, ...]
    signature: str
    beside: tuple[Path, ...] = ()


class Inbox:
    """A folder that files arrive in, which is listed again and again.

    Files belong together by what they hold: DICOM images by their series, whatever they and their folders are called;
    NIfTI files of one folder by the key in their name, `KEY_0000.nii.gz`, `KEY_0001.nii.gz` and so on. Without a file
    `_0000` beside it a number is part of a key, and `KEY.nii.gz` of two folders are two cases. They are at rest once
    none of them has been seen to change, appear or grow for `settle_s` seconds. A file with a temporary name (`.x`,
    `~x`, `x.tmp`, `x.part`, `x.partial`, `x.filepart`, `x.download`, ...) is never taken, and keeps its series waiting
    while it changes. So does a file that may be DICOM and cannot be read yet, for all series in its folder. Hidden
    folders are not looked into. Clocks of other machines do not matter: what counts is how long this one has seen no
    change.

    Args:
        folder: Folder, with all folders below it.
        settle_s: Seconds without a change after which files are at rest.
        clock: Clock in seconds that never goes back.

    Raises:
        UsageError: There is no such folder.
    """

    def __init__(self, folder: Path, *, settle_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        if not folder.is_dir():
            raise UsageError(f"there is no folder {folder}; name the one that series are dropped into")
        self.folder = folder
        self.settle_s = settle_s
        self.waiting = 0
        """Groups that have not come to rest, and files that cannot be read yet, at the last look."""
        self._clock = clock
        self._files: dict[str, _File] = {}
        self._done: dict[str, str] = {}
        self._told: set[str] = set()

    def look(self) -> list[Delivery]:
        """List the groups that are at rest and not done, the one that rests longest first.

        Raises:
            OSError: The folder itself cannot be read.
        """
        now = self._clock()
        seen: dict[str, _File] = {}
        told: dict[str, str] = {}
        for path, size, changed_ns in _walk(self.folder, told):
            known = self._files.get(path)
            if known is None or (known.size, known.changed_ns) != (size, changed_ns):
                known = _File(size, changed_ns, now, self._group(path), is_partial(path))
            seen[path] = known
        self._files = seen
        told |= dict.fromkeys((path for path, file in seen.items() if file.group == _PACKED), _UNPACK)
        for path in sorted(told.keys() - self._told):  # whose name may be a patient's
            logger.warning("%s", told[path])
        self._told = set(told)
        groups: dict[str, list[str]] = {}
        firsts = {_channels_of(path) for path, file in seen.items() if file.group == _IMAGE and _is_first(path)}
        unreadable: list[str] = []
        others: dict[str, list[str]] = {}  # by folder
        unsettled: set[str] = set()  # folders with a file that might belong to anything
        for path, file in seen.items():
            if file.group == _IMAGE:
                channels = _channels_of(path)
                shared = channels if channels in firsts else path
                key = lone_key(os.path.basename(shared.partition("\n")[0]))  # noqa: PTH119
                groups.setdefault(f"nifti:{_short(key)}{_short(shared)}", []).append(path)
            elif file.group not in (_ASIDE, _OTHER, _PACKED, _UNKNOWN):
                groups.setdefault(file.group, []).append(path)
            elif file.group == _UNKNOWN and now - file.since < self.settle_s:
                unsettled.add(os.path.dirname(path))  # noqa: PTH120 - of very many strings
            elif file.group == _UNKNOWN and not file.partial and _claims_dicom(path):
                unreadable.append(path)
            elif file.group in (_OTHER, _UNKNOWN):
                others.setdefault(os.path.dirname(path), []).append(path)  # noqa: PTH120
        self.waiting = len(unsettled)
        stray: dict[tuple[str, str], list[str]] = {}  # by folder and owner
        for path in unreadable:
            stray.setdefault((os.path.dirname(path), _ANY), []).append(path)  # noqa: PTH120
        for group, paths in groups.items():
            for owner in _owners(group, stray=True) if len(paths) == 1 else ():
                stray.setdefault((os.path.dirname(paths[0]), owner), []).append(paths[0])  # noqa: PTH120
        sharing: dict[str, list[str]] = {}  # groups by the UID of their series
        for group in groups:
            sharing.setdefault(group.rpartition(":")[2], []).append(group)
        resting: list[tuple[float, Delivery]] = []
        for group, paths in groups.items():
            since = max(seen[path].since for path in paths)
            whole = sorted(path for path in paths if not seen[path].partial)
            if now - since < self.settle_s or any(os.path.dirname(path) in unsettled for path in paths):  # noqa: PTH120
                self.waiting += 1
            elif whole:
                kind = group.partition(":")[0]
                folders = {os.path.dirname(path) for path in whole} if kind == "dicom" else set()  # noqa: PTH120
                # One image beside another is a slice of it at most where both are of one study.
                owners = (_ANY, *_owners(group)[len(paths) == 1 :])
                places = [(folder, owner) for folder in folders for owner in owners]
                beside = {path for place in places for path in stray.get(place, ())} - set(whole)
                beside |= set(_alike(whole, [path for folder in folders for path in others.get(folder, ())]))
                if kind == "dicom":  # unfinished copies, and slices that state another patient or study
                    beside |= set(paths) - set(whole)
                    beside.update(*(groups[other] for other in sharing[group.rpartition(":")[2]] if other != group))
                resting.append((since, self._delivery(group, kind, whole, sorted(beside))))
        for path in unreadable:
            group = f"damaged:{_short(path)}"
            groups[group] = [path]
            resting.append((seen[path].since, self._delivery(group, "damaged", [path])))
        self._done = {group: signature for group, signature in self._done.items() if group in groups}
        resting.sort(key=lambda pair: (pair[0], pair[1].group))
        return [delivery for _, delivery in resting if self._done.get(delivery.group) != delivery.signature]

    def done(self, delivery: Delivery) -> None:
        """Do not give this delivery again, unless its files change."""
        self._done[delivery.group] = delivery.signature

    def unchanged(self, delivery: Delivery) -> bool:
        """Whether the files are unchanged since the delivery was given."""
        try:
            states = [path.stat() if path.exists() else path.lstat() for path in (*delivery.files, *delivery.beside)]
        except OSError:
            return False
        files = (*delivery.files, *delivery.beside)
        sizes = [s.st_size if not stat.S_ISLNK(s.st_mode) else 0 for s in states]
        facts = [(str(path), size, s.st_mtime_ns) for path, size, s in zip(files, sizes, states, strict=True)]
        return _signature(facts) == delivery.signature

    def _delivery(self, group: str, kind: str, paths: list[str], beside: Sequence[str] = ()) -> Delivery:
        facts = [(path, self._files[path].size, self._files[path].changed_ns) for path in (*paths, *beside)]
        return Delivery(group, kind, tuple(map(Path, paths)), _signature(facts), tuple(map(Path, beside)))

    def _group(self, path: str) -> str:
        """The group of a file, as a word without meaning."""
        name = os.path.basename(path)  # noqa: PTH119
        if image_stem(name) is not None:
            return _IMAGE
        if name.lower().endswith(_ARCHIVES):
            return _PACKED
        try:
            shared = series_of(Path(path), root=self.folder)
        except (SourceError, OSError):
            return _UNKNOWN if _may_become_dicom(path) else _OTHER
        if shared is None:
            return _ASIDE
        patient, study = map(_short, shared[:2])
        states = "series" if len(shared) == 3 else ""
        return ":".join(("dicom", _short(repr(shared)), patient, study, states, _short(shared[2])))


def _owners(group: str, *, stray: bool = False) -> tuple[str, ...]:
    """Patient and study of a DICOM group, as words; a stray image that states no series may be of any."""
    if not group.startswith("dicom:"):
        return ()
    _, _, patient, study, states, _ = group.split(":")
    return (_ANY,) if stray and not states else (patient, study)


def nifti_key(name: str) -> str:
    """The key in the name of a NIfTI file that is on its own or is the first channel of its case.

    >>> nifti_key("case1.nii.gz"), nifti_key("case1_0000.nii"), nifti_key("amos_0001.nii.gz")
    ('case1', 'case1', 'amos_0001')
    """
    return lone_key(name)


def _channels_of(path: str) -> str:
    """The common part of the channels of one case: their folder, the name before the number, and the ending."""
    folder, name = os.path.split(path)
    found = channel_number(name)
    return path if found is None else f"{folder}/{found[0]}\n{name[len(found[0]) + 5 :]}"


def _is_first(path: str) -> bool:
    found = channel_number(os.path.basename(path))  # noqa: PTH119 - of very many strings
    return found is not None and found[1] == 0


def _walk(folder: Path, told: dict[str, str]) -> Iterator[tuple[str, int, int]]:
    """Path, size and time of change of every file, and of links to none; one that vanishes meanwhile is left out.

    Args:
        folder: Folder to list.
        told: Dictionary that gets the folders that are not seen, and what to say of them.
    """
    stack = [str(folder)]
    while stack:
        path = stack.pop()
        try:
            with os.scandir(path) as entries:
                found = list(entries)
        except FileNotFoundError:
            if path == str(folder):
                raise
            continue
        except OSError as error:
            if path == str(folder):
                raise
            reason = error.strerror or type(error).__name__
            told[path] = f"a folder in the inbox cannot be read ({reason}); its series are not seen"
            continue
        for entry in found:
            try:
                if entry.is_dir(follow_symlinks=False):
                    if not entry.name.startswith("."):
                        stack.append(entry.path)
                elif entry.is_symlink() and entry.is_dir():
                    told.setdefault(entry.path, "a link to a folder in the inbox is not followed; put the folder there")
                elif entry.is_file():
                    state = entry.stat()
                    yield entry.path, state.st_size, state.st_mtime_ns
                elif entry.is_symlink() and not Path(entry.path).exists():
                    yield entry.path, 0, entry.stat(follow_symlinks=False).st_mtime_ns
            except OSError:
                continue


def _alike(images: Sequence[str], others: Sequence[str]) -> list[str]:
    """The files that are called as images of their folder are, but for the digits."""
    if not others:
        return []
    shapes = {(os.path.dirname(path), name_shape(Path(path))) for path in images}  # noqa: PTH120
    return [path for path in others if (os.path.dirname(path), name_shape(Path(path))) in shapes]  # noqa: PTH120


def is_partial(path: str) -> bool:
    """Whether a file has the name of an unfinished one.

    >>> is_partial("in/003.dcm.part"), is_partial("in/003.dcm")
    (True, False)
    """
    name = os.path.basename(path).lower()  # noqa: PTH119
    return name.startswith(_BEGINNINGS) or name.endswith(_ENDINGS)


def _may_become_dicom(path: str) -> bool:
    """Whether a file that cannot be read as DICOM is damaged or incomplete, rather than of another kind.

    Some programs give a file its full size first, filled with zeros; others write it from its beginning.
    """
    try:
        if is_apple_double(Path(path)):
            return False
        with open(path, "rb") as file:  # noqa: PTH123 - of very many strings
            head = file.read(132)
        return _claims_dicom(path) or len(head) < 132 or not any(head[128:])
    except OSError:
        return True


def _claims_dicom(path: str) -> bool:
    """Whether a file that could not be read as DICOM is meant to be."""
    try:
        return (path.lower().endswith(".dcm") and not is_apple_double(Path(path))) or is_dicom(Path(path))
    except OSError:
        return True


def _signature(facts: list[tuple[str, int, int]]) -> str:
    return _short(repr(facts))


def _short(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:24]
