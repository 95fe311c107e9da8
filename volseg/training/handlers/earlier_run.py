"""What an earlier run left in the folder of a new one, moved aside: its record, its curves and its snapshots."""

from __future__ import annotations

import logging
import os
import socket
import time
from pathlib import Path

from volseg.pictures import snapshot_path
from volseg.training.handlers.checkpoints import set_aside

logger = logging.getLogger("volseg.training")


def set_aside_run(output_dir: Path) -> None:
    """Move record, curves and snapshots of an earlier run to `earlier`; the curves that this process writes stay.

    TensorBoard joins all event files of a folder into one curve, and `volseg animate` all snapshots into one film.

    Args:
        output_dir: Folder of the run.
    """
    set_aside(output_dir / "run.json")
    own = f".{socket.gethostname()}.{os.getpid()}."  # as TensorBoard's writer names its files
    for path in sorted(output_dir.glob("events.out.tfevents.*")):
        if own not in path.name:
            set_aside(path)
    snapshots = snapshot_path(output_dir, 0).parent
    if snapshots.is_dir():
        written = time.strftime("%Y-%m-%d_%H%M%S", time.localtime(snapshots.stat().st_mtime))
        place = output_dir / "earlier" / f"{snapshots.name}_{written}"
        place.parent.mkdir(exist_ok=True)
        if not place.exists():
            snapshots.replace(place)
            logger.info("%s, of an earlier run, is now %s", snapshots, place)
