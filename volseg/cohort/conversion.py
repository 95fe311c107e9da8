"""From a source to a cohort folder: in parallel, whole files or none, resumed where it stopped."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import volseg
from volseg.cohort.case import OF_FILES, Case, Source, check_key
from volseg.cohort.corrections import corrected_keys
from volseg.cohort.folder import INSTANCES, read_dataset_json
from volseg.cohort.folds import Fold
from volseg.cohort.folds_of_conversion import write_folds
from volseg.cohort.table import CaseRow
from volseg.cohort.table_edits import write_edited_table
from volseg.cohort.units import units_note
from volseg.errors import CohortError, SourceError, UsageError, VolsegError, naming
from volseg.files import LOCK, PARTIAL, atomic, ignores_case, is_partial, locked, take_lock
from volseg.labels import LabelTable
from volseg.volume import FILE_ENDING, Volume, header_of, orientation, provenance_of, with_provenance, write_volume

logger = logging.getLogger(__name__)

_OWN = ".volseg"
_PARTS = ("", "imagesTr", "imagesTs", "labelsTr", INSTANCES, _OWN, f"{_OWN}/cases", f"{_OWN}/splits")

Progress = Callable[[int, int], None]
Outcomes = Iterator[tuple[str, "tuple[CaseRow, bool] | VolsegError"]]
"""Key, and its row with whether it was written now; or its error."""


@dataclass(frozen=True)
class Conversion:
    """What `write_cohort` did: keys written, keys found finished, and the error of each failed key."""

    written: tuple[str, ...]
    finished_before: tuple[str, ...]
    failed: dict[str, str]


def write_cohort(
    source: Source,
    folder: str | Path,
    *,
    workers: int = 2,
    folds: int = 5,
    seed: int = 0,
    progress: Progress | None = None,
    only: Container[str] | None = None,
    validation: Container[str] = (),
    given: Sequence[Fold] = (),
    redraw: bool = False,
    outcomes: Callable[[Sequence[str]], Outcomes] | None = None,
    alone: bool = False,
) -> Conversion:
    """Write each case of a source into a cohort folder, and the tables when all are done.

    A case that fails is reported and the others go on. A case that a former run finished is skipped, if its raw data
    have not changed. A kill at any moment leaves whole files or none; run again to go on. What was changed in
    `cases.csv` since is kept, see `volseg.cohort.table_edits.write_edited_table`.

    Args:
        source: Source of the cases.
        folder: Cohort folder, new or of the same labels and channels.
        workers: Number of threads; decoding and compressing release Python's lock.
        folds: Number of folds in a new `splits.json`; fewer if there are fewer patients.
        seed: Seed of the split.
        progress: Function that is called with (done, total) after each case.
        only: Keys of this run, if other runs write others into the same folder at the same time.
        validation: Keys to validate on, if the source chooses them; then there is one fold.
        given: Folds that the source states, such as those of a list; they take the place of drawn ones.
        redraw: Whether the folds that an earlier conversion drew with another number or seed are drawn anew.
        outcomes: Function that calls `convert_case` for keys, instead of threads; see `volseg.jobs.converting`.
        alone: Whether a second conversion of this kind into the folder is refused: it would remove what this one is
            writing.

    Raises:
        UsageError: The folder holds something else, its file system takes two keys for one name, or another conversion
            is writing there.
        SourceError: The source has no case.
    """
    folder = Path(folder)
    keys = [check_key(key) for key in source.keys()]  # noqa: SIM118 - a source is no dict
    _check_target(source, folder)
    _check_apart(keys, folder)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        if alone:
            refusal = f"another conversion is writing {folder}; wait for it, or name another folder"
            stack.callback(take_lock(folder / _OWN / f"convert{LOCK}", refusal=refusal).release)
        # A case that an earlier version of the reader wrote keeps the folder at that version until it is done again.
        labelled = sum(source.labelled(key) for key in keys)
        _write_dataset_json(source, folder, count=labelled, version=_folder_version(source, folder))
        if only is None:  # else they may be of another run, which is about to rename them
            _remove_unfinished(folder)

        former = _recorded_rows(folder)
        rows: dict[str, CaseRow] = {}
        written: list[str] = []
        before: list[str] = []
        failed: dict[str, str] = {}
        mine = [key for key in keys if only is None or key in only]
        if outcomes is None:
            came = _map(lambda key: convert_case(source, key, folder), mine, workers=workers)
        else:
            came = outcomes(mine)
        for done, (key, outcome) in enumerate(came, start=1):
            if isinstance(outcome, VolsegError):
                failed[key] = outcome.message
            else:
                rows[key], fresh = outcome
                (written if fresh else before).append(key)
            if progress:
                progress(done, len(mine))
        _tell([rows[key] for key in written])
        everything = {row.key: row for row in _recorded_rows(folder)} | rows
        if mixed := units_note(everything.values()):
            logger.warning("%s", mixed)
        everything = write_edited_table(folder, everything, before=former)
        labels = (folder / "labelsTr").glob(f"*{FILE_ENDING}")
        count = sum(not is_partial(path.name) for path in labels)  # of another shard, or of one that was killed
        _write_dataset_json(source, folder, count=count, version=_folder_version(source, folder))
        rows_of_all = everything.values()
        write_folds(folder, rows_of_all, folds=folds, seed=seed, validation=validation, given=given, redraw=redraw)
        return Conversion(tuple(sorted(written)), tuple(sorted(before)), dict(sorted(failed.items())))


def convert_case(source: Source, key: str, folder: Path) -> tuple[CaseRow, bool]:
    """Convert one case unless it is done; returns its row and whether it was written now.

    Raises:
        VolsegError: The case cannot be converted; nothing of it is left in the folder.
    """
    channels = len(source.channel_names)
    try:
        digest = source.digest(key)
        if key in corrected_keys(folder):
            return _corrected(folder, key, digest), False
        labelled = source.labelled(key)
        images = _image_files(folder, "imagesTr" if labelled else "imagesTs", key, channels)
        label_file = folder / "labelsTr" / f"{key}{FILE_ENDING}"
        instances_file = folder / INSTANCES / f"{key}{FILE_ENDING}"
        if all(file.is_file() for file in [*images, *([label_file] if labelled else [])]):
            finished = _read_record(_record_path(folder, key))
            if finished is not None and finished.digest == digest and finished.instances == instances_file.is_file():
                return finished.row, False
        # What a former run left may be of other raw data, or of a case that has won or lost its label since.
        _forget(folder, key, channels)
        case = source.load(key)
        if len(case.channels) != channels:
            raise CohortError(f"{len(case.channels)} channels were read, expected {source.channel_names}")
        if labelled:
            if case.label is None:
                raise SourceError("the source promised a label and gave none")
            label = Volume(source.labels.check(case.label.voxels), case.label.affine_ras)
        for file, channel in zip(images, case.channels, strict=True):
            write_volume(file, _believed(channel))
        if labelled:
            write_volume(label_file, _believed(label))
        if case.instances is not None:
            write_volume(instances_file, _believed(case.instances))
    except (VolsegError, MemoryError):
        if key not in corrected_keys(folder):
            _forget(folder, key, channels)
        with naming(key):
            raise
    row = _row(case)
    with atomic(_record_path(folder, key)) as partial:
        record = {"digest": digest, "row": row.to_csv(), "instances": case.instances is not None}
        partial.write_text(json.dumps({**record, "source_version": _source_version(source)}))
    return row, True


def _corrected(folder: Path, key: str, digest: str) -> CaseRow:
    """The row of a case whose label a person corrected, which a conversion leaves alone.

    Raises:
        CohortError: Its raw data have changed since.
    """
    finished = _read_record(_record_path(folder, key))
    if finished is None or finished.digest != digest:
        raise CohortError(
            f"its label was corrected, and its raw data changed since; take the correction back with `volseg adopt "
            f"--undo --case {key}`, or convert into a new folder"
        )
    return finished.row


def _tell(rows: Sequence[CaseRow]) -> None:
    """Log what is doubtful about the geometry of the files, each warning once."""
    keys: dict[str, list[str]] = {}
    for row in rows:
        for warning in row.warnings:
            if warning.startswith(OF_FILES):
                keys.setdefault(warning, []).append(row.key)
    for warning, found in keys.items():
        logger.warning("%s: in %d of %d cases (%s, ...)", warning, len(found), len(rows), sorted(found)[0])


def _believed(volume: Volume) -> Volume:
    """The volume without its file's header where the sform is not believed: others read the cohort too."""
    header = header_of(volume.affine_ras)
    if header is None or not header.sform_rejected:
        return volume
    return Volume(volume.voxels, with_provenance(np.array(volume.affine_ras), provenance_of(volume.affine_ras)))


