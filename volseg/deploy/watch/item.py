"""An item: one volume of a delivery with its key, its files, and their fingerprints."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from volseg.cohort import check_key
from volseg.deploy.watch.inbox import Delivery, is_partial, nifti_key
from volseg.dicom import EVERYTHING, Choice, Index, Series, identify, index_files, record_of, word
from volseg.errors import SourceError
from volseg.inference import is_segmentation

# Number of hexadecimal digits that distinguish the files of one series.
_DIGITS = 12
_BLOCK = 1 << 20
_UNFINISHED = (
    "the stack is not whole: a file of it still has the name of an unfinished copy, such as .part; finish the copy, or "
    "take the file away"
)
_IN_TWO_FILES = (".mhd", ".nhdr", ".hdr")


@dataclass(frozen=True)
class Item:
    """One volume to segment.

    Attributes:
        key: Key of its outputs; for a DICOM series it is made of hashes, as in `volseg predict`.
        files: Files, sorted.
        series: DICOM series, if it is one.
        error: Reason why it cannot be read, if that is known already.
        aside: Reason why it is not to be segmented.
        source: Word for the path of the first NIfTI file: files of one name in two folders are two cases.
        record: Record of the DICOM series that the label map carries, see `volseg.dicom.record_of`.
        choice: Volume that is meant of a DICOM series that holds several.
        secret: Secret of the words of the record.
    """

    key: str
    files: tuple[Path, ...]
    series: Series | None = None
    error: str | None = None
    aside: str | None = None
    source: str = ""
    record: str = ""
    choice: Choice = EVERYTHING
    secret: str = field(default="", repr=False)


def items_of(
    delivery: Delivery,
    *,
    root: Path,
    secret: str = "",
    modality: str | None = None,
    choice: Choice = EVERYTHING,
) -> list[Item]:
    """List the volumes of a delivery: mostly one; one per multi-frame object of a DICOM series.

    Args:
        delivery: Delivery of the inbox.
        root: Folder of the inbox.
        secret: Secret of the keys.
        modality: Modality of the series to take; others are set aside.
        choice: Volume to take of DICOM series that hold several.
    """
    if delivery.kind == "nifti":
        first = delivery.files[0]
        aside = "a file that is called as a segmentation is" if is_segmentation(first.name) else None
        if first.name.lower().endswith(_IN_TWO_FILES):  # the second of which may come later
            aside = "an image whose voxels may lie in another file; write it as one file, such as .mha or .nrrd"
        key = _safe_key(nifti_key(first.name), secret)
        source = word(first.relative_to(root).as_posix(), letter="f", length=12, secret=secret)
        return [Item(key, delivery.files, aside=aside, source=source)]
    index, unfinished = _indexed(delivery, root, choice)
    files_of = set(delivery.files)
    items = []
    for identity, series in zip(identify(index.series, among=index.series, secret=secret), index.series, strict=True):
        files = tuple(sorted(instance.path for instance in series.instances))
        if not files_of & set(files):
            continue
        other = modality is not None and series.modality.upper() != modality.upper()
        aside = f"a series of the modality {series.modality or 'unknown'}" if other else None
        if modality is None and series.first.projection:
            aside = f"an X-ray image; --modality {series.modality} takes those"
        record = str(record_of(series, secret=secret))
        error = series.damage or (_UNFINISHED if unfinished & set(files) else None)
        if error:  # which the files beside it are a part of: without them it is another delivery
            files = tuple(sorted({*files, *delivery.beside}))
        item = Item(identity.key, files, series, error=error, aside=aside, record=record, choice=choice, secret=secret)
        items.append(item)
    for name, reason in sorted(index.unreadable.items()):
        if root / name not in files_of:
            continue
        items.append(Item(word(name, letter="damaged_", length=12, secret=secret), (root / name,), error=reason))
    if not items:
        told = ", ".join(f"{count} {what}" for what, count in sorted(index.skipped.items()))
        items.append(Item("", delivery.files, aside=told or "no image that can be a slice"))
    return items


def _indexed(delivery: Delivery, root: Path, choice: Choice) -> tuple[Index, set[Path]]:
    """What a delivery of DICOM holds, and which of its images are in unfinished files alone."""
    index = index_files([*delivery.files, *delivery.beside], root=root, choices=[choice])
    partial = {path for path in delivery.beside if is_partial(str(path))}
    images = [instance for series in index.series for instance in series.instances]
    found = {image.path for image in images if image.path in partial}
    whole = {image.sop_uid for image in images if image.path not in partial}
    lost = {image.path for image in images if image.path in found and image.sop_uid not in whole}
    if found and not lost:  # what was left of copies that are there
        left = [path for path in delivery.beside if path not in found]
        index = index_files([*delivery.files, *left], root=root, choices=[choice])
    return index, lost


def fingerprints(files: Sequence[Path], *, choice: str = "") -> tuple[str, ...]:
    """Compute a word for the content of each file, sorted, equal contents once; of an unreadable file, for its name.

    Args:
        files: Files of an item.
        choice: Volume that was chosen of a series, in words, which gets a word too.

    Raises:
        FileNotFoundError: A file is gone.
    """
    found = {hashlib.sha256(f"choice {choice}".encode()).hexdigest()[:_DIGITS]} if choice else set()
    for path in files:
        digest = hashlib.sha256()
        try:
            with path.open("rb") as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not path.is_symlink():
                raise
            digest.update(f"unreadable {path}".encode(errors="surrogateescape"))
        found.add(digest.hexdigest()[:_DIGITS])
    return tuple(sorted(found))


def _safe_key(stem: str, secret: str) -> str:
    """The stem if it is a key, else a word for it."""
    try:
        return check_key(stem)
    except SourceError:
        return word(stem, letter="n", length=12, secret=secret)
