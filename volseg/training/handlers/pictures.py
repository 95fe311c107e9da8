"""Pictures of the first validation case, for TensorBoard and as snapshots on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from ignite.engine import Engine, Events
from torch.utils.tensorboard import SummaryWriter

from volseg.labels import LabelTable
from volseg.pictures import CaseView, Snapshot, draw, plane_of_slices, write_snapshot
from volseg.volume import RGB


class ValidationPictures:
    """After each validation, draw one slice of the first case: image, reference and prediction.

    The slice is axial, or parallel to the acquired slices if these are at least twice as thick as the pixels.

    The picture and the case's Dice go to TensorBoard and to `snapshots/epoch_0004.png`; `volseg animate` joins them.

    Args:
        log_dir: Folder of TensorBoard.
        labels: Label table, which gives the colours.
        channel_names: Channels of the image: red, green and blue are drawn in colours, of others the first one.
    """

    def __init__(self, log_dir: str, labels: LabelTable, channel_names: Sequence[str] = ()) -> None:
        self.log_dir = log_dir
        self.labels = labels
        self.in_colours = tuple(channel_names) == RGB
        self._drawn = False
        self._writer: SummaryWriter | None = None

    def attach(self, engine: Engine) -> None:
        """Attach the handler to an evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._draw)

    def _start(self, _: Engine) -> None:
        self._drawn = False

    def _draw(self, engine: Engine) -> None:
        if self._drawn:
            return
        self._drawn = True
        item, epoch = engine.state.output[0], engine.state.epoch
        reference, prediction = item["label"].cpu().numpy().astype(bool), item["pred"].cpu().numpy().astype(bool)
        channels = np.asarray(torch.as_tensor(item["image"]).cpu())
        image = channels[: len(RGB)] if self.in_colours else channels[0]
        affine = np.asarray(getattr(item["image"], "affine", np.eye(4)), dtype=np.float64)  # volumes are read in RAS
        plane = plane_of_slices(affine, channels.shape[1:])
        case_view = CaseView.of(image, affine, self.labels, reference=reference, prediction=prediction, plane=plane)
        picture = draw(case_view, note=f"epoch {epoch}")  # of the slice with most organ, the same each time
        if self._writer is None:
            self._writer = SummaryWriter(self.log_dir, filename_suffix=".pictures")
            self._remove_later(epoch)
        self._writer.add_image("validation/image_reference_prediction", picture, epoch, dataformats="HWC")
        self._writer.flush()
        masks = zip(self.labels.names, prediction, reference, strict=True)
        voxels = {name: (int((one & other).sum()), int(one.sum() + other.sum())) for name, one, other in masks}
        held = {name: 2 * both / both_sizes for name, (both, both_sizes) in voxels.items() if both_sizes}
        colours = {region.name: region.colour for region in self.labels.regions}
        write_snapshot(self.log_dir, Snapshot(picture, epoch, held, colours))

    def _remove_later(self, epoch: int) -> None:
        """Remove the snapshots of epochs that a resumed run does again; it keeps those of its epochs so far."""
        for path in (Path(self.log_dir) / "snapshots").glob("epoch_*.png"):
            number = path.stem.removeprefix("epoch_")
            if number.isdigit() and int(number) > epoch:  # by the alphabet epoch_10000 comes before epoch_9999
                path.unlink()
