"""The names of what a label map holds: 3D Slicer gives the names that it is told to the values there, in their order.

MONAI Label's plug-in of 0.8.5 hands Slicer the names alone. So a region that a case lacks must not be named: the next
value would get its name, and every other one that of its neighbour.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Collection, Sequence
from pathlib import Path

from volseg.cohort import FILE_ENDING, read_dataset_json, write_labels
from volseg.errors import VolsegError
from volseg.files import atomic, is_partial, read_json_object
from volseg.formats import segment_values
from volseg.labels import LabelTable, held_values
from volseg.volume import read_volume

FILE = "held.json"
_SCHEMA = "volseg held 1"
logger = logging.getLogger("volseg.serve")


def names_held(values: Collection[int], table: LabelTable, *, layered: bool) -> dict[str, int]:
    """The number of each name that a file holds, in the order of the numbers.

    Args:
        values: Values that the label map holds.
        table: Its label table.
        layered: Whether it is given out with a layer per region, as `.seg.nrrd`; else as a label map, in which a
            combination is a value of its own, named after all its regions.

    >>> table = LabelTable.overlapping(["bowel", "kidney", "stomach"])
    >>> names_held([0, 2, 6], table, layered=False), names_held([0, 2, 6], table, layered=True)
    ({'kidney': 2, 'kidney+stomach': 6}, {'kidney': 2, 'stomach': 4})
    """
    if layered:
        pairs = zip(table.regions, segment_values(table), strict=True)
        named = {region.name: number for region, number in pairs if not set(region.values).isdisjoint(values)}
    else:
        named = {
            "+".join(region.name for region in table.regions if value in region.values): value
            for value in table.values[1:]
            if value in values
        }
        named |= {table.IGNORE: table.ignore} if table.ignore is not None and table.ignore in values else {}
    return dict(sorted(named.items(), key=lambda pair: pair[1]))


def begin_predictions(folder: Path, labels: LabelTable, *, channel_names: Sequence[str]) -> None:
    """Write what the values of the predictions mean; those of an earlier network, to which they meant other things, go.

    Args:
        folder: Folder of the predictions.
        labels: Label table of the network that is served.
        channel_names: Its image channels.
    """
    try:
        before = LabelTable.from_dataset_json(read_dataset_json(folder)).digest
    except VolsegError:
        before = ""
    if before != labels.digest:
        old = [path for path in folder.glob(f"*{FILE_ENDING}") if not is_partial(path.name)]
        for path in (*old, folder / "uncertainty.csv"):
            path.unlink(missing_ok=True)
        if old:
            logger.info("%d predictions of a network of other regions or values were removed", len(old))
    write_labels(folder, labels, channel_names=channel_names)


class HeldValues:
    """The values that label maps hold; each file is read once, and what was found is kept in a file.

    Args:
        folder: Folder of the predictions, in which the file is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._lock = threading.Lock()
        content = read_json_object(self._path) or {}
        known = content.get("files") if content.get("schema") == _SCHEMA else None
        self._known: dict[str, list[object]] = known if isinstance(known, dict) else {}

    def of(self, paths: Collection[Path]) -> dict[Path, list[int]]:
        """The values of each label map, ascending; of one that is absent or damaged there are none.

        Args:
            paths: Files of different names.
        """
        found, new = {}, False
        with self._lock:
            for path in paths:
                try:
                    state = path.stat()
                    stamp = [state.st_mtime_ns, state.st_size]
                    known = self._known.get(path.name)
                    if not isinstance(known, list) or known[:2] != stamp:
                        known = self._known[path.name] = [*stamp, held_values(read_volume(path).voxels).tolist()]
                        new = True
                except (OSError, VolsegError) as error:
                    logger.info("%s is not looked at: %s", path.name, error)
                    continue
                values = known[2]
                found[path] = [int(value) for value in values] if isinstance(values, list) else []
            if new:
                self._write()
        return found

    def _write(self) -> None:
        try:
            with atomic(self._path) as partial:
                partial.write_text(json.dumps({"schema": _SCHEMA, "files": self._known}) + "\n", encoding="utf-8")
        except OSError as error:
            logger.warning("warning: %s cannot be written: %s", self._path, error)
