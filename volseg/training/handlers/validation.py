"""The key metric of validation: the mean volumetric Dice, with emptiness owned."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from ignite.metrics import Metric
from monai.engines import Evaluator
from monai.handlers import ValidationHandler
from torch import Tensor

from volseg.labels import LabelTable


class VolumetricDice(Metric):  # type: ignore[misc]  # ignite has no types
    """Dice of each whole volume and region, averaged over cases, then over regions.

    A region empty in reference and prediction leaves the case out of that region's mean; missed or invented counts 0.
    A region that no reference has is undefined (NaN) and left out of the mean, whatever a network invents: else the
    first network that finds nothing there would be the best. (MONAI's DiceMetric aggregates to 0 where every case is
    empty.) Beside the mean, `engine.state.metrics` gets one
    value a region, `NAME_REGION`.

    Processes that train together share the cases; one that two of them took to come out even counts once.

    Args:
        labels: the label table.
        output_transform: gives (predictions, references), lists of bool masks (R, X, Y, Z); keys stand in the batch.
    """

    def __init__(self, labels: LabelTable, output_transform: Callable[[Any], Any] = lambda output: output) -> None:
        self.labels = labels
        self._scores: dict[str, list[float]] = {}
        self._gathered: dict[str, list[float]] = {}
        self._present: dict[str, list[bool]] = {}  # whether the reference of a case has each region
        super().__init__(output_transform)

    def reset(self) -> None:
        """Forget all cases."""
        self._scores = {}
        self._present = {}

    def iteration_completed(self, engine: Engine) -> None:
        """Add the cases of a batch, which MONAI has taken apart."""
        keys = [str(item["key"]) for item in engine.state.batch]
        self.update((*self._output_transform(engine.state.output), keys))

    def update(self, output: tuple[Sequence[Tensor], Sequence[Tensor], Sequence[str]]) -> None:
        """Add cases."""
        for prediction, reference, key in zip(*output, strict=True):
            axes = tuple(range(1, prediction.ndim))
            both = (prediction & reference).sum(axes).double()
            there = reference.sum(axes)
            sizes = prediction.sum(axes).double() + there.double()
            self._present[key] = (there > 0).tolist()
            self._scores[key] = (2 * both / sizes).tolist()  # 0 / 0 is NaN: empty in both

    def compute(self) -> float:
        """The mean over regions; NaN where no region was there at all."""
        means = [mean for mean in self.by_region().values() if not math.isnan(mean)]
        return sum(means) / len(means) if means else math.nan

    def by_region(self) -> dict[str, float]:
        """Mean Dice of each region over the cases that have it; NaN where no reference has it."""
        scores, present = self._scores, self._present
        if idist.get_world_size() > 1:
            parts = idist.all_gather((self._scores, self._present))
            scores = {key: row for part, _ in parts for key, row in part.items()}
            present = {key: row for _, part in parts for key, row in part.items()}
        known = [any(row[number] for row in present.values()) for number in range(len(self.labels.names))]
        self._gathered = {
            key: [value if is_known else math.nan for value, is_known in zip(row, known, strict=True)]
            for key, row in scores.items()
        }
        rows = [self._gathered[key] for key in sorted(self._gathered)]
        table = torch.tensor(rows, dtype=torch.float64).reshape(-1, len(self.labels.names))
        return dict(zip(self.labels.names, table.nanmean(dim=0).tolist(), strict=True))

    def by_case(self) -> dict[str, dict[str, float]]:
        """Dice of each case and region at the last `compute`, by key; NaN where it is undefined."""
        return {key: dict(zip(self.labels.names, self._gathered[key], strict=True)) for key in sorted(self._gathered)}

    def completed(self, engine: Engine, name: str) -> None:
        """Store the mean and each region's value."""
        engine.state.metrics[name] = self.compute()
        for region, value in self.by_region().items():
            engine.state.metrics[f"{name}_{region}"] = value


def better(current: float, best: float) -> bool:
    """Whether a validation beats the best so far; a mean of nothing (NaN) never does.

    >>> better(0.8, 0.7), better(float("nan"), -1.0), better(0.1, float("nan"))
    (True, False, True)
    """
    return not math.isnan(current) and (math.isnan(best) or current > best)


class Validation(ValidationHandler):  # type: ignore[misc]  # MONAI has no types
    """MONAI's handler, which also runs after the last epoch, where the learning rate is lowest and the network best.

    Without that, 19 epochs with a validation every 5 would end with four epochs that no checkpoint can come from.

    Args:
        evaluator: run with the number of the epoch.
        every: epochs between validations.
    """

    def __init__(self, evaluator: Evaluator, *, every: int) -> None:
        super().__init__(every, evaluator)

    def attach(self, engine: Engine) -> None:
        """Listen to a trainer."""
        engine.add_event_handler(Events.EPOCH_COMPLETED(event_filter=self._is_due), self)

    def _is_due(self, engine: Engine, epoch: int) -> bool:
        return bool(epoch % self.interval == 0 or epoch == engine.state.max_epochs)
