"""The options that commands share: the workers, the shard of the cases, and the journal."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

from volseg import method_of_before
from volseg.errors import UsageError
from volseg.jobs.job import Do, Stages
from volseg.jobs.pipeline import Pipeline
from volseg.jobs.workers import Serial, WorkerPool


@dataclass(frozen=True)
class Shard:
    """The cases whose key's hash has the remainder `number` when divided by `count`: the same ones on every machine.

    >>> shards = [Shard.parse(f"{number}/3") for number in range(3)]
    >>> [[key for key in "abcdef" if key in shard] for shard in shards]
    [[], ['a', 'c', 'd', 'e'], ['b', 'f']]
    """

    number: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `I/N` with I from 0 to N - 1.

        Raises:
            UsageError: The text is of another form.
        """
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        if not found or int(found[1]) >= int(found[2]):
            raise UsageError(f"--shard must be I/N with I from 0 to N - 1, as 0/8, got {text}; give another one")
        return cls(int(found[1]), int(found[2]))

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, str):
            return False
        return int.from_bytes(hashlib.sha256(key.encode()).digest(), "big") % self.count == self.number

    @property
    def suffix(self) -> str:
        """The suffix of the names of its files; empty for the only shard."""
        return f"-{self.number}-of-{self.count}" if self.count > 1 else ""


@dataclass(frozen=True)
class WorkerOptions:
    """The options for the workers of a command.

    Attributes:
        workers: Number of workers; 0 on a Ray cluster for as many as it has room for.
        ray: Address of a Ray cluster, or `auto`; None for this machine alone.
        shard: Shard whose cases are of this run.
        journal: File of the journal; None for one in the output folder.

    >>> WorkerOptions.parse(workers=2, shard="1/4").journal_path(Path("out"), "predict")
    PosixPath('out/.volseg/predict-1-of-4.jsonl')
    """

    workers: int = 1
    ray: str | None = None
    shard: Shard = field(default_factory=Shard)
    journal: Path | None = None

    @classmethod
    def parse(
        cls, *, workers: int = 1, ray: str | None = None, shard: str | None = None, journal: Path | None = None
    ) -> WorkerOptions:
        """Read the options of the command line.

        Raises:
            UsageError: The shard is invalid, the journal is a folder, or there is no worker and no Ray.
        """
        if workers < (0 if ray else 1):
            least = "0" if ray else "1 without --ray"
            raise UsageError(f"--workers must be at least {least}, got {workers}; give another number")
        if journal is not None and (journal.is_dir() or not journal.name):
            raise UsageError(f"--journal must be a file, got the folder {journal}; name one such as cases.jsonl in it")
        return cls(workers, ray, Shard.parse(shard) if shard else Shard(), journal)

    @property
    def alone(self) -> bool:
        """Whether this process does the work itself."""
        return self.workers == 1 and self.ray is None

    def pool(self, *, jobs: int, do: Do | None = None) -> WorkerPool:
        """Make the workers, which are not started yet.

        Args:
            jobs: Number of jobs, which limits that of workers.
            do: Function that does the jobs in this process; if it has `Stages`, reading and writing run beside
                computing.
        """
        if self.ray is not None:
            from volseg.jobs.ray_workers import RayPool

            return RayPool(self.ray, workers=min(self.workers, max(1, jobs)))
        if self.workers == 1:
            return Pipeline(do) if isinstance(do, Stages) else Serial(do)
        from volseg.jobs.processes import Processes

        return Processes(min(self.workers, max(1, jobs)))

    crew = method_of_before("pool")

    def journal_path(self, folder: Path, name: str) -> Path:
        """The path of the journal of a command: one file per shard."""
        if self.journal is None:
            return folder / ".volseg" / f"{name}{self.shard.suffix}.jsonl"
        return self.journal.with_name(f"{self.journal.stem}{self.shard.suffix}{self.journal.suffix}")
