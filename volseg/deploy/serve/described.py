"""What the cases of a served cohort are like, each described once: a question for the next one is answered soon."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from volseg.cohort import FILE_ENDING, Cohort, read_label_map
from volseg.deploy.corrections.expected import Extent, extents
from volseg.deploy.corrections.likeness import Description, describe
from volseg.deploy.corrections.review import describe_labelled, image_channels
from volseg.errors import VolsegError
from volseg.files import atomic
from volseg.labels import LabelMatch

FILE = "described.json"
_SCHEMA = "volseg described 1"
_SAVED_S = 10.0  # between two writings of the file while many cases are described
logger = logging.getLogger("volseg.serve")


@dataclass(frozen=True)
class Described:
    """A case by its label, or by its prediction if it has none.

    Attributes:
        stamp: Which file it was described by, and when that was written.
        labelled: Whether it was the label of the cohort.
        numbers: Its description; empty for a label that says nothing of a part of the image.
        extents: Extent of each predicted region; empty for a label.
    """

    stamp: str
    labelled: bool
    numbers: Description
    extents: Mapping[str, Extent]


class DescribedCases:
    """Describe cases in a thread of its own, and keep what was found in a file.

    Args:
        folder: Folder of the predictions, in which the file is kept.
        match: Regions that the cohort and the network share.
    """

    def __init__(self, folder: Path, match: LabelMatch) -> None:
        self._folder = folder
        self._match = match
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        self._cases = self._read()

    def of(self, cohort: Cohort, *, wait_s: float = 2.0) -> dict[str, Described]:
        """The cases whose label or prediction is as it was described.

        Those that are new or have changed are described meanwhile, and are there in a later answer if it takes longer.

        Args:
            cohort: Cohort as it is now.
            wait_s: Seconds to wait for them.
        """
        stamps = {key: stamp for key in cohort.keys if (stamp := self._stamp(cohort, key))}
        with self._lock:
            new = [key for key, stamp in stamps.items() if key not in self._cases or self._cases[key].stamp != stamp]
            if new and (self._thread is None or not self._thread.is_alive()) and not self._ended.is_set():
                self._thread = threading.Thread(target=self._describe, args=(cohort, new), daemon=True)
                self._thread.start()
        if self._thread is not None:
            self._thread.join(wait_s)
        with self._lock:
            return {key: self._cases[key] for key, stamp in stamps.items() if self._is(key, stamp)}

    def close(self) -> None:
        """End after the case that is at work."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _is(self, key: str, stamp: str) -> bool:
        return key in self._cases and self._cases[key].stamp == stamp

    def _path(self, cohort: Cohort, key: str) -> Path:
        label = cohort.label_path(key) if key in cohort.labelled else None
        return label if label is not None else self._folder / f"{key}{FILE_ENDING}"

    def _stamp(self, cohort: Cohort, key: str) -> str:
        """Empty if there is nothing to describe a case by."""
        if key in cohort.labelled and cohort.rows[key].test:
            return ""
        try:
            found = self._path(cohort, key).stat()
        except OSError:
            return ""
        return f"{'label' if key in cohort.labelled else 'prediction'} {found.st_mtime_ns} {found.st_size}"

    def _describe(self, cohort: Cohort, keys: Sequence[str]) -> None:
        saved = time.monotonic()
        for key in keys:
            if self._ended.is_set():
                break
            stamp = self._stamp(cohort, key)
            try:
                found = self._described(cohort, key, stamp)
            except (VolsegError, OSError) as error:  # such as a file that an edit has moved: it is asked for again
                logger.info("%s is not compared with others: %s", key, error)
                continue
            with self._lock:
                self._cases[key] = found
            if time.monotonic() - saved > _SAVED_S:
                self._write()
                saved = time.monotonic()
        self._write()

    def _described(self, cohort: Cohort, key: str, stamp: str) -> Described:
        if key in cohort.labelled:
            return Described(stamp, True, describe_labelled(cohort, key, self._match.names) or {}, {})
        images = image_channels(cohort, key)
        label = read_label_map("prediction", self._path(cohort, key), images[0], cohort.labels, match=self._match)
        found = extents(label, cohort.labels)
        numbers = describe(images, label, cohort.labels, self._match.names)
        return Described(stamp, False, numbers, {name: found[name] for name in self._match.names})

    def _write(self) -> None:
        with self._lock:
            cases = {key: asdict(one) for key, one in self._cases.items()}
        content = {"schema": _SCHEMA, "regions": list(self._match.names), "cases": cases}
        try:
            with atomic(self._folder / FILE) as partial:
                partial.write_text(json.dumps(content) + "\n", encoding="utf-8")
        except OSError as error:
            logger.warning("warning: %s cannot be written: %s", self._folder / FILE, error)

    def _read(self) -> dict[str, Described]:
        """What an earlier server found; nothing where it had other regions or the file is damaged."""
        try:
            content = json.loads((self._folder / FILE).read_text(encoding="utf-8"))
            if content["schema"] != _SCHEMA or content["regions"] != list(self._match.names):
                return {}
            return {key: _case(one) for key, one in content["cases"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}


def _case(given: Mapping[str, Any]) -> Described:
    sizes = {name: Extent(**one) for name, one in given["extents"].items()}
    return Described(given["stamp"], given["labelled"], given["numbers"], sizes)
