"""The ledger: the state of each series, kept in a journal so that a kill at any moment loses and repeats nothing.

A case goes through four lines of the journal, and its folder through one rename:

    started   an attempt begins; if this stays the last line, the program was killed within it, and it is made again
    staged    all outputs lie in OUT/.volseg/staging/NAME, on the disk
              ── the folder is renamed to OUT/NAME ──
    done      or, after a kill before this line, found at the next start: a staged folder that is there is renamed then,
              one that is not there was renamed before
    failed    an attempt failed; the second one is the last

The first version of a series is called by its key, later ones KEY_v2, KEY_v3, ...
"""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from volseg.cohort import mean_expected_dice
from volseg.files import atomic, ignores_case
from volseg.jobs import Entry, Journal, Stamp

TABLE = "series.csv"
COLUMNS = ("finished", "key", "version", "status", "files", "seconds", "expected_dice", "outputs", "note", "error")
ATTEMPTS = 2
# A kill is nobody's fault, unless it comes again and again at the same series: memory, or a crash of a library.
DEATHS = 5


@dataclass(frozen=True)
class Attempt:
    """One attempt at one version of a series.

    Attributes:
        key: Key of the series.
        version: Number of the version, from 1.
        number: Number of the attempt, 1 or 2.
        prints: Fingerprints of the files, see `volseg.deploy.watch.fingerprints`.
        fresh: Number of fingerprints that no earlier version had; for the first version, all.
        deaths: Number of times a program was killed at it.
        source: Word for the path of NIfTI files, see `Item`.
    """

    key: str
    version: int
    number: int
    prints: tuple[str, ...]
    fresh: int
    deaths: int = 0
    source: str = ""

    @property
    def name(self) -> str:
        """The name of its folder and its files."""
        return self.key if self.version == 1 else f"{self.key}_v{self.version}"

    @property
    def last(self) -> bool:
        """Whether its failure is final."""
        return self.number >= ATTEMPTS


@dataclass(slots=True)
class _Standing:
    """The state of a series: its last finished version, and its last line."""

    version: int = 0
    state: str = ""
    inputs: str = ""
    attempt: int = 1
    deaths: int = 0
    source: str = ""


