"""Overlay pictures of the first validation case, for TensorBoard."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter

from volseg.labels import LabelTable


class Pictures:
    """After each validation, draw one axial slice: the image, the reference and the prediction as filled colours.

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
        item = engine.state.output[0]
        masks = item["label"].cpu().numpy()
        middle = int(masks.sum(axis=(0, 1, 2)).argmax())  # the slice with most organ
        picture = triptych(
            np.asarray(torch.as_tensor(item["image"]).cpu())[0, :, :, middle],
            masks[..., middle],
            item["pred"].cpu().numpy()[..., middle],
            self.labels,
        )
        self._writer = self._writer or SummaryWriter(self.log_dir, filename_suffix=".pictures")
        self._writer.add_image("validation/image_reference_prediction", picture, engine.state.epoch, dataformats="HWC")
        self._writer.flush()


def triptych(
    image: NDArray[Any], reference: NDArray[np.bool_], prediction: NDArray[np.bool_], labels: LabelTable
) -> NDArray[np.uint8]:
    """Image, reference and prediction side by side as a radiologist sees an axial slice: left on the right, front up.

    Args:
        image: (X, Y) in RAS order, any scale.
        reference: (R, X, Y).
        prediction: (R, X, Y).
        labels: R regions and their colours.

    Returns:
        (rows, columns, 3) uint8.
    """
    low, high = np.percentile(image, (1, 99))
    grey = np.clip((image - low) / max(float(high - low), 1e-6), 0, 1)
    panels = []
    for masks in (None, reference, prediction):
        panel = np.repeat(grey[..., None] * 255, 3, axis=2)
        for region, mask in zip(labels.regions, masks if masks is not None else [], strict=False):
            panel[mask] = 0.55 * panel[mask] + 0.45 * np.array(region.colour)
        # [X, Y] with X to the right and Y to the front becomes [row, column]: rows to the back, columns to the left.
        panels.append(panel[::-1, ::-1].transpose(1, 0, 2))
    return np.concatenate(panels, axis=1).round().astype(np.uint8)
