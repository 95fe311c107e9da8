"""A job: the work on one case, from files to files; and the answer of the worker that did it."""

from __future__ import annotations

import errno
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from volseg.errors import VolsegError
from volseg.files import FULL, SERIES
from volseg.remote import identity

Facts = Mapping[str, Any]
"""The facts that a worker reports of a case beside its files, as JSON."""

# Errors that would occur for every further case too: the run stops and can be resumed.
_NO_PLACE = FULL | {errno.EROFS}


@dataclass(frozen=True, slots=True)
class Job:
    """The work on one case.

    Attributes:
        key: Key of the case.
        inputs: Files that the case is made from.
        outputs: Files that exist, complete, when the job is done.
        facts: What else decides about the outputs of this case alone, as text; it is part of the digest of its inputs.
    """

    key: str
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...] = ()
    facts: str = ""


@dataclass(frozen=True, slots=True)
class WorkerSlot:
    """The slot of a worker on its machine.

    Attributes:
        number: Index 0, 1, 2, ..., which selects its GPU if there are some.
        threads: Number of threads it may compute with; None for all.
    """

    number: int = 0
    threads: int | None = None


Do = Callable[[Job], Facts]
"""Does a job and writes its outputs, each whole or not at all; raises any error."""


@runtime_checkable
class Stages(Protocol):
    """A `Do` in three steps, each in a thread of its own, so that one process works on three cases at once."""

    def read(self, job: Job) -> Any:  # noqa: ANN401 - for `compute` alone
        """Read the files into memory."""
        ...

    def compute(self, job: Job, read: Any) -> Any:  # noqa: ANN401 - for `write` alone
        """Do the main work, in memory."""
        ...

    def write(self, job: Job, computed: Any) -> Facts:  # noqa: ANN401
        """Write the files, each whole or not at all."""
        ...


class Work(Protocol):
    """The work on each case. It is sent to the workers, so it can be pickled and holds no network.

    Attributes:
        digest: Digest that changes whenever the outputs of the same inputs would.
    """

    @property
    def digest(self) -> str:
        """Digest, for example of the checkpoint and the options."""
        ...

    def start(self, place: WorkerSlot) -> Do:
        """Load what is needed, once per worker."""
        ...


@dataclass(frozen=True, slots=True)
class Stamp:
    """A file as it was when a job was done: its size in bytes and the SHA-256 of its content."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a job.

    Attributes:
        worker: Name of the worker.
        seconds: Wall time in seconds.
        outputs: One stamp per output of the job, in its order; empty if it failed.
        facts: Facts that the work reports.
        error: Reason of the failure.
        stop: Whether the next case would fail as well, as on a full disk.
        died: Whether the worker has died.
    """

    key: str
    worker: str
    seconds: float
    outputs: tuple[Stamp, ...] = ()
    facts: Facts = field(default_factory=dict)
    error: str | None = None
    stop: bool = False
    died: bool = False


def attempt(do: Do, job: Job, *, worker: str) -> Answer:
    """Do a job; any error becomes part of its answer.

    >>> attempt(lambda job: {"slices": 3}, Job("a", ()), worker="0").facts
    {'slices': 3}
    >>> attempt(lambda job: {"share": 1 / 0}, Job("a", ()), worker="0").error
    'ZeroDivisionError: division by zero'
    """
    began = time.perf_counter()
    try:
        facts = do(job)
        stamps = tuple(stamp(path) for path in job.outputs)
    except Exception as error:  # noqa: BLE001 - of any kind: one case must not stop the others
        lasted = time.perf_counter() - began
        return Answer(job.key, worker, lasted, error=reason(error), stop=_stops(error, job))
    return Answer(job.key, worker, time.perf_counter() - began, stamps, facts)


def reason(error: BaseException) -> str:
    """An error in one line.

    >>> reason(OSError(28, "No space left on device", "out/a.nii.gz"))
    'No space left on device: out/a.nii.gz'
    """
    if isinstance(error, VolsegError):
        return error.message
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f": {error.filename}" if error.filename else "")
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"


def stamp(path: Path) -> Stamp:
    """Compute size and digest of a file.

    Raises:
        FileNotFoundError: The work did not write the file.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") else _digest(file.read())
        return Stamp(file.tell(), digest.hexdigest())


def input_digest(paths: tuple[Path, ...], facts: str = "") -> str:
    """A digest that changes with path, size or time of change of any of the files; their content is not read.

    It changes with `facts` too, what else decides about the outputs.

    For the copy of a remote file it is made of the URL, the size and the version, so that any machine resumes what
    another started. A list of DICOM files stands for the files that it names. No path can be read from the digest.
    """
    seen = []
    for path in paths:
        files = [path]
        if path.suffix == SERIES:
            told = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(told, dict) and "files" not in told:
                seen.append(json.dumps(told))
                continue
            files = [Path(name) for name in (told["files"] if isinstance(told, dict) else told)]
            if isinstance(told, dict) and (told.get("choice") or told.get("onto")):  # of several volumes or series
                chosen = {name: told.get(name) for name in ("name", "choice", "onto", "resample")}
                seen.append(hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest())
        for file in files:
            try:
                status = file.stat()
                seen.append(identity(file) or f"{file.resolve()}\n{status.st_size}\n{status.st_mtime_ns}")
            except OSError:
                seen.append(f"{file}\nabsent")
    if facts:
        seen.append(facts)
    return hashlib.sha256("\n\n".join(seen).encode(errors="surrogateescape")).hexdigest()[:32]


def _digest(content: bytes) -> Any:  # noqa: ANN401 - hashlib's type has no public name
    return hashlib.sha256(content)  # Python 3.10


def _stops(error: BaseException, job: Job) -> bool:
    """Whether an error concerns the place of the outputs, not the case."""
    inner: BaseException | None = error
    seen: set[int] = set()
    while inner is not None and id(inner) not in seen:  # an error raised from its own cause makes a circle
        seen.add(id(inner))
        if isinstance(inner, OSError):
            if inner.errno in _NO_PLACE:
                return True
            folders = {path.parent for path in job.outputs}
            if isinstance(inner, (PermissionError, NotADirectoryError)) and inner.filename:
                return bool(folders & {Path(inner.filename), *Path(inner.filename).parents})
        inner = inner.__cause__ or inner.__context__
    return False