class Ledger:
    """The records of a watch folder, open for writing; a second program on the same folder is refused.

    Unfinished attempts of a killed program are settled when it opens.

    Args:
        folder: Folder of the outputs, which is created if absent.
        work: Digest of the network and its options.
        retry: Whether failures are forgotten, so that their series are tried again.

    Raises:
        UsageError: Another program watches for the same folder.
        OSError: It cannot be written.
    """

    def __init__(self, folder: Path, *, work: str = "", retry: bool = False) -> None:
        self.folder = folder
        self.work = work
        self._staging = folder / ".volseg" / "staging"
        self._path = folder / ".volseg" / "watch.jsonl"
        self._journal = Journal(self._path)
        self._folds = ignores_case(folder)
        try:
            self._known: dict[str, _Standing] = {}
            staged: dict[str, Entry] = {}
            for entry in self._entries():
                self._learn(entry)
                staged.pop(entry.key, None)
                if entry.facts["state"] == "staged":
                    staged[entry.key] = entry
            for standing in self._known.values() if retry else ():
                if standing.state == "failed":
                    standing.inputs = ""  # as if of other files
            for entry in staged.values():
                self._commit(entry, tell=False)
            shutil.rmtree(self._staging, ignore_errors=True)
            self._write_table()
        except BaseException:
            self._journal.close()
            raise

    def __len__(self) -> int:
        """Number of series with a finished version."""
        return sum(standing.version > 0 for standing in self._known.values())

    def close(self) -> None:
        """Release the folder for other programs."""
        self._journal.close()

    def key_of(self, key: str, prints: Sequence[str], *, source: str) -> str:
        """The key under which a series is kept: its own, or one with a suffix if its own belongs to another series.

        Files of the same name that lie in another folder are another case, and no new version; unless they are the same
        files, moved there. A name must not be that of another's version either, nor differ in capitals alone where the
        file system takes these for the same.

        Args:
            key: Key of the series.
            prints: Fingerprints of the files, see `volseg.deploy.watch.fingerprints`.
            source: Word for the path of NIfTI files, see `Item`.
        """
        standing = self._known.get(key)
        if standing is None:
            base, _, number = key.rpartition("_v")
            others = self._known.get(base)
            taken = others is not None and number.isdigit() and 2 <= int(number) <= others.version
            folded = self._folds and any(other.casefold() == key.casefold() for other in self._known)
            return f"{key}_{source}" if source and (taken or folded) else key
        if not source or standing.source in ("", source):
            return key
        own = f"{key}_{source}"
        if own in self._known:
            return own
        for other, seen in self._known.items():
            alike = other == key or (seen.source and other == f"{key}_{seen.source}")
            if alike and seen.version and set(prints) <= self._prints(other):
                return other
        return own

    def next_attempt(self, key: str, prints: Sequence[str], *, source: str = "") -> Attempt | None:
        """The next attempt at a series that holds these files; None if nothing is to be done.

        Nothing is to be done if its last version was made from these files or from more: clearing the inbox file by
            file must not cause a version of the rest. The same applies after two failures, or too many kills, with the
            same files.
        """
        standing = self._known.get(key, _Standing())
        inputs = _digest(prints)
        same = standing.inputs == inputs
        if same and (standing.state == "done" or (standing.state == "failed" and standing.attempt >= ATTEMPTS)):
            return None
        before = self._prints(key) if standing.version else frozenset[str]()
        fresh = len(set(prints) - before)
        if standing.version and not fresh:
            return None
        number = standing.attempt + 1 if same and standing.state == "failed" else standing.attempt if same else 1
        deaths = standing.deaths + (standing.state == "started") if same else 0
        version = standing.version + 1
        while version > 1 and f"{key}_v{version}" in self._known:  # of another series, which is called so
            version += 1
        return Attempt(key, version, number, tuple(prints), fresh, deaths, source)

    def gave_up(self, key: str) -> bool:
        """Whether the last attempt at a series failed."""
        return key in self._known and self._known[key].state == "failed"

    def begin(self, attempt: Attempt) -> Path:
        """Record the start of an attempt; returns the empty folder for its outputs."""
        folder = self._staging / attempt.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._add(self._entry(attempt, "started"))
        return folder

    def finish(
        self, attempt: Attempt, stamps: Mapping[str, Stamp], *, seconds: float, facts: Mapping[str, Any]
    ) -> None:
        """Publish the outputs of an attempt.

        Args:
            attempt: Attempt, whose staged folder is complete.
            stamps: Stamp of each file in it, by its path in the folder.
            seconds: Duration in seconds.
            facts: Facts of the work; `note` and `uncertainty` are shown in the table.
        """
        told = {"outputs": list(stamps), "prints": list(attempt.prints), **facts}
        entry = self._entry(attempt, "staged", outputs=tuple(stamps.values()), seconds=seconds, facts=told)
        staged = self._staging / attempt.name
        inner = sorted({(staged / name).parent for name in stamps} - {staged})
        for place in (*inner, staged, self._staging, self._staging.parent):
            _sync_folder(place)
        self._add(entry)
        self._commit(entry, tell=True)

    def fail(self, attempt: Attempt, error: str, *, seconds: float) -> None:
        """Record the failure of an attempt."""
        entry = self._entry(attempt, "failed", error=error, seconds=seconds)
        self._add(entry)
        shutil.rmtree(self._staging / attempt.name, ignore_errors=True)
        if attempt.last:
            self._append(entry)

    def withdraw(self, attempt: Attempt) -> None:
        """Record that the attempt does not count: the files changed meanwhile, or the disk was full."""
        self._add(self._entry(attempt, "withdrawn"))
        shutil.rmtree(self._staging / attempt.name, ignore_errors=True)

    def _commit(self, entry: Entry, *, tell: bool) -> None:
        """Rename the staged folder, unless that is done, and record it."""
        name = str(entry.facts["name"])
        staged, target = self._staging / name, self.folder / name
        if staged.is_dir():
            if target.exists():  # of a journal that somebody removed
                target.rename(self._staging / f"replaced-{name}")
            staged.rename(target)
            _sync_folder(self.folder)
            shutil.rmtree(self._staging / f"replaced-{name}", ignore_errors=True)
        done = Entry(
            *(entry.key, entry.work, entry.inputs, entry.outputs, entry.seconds),
            attempt=entry.attempt,
            at=round(time.time(), 3),
            facts={**entry.facts, "state": "done"},
        )
        self._add(done)
        if tell:
            self._append(done)

    def _entry(
        self,
        attempt: Attempt,
        state: str,
        *,
        outputs: tuple[Stamp, ...] = (),
        seconds: float = 0.0,
        error: str | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> Entry:
        known: dict[str, Any] = {
            "state": state,
            "version": attempt.version,
            "name": attempt.name,
            "files": len(attempt.prints),
        }
        known |= {"source": attempt.source} if attempt.source else {}
        return Entry(
            *(attempt.key, self.work, _digest(attempt.prints), outputs, round(seconds, 3)),
            attempt=attempt.number,
            at=round(time.time(), 3),
            error=error,
            facts={**known, "deaths": attempt.deaths, **(facts or {})},
        )

    def _add(self, entry: Entry) -> None:
        self._journal.add(entry, sync=True)
        self._learn(entry)

    def _learn(self, entry: Entry) -> None:
        standing = self._known.setdefault(entry.key, _Standing())
        state = str(entry.facts["state"])
        standing.state, standing.inputs, standing.attempt = state, entry.inputs, entry.attempt
        standing.deaths = int(entry.facts["deaths"])
        standing.source = str(entry.facts.get("source", ""))
        if state == "done":
            standing.version = int(entry.facts["version"])

    def _entries(self, *, holding: bytes = b"") -> Iterator[Entry]:
        with self._path.open("rb") as file:
            for line in file:
                if holding not in line:
                    continue
                with suppress(ValueError):  # a damaged line counts for nothing
                    entry = Entry.from_line(line)
                    if "state" in entry.facts:
                        yield entry

    def _prints(self, key: str) -> frozenset[str]:
        """The fingerprints of the last finished version; read from the disk, since they are seldom needed."""
        found: frozenset[str] = frozenset()
        for entry in self._entries(holding=key.encode()):
            if entry.key == key and entry.facts["state"] == "done":
                found = frozenset(entry.facts["prints"])
        return found

    def _write_table(self) -> None:
        with atomic(self.folder / TABLE) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            table.writeheader()
            table.writerows(_row(entry) for entry in self._entries() if _is_final(entry))

    def _append(self, entry: Entry) -> None:
        if not (self.folder / TABLE).is_file():  # somebody has moved it away
            self._write_table()
            return
        with (self.folder / TABLE).open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(_row(entry))


def _is_final(entry: Entry) -> bool:
    state = entry.facts["state"]
    return state == "done" or (state == "failed" and entry.attempt >= ATTEMPTS)


def _row(entry: Entry) -> dict[str, object]:
    expected = mean_expected_dice(entry.facts.get("uncertainty", {}))
    return {
        "finished": datetime.fromtimestamp(entry.at, timezone.utc).isoformat(timespec="seconds"),
        "key": entry.key,
        "version": entry.facts["version"],
        "status": entry.facts["state"],
        "files": entry.facts["files"],
        "seconds": f"{entry.seconds:.1f}",
        "expected_dice": "" if expected is None else f"{expected:.4f}",
        "outputs": " ".join(f"{entry.facts['name']}/{name}" for name in entry.facts.get("outputs", ())),
        "note": entry.facts.get("note", ""),
        "error": entry.error or "",
    }


def _digest(prints: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(prints).encode()).hexdigest()[:32]


def _sync_folder(folder: Path) -> None:
    """Write the names in a folder to the disk."""
    with suppress(OSError):  # not on every system
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
