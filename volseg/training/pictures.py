"""Pictures of the first validation case, for TensorBoard and as snapshots on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from ignite.engine import Engine, Events
from torch.utils.tensorboard import SummaryWriter

from volseg.labels import LabelTable
from volseg.report.animation import write_png
from volseg.report.screen import Screen, draw


class Pictures:
    """After each validation, draw one axial slice of the first case: image, reference and prediction.

    The picture goes to TensorBoard and to `snapshots/epoch_0004.png`, which `volseg animate` joins.

    Args:
        log_dir: TensorBoard's folder.
        labels: gives the colours.
    """

    def __init__(self, log_dir: str, labels: LabelTable) -> None:
        self.log_dir = log_dir
        self.labels = labels
        self._drawn = False
        self._writer: SummaryWriter | None = None

    def attach(self, engine: Engine) -> None:
        """Listen to an evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._draw)

    def _start(self, _: Engine) -> None:
        self._drawn = False

    def _draw(self, engine: Engine) -> None:
        if self._drawn:
            return
        self._drawn = True
        item, epoch = engine.state.output[0], engine.state.epoch
        screen = Screen.of(
            np.asarray(torch.as_tensor(item["image"]).cpu())[0],
            np.asarray(getattr(item["image"], "affine", np.eye(4)), dtype=np.float64),  # volumes are read in RAS
            self.labels,
            reference=item["label"].cpu().numpy().astype(bool),
            prediction=item["pred"].cpu().numpy().astype(bool),
        )
        picture = draw(screen, note=f"epoch {epoch}")  # of the slice with most organ, the same each time
        if self._writer is None:
            self._writer = SummaryWriter(self.log_dir, filename_suffix=".pictures")
            self._remove_later(epoch)
        self._writer.add_image("validation/image_reference_prediction", picture, epoch, dataformats="HWC")
        self._writer.flush()
        write_png(self._snapshot(epoch), picture)

    def _snapshot(self, epoch: int) -> Path:
        return Path(self.log_dir) / "snapshots" / f"epoch_{epoch:04d}.png"

    def _remove_later(self, epoch: int) -> None:
        """Remove the snapshots that an earlier run left; a run that is resumed keeps those of its epochs so far."""
        for path in (Path(self.log_dir) / "snapshots").glob("epoch_*.png"):
            if path.name > self._snapshot(epoch).name:
                path.unlink()