def _image_files(folder: Path, part: str, key: str, channels: int) -> list[Path]:
    return [folder / part / f"{key}_{channel:04d}{FILE_ENDING}" for channel in range(channels)]


def _forget(folder: Path, key: str, channels: int) -> None:
    """Remove what a former run wrote of a case: stale files would look valid."""
    _record_path(folder, key).unlink(missing_ok=True)
    for part in ("labelsTr", INSTANCES):
        (folder / part / f"{key}{FILE_ENDING}").unlink(missing_ok=True)
    for part in ("imagesTr", "imagesTs"):
        for file in _image_files(folder, part, key, channels):
            file.unlink(missing_ok=True)


def _remove_unfinished(folder: Path) -> None:
    """Remove what a killed conversion left; a server or a training may write files of its own below the cohort now."""
    place = folder / _OWN / "adopting"
    held: AbstractContextManager[object] = nullcontext()
    if (place / "lock").is_file():  # else nobody ever added one
        held = locked(place, refusal="a label or an image is being added")
    with suppress(UsageError), held:
        for part in _PARTS:
            for leftover in (folder / part).glob(f"{PARTIAL}*"):
                leftover.unlink(missing_ok=True)


def _map(convert: Callable[[str], tuple[CaseRow, bool]], keys: Sequence[str], *, workers: int) -> Outcomes:
    """Run `convert` on threads, with at most `workers` cases in memory; a VolsegError becomes the case's outcome."""
    waiting = list(reversed(keys))
    running: dict[Future[tuple[CaseRow, bool]], str] = {}
    with ThreadPoolExecutor(max(1, workers)) as pool:
        try:
            while waiting or running:
                while waiting and len(running) < max(1, workers):
                    key = waiting.pop()
                    running[pool.submit(convert, key)] = key
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    key = running.pop(future)
                    try:
                        yield key, future.result()
                    except VolsegError as error:
                        yield key, error
        finally:
            waiting.clear()


