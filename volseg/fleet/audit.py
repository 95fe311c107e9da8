"""Outputs compared with what the journals say of them: those that came from elsewhere are believed only then."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

from volseg.fleet.job import stamp
from volseg.fleet.journal import History

logger = logging.getLogger(__name__)


def remove_unproven(folder: Path, names: Collection[str], *, keys: Collection[str]) -> None:
    """Remove predictions that are not what a journal of the folder says they are, so that their cases are done again.

    A run that stops while it sends its files may leave a new prediction beside an old journal.

    Args:
        folder: of the predictions and their journals.
        names: of the files to look at, below the folder.
        keys: of the cases of this run; the files of others are left alone.
    """
    files = {name: Path(name).name.removesuffix(".nii.gz") for name in names if name.endswith(".nii.gz")}
    history = History(sorted((folder / ".volseg").glob("*.jsonl")))
    for name, key in files.items():
        entry = history.get(key) if key in keys else None
        if entry is not None and entry.error is None and stamp(folder / name) not in entry.outputs:
            logger.warning("%s is not what the journal says; its case is done again", name)
            (folder / name).unlink()
