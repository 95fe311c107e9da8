"""The journal of a run, with one line of JSON per case, only ever appended to; and the history that is read from it."""

from __future__ import annotations

import errno
import json
import logging
import os
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType

from volseg.cohort import FILE_ENDING
from volseg.errors import UsageError
from volseg.files import LOCK, Lock, take_lock
from volseg.jobs.job import Answer, Facts, Job, Stamp, stamp

logger = logging.getLogger(__name__)

# Seconds between two fsyncs. A kill of the process loses nothing that was written; if the machine itself stops, the
# cases of these seconds are done again.
_EVERY_S = 0.5
OUTDATED = "outdated"
"""Error of the entry of a case that is about to be done anew."""
# How the first line of every journal begins, see `Entry.to_line`.
_BEGIN = b'{"key":"'


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a journal.

    Attributes:
        key: Key of the case.
        work: Digest of the work.
        inputs: Digest of the input files, see `input_digest`.
        outputs: One stamp per output.
        seconds: Wall time of the last attempt in seconds.
        worker: Name of the worker.
        attempt: Number of the attempt: 1, or 2 if the first one failed.
        at: Time in seconds since 1970.
        error: Error of a failed case; `OUTDATED` for a case that is about to be done anew.
        facts: Facts that the work reports of the case.
    """

    key: str
    work: str
    inputs: str
    outputs: tuple[Stamp, ...] = ()
    seconds: float = 0.0
    worker: str = ""
    attempt: int = 1
    at: float = 0.0
    error: str | None = None
    facts: Facts = field(default_factory=dict)

    @classmethod
    def of(cls, answer: Answer, *, work: str, inputs: str, attempt: int) -> Entry:
        """The entry of an answer, with the current time."""
        told = (round(answer.seconds, 4), answer.worker, attempt, round(time.time(), 3))
        return cls(answer.key, work, inputs, answer.outputs, *told, answer.error, answer.facts)

    def to_line(self) -> bytes:
        """The entry as a line, with its end.

        >>> line = Entry("a", "w", "i", (Stamp(3, "f00"),), facts={"slices": 3}).to_line()
        >>> Entry.from_line(line).outputs
        (Stamp(size=3, sha256='f00'),)
        """
        return json.dumps(asdict(self), separators=(",", ":")).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Entry:
        """The inverse of `to_line`.

        Raises:
            ValueError: The line is incomplete or damaged.
        """
        try:
            content = json.loads(line)
            content["outputs"] = tuple(Stamp(**stamp) for stamp in content["outputs"])
            return cls(**content)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"no line of a journal: {error}") from error

    def holds(self, job: Job, *, work: str, inputs: str) -> bool:
        """Whether the job is done: it succeeded with the same work and inputs, and its outputs exist in their sizes."""
        if self.error is not None or (self.work, self.inputs) != (work, inputs):
            return False
        if len(self.outputs) != len(job.outputs):
            return False
        try:
            return all(path.stat().st_size == s.size for path, s in zip(job.outputs, self.outputs, strict=True))
        except OSError:
            return False


class Journal:
    """The journal of one run, open for appending; a second run on the same file is refused.

    An incomplete last line, left by a kill, is cut off: its case counts as not done.

    Args:
        path: File of the journal, which is created with its folder if absent.

    Raises:
        UsageError: Another run writes the journal, or the file is something else.
        OSError: The file cannot be written.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "journal.jsonl"
    >>> with Journal(path) as journal:
    ...     journal.add(Entry("a", "w", "i"))
    >>> History([path]).get("a").work
    'w'
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _check_kind(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(path)
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                self._cut_torn_line()
            except BaseException:
                os.close(self._file)
                raise
        except BaseException:
            self._release()
            raise
        self._synced = time.monotonic()

    def add(self, entry: Entry, *, sync: bool = False) -> None:
        """Add a line.

        Args:
            entry: Entry to add.
            sync: Whether the line must be on the disk when this returns.

        Raises:
            OSError: The line cannot be written, for example on a full disk; it then does not count.
        """
        rest = memoryview(entry.to_line())
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
            if sync or time.monotonic() - self._synced > _EVERY_S:
                self._sync()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def close(self) -> None:
        """Write everything to the disk and release the journal; a second call does nothing."""
        if self._file >= 0:
            try:
                self._sync()
            finally:
                os.close(self._file)
                self._file = -1
                self._release()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def _sync(self) -> None:
        try:
            os.fsync(self._file)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a device or a pipe has nothing to sync
                raise
        self._synced = time.monotonic()

    def _cut_torn_line(self) -> None:
        size = os.fstat(self._file).st_size
        with self.path.open("rb") as file:
            end = size
            while end > 0:
                start = max(0, end - 65536)
                file.seek(start)
                found = file.read(end - start).rfind(b"\n")
                if found >= 0:
                    end = start + found + 1
                    break
                end = start
        if end < size:
            os.ftruncate(self._file, end)


class History:
    """The last line of each case in some journals. It keeps the positions of the lines in memory, not the lines.

    Args:
        paths: Files of journals; absent ones count as empty.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = [path for path in paths if path.is_file()]
        self._at: dict[str, tuple[float, int, int]] = {}
        for number, path in enumerate(self._paths):
            damaged = 0
            for offset, line in _lines(path):
                try:
                    entry = Entry.from_line(line)
                except ValueError:
                    damaged += 1
                    continue
                found = (entry.at, number, offset)
                before = self._at.get(entry.key)
                # In one file the later line is the newer one, whatever the clock said.
                if before is None or before[1] == number or before < found:
                    self._at[entry.key] = found
            if damaged:
                logger.warning("%s has %d damaged lines; their cases are done again", path, damaged)

    def __len__(self) -> int:
        return len(self._at)

    def get(self, key: str) -> Entry | None:
        """The last line of a case."""
        found = self._at.get(key)
        if found is None:
            return None
        with self._paths[found[1]].open("rb") as file:
            file.seek(found[2])
            return Entry.from_line(file.readline())

    def __iter__(self) -> Iterator[Entry]:
        """The last line of each case, in the order of the files."""
        last = {(number, offset) for _, number, offset in self._at.values()}
        for number, path in enumerate(self._paths):
            for offset, line in _lines(path):
                if (number, offset) in last:
                    yield Entry.from_line(line)


def siblings(path: Path) -> list[Path]:
    """The journals of all shards of the same work, and this one, whether or not it is one of them.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("predict.jsonl", "predict-0-of-2.jsonl", "predict-1-of-2.jsonl", "convert.jsonl"):
    ...     (folder / name).touch()
    >>> [sibling.name for sibling in siblings(folder / "predict-1-of-2.jsonl")]
    ['predict-0-of-2.jsonl', 'predict-1-of-2.jsonl', 'predict.jsonl']
    """
    stem, middle, end = path.stem.partition("-of-")
    if middle and end.isdigit():
        first, dash, number = stem.rpartition("-")
        stem = first if dash and number.isdigit() else path.stem
    found = {*path.parent.glob(f"{stem}-*-of-*{path.suffix}"), path, path.with_name(f"{stem}{path.suffix}")}
    return sorted(found)


def _check_kind(path: Path) -> None:
    """Refuse a file that is no journal, of which the end would be cut off: any other JSON begins with a brace too."""
    if path.is_file():
        with path.open("rb") as file:
            begin = file.read(len(_BEGIN))
        if not _BEGIN.startswith(begin):  # a kill may have left less of the first line
            raise UsageError(f"{path} is no journal of volseg; name another file with --journal")


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Each complete line with its position."""
    offset = 0
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield offset, line
            offset += len(line)


def _lock(path: Path) -> Lock | None:
    """Lock a journal by the file PATH.lock beside it; a device or a pipe has no lock."""
    if path.exists() and not path.is_file():
        return None
    refusal = f"another run is writing {path}; wait for it, or name another folder"
    return take_lock(path.with_name(path.name + LOCK), refusal=refusal)


def remove_unproven(folder: Path, names: Collection[str], *, keys: Collection[str]) -> None:
    """Remove predictions that differ from a journal of the folder, so that their cases are done again.

    A run that stops while it uploads its files may leave a new prediction beside an old journal.

    Args:
        folder: Folder of the predictions and their journals.
        names: Names of the files to check, below the folder.
        keys: Keys of the cases of this run; the files of others are left alone.
    """
    files = {name: Path(name).name.removesuffix(FILE_ENDING) for name in names if name.endswith(FILE_ENDING)}
    history = History(sorted((folder / ".volseg").glob("*.jsonl")))
    for name, key in files.items():
        entry = history.get(key) if key in keys else None
        if entry is not None and entry.error is None and stamp(folder / name) not in entry.outputs:
            logger.warning("%s is not what the journal says; its case is done again", name)
            (folder / name).unlink()