def _check_target(source: Source, folder: Path) -> None:
    """Refuse the raw folder itself, and a folder that holds anything but volseg's cohort of the same labels.

    Converting replaces and removes files by key: in a folder that volseg did not write, they are somebody's only copy.
    """
    if folder.resolve() == source.raw.resolve():
        raise UsageError(f"{folder} is the raw folder, which is only read; name a new folder for the cohort")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; name a new folder")
    # A kill during the very first write leaves nothing but a partial file, and a lock.
    if not folder.exists() or all(is_partial(path.name) or path.name == _OWN for path in folder.iterdir()):
        return
    if not (folder / "dataset.json").is_file():
        raise UsageError(f"{folder} is not empty and no cohort; name a new folder")
    dataset = read_dataset_json(folder)
    if "volseg" not in dataset:
        raise UsageError(f"{folder} holds a dataset that volseg did not write and will not change; name a new folder")
    there = LabelTable.from_dataset_json(dataset)
    if there.digest != source.labels.digest:
        alike = there.names == source.labels.names  # whose values differ, as with --overlaps of other cases
        why = " (its regions have other values, as where they overlap in other ways)" if alike else ""
        raise UsageError(f"{folder} holds a cohort with other labels{why}; name a new folder")
    if dataset.get("channel_names") != _channels(source):
        raise UsageError(f"{folder} holds a cohort with other channels; name a new folder")


