"""The watcher: it segments the items of the inbox one after the other, until it is told to stop."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from volseg.cohort import FILE_ENDING
from volseg.deploy.watch.inbox import Delivery, Inbox
from volseg.deploy.watch.item import Item, fingerprints, items_of
from volseg.deploy.watch.ledger import ATTEMPTS, DEATHS, Attempt, Ledger
from volseg.dicom import EVERYTHING, Choice
from volseg.errors import UsageError
from volseg.jobs import Facts, Job, attempt, stamp

logger = logging.getLogger(__name__)

Segment = Callable[[Item, Path, str], Facts]
"""Function that writes the outputs of an item into a folder, under a name; raises the errors of the item."""


@dataclass
class Watched:
    """The result of a watcher: finished series, the error of each failed one, and those finished or given up before."""

    done: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    before: int = 0
    given_up: int = 0


class Watcher:
    """Takes the items that are at rest in an inbox, and publishes their outputs.

    Args:
        inbox: Folder that is watched.
        ledger: Ledger of the outputs.
        load: Function that loads the network; called once, when it is needed.
        secret: Secret of the keys.
        modality: Modality of the DICOM series to take.
        choice: Volume to take of DICOM series that hold several. Of another choice a series is segmented anew.
        poll_s: Seconds between two looks.
        stop: Event; once set, the current item is finished and no other started.
    """

    def __init__(
        self,
        inbox: Inbox,
        ledger: Ledger,
        load: Callable[[], Segment],
        *,
        secret: str = "",
        modality: str | None = None,
        choice: Choice = EVERYTHING,
        poll_s: float = 5.0,
        stop: threading.Event | None = None,
    ) -> None:
        self.watched = Watched()
        self._inbox, self._ledger, self._load = inbox, ledger, load
        self._items = partial(items_of, root=inbox.folder, secret=secret, modality=modality, choice=choice)
        self._poll_s = poll_s
        self._stop = stop or threading.Event()
        self._segment: Segment | None = None
        self._told: dict[str, str] = {}  # the errors of first attempts, which the log has

    def run(self, *, once: bool = False) -> Watched:
        """Watch until told to stop; or, with `once`, until everything in the inbox is at rest and done.

        Raises:
            OSError: Outputs cannot be written; start again when they can. With `once`, also if the inbox cannot be
                read; otherwise the watcher waits for it.
            VolsegError: The network cannot be loaded.
        """
        if not once:
            self._loaded()  # what is wrong with the network is told now, not when the first patient comes
        readable = True
        while not self._stop.is_set():
            try:
                deliveries = self._inbox.look()
                readable = True
            except OSError as error:
                if once:
                    raise
                if readable:
                    logger.error("the inbox cannot be read (%s); waiting for it", error.strerror)
                deliveries, readable = [], False
            ended = [self._take(delivery) for delivery in deliveries if not self._stop.is_set()]
            if once and not deliveries and not self._inbox.waiting:
                break
            if not any(ended):
                self._stop.wait(self._poll_s)
        return self.watched

    def _loaded(self) -> Segment:
        if self._segment is None:
            self._segment = self._load()
        return self._segment

    def _take(self, delivery: Delivery) -> bool:
        """Do what a delivery holds; whether that is finished."""
        ended = True
        for item in self._items(delivery):
            if self._stop.is_set():
                return False
            if item.aside is not None:
                logger.info("left aside: %s", item.aside)
            elif not self._do(item, delivery):
                ended = False
        if ended:
            self._inbox.done(delivery)
        return ended

    def _do(self, item: Item, delivery: Delivery) -> bool:
        """Do an item, unless it is done; whether there is nothing more to do."""
        try:
            prints = fingerprints(item.files, choice=item.choice.told)
        except FileNotFoundError:
            return False
        item = replace(item, key=self._ledger.key_of(item.key, prints, source=item.source))
        to_do = self._ledger.next_attempt(item.key, prints, source=item.source)
        if to_do is None:
            if self._ledger.gave_up(item.key):
                self.watched.given_up += 1
            else:
                self.watched.before += 1
            return True
        if to_do.deaths >= DEATHS:
            reason = f"the program was killed {DEATHS} times while it did this; is there enough memory?"
            return self._failed(replace(to_do, number=ATTEMPTS), reason, 0.0)
        segment = self._loaded()
        folder = self._ledger.begin(to_do)
        job = Job(item.key, item.files, (folder / f"{to_do.name}{FILE_ENDING}",))
        answer = attempt(lambda _: segment(item, folder, to_do.name), job, worker="0")
        told = _without_paths(answer.error or "", item, self._inbox.folder)
        if answer.stop:
            with suppress(OSError):  # the disk may be full for this too
                self._ledger.withdraw(to_do)
            raise OSError(told)
        if not self._inbox.unchanged(delivery):
            logger.info("%s: its files changed while they were read; it waits until they rest", item.key)
            self._ledger.withdraw(to_do)
            return False
        if answer.error is not None:
            return self._failed(to_do, told, answer.seconds)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        stamps = {path.relative_to(folder).as_posix(): stamp(path) for path in files}
        self._ledger.finish(to_do, stamps, seconds=answer.seconds, facts=answer.facts)
        self.watched.done += 1
        self.watched.failed.pop(item.key, None)
        _tell(to_do, answer.seconds, str(answer.facts.get("note", "")))
        return True

    def _failed(self, to_do: Attempt, reason: str, seconds: float) -> bool:
        self._ledger.fail(to_do, reason, seconds=seconds)
        if to_do.last:
            again = self._told.pop(to_do.key, None) == reason
            logger.error("%s: %s", to_do.key, "failed again in the same way" if again else f"failed: {reason}")
            self.watched.failed[to_do.key] = reason
        else:
            logger.warning("%s: %s; it is tried once more", to_do.key, reason)
            self._told[to_do.key] = reason
        return to_do.last


def check_folders(inbox: Path, output: Path) -> None:
    """Refuse an inbox that contains the outputs, or outputs inside it.

    Raises:
        UsageError: One is the other or contains it; or the outputs would be written to a file.
    """
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output} is a file; name a folder for the outputs")
    one, other = inbox.resolve(), output.resolve()
    if one == other or one in other.parents or other in one.parents:
        raise UsageError(f"{output} and {inbox} are one folder or lie in each other; name folders beside each other")


def _tell(done: Attempt, seconds: float, note: str) -> None:
    """Log the line of a finished series."""
    late = f"; {done.fresh} files are new or changed, so this is version {done.version}" if done.version > 1 else ""
    logger.info(
        "%s: segmented, %d files, %.1f s%s%s", done.name, len(done.prints), seconds, late, f"; {note}" if note else ""
    )


def _without_paths(text: str, item: Item, root: Path) -> str:
    """An error without the names of files and folders of the inbox, which may be a patient's.

    The readers of DICOM name no file. A bare name is looked for in errors of NIfTI files alone, since it may be `2`.
    """
    names = {form for path in item.files for form in (str(path), str(path.resolve()))}
    names |= {str(folder) for path in item.files for folder in path.parents if root in folder.parents}
    if item.series is None and item.error is None:
        names |= {path.name for path in item.files}
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, "a file of it")
    return text
