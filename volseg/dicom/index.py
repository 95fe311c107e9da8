"""What a folder tree of DICOM files holds: image series, outlines and segmentations, found by their UIDs."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.uid import (
    UID,
    MediaStorageDirectoryStorage,
    RTStructureSetStorage,
    SegmentationStorage,
)

from volseg.dicom import completeness
from volseg.dicom.choice import Choice
from volseg.dicom.copies import without_copies
from volseg.dicom.file import Quiet, is_apple_double, is_dicom, known_name, read_parts, syntax_of
from volseg.dicom.header import TAGS, instance_of, sop_class_of
from volseg.dicom.instance import RADIOGRAPHS, Instance, Series, name_shape, whole_name
from volseg.dicom.localizer import no_volume
from volseg.dicom.scans import scans, with_days
from volseg.dicom.syntaxes import remedy, syntax_name
from volseg.errors import SourceError, UsageError
from volseg.files import files_below

OUTLINES = frozenset({RTStructureSetStorage})
# Label Map Segmentation Storage is newer than pydicom's table.
LABEL_MAP = UID("1.2.840.10008.5.1.4.1.1.66.7")
SEGMENTATIONS = frozenset({SegmentationStorage, LABEL_MAP})
PACKED = "archives, which are not opened - unpack them"
_COLOURS = "colour images"
_FLAT = "images without a place in the patient"
_ARCHIVES = frozenset({".zip", ".gz", ".tgz", ".tar", ".bz2", ".xz", ".7z", ".rar"})


@dataclass
class Index:
    """A folder tree, read once.

    Attributes:
        series: the image series that can be volumes, and X-ray images, each by itself; sorted by UID.
        outlines: RTSTRUCT objects.
        segmentations: DICOM SEG objects.
        unreadable: name and reason of each damaged DICOM file.
        skipped: how many of what was left aside, for people.
    """

    series: list[Series] = field(default_factory=list)
    outlines: list[Instance] = field(default_factory=list)
    segmentations: list[Instance] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)

    def chosen(
        self, *, modality: str | None = None, description: str | None = None, mixed: bool = False
    ) -> list[Series]:
        """The series of one modality, whose description matches a regular expression (case does not count).

        X-ray images beside volumes are taken only where they are asked for; without volumes those of CR, DX and RG
        count as one modality.

        Args:
            modality: which; needed where there are several.
            description: the regular expression.
            mixed: several modalities are taken together.

        Raises:
            UsageError: no such series, or several modalities and none was chosen.
        """
        try:
            pattern = re.compile(description or "", re.IGNORECASE)
        except re.error as error:
            raise UsageError(f"--series {description!r} is no regular expression ({error})") from error
        found = [series for series in self.series if pattern.search(series.first.description)]
        if not found and description and self.series:
            raise UsageError(f"--series {description!r} matches the description of no series")
        if modality is None and not mixed:
            volumes = volumes_among(found)
            for item in found if len(volumes) < len(found) else ():
                if item.first.projection:
                    self.skipped[f"X-ray images ({item.modality}), which --modality {item.modality} takes"] += 1
            found = volumes
        there = Counter(series.modality or "unknown" for series in found)
        told = ", ".join(f"{name} ({count})" for name, count in sorted(there.items())) or "none"
        if modality is not None:
            found = [series for series in found if series.modality.upper() == modality.upper()]
            if not found:
                raise UsageError(f"there is no {modality} series that can be a volume; there are: {told}")
        elif len(there) > 1 and not mixed and not set(there) <= RADIOGRAPHS:
            raise UsageError(f"the series are of several modalities, {told}; choose one with --modality")
        return found


def volumes_among(series: Sequence[Series]) -> list[Series]:
    """Some series without the X-ray images among them; all of them if there is nothing else."""
    return [item for item in series if not item.first.projection] or list(series)


def scan(folder: str | Path, *, choices: Sequence[Choice] = ()) -> Index:
    """Read the headers below a folder, whatever the files are called and however they are sorted into folders.

    Args:
        folder: or a single file.
        choices: volumes that are asked for, see `index_files`.

    Raises:
        UsageError: there is no such folder or file.
    """
    root = Path(folder)
    if not root.exists():
        raise UsageError(f"there is no folder {root}; name the one that holds the DICOM files")
    below = root if root.is_dir() else root.parent
    unlisted: list[OSError] = []
    index = index_files(_files(root, unlisted), root=below, choices=choices)
    for error in unlisted:
        name = Path(str(error.filename)).relative_to(below).as_posix()
        index.unreadable[name] = f"a folder cannot be listed ({error.strerror}); give the right to read it"
    return index


def index_files(paths: Iterable[Path], *, root: Path | None = None, choices: Sequence[Choice] = ()) -> Index:
    """Read the headers of files.

    Args:
        paths: the files.
        root: what their names are told from.
        choices: volumes that are asked for: a multi-frame object of several directions counts where one is in it.
    """
    index = Index()
    images: dict[tuple[str, ...], list[Instance]] = {}
    others: list[tuple[Path, str]] = []
    damaged: dict[Path, str] = {}
    with Quiet():
        for path in paths:
            name = path.relative_to(root).as_posix() if root else path.as_posix()
            try:
                instance = _read(path, name, index.skipped)
            except OSError as error:
                index.unreadable[name] = damaged[path] = f"a file cannot be opened ({error.strerror})"
            except SourceError as error:
                index.unreadable[name] = damaged[path] = error.message
            else:
                if instance is None:
                    others.append((path, name))
                    continue
                if instance.sop_class in OUTLINES:
                    index.outlines.append(instance)
                elif instance.sop_class in SEGMENTATIONS:
                    index.segmentations.append(instance)
                elif not instance.rows:
                    index.skipped[
                        f"objects without an image ({known_name(instance.sop_class) or 'of no known kind'})"
                    ] += 1
                else:
                    images.setdefault(_series_of(instance), []).append(instance)
    for path, name in _misnamed(others, images.values()):
        reason = "a file is named as the images beside it and is no DICOM; copy it again"
        if _is_packed(path):
            reason = f"a file is named as the images beside it and is compressed ({path.suffix.lower()}); unpack it"
        index.unreadable[name] = damaged[path] = reason
        index.skipped["other files"] -= 1
    there = {item.path for found in images.values() for item in found}
    for path in [path for path in damaged if path.with_name(whole_name(path)) in there]:
        del damaged[path]  # what was left of a copy that was made again
        del index.unreadable[path.relative_to(root).as_posix() if root else path.as_posix()]
        index.skipped["unfinished copies of files that are there"] += 1
    packed = sum(_is_packed(path) for path, name in others if name not in index.unreadable)
    index.skipped["other files"] -= packed
    index.skipped[PACKED] = packed
    aside: list[Instance] = []
    for instances in images.values():
        index.series += _units(instances, index.skipped, aside, choices)
    index.series = with_days(without_copies(sorted(index.series, key=lambda series: (series.uid, series.part))))
    flat = [series for series in index.series if series.first.projection]
    volumes = [series for series in index.series if not series.first.projection]
    index.series = sorted(
        [*completeness.told(volumes, aside, damaged), *flat], key=lambda series: (series.uid, series.part)
    )
    index.skipped = +index.skipped
    return index


def _misnamed(others: Sequence[tuple[Path, str]], images: Iterable[list[Instance]]) -> Iterator[tuple[Path, str]]:
    """The files that are no DICOM, and are named as the images of their folder but for the digits.

    So is one whose copy was not finished, or that was compressed: `003.dcm.part`, `003.dcm.gz`.
    """
    if others:
        shapes = {(item.path.parent, name_shape(item.path)) for found in images for item in found}
        for path, name in others:
            whole = path.with_name(whole_name(path))
            if whole != path and whole.exists():  # what was left of its copy
                continue
            if (path.parent, name_shape(path)) in shapes and not is_dicom(path) and not is_apple_double(path):
                yield path, name


def _is_packed(path: Path) -> bool:
    """Whether a file is an archive or a compressed file; volumes such as `.nii.gz` are none."""
    return path.suffix.lower() in _ARCHIVES and Path(path.stem).suffix.lower() not in (".nii", ".nrrd", ".img")


def series_of(path: Path, *, root: Path) -> tuple[str, ...] | None:
    """What the images of one series share, from the header of one of them; None for an object that is no image.

    Args:
        path: a DICOM file.
        root: what its name is told from.

    Raises:
        SourceError: damaged, not yet whole, or no DICOM.
        OSError: it cannot be opened.
    """
    with Quiet():
        if not is_dicom(path):
            raise SourceError("the file does not begin as DICOM does")
        instance = _read(path, path.relative_to(root).as_posix(), Counter())
    if instance is None or not instance.rows or instance.sop_class in OUTLINES | SEGMENTATIONS:
        return None
    return _series_of(instance)


def _read(path: Path, name: str, skipped: Counter[str]) -> Instance | None:
    """What a file says of itself; None for one that is no object of a patient."""
    if not is_dicom(path):
        if is_apple_double(path):
            skipped["notes of macOS"] += 1
            return None
        if path.suffix.lower() == ".dcm":
            raise SourceError("a file is called .dcm and does not begin as DICOM does; copy it again")
        skipped["other files"] += 1
        return None
    try:
        return _object(path, name, skipped)
    except SourceError as error:
        syntax = syntax_of(path)
        if syntax and (cure := remedy(syntax)):
            raise SourceError(f"its header cannot be read ({syntax_name(syntax)}): {cure}") from error
        raise


def _object(path: Path, name: str, skipped: Counter[str]) -> Instance | None:
    """What the header of a DICOM file says."""
    header, pixels_follow, cut = read_parts(path, tags=TAGS)
    kind = sop_class_of(header)
    if kind == MediaStorageDirectoryStorage:
        skipped["directories (DICOMDIR)"] += 1
        return None
    if cut or (not pixels_follow and "Image Storage" in known_name(kind)):
        raise SourceError("the file ends within its header; it is cut short, copy it again")
    instance = instance_of(path, name, header)
    if not (instance.rows or instance.series_uid or known_name(kind)):
        raise SourceError("its header says neither what it is nor of which series; it is damaged, copy it again")
    if "Image Storage" in known_name(kind) and not instance.rows:
        raise SourceError("an image states no Rows; its header is damaged, copy it again")
    return instance


def _files(root: Path, unlisted: list[OSError]) -> Iterator[Path]:
    """The files of a tree; folders that cannot be listed are added to `unlisted`."""
    if root.is_file():
        yield root
        return
    for path in files_below(root, unlisted=unlisted.append):
        # No pipe and no socket, which would wait for ever. A link to what is not there is told where it is opened.
        if path.is_file() or (path.is_symlink() and not path.exists()):
            yield path


def _series_of(instance: Instance) -> tuple[str, ...]:
    """What images of one series share. Without a series UID these are the folder, the modality and the size."""
    if instance.series_uid:
        return instance.patient, instance.study_uid, instance.series_uid
    folder = instance.name.rpartition("/")[0]
    return instance.patient, instance.study_uid, folder, instance.modality, f"{instance.rows}x{instance.columns}"


def _units(
    instances: Sequence[Instance], skipped: Counter[str], aside: list[Instance], choices: Sequence[Choice]
) -> Iterator[Series]:
    """The volumes of one series: each multi-frame object and each X-ray image is one, all slices together are one.

    Images that are no slice are counted in `skipped` and added to `aside`.
    """
    ordered = sorted(instances, key=lambda instance: (instance.sop_uid, instance.name))
    objects = [instance for instance in ordered if instance.enhanced]
    flat = [instance for instance in ordered if not instance.whole]
    by_image: dict[str, list[Instance]] = {}
    for instance in ordered:
        if instance.projection:
            by_image.setdefault(instance.sop_uid or _name_uid(instance), []).append(instance)
    for uid, images in by_image.items():
        yield Series(uid, tuple(images))
    slices: list[Instance] = []
    for instance in flat:
        reason = _no_slice(instance)
        if reason:
            skipped[reason] += 1
            aside.append(instance)
        else:
            slices.append(instance)
    for uid in sorted({instance.concatenation or instance.sop_uid for instance in objects}):
        copies = tuple(item for item in objects if uid == (item.concatenation or item.sop_uid))
        reason = no_volume(copies[0], choices)
        if reason:
            skipped[f"{reason} ({copies[0].modality or 'unknown modality'})"] += 1
        else:
            yield from map(completeness.of_all_parts, scans(copies, uid, least=1))
    if not slices:
        return
    uid = slices[0].series_uid or slices[0].sop_uid or _name_uid(slices[0])
    for series in scans(slices, uid, least=1 if slices[0].mosaic else 2):
        if len(series.instances) == 1 and not series.first.mosaic:
            skipped[f"series of one image ({series.first.modality or 'unknown modality'})"] += 1
            aside.append(series.first)
        else:
            yield series


def picture_note(skipped: Mapping[str, int]) -> str:
    """What to do with pictures, in colour or without a place in the patient, if these are what was left aside."""
    colours = any(what.startswith(_COLOURS) for what in skipped)
    # Slices of a scan without a place have lost it, and are no pictures.
    flat = any(what.startswith(_FLAT) and not what.endswith(("(CT)", "(MR)", "(PT)")) for what in skipped)
    if not (colours or flat):
        return ""
    which = "colour images" if colours and not flat else "them" if flat and not colours else "such images"
    return f"; save {which} as PNG or TIFF, and run `volseg convert images`"


def _no_slice(instance: Instance) -> str | None:
    """Why an image is no slice of a volume, or None."""
    kind = instance.modality or "unknown modality"
    if instance.samples > 1:
        return f"{_COLOURS} ({kind})"
    if "LOCALIZER" in instance.image_type:
        return f"localizers ({kind})"
    if instance.frames > 1:
        return f"multi-frame objects that do not place their frames, or are not read ({kind})"
    if not instance.placed:
        return f"{_FLAT} ({kind})"
    return None


def _name_uid(instance: Instance) -> str:
    return hashlib.sha256(instance.name.encode()).hexdigest()