def _check_apart(keys: Sequence[str], folder: Path) -> None:
    """Refuse two cases that would be one file, where the file system takes upper and lower case for one."""
    seen: dict[str, str] = {}
    for key in keys if ignores_case(folder) else ():
        other = seen.setdefault(key.casefold(), key)
        if other != key:
            raise UsageError(
                f"the cases {other} and {key} would be written to one file, since the disk of {folder} takes upper and "
                "lower case for one; rename one, or name a folder on another disk"
            )


def _channels(source: Source) -> dict[str, str]:
    return {str(i): name for i, name in enumerate(source.channel_names)}


def _labels(source: Source, folder: Path) -> LabelTable:
    """The table of the source, with the value of what nobody looked at that `volseg adopt` has declared since."""
    if source.labels.ignore is not None or not (folder / "dataset.json").is_file():
        return source.labels
    return replace(source.labels, ignore=LabelTable.from_dataset_json(read_dataset_json(folder)).ignore)


def _write_dataset_json(source: Source, folder: Path, *, count: int, version: int) -> None:
    entries: dict[str, Any] = {
        "name": folder.resolve().name,
        "channel_names": _channels(source),
        **_labels(source, folder).to_dataset_json(),
        "numTraining": count,
        "file_ending": FILE_ENDING,
    }
    of_source: dict[str, Any] = {"source": source.kind, "source_version": version}
    if told := getattr(source, "warnings", ()):
        of_source["warnings"] = list(told)
    if original := getattr(source, "original_values", None):
        of_source["original_values"] = dict(original)
    entries["volseg"] = {"version": volseg.__version__, **of_source, **entries["volseg"]}
    with atomic(folder / "dataset.json") as partial:
        partial.write_text(json.dumps(entries, indent=1) + "\n")


def _row(case: Case) -> CaseRow:
    image = case.channels[0]
    return CaseRow(
        case.key,
        case.patient,
        case.session,
        image.shape,
        image.spacing_mm,
        orientation(image.affine_ras),
        case.source,
        case.warnings,
        case.units,
        case.day,
    )


def _record_path(folder: Path, key: str) -> Path:
    return folder / ".volseg" / "cases" / f"{key}.json"


def _recorded_rows(folder: Path) -> list[CaseRow]:
    """The rows of all cases that any run finished; a damaged record counts for nothing, its case is converted again."""
    return [record.row for record in _records(folder)]


def _folder_version(source: Source, folder: Path) -> int:
    """The version of the source's reader that every case of the folder has at least."""
    return min([_source_version(source), *(record.source_version for record in _records(folder))])


def _records(folder: Path) -> list[_Record]:
    found = sorted((folder / ".volseg" / "cases").glob("[!.]*.json"))
    return [record for record in map(_read_record, found) if record is not None]


def _source_version(source: Source) -> int:
    """The version of a source's reader; 1 where it states none."""
    return int(getattr(source, "source_version", 1))


@dataclass(frozen=True)
class _Record:
    """What is kept of a finished case: its raw data's digest, its row, whether it has objects, its reader's version."""

    digest: str
    row: CaseRow
    instances: bool
    source_version: int


def _read_record(path: Path) -> _Record | None:
    """None where the record is absent or damaged."""
    try:
        content = json.loads(path.read_text())
        row, instances = CaseRow.from_csv(content["row"]), bool(content.get("instances"))
        return _Record(str(content["digest"]), row, instances, int(content.get("source_version", 1)))
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None
